"""An event loop may wait for a disk only where nobody else's work is on it."""

import asyncio
import sys
import threading
from collections.abc import Callable, Coroutine
from types import ModuleType
from typing import Any, TypeVar

import pytest

from bursar.checkpoints.database.loop_commits import (
    LONG_SECONDS,
    OWN_TASKS,
    WATCHER,
    LentThread,
    lend_thread,
    may_wait,
    wait,
)
from bursar.checkpoints.database.stop_guard import guard_thread

T = TypeVar("T")


def _asked(*, alone: bool, others: int) -> bool:
    """What the last of so many tasks hears on a loop whose thread was lent."""
    heard: list[bool] = []

    async def ask() -> None:
        waiting = [asyncio.ensure_future(asyncio.Event().wait()) for _ in range(others)]
        heard.append(may_wait())
        for task in waiting:
            task.cancel()

    def serve() -> None:
        lend_thread(LentThread(("its own",) if alone else ("its own", "a guest")))
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


def _served(work: Callable[[], Coroutine[Any, Any, T]]) -> tuple[T, list[bool]]:
    """What the work returns on a loop whose thread was lent, and whether it was shielded when it was back."""
    lock, shields, results = threading.Lock(), list[bool](), list[T]()

    class Watched(LentThread):
        def __setattr__(self, name: str, value: object) -> None:
            if name == "returned_at" and value:
                shields.append(lock.locked())
            super().__setattr__(name, value)

    def serve() -> None:
        guard_thread(lock)
        lend_thread(Watched(("its own",)))
        results.append(asyncio.run(work()))

    thread = threading.Thread(target=serve)
    thread.start()
    thread.join()
    return results[0], shields


def test_who_has_waited_is_not_stopped_for_it() -> None:
    """The loop counts as heard again before anyone may stop its thread, also where the work fails."""

    async def work() -> None:
        await wait(lambda: None)
        with pytest.raises(ZeroDivisionError):
            await wait(lambda: 1 // 0)

    assert _served(work) == (None, [True, True])


def test_a_time_out_that_came_meanwhile_is_heard_at_the_end_of_the_wait() -> None:
    """And not where the next step waits, which may be a request that costs money."""
    done: list[str] = []

    async def work() -> None:
        async with asyncio.timeout(LONG_SECONDS):
            await wait(lambda: threading.Event().wait(3 * LONG_SECONDS))
            done.append("the next step")

    async def timed_out() -> None:
        with pytest.raises(TimeoutError):
            await work()

    _served(timed_out)
    assert not done
