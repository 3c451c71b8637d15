"""Coroutines on a caller's event loop, and the watch that names one that keeps it busy."""

import asyncio
import threading
from typing import Any

import pytest

from bursar.nodes.isolation import workers
from bursar.nodes.isolation.callers_loop import is_inside_coroutine, is_own_thread
from bursar.nodes.isolation.workers import TooManyAbandoned, abandoned_count, run_coroutine
from tests.support.clock import wait_until


async def _where() -> tuple[asyncio.AbstractEventLoop, bool]:
    return asyncio.get_running_loop(), is_own_thread()


def test_it_runs_on_the_loop_of_its_caller() -> None:
    """On a loop of Bursar's own if `apart`, and if it is called from there."""

    async def nested() -> Any:
        return await run_coroutine("a", _where, seconds=20)

    async def main() -> list[tuple[bool, bool]]:
        ends = [
            await run_coroutine("a", _where, seconds=20),
            await run_coroutine("a", _where, seconds=20, apart=True),
            (await run_coroutine("a", nested, seconds=20, apart=True) or pytest.fail("late")).result(),
        ]
        seen = [end.result() for end in ends if end is not None]
        return [(loop is asyncio.get_running_loop(), own) for loop, own in seen]

    assert asyncio.run(main()) == [(True, False), (False, True), (False, True)]


def test_a_task_of_it_is_inside_and_its_caller_is_not() -> None:
    """So that a sync call is refused if it would block the loop under a handler, and a notebook's is not."""

    async def inside() -> list[bool]:
        async def task() -> bool:
            return is_inside_coroutine()

        return [is_inside_coroutine(), await asyncio.create_task(task()), await asyncio.to_thread(is_inside_coroutine)]

    async def main() -> tuple[Any, bool]:
        end = await run_coroutine("a", inside, seconds=20)
        return end and end.result(), is_inside_coroutine()

    assert asyncio.run(main()) == ([True, True, False], False)


def test_one_whose_loop_was_closed_is_counted_off() -> None:
    """Nobody can end it any more, and it does not count against its agent for ever."""
    loop = asyncio.new_event_loop()

    async def stubborn() -> None:
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                continue

    assert loop.run_until_complete(run_coroutine("closed", stubborn, seconds=0.01)) is None
    left = [task for task in asyncio.all_tasks(loop) if not task.done()]
    assert (abandoned_count("closed"), len(left)) == (1, 1)
    left[0]._log_destroy_pending = False  # pyright: ignore[reportAttributeAccessIssue] - asyncio would warn of it
    loop.close()
    wait_until(lambda: abandoned_count("closed") == 0)


def test_those_left_behind_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as an agent may have; when they have ended, it is started again."""
    monkeypatch.setattr(workers, "MAX_ABANDONED", 1)

    async def main() -> None:
        go = asyncio.Event()

        async def stubborn() -> None:
            while not go.is_set():
                try:
                    await go.wait()
                except asyncio.CancelledError:
                    continue

        assert await run_coroutine("limited", stubborn, seconds=0.01) is None
        with pytest.raises(TooManyAbandoned, match="handlers of limited hang"):
            await run_coroutine("limited", _where, seconds=20)
        go.set()
        await asyncio.to_thread(wait_until, lambda: abandoned_count("limited") == 0)
        assert await run_coroutine("limited", _where, seconds=20) is not None

    asyncio.run(main())


def test_a_task_that_others_cancel_before_it_begins_ends() -> None:
    """Its caller reads a cancellation as its error, and waits for no deadline."""

    async def main() -> Any:
        caller = asyncio.create_task(run_coroutine("a", _where, seconds=60))
        await asyncio.sleep(0)
        others = asyncio.all_tasks() - {caller, asyncio.current_task()}
        assert len(others) == 1
        for task in others:
            task.cancel()
        return await caller

    end = asyncio.run(main())
    assert isinstance(end.error, asyncio.CancelledError)


def test_another_threads_sync_work_is_not_inside() -> None:
    """A thread that no coroutine waits on may call sync."""
    seen: list[bool] = []
    thread = threading.Thread(target=lambda: seen.append(is_inside_coroutine()))
    thread.start()
    thread.join()
    assert seen == [False]
