"""The places where handlers run: in a thread, on the caller's event loop, or on a loop of Bursar's own.

A sync function runs in a thread of its own. A coroutine runs on the loop of its caller, so that it can use connections,
sessions and locks of the application. If no caller has a loop (`invoke`), or if the coroutine is to run apart, it runs
on a loop that no caller uses: code that blocks this loop blocks no deadline (see `handler_loop`).

At its deadline a handler is abandoned: it is cancelled, and if it goes on computing in a thread that Bursar started, it
is stopped at its next Python instruction (see `reaper`). A blocking call cannot be stopped: such a handler ends when
the call returns.
"""

import asyncio
import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import copy_context
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

from bursar.checkpoints.database.stop_guard import guard_thread
from bursar.nodes.isolation.callers_loop import BusyWatch, is_own_thread, own_thread, run_here
from bursar.nodes.isolation.captured import Captured, capture
from bursar.nodes.isolation.handler_loop import HandlerLoop, HandlerStopped, LoopPool, stop_thread
from bursar.nodes.isolation.reaper import Reaper
from bursar.state.errors import BursarError

T = TypeVar("T")

THREADS_AT_ONCE = 256  # sync handlers of one event loop that run at once; others wait, within their deadlines
MAX_ABANDONED = 32  # handlers of one agent that hang in calls which do not return


class TooManyAbandoned(BursarError):
    """The refusal to start a handler, because too many handlers of its agent hang in calls that do not return."""


class _Work(ABC, Generic[T]):
    """The work of one handler, and the event loop that waits for its end."""

    def __init__(self, agent: str) -> None:
        self.agent = agent
        self.loop = asyncio.get_running_loop()
        self.told: asyncio.Future[Captured[T] | None] = self.loop.create_future()
        self.context = copy_context()
        self.over = False

    def tell(self, end: Captured[T]) -> None:
        """Give `end`, what the work returned or raised, to the event loop that waits. Any thread may call this."""
        with suppress(RuntimeError):  # race: the waiting loop is closed, and nobody waits for this end
            self.loop.call_soon_threadsafe(_resolve, self.told, end)

    @abstractmethod
    def start(self) -> None:
        """Begin the work."""

    @abstractmethod
    def stop(self) -> None:
        """Make the work end soon. No run waits for it any more."""


class _Thread(_Work[T]):
    """A function in a thread of its own. It is a daemon thread, which does not keep the process from ending."""

    def __init__(self, agent: str, work: Callable[[], T]) -> None:
        super().__init__(agent)
        self._work = work
        self._lock = threading.Lock()
        self._begun = self._stopping = False
        self._thread = threading.Thread(target=self._run, name=f"bursar-{agent}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        end: Captured[T] | None = None
        try:
            try:  # noqa: SIM105 - a stop that comes inside `suppress` would skip the lock
                end = self._do()
            except HandlerStopped:
                pass  # race: the stop came when the function had not begun yet, or had ended by itself
            # Race: `stop_thread` looks at `over` under this lock. So a stop that is under way comes before the thread's
            # end, and none after it. Otherwise it would hit another thread that got this one's number.
            with self._lock:
                self.over = True
            if end is not None:
                self.tell(end)
        except HandlerStopped:
            pass  # race: that last stop is raised as soon as the lock is free

    def _do(self) -> Captured[T] | None:
        """Call the function, and return its end; None if a stop came before."""
        guard_thread(self._lock)
        # Race: a stop before this line would end the thread unseen, and the next stop would hit another thread that got
        # its number. So `stop` does nothing until `_begun` is set.
        with self._lock:
            self._begun = not self._stopping
        if not self._begun:
            return None
        with Captured[T]() as end:
            end.value = self.context.run(self._work)
        return end

    def stop(self) -> None:
        self._stopping = True  # race: a thread that has not begun reads this, and ends without calling the function
        stop_thread(self._thread, self._lock, lambda: self._begun and not self.over)


class _HereCoroutine(_Work[T]):
    """A coroutine as a task of the caller's own event loop. It is cancelled once, so that it can clean up in peace."""

    def __init__(self, agent: str, work: Callable[[], Awaitable[T]]) -> None:
        super().__init__(agent)
        self._work = work
        self.thread = threading.get_ident()
        self.named = False
        self.task: asyncio.Task[None]

    def start(self) -> None:
        self.context.run(run_here.set, self)
        self.task = self.loop.create_task(self._run(), context=self.context)
        self.task.add_done_callback(self._finish)
        _process.busy.add(self)

    async def _run(self) -> None:
        _resolve(self.told, await capture(self._work))

    def _finish(self, task: "asyncio.Task[None]") -> None:
        self.over = True
        _process.busy.remove(self)
        if task.cancelled():  # before it began
            _resolve(self.told, Captured(error=asyncio.CancelledError()))

    def stop(self) -> None:
        with suppress(RuntimeError):  # the reaper asks again, from a thread without a loop
            if asyncio.get_running_loop() is self.loop:
                self.task.cancel()


class _ApartCoroutine(_Work[T]):
    """The work of one handler as a coroutine, which runs on a handler loop and can be stopped there.

    When it has ended, it gives its end to the event loop that waits for it.
    """

    def __init__(self, agent: str, work: Callable[[], Awaitable[T]]) -> None:
        super().__init__(agent)
        self._work = work
        self.task: asyncio.Task[None] | None = None
        self.handler_loop: HandlerLoop

    def start(self) -> None:
        _process.loops.place(self)

    def begin(self) -> None:
        """Start the coroutine on the handler loop. If it was abandoned before its turn came, do not start it."""
        if self.told.done():
            self.over = True
            self.handler_loop.runs.discard(self)
            return
        self.task = asyncio.get_running_loop().create_task(self._run(), context=self.context)
        self.task.add_done_callback(self._finish)

    async def _run(self) -> None:
        self.tell(await capture(self._work))

    def _finish(self, task: "asyncio.Task[None]") -> None:
        self.over = True
        self.handler_loop.runs.discard(self)
        if task.cancelled() or task.exception() is not None:  # before the work began, or after its end
            self.tell(Captured(error=asyncio.CancelledError() if task.cancelled() else task.exception()))

    def stop(self) -> None:
        self.handler_loop.stop(self)


class _ProcessState:
    """The reaper, loops and threads of a process. A forked process makes its own, because it inherits no threads."""

    def __init__(self) -> None:
        self.reaper = Reaper()
        self.busy = BusyWatch(self.reaper.check_with)
        self.loops = LoopPool(self.reaper)
        self.threads: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()


async def run_in_thread(agent: str, work: Callable[[], T], *, seconds: float) -> Captured[T] | None:
    """Run `work` in a thread of its own for at most `seconds`, and return its value or error; None at the deadline.

    At the deadline, or if the caller is cancelled, `work` is abandoned: nobody waits for it, and it is stopped as soon
    as it can be. If `THREADS_AT_ONCE` functions run already, `work` starts when one of them has ended; this wait counts
    towards `seconds`. `work` sees the caller's context variables. Raises `TooManyAbandoned` if too many handlers of
    `agent` hang.
    """
    _check(agent)
    began = time.monotonic()
    loop = asyncio.get_running_loop()
    threads = _process.threads.get(loop)
    if threads is None:
        threads = _process.threads[loop] = asyncio.Semaphore(THREADS_AT_ONCE)
    if threads.locked():
        try:
            async with asyncio.timeout(seconds):
                await threads.acquire()
        except TimeoutError:
            return None
    else:
        await threads.acquire()  # at once
    try:
        return await _attend(_Thread(agent, work), began + seconds - time.monotonic())
    finally:
        threads.release()


async def run_coroutine(
    agent: str, work: Callable[[], Awaitable[T]], *, seconds: float, apart: bool = False
) -> Captured[T] | None:
    """Await `work` for at most `seconds`, and return its value or error; None at the deadline.

    The work runs on the caller's event loop. If Bursar started that loop, or if `apart`, the work runs on a handler
    loop. At the deadline, or if the caller is cancelled, the work is abandoned: nobody waits for it, and it is
    cancelled; on a handler loop it is stopped as soon as it can be. A caller's loop that is busy keeps no deadline. The
    work sees the caller's context variables. Raises `TooManyAbandoned` if too many handlers of `agent` hang.
    """
    _check(agent)
    kind = _ApartCoroutine[T] if apart or is_own_thread() else _HereCoroutine[T]
    return await _attend(kind(agent, work), seconds)


def abandoned_count(agent: str | None = None) -> int:
    """Return how many handlers of the agent were abandoned and have not ended; of all agents if `agent` is None."""
    return _process.reaper.count(agent)


def _check(agent: str) -> None:
    if _process.reaper.count(agent) >= MAX_ABANDONED:
        raise TooManyAbandoned(f"{MAX_ABANDONED} handlers of {agent} hang in calls that do not return")


async def _attend(work: _Work[T], seconds: float) -> Captured[T] | None:
    work.start()
    timer = work.loop.call_later(seconds, _resolve, work.told, None)
    try:
        end = await work.told
    except asyncio.CancelledError:
        _process.reaper.abandon(work)
        raise
    finally:
        timer.cancel()
    if end is None:
        _process.reaper.abandon(work)
    return end


def _resolve(told: "asyncio.Future[Captured[T] | None]", end: Captured[T] | None) -> None:
    if not told.done():  # race: the end and the deadline's timer both run on this loop; the first one counts
        told.set_result(end)


def _begin_anew() -> None:
    global _process  # noqa: PLW0603 - a process has one
    own_thread(own=False)
    _process = _ProcessState()


_process = _ProcessState()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
