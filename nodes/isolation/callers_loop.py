"""The event loops of callers: coroutines of handlers run on them, and one that keeps its loop busy is named.

Bursar raises exceptions only in threads that it started: in another thread they would leave locks held. So a coroutine
that blocks a caller's loop cannot be stopped there. The operator reads in the log which one it is, and where.
"""

import asyncio
import logging
import sys
import threading
import traceback
from asyncio import AbstractEventLoop
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context, ContextVar
from types import FrameType
from typing import Any, Protocol

BUSY_SECONDS = 0.25  # a coroutine that keeps its loop busy for this long is named

_log = logging.getLogger("bursar")
_threads = threading.local()


class CallersRun(Protocol):
    """The coroutine of a handler on its caller's event loop."""

    agent: str
    loop: AbstractEventLoop
    thread: int
    task: "asyncio.Task[None]"
    over: bool
    named: bool


# The run whose coroutine, or a task that it started, this context belongs to.
run_here: ContextVar[CallersRun | None] = ContextVar("bursar_run_here", default=None)


def own_thread(*, own: bool = True) -> None:
    """From now on, count the event loop of this thread as Bursar's own; if not `own`, as a caller's."""
    _threads.own = own


def is_own_thread() -> bool:
    """Whether Bursar started the event loop of this thread."""
    return getattr(_threads, "own", False)


def is_inside_coroutine() -> bool:
    """Whether a sync call would block an event loop on which a handler's coroutine waits for that call."""
    if is_own_thread():
        return True
    run = run_here.get()
    return run is not None and run.thread == threading.get_ident() and not run.over


class _LoopAnswer:
    """A loop's answer to one call, and the run that was seen in that loop's thread meanwhile, since `since`."""

    def __init__(self) -> None:
        self.given = False
        self.run: CallersRun | None = None
        self.since = 0.0

    def give(self) -> None:
        self.given = True


class BusyWatch:
    """Names each run that keeps its caller's loop busy for `BUSY_SECONDS`, once, in a log warning with its stack.

    The reaper's thread calls `check` while there are runs. Each loop is asked for an answer. If the same run is at work
    in the loop's thread in each look until the answer comes, the run keeps the loop busy.
    """

    def __init__(self, check_with: Callable[[Callable[[float], bool]], None]) -> None:
        self._check_with = check_with
        self._check = self.check
        self._runs: set[CallersRun] = set()
        self._answers: dict[AbstractEventLoop, _LoopAnswer] = {}

    def add(self, run: CallersRun) -> None:
        self._runs.add(run)
        self._check_with(self._check)

    def remove(self, run: CallersRun) -> None:
        self._runs.discard(run)

    def check(self, now: float) -> bool:
        """Look at each loop that has runs, and return whether there are any. `now` is in seconds of `monotonic`."""
        loops: dict[AbstractEventLoop, int] = {}
        for run in self._runs.copy():
            if run.loop.is_closed():  # it will not end any more
                run.over = True
                self._runs.discard(run)
            else:
                loops[run.loop] = run.thread
        for loop in self._answers.keys() - loops.keys():
            del self._answers[loop]
        for loop, thread in loops.items():
            self._look_at(loop, thread, now)
        return bool(loops)

    def _look_at(self, loop: AbstractEventLoop, thread: int, now: float) -> None:
        answer = self._answers.get(loop)
        if answer is None or answer.given:
            answer = self._answers[loop] = _LoopAnswer()
            with suppress(RuntimeError):  # race: the loop was closed
                loop.call_soon_threadsafe(answer.give)
        # Nothing public shows what another thread does.
        frame = sys._current_frames().get(thread)  # pyright: ignore[reportPrivateUsage]
        run = self._run_in(loop, frame)
        if run is not answer.run:
            answer.run, answer.since = run, now
        elif run is not None and now - answer.since > BUSY_SECONDS and not run.named:
            run.named = True
            _log.warning(
                "agent %s keeps its caller's event loop busy: deadlines wait for it. Await what takes long, or declare "
                "the agent with apart=True. It is here:\n%s",
                run.agent,
                "".join(traceback.format_stack(frame)),
            )

    def _run_in(self, loop: AbstractEventLoop, frame: FrameType | None) -> CallersRun | None:
        """Return the run whose task, or a task that it started, the loop's thread executes; None if none."""
        task = asyncio.current_task(loop)
        if task is None:
            return None
        if own := next((run for run in self._runs.copy() if run.task is task), None):
            return own
        context = _context_of(task, frame)
        run = None if context is None else context.get(run_here)
        return run if run is not None and run.loop is loop else None


def _context_of(task: "asyncio.Task[Any]", frame: FrameType | None) -> Context | None:
    """Return the context of the task that is executed in `frame`. Python 3.11 tells it by the handle that calls it."""
    if sys.version_info >= (3, 12):
        return task.get_context()
    while frame is not None:
        if frame.f_code is asyncio.Handle._run.__code__:
            return frame.f_locals["self"]._context
        frame = frame.f_back
    return None  # uvloop has no frames
