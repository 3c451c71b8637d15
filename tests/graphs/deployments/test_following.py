"""The events of a run are read as they come, again from any of them after a disconnect, and to the end."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import pytest

from bursar import Ledger, Task
from bursar.checkpoints.ledger.audit_log import LogPage, follow_log
from bursar.state.errors import LedgerError
from tests.support.graphs import ask, build, free, priced, scripted, specialist


def _waits(started: threading.Event, go: threading.Event) -> Callable[[Task], str]:
    def handler(task: Task) -> str:
        started.set()
        assert go.wait(30)
        return "done"

    return handler


def test_a_log_is_followed_until_its_request_is_closed(any_ledger: Ledger) -> None:
    """What is there comes at once, what is written meanwhile comes later, and then it ends; another reader goes on."""
    started, go = threading.Event(), threading.Event()
    app = build(any_ledger, [free("a", _waits(started, go))])
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(ask, app)
        assert started.wait(30)
        first = list(islice(any_ledger.follow("s-1", poll_seconds=0.01), 2))
        rest = any_ledger.follow("s-1", after=first[-1].sequence, poll_seconds=0.01)
        early = next(rest)
        go.set()
        rows = [*first, early, *rest]
        running.result()
    assert [row.sequence for row in rows] == list(range(1, len(rows) + 1))
    assert "request_closed" in [row.kind for row in rows]
    assert rows == any_ledger.audit("s-1")[: len(rows)]


def test_an_event_loop_follows_too(any_ledger: Ledger) -> None:
    """The twin gives the same rows, and the loop is free meanwhile."""
    started, go = threading.Event(), threading.Event()
    app = build(any_ledger, [free("a", _waits(started, go))])

    async def follows() -> list[int]:
        running = asyncio.create_task(asyncio.to_thread(ask, app))
        await asyncio.to_thread(started.wait, 30)
        seen: list[int] = []
        async for row in any_ledger.afollow("s-1", poll_seconds=0.01):
            seen.append(row.sequence)
            go.set()
        await running
        return seen

    seen = asyncio.run(follows())
    rows = any_ledger.audit("s-1")
    assert seen == list(range(1, len(seen) + 1))
    assert "request_closed" in [row.kind for row in rows[: len(seen)]]


def test_an_ended_log_is_read_from_a_cursor(ledger: Ledger) -> None:
    """Nothing is waited for; from the last event on there is nothing."""
    with scripted("one") as model:
        ask(build(ledger, [specialist("a", priced(model))]))
    rows = ledger.audit("s-1")
    assert list(ledger.follow("s-1", after=3)) == rows[3:]
    assert list(ledger.follow("s-1", after=rows[-1].sequence)) == []


def test_a_long_log_is_read_by_pages(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages are followed by pages without a wait, and the last full page does not end it early."""
    ask(build(ledger, [free(name, lambda task: "x") for name in "abc"]))
    rows = ledger.audit("s-1")
    monkeypatch.setattr("bursar.checkpoints.ledger.audit_log.PAGE_ROWS", 1)
    assert list(ledger.follow("s-1", poll_seconds=0.001)) == rows


def test_a_request_that_is_never_closed_is_not_followed_for_ever() -> None:
    """After so many looks without an event it ends: its process may be gone."""
    looks: list[int] = []

    def read(after: int) -> LogPage:
        looks.append(after)
        return LogPage([], ended=False)

    assert len(list(follow_log(read, 7, poll_seconds=1.0, idle_seconds=3.0))) == 4
    assert looks == [7] * 4


def test_what_cannot_be_followed_is_refused(ledger: Ledger) -> None:
    """An unknown session, and a loop without a pause."""
    with pytest.raises(LedgerError, match="no session nobody"):
        list(ledger.follow("nobody"))
    with pytest.raises(LedgerError, match="poll_seconds is above zero"):
        list(ledger.follow("nobody", poll_seconds=0))
