"""Many sessions at once whose agents hang: each has its answer in time, and nothing is left of them."""

import asyncio
import gc
import threading
import time
from typing import Any

from bursar import Ledger, Task
from bursar.nodes.isolation.workers import abandoned_count
from tests.support.clock import Stopwatch, wait_until
from tests.support.graphs import answer_of, build, free, session

SESSIONS = 60
DEADLINE_SECONDS = 1.0
SLACK_SECONDS = 100.0  # sixty requests on a busy machine


def test_nothing_is_left_of_sessions_that_hung(ledger: Ledger) -> None:
    """No thread, no task, no handler: whatever the agents did with their cancellation."""
    running: set[int] = set()

    async def waits(task: Task) -> Any:
        running.add(threading.get_ident())
        await asyncio.sleep(600)

    async def swallows(task: Task) -> Any:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            await asyncio.sleep(0.05)

    def spins(task: Task) -> Any:
        until = time.monotonic() + 600
        while time.monotonic() < until:
            time.sleep(0.001)

    handlers = (waits, swallows, spins)
    agents = [free(handler.__name__, handler, timeout=DEADLINE_SECONDS) for handler in handlers]
    app = build(ledger, agents)

    async def one(number: int) -> float:
        began = time.monotonic()
        entered: Any = {"messages": [("user", "now")]}
        answer = answer_of(await app.ainvoke(entered, session(f"s-{number}")))
        assert all(f"{handler.__name__} by rule" in answer for handler in handlers)
        return time.monotonic() - began

    async def all_of_them() -> tuple[list[float], int]:
        took = await asyncio.gather(*(one(number) for number in range(SESSIONS)))
        return took, len(asyncio.all_tasks())

    before = threading.active_count()
    with Stopwatch() as watch:
        took, tasks = asyncio.run(all_of_them())
    assert min(took) > DEADLINE_SECONDS
    assert max(took) < DEADLINE_SECONDS + SLACK_SECONDS + watch.late_seconds
    assert tasks == 1
    assert running == {threading.get_ident()}  # the caller's own event loop

    def is_gone() -> bool:
        gc.collect()
        # What a process has once: the loop for handlers, the watch, the database's worker, a loop that is just ending.
        return abandoned_count() == 0 and threading.active_count() <= before + 4

    wait_until(is_gone)
