"""The event loop that handlers share, in a thread of its own. If a handler blocks it, a new loop takes its place."""

import asyncio
import ctypes
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Protocol

from bursar.checkpoints.database.loop_commits import LentThread, lend_thread
from bursar.checkpoints.database.stop_guard import guard_thread
from bursar.nodes.isolation.callers_loop import own_thread
from bursar.nodes.isolation.reaper import AbandonedWork, Reaper

BLOCKED_SECONDS = 0.25  # a loop that does not answer for this long takes no more work
MAX_RESTARTS = 1_000  # how often handlers may stop the loop
GRACE_SECONDS = 0.05  # a loop that computes for this long before it runs a cancellation is blocked
SLEEP_SECONDS = 2.0  # a loop that does not run a cancellation for this long is blocked by code that only waits
END_SECONDS = 10.0  # for what handlers left on a loop that ends; nobody waits for it


class HandlerStopped(BaseException):
    """Raised inside a handler that goes on computing after its run has ended, to make the handler end."""


class Coroutine(AbandonedWork, Protocol):
    """A handler's coroutine, which runs on a handler loop."""

    task: "asyncio.Task[None] | None"
    handler_loop: "HandlerLoop"

    def begin(self) -> None:
        """Start the coroutine. Its handler loop calls this in the loop's own thread."""
        ...


class HandlerLoop:
    """One event loop in a daemon thread, and the coroutines on it.

    A loop that is blocked retires: it takes no more coroutines, and `place` starts its coroutines that have not begun
    on another loop.
    """

    def __init__(self, reaper: Reaper, place: Callable[[Coroutine], None]) -> None:
        self.loop = asyncio.new_event_loop()
        self.runs: set[Coroutine] = set()
        self.retired = False
        self._reaper = reaper
        self._place = place
        self._waiting: set[Coroutine] = set()  # the coroutines of `runs` that have not begun
        self._moving = threading.Lock()  # held while coroutines begin here or move to another loop
        self._lock = threading.Lock()
        self._over = False
        self._left: asyncio.Future[None] | None = None
        self._asked: float | None = None  # when the loop was asked for an answer, None once it has answered
        self._computed_when_asked = 0.0
        self._clock: int | None = None  # of the CPU time of the loop's thread; not every system has one
        self._lent = LentThread(self.runs)
        self.thread = threading.Thread(target=self._serve, name="bursar-handlers", daemon=True)
        self.thread.start()

    def take(self, coroutine: Coroutine) -> None:
        """Start the coroutine on this loop."""
        coroutine.handler_loop = self
        self.runs.add(coroutine)
        self._waiting.add(coroutine)
        self._call(partial(self._begin, coroutine))

    def retire(self) -> None:
        """Take no more coroutines. Coroutines that have not begun move to another loop.

        The loop ends when the coroutines that have begun have ended.
        """
        self.retired = True
        with self._moving:  # race: `_begin` may want a coroutine too; the first to take it has it
            moved, self._waiting = self._waiting, set()
            self.runs -= moved
        for coroutine in moved:
            self._place(coroutine)
        self._call(self._answer)

    def _begin(self, coroutine: Coroutine) -> None:
        with self._moving:
            if coroutine not in self._waiting:
                return  # race: `retire` moved it to another loop first
            self._waiting.discard(coroutine)
        coroutine.begin()

    def check(self, now: float) -> bool:
        """Retire if the loop is blocked. Return whether the loop must be checked again.

        `now` is in seconds of `time.monotonic`.
        """
        if self.runs and self._silent(now) > BLOCKED_SECONDS:
            self.retire()
        elif self.retired:
            self._call(self._answer)
        return bool(self.runs) or (self.retired and not self._over)

    def stop(self, coroutine: Coroutine) -> None:
        """Cancel the coroutine. If a handler blocks the loop, so that the loop cannot cancel anything, retire the loop.

        If it is this coroutine that blocks the loop, or if every coroutine on the loop was abandoned, also stop the
        loop's thread (see `stop_thread`).
        """
        if coroutine.task is not None:
            self._call(coroutine.task.cancel)
        silent = self._silent(time.monotonic())
        if silent < GRACE_SECONDS:
            return
        self.retire()
        # On a busy machine the loop may only wait for a core, in the middle of a handler that cleans up.
        if silent < SLEEP_SECONDS and self._computed() - self._computed_when_asked < GRACE_SECONDS:
            return
        running = asyncio.current_task(self.loop)
        if running is None:
            return  # no task runs: the loop is slow, but not blocked
        if running is coroutine.task or all(self._reaper.has(other) for other in list(self.runs)):
            stop_thread(self.thread, self._lock, lambda: not self._over and self._is_asked)

    def _serve(self) -> None:
        guard_thread(self._lock)
        lend_thread(self._lent)
        own_thread()
        if hasattr(time, "pthread_getcpuclockid"):
            self._clock = time.pthread_getcpuclockid(threading.get_ident())
        asyncio.set_event_loop(self.loop)
        try:
            try:
                self._run_turns()
            except HandlerStopped:
                self._run_turns()  # race: a second stop came between two turns
            self.retired = True
            with self._lock:  # race: `stop_thread` looks at `_over` under this lock, so that no stop comes after it
                self._over = True
        except HandlerStopped:
            pass  # race: the last stop is raised as soon as the lock is free
        with suppress(HandlerStopped):
            self.loop.run_until_complete(_end_all(self.loop))
            self.loop.close()

    def _run_turns(self) -> None:
        for _ in range(MAX_RESTARTS):  # a handler may stop the loop, or be stopped on it
            with suppress(HandlerStopped, RuntimeError, asyncio.CancelledError):
                self.loop.run_until_complete(self._until_left())
            if self.retired and not self.runs:
                break

    async def _until_left(self) -> None:
        self._left = self.loop.create_future()
        self._answer()
        await self._left

    def _answer(self) -> None:
        self._asked = None
        if self.retired and not self.runs and self._left is not None and not self._left.done():
            self._left.set_result(None)

    def _silent(self, now: float) -> float:
        """Return for how many seconds, at the time `now`, the loop has not responded.

        To measure this, a call of `_answer` is submitted to the loop, which runs it unless a handler blocks the loop.
        The result is the time since that call was submitted. If no such call waits, one is submitted now, and the
        result is 0.
        """
        if not self._is_asked:
            self._asked, self._computed_when_asked = now, self._computed()
            self._call(self._answer)
        return now - (self._asked or now)

    def _computed(self) -> float:
        """Return the seconds for which the loop's thread has computed, 0 if nobody knows."""
        if self._clock is None:
            return 0.0
        try:
            return time.clock_gettime(self._clock)
        except OSError:  # race: the thread has ended
            return 0.0

    @property
    def _is_asked(self) -> bool:
        """Whether a submitted call of `_answer` waits for the loop, and only handlers can have delayed it.

        If the loop has waited for a commit of the database since the call was submitted, the result is False: the
        commit may be what delayed the call.
        """
        asked = self._asked
        return asked is not None and asked >= self._lent.returned_at

    def _call(self, function: Callable[..., object]) -> None:
        with suppress(RuntimeError):  # race: the loop has ended, and takes no calls
            self.loop.call_soon_threadsafe(function)


class LoopPool:
    """The handler loops of a process. One loop takes new coroutines; after it has retired, a new loop takes them."""

    def __init__(self, reaper: Reaper) -> None:
        self._reaper = reaper
        self._lock = threading.Lock()
        self._current: HandlerLoop | None = None

    def place(self, coroutine: Coroutine) -> None:
        """Start the coroutine on a loop that is not blocked."""
        with self._lock:  # race: two callers would each make a new loop
            current = self._current
            if current is None or current.retired:
                current = self._current = HandlerLoop(self._reaper, self.place)
            current.take(coroutine)
        if current.retired:  # race: it retired during `take` and may have missed this coroutine; `retire` moves it now
            current.retire()
        self._reaper.check_with(current.check)


def stop_thread(thread: threading.Thread, lock: threading.Lock, wanted: Callable[[], bool]) -> None:
    """Raise `HandlerStopped` at the next Python instruction of `thread`, if `wanted()` still returns True.

    `thread` holds `lock` while it is in a section that must not be stopped. If `lock` is held, do nothing; the caller
    calls this function again later.
    """
    if not lock.acquire(blocking=False):
        return
    try:
        if wanted() and thread.ident is not None:
            identity, what = ctypes.c_ulong(thread.ident), ctypes.py_object(HandlerStopped)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(identity, what)
    finally:
        lock.release()


async def _end_all(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel the tasks that handlers have left on the running loop, and close its async generators and HTTP clients.

    Each task runs once more, to handle its cancellation. What does not end by then is left as it is.
    """
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.sleep(0)
    with suppress(TimeoutError):
        async with asyncio.timeout(END_SECONDS):
            await loop.shutdown_asyncgens()
    await asyncio.sleep(0)  # a connection that was closed is given up in the loop's next turn
