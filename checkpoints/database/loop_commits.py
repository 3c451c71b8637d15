"""Event loops that may wait for a disk, because only the caller's work runs on them."""

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Sized
from typing import TypeVar

from bursar.checkpoints.database.stop_guard import shielded

T = TypeVar("T")

WATCHER = "blockbuster"  # if it is loaded, as by `langgraph dev`, it forbids even the briefest work on an event loop
OWN_TASKS = 3  # the one that keeps such a loop going, the caller's, and the one that LangChain makes of a model's call
LONG_SECONDS = 0.01  # after a longer wait the loop has a turn first

_threads = threading.local()


class LentThread:
    """A thread whose event loop may wait for a disk while `work` has one piece, which is then the caller's.

    `returned_at` is when the last such wait ended, by `time.monotonic`: until then the loop answered nobody.
    """

    def __init__(self, work: Sized) -> None:
        self.work = work
        self.returned_at = 0.0


def lend_thread(lent: LentThread) -> None:
    """Mark this thread as `lent` from here on."""
    _threads.lent = lent


def is_watched() -> bool:
    """Whether work on an event loop is forbidden in this process."""
    return WATCHER in sys.modules


def may_wait() -> bool:
    """Whether the running task may block its event loop for as long as a commit takes: no other task is on it.

    The way to a worker thread and back costs more than a commit does.
    """
    lent: LentThread | None = None if is_watched() else getattr(_threads, "lent", None)
    return lent is not None and len(lent.work) == 1 and len(asyncio.all_tasks()) <= OWN_TASKS


async def wait(work: Callable[[], T]) -> T:
    """Do the work in the thread of the running event loop, which may wait.

    Nobody stops the thread before the work has ended. A cancellation that came meanwhile, a time-out's included, is
    raised at the end of the work, as if the work had been awaited.
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
