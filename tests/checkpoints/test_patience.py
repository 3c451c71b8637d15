"""An event loop may wait for a disk only where nobody else's work is on it."""

import asyncio
import sys
import threading
from types import ModuleType

import pytest

from bursar.checkpoints.patience import OWN_TASKS, WATCHER, lend_thread, may_wait


def _asked(*, alone: bool, others: int) -> bool:
    """What the last of so many tasks hears on a loop whose thread was lent."""
    heard: list[bool] = []

    async def ask() -> None:
        waiting = [asyncio.ensure_future(asyncio.Event().wait()) for _ in range(others)]
        heard.append(may_wait())
        for task in waiting:
            task.cancel()

    def serve() -> None:
        lend_thread(lambda: alone)
        asyncio.run(ask())

    thread = threading.Thread(target=serve)
    thread.start()
    thread.join()
    return heard[0]


def test_a_lone_caller_may_wait() -> None:
    """Where the thread was lent and no other work is on its loop."""
    assert _asked(alone=True, others=0)
    assert _asked(alone=True, others=OWN_TASKS - 1)


def test_nobody_waits_at_others_expense() -> None:
    """Not with a task more than one call makes, and not where the loop has other guests."""
    assert not _asked(alone=True, others=OWN_TASKS)
    assert not _asked(alone=False, others=0)


def test_a_callers_loop_never_waits() -> None:
    """Its thread was not lent."""

    async def ask() -> bool:
        return may_wait()

    assert not asyncio.run(ask())


def test_a_server_that_forbids_work_on_its_loops_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the watcher of blocking calls is loaded, no loop waits."""
    monkeypatch.setitem(sys.modules, WATCHER, ModuleType(WATCHER))
    assert not _asked(alone=True, others=0)
