"""Event loops that may wait for a disk: those that nobody's work but the caller's runs on."""

import asyncio
import sys
import threading
from collections.abc import Callable

WATCHER = "blockbuster"  # where it is loaded, as by `langgraph dev`, it forbids even the briefest work on an event loop
OWN_TASKS = 3  # the one that keeps such a loop going, the caller's, and the one that LangChain makes of a model's call

_threads = threading.local()


def lend_thread(alone: Callable[[], bool]) -> None:
    """From here on the work on this thread's event loop may wait in the thread itself, where it is `alone`."""
    _threads.alone = alone


def is_watched() -> bool:
    """Whether work on an event loop is forbidden in this process."""
    return WATCHER in sys.modules


def may_wait() -> bool:
    """Whether the running task may block its event loop for as long as a commit takes: no other task is on it.

    The way to a worker thread and back costs more than a commit does.
    """
    alone: Callable[[], bool] | None = None if is_watched() else getattr(_threads, "alone", None)
    return alone is not None and alone() and len(asyncio.all_tasks()) <= OWN_TASKS
