"""The loop that handlers share: what becomes of what they leave on it, and who is stopped there."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from bursar.nodes.isolation import handler_loop
from bursar.nodes.isolation.handler_loop import GRACE_SECONDS, HandlerLoop, HandlerStopped, LoopPool
from bursar.nodes.isolation.reaper import Reaper
from bursar.nodes.isolation.workers import run_coroutine

LONG_SECONDS = 60.0
BEGUN_SECONDS = 2.0  # a deadline before which a handler has begun, on a busy machine too


def run_until_abandoned(work: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        assert await run_coroutine("a", work, seconds=BEGUN_SECONDS, apart=True) is None

    asyncio.run(main())


def test_a_loop_that_ends_closes_what_handlers_left_open() -> None:
    """An async generator that nobody reads to its end, such as one that holds a connection."""
    begun, closed = threading.Event(), threading.Event()

    async def connection() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            closed.set()

    left = connection()

    class Once:
        """A handler that opens the connection and returns."""

        task: "asyncio.Task[None] | None" = None
        handler_loop: HandlerLoop
        agent = "a"
        over = False

        def begin(self) -> None:
            self.task = asyncio.get_running_loop().create_task(self._open())

        async def _open(self) -> None:
            assert await anext(left) == 1
            begun.set()
            self.handler_loop.runs.discard(self)

        def stop(self) -> None:
            raise AssertionError("it ends by itself")

    pool = LoopPool(Reaper())
    handler = Once()
    pool.place(handler)
    assert begun.wait(LONG_SECONDS)  # else it moves to another loop, which does not end
    handler.handler_loop.retire()
    handler.handler_loop.thread.join(LONG_SECONDS)
    assert not handler.handler_loop.thread.is_alive()
    assert closed.is_set()


def test_a_handler_that_cleans_up_slowly_is_not_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its loop answers nobody meanwhile, as if it waited for a core; it computes nothing."""
    monkeypatch.setattr(handler_loop, "SLEEP_SECONDS", LONG_SECONDS)
    ended: list[str] = []
    over = threading.Event()

    async def cleans_up() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            time.sleep(6 * GRACE_SECONDS)  # noqa: ASYNC251 - this is what it must not do
            ended.append("cleaned up")
        except HandlerStopped:
            ended.append("stopped")
        finally:
            over.set()

    run_until_abandoned(cleans_up)
    assert over.wait(LONG_SECONDS)
    assert ended == ["cleaned up"]


def test_a_handler_that_computes_instead_is_stopped() -> None:
    """It never gives its loop back by itself."""
    stopped = threading.Event()

    async def spins() -> None:
        try:
            while True:
                pass
        except HandlerStopped:
            stopped.set()
            raise

    run_until_abandoned(spins)
    assert stopped.wait(LONG_SECONDS)
