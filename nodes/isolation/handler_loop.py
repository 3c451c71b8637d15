"""The event loop that handlers share, in a thread of its own; a new one takes over where a handler blocks it."""

import asyncio
import ctypes
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Protocol

from bursar.checkpoints.database.loop_commits import lend_thread
from bursar.checkpoints.database.stop_guard import guard_thread
from bursar.nodes.isolation.reaper import AbandonedWork, Reaper

BLOCKED_SECONDS = 0.25  # a loop that does not answer for so long takes no more work
MAX_RESTARTS = 1_000  # handlers may stop the loop so often
GRACE_SECONDS = 0.05  # a loop that does not hear a cancellation for so long is blocked


class HandlerStopped(BaseException):
    """Raised inside a handler that goes on computing after its run has ended."""


class Coroutine(AbandonedWork, Protocol):
    """A coroutine that runs on a host."""

    task: "asyncio.Task[None] | None"
    host: "HandlerLoop"

    def begin(self) -> None:
        """Start it; called on the host's loop."""
        ...


class HandlerLoop:
    """One event loop in a daemon thread, and the guests on it."""

    def __init__(self, watch: Reaper, place: Callable[[Coroutine], None]) -> None:
        self.loop = asyncio.new_event_loop()
        self.runs: set[Coroutine] = set()
        self.retired = False
        self._watch = watch
        self._place = place
        self._waiting: set[Coroutine] = set()  # those of `runs` that have not begun
        self._moving = threading.Lock()
        self._lock = threading.Lock()
        self._over = False
        self._left: asyncio.Future[None] | None = None
        self._asked: float | None = None  # when it was asked whether it is there, if it has not answered since
        self.thread = threading.Thread(target=self._serve, name="bursar-handlers", daemon=True)
        self.thread.start()

    def take(self, guest: Coroutine) -> None:
        """Start the guest."""
        guest.host = self
        self.runs.add(guest)
        self._waiting.add(guest)
        self._call(partial(self._begin, guest))

    def retire(self) -> None:
        """Take no more guests; those that have not begun go to another host. End when the others have ended."""
        self.retired = True
        with self._moving:
            moved, self._waiting = self._waiting, set()
            self.runs -= moved
        for guest in moved:
            self._place(guest)
        self._call(self._answer)

    def _begin(self, guest: Coroutine) -> None:
        with self._moving:
            if guest not in self._waiting:
                return
            self._waiting.discard(guest)
        guest.begin()

    def look(self, now: float) -> bool:
        """Retire when the loop is blocked. Whether there is anything to look at."""
        if self.runs and self._silent(now) > BLOCKED_SECONDS:
            self.retire()
        elif self.retired:
            self._call(self._answer)
        return bool(self.runs) or (self.retired and not self._over)

    def stop(self, guest: Coroutine) -> None:
        """Cancel the guest. Where it keeps the loop from hearing that, retire and stop the thread at what it does."""
        if guest.task is not None:
            self._call(guest.task.cancel)
        if self._silent(time.monotonic()) < GRACE_SECONDS:
            return
        self.retire()
        running = asyncio.current_task(self.loop)
        if running is None:
            return  # it is slow to hear, and not blocked
        if running is guest.task or all(self._watch.has(other) for other in list(self.runs)):
            stop_thread(self.thread, self._lock, lambda: not self._over and self._asked is not None)

    def _serve(self) -> None:
        guard_thread(self._lock)
        lend_thread(lambda: len(self.runs) == 1, self._answer)
        asyncio.set_event_loop(self.loop)
        for _ in range(MAX_RESTARTS):  # a handler may stop the loop, or be stopped on it
            with suppress(HandlerStopped, RuntimeError, asyncio.CancelledError):
                self.loop.run_until_complete(self._until_left())
            if self.retired and not self.runs:
                break
        self.retired = True
        with self._lock:
            self._over = True
        with suppress(HandlerStopped):
            self.loop.run_until_complete(_cancel_all())
            self.loop.close()

    async def _until_left(self) -> None:
        self._left = self.loop.create_future()
        self._answer()
        await self._left

    def _answer(self) -> None:
        self._asked = None
        if self.retired and not self.runs and self._left is not None and not self._left.done():
            self._left.set_result(None)

    def _silent(self, now: float) -> float:
        """Seconds since the loop was asked whether it is there; 0 if it answered."""
        if self._asked is None:
            self._asked = now
            self._call(self._answer)
        return now - (self._asked or now)

    def _call(self, function: Callable[..., object]) -> None:
        with suppress(RuntimeError):  # it ended meanwhile
            self.loop.call_soon_threadsafe(function)


class LoopPool:
    """The host that takes new guests: another one once it is retired."""

    def __init__(self, watch: Reaper) -> None:
        self._watch = watch
        self._lock = threading.Lock()
        self._host: HandlerLoop | None = None
        self._threads: set[threading.Thread] = set()

    def place(self, guest: Coroutine) -> None:
        """Start the guest on a host that is not blocked."""
        with self._lock:
            host = self._host
            if host is None or host.retired:
                host = self._host = HandlerLoop(self._watch, self.place)
                self._threads = {thread for thread in self._threads if thread.is_alive()} | {host.thread}
            host.take(guest)
        if host.retired:  # it was, just now
            host.retire()
        self._watch.look(host.look)

    def is_own(self, thread: threading.Thread) -> bool:
        """Whether the thread is one of a host."""
        return thread in self._threads


def stop_thread(thread: threading.Thread, lock: threading.Lock, wanted: Callable[[], bool]) -> None:
    """Raise `HandlerStopped` at the thread's next Python instruction, if that is still wanted.

    Not inside a shielded section, which holds `lock`: then nothing is done, and the caller looks again.
    """
    if not lock.acquire(blocking=False):
        return
    try:
        if wanted() and thread.ident is not None:
            identity, what = ctypes.c_ulong(thread.ident), ctypes.py_object(HandlerStopped)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(identity, what)
    finally:
        lock.release()


async def _cancel_all() -> None:
    """Cancel what guests have left on the loop, and give it a turn to end."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.sleep(0)
