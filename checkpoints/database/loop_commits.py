"""Commits on an event loop's own thread: the loop may wait for a disk if only the caller's work runs on it."""

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Sized
from typing import TypeVar

from bursar.checkpoints.database.stop_guard import shielded

T = TypeVar("T")

WATCHER = "blockbuster"  # if it is loaded, as by `langgraph dev`, it forbids even the briefest work on an event loop
OWN_TASKS = 3  # the task that keeps the loop going, the caller's task, and the task that LangChain makes for a model
LONG_SECONDS = 0.01  # after a longer wait the loop has a turn first

_threads = threading.local()


class LentThread:
    """A thread whose event loop may block for as long as a commit takes, while only one handler's run is on the loop.

    `work` has one element for each run on the loop. `returned_at` is when the last such commit ended and the loop went
    on, by `time.monotonic`; during the commit the loop ran nothing else.
    """

    def __init__(self, work: Sized) -> None:
        self.work = work
        self.returned_at = 0.0


def lend_thread(lent: LentThread) -> None:
    """From now on, let the event loop of this thread block for a commit while `lent.work` has one element."""
    _threads.lent = lent


def is_watched() -> bool:
    """Whether the module `WATCHER` is loaded. It forbids whatever blocks an event loop, so no commit may block one."""
    return WATCHER in sys.modules


def may_wait() -> bool:
    """Whether the running task may block its event loop for as long as a commit takes, because no other task is on it.

    The caller then commits on the loop, because the way to a worker thread and back costs more than a commit.
    """
    lent: LentThread | None = None if is_watched() else getattr(_threads, "lent", None)
    return lent is not None and len(lent.work) == 1 and len(asyncio.all_tasks()) <= OWN_TASKS


async def wait(work: Callable[[], T]) -> T:
    """Do the work in the event loop's thread, which blocks the loop, and return the result. Call only if `may_wait()`.

    Nobody stops the thread before the work has ended. If the task is cancelled meanwhile, by a time-out for example,
    the cancellation is raised after the work: here if the work took longer than `LONG_SECONDS`, otherwise at the task's
    next `await`.
    """
    began = time.monotonic()
    with shielded():
        try:
            result = work()
        finally:
            _threads.lent.returned_at = time.monotonic()
    if time.monotonic() - began > LONG_SECONDS:
        for _ in range(2):  # the loop runs what is ready, which this is, before timers that are due
            await asyncio.sleep(0)
    return result
