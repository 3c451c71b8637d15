"""The places where handlers run, apart from the coordinator: no handler can delay a deadline or another run.

A sync function runs in a thread of its own. Coroutines run together on one event loop that no caller uses: HTTP clients
keep their connections, and code that blocks this loop blocks no deadline (see `handler_loop`).

At its deadline a handler is abandoned: it is cancelled, and if it goes on computing, it is stopped at its next Python
instruction (see `reaper`). A blocking call cannot be stopped: such a handler ends when the call returns.
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
        """Begin the work, in another thread."""

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
        try:
            self._do()
        except HandlerStopped:  # race: the stop came when the function had ended by itself
            self.over = True

    def _do(self) -> None:
        guard_thread(self._lock)
        # Race: a stop before this line would end the thread unseen, and the next stop would hit another thread that got
        # its number. So `stop` does nothing until `_begun` is set.
        with self._lock:
            self._begun, self.over = True, self._stopping
        if self.over:
            return
        end = Captured[T]()
        with end:
            end.value = self.context.run(self._work)
        with self._lock:  # race: `stop_thread` looks at `over` under this lock, so that no stop comes after it
            self.over = True
        self.tell(end)

    def stop(self) -> None:
        self._stopping = True  # race: a thread that has not begun reads this, and ends without calling the function
        stop_thread(self._thread, self._lock, lambda: self._begun and not self.over)


class _Coroutine(_Work[T]):
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


async def run_on_handler_loop(agent: str, work: Callable[[], Awaitable[T]], *, seconds: float) -> Captured[T] | None:
    """Await `work` on the handler loop for at most `seconds`, and return its value or error; None at the deadline.

    At the deadline, or if the caller is cancelled, the work is abandoned: nobody waits for it, and it is stopped as
    soon as it can be. The work sees the caller's context variables. Raises `TooManyAbandoned` if too many handlers of
    `agent` hang.
    """
    _check(agent)
    return await _attend(_Coroutine(agent, work), seconds)


def is_handlers_thread() -> bool:
    """Whether the current thread is the thread of a handler loop."""
    return _process.loops.is_own(threading.current_thread())


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
    _process = _ProcessState()


_process = _ProcessState()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
