"""Each of the ledger's methods has an async twin: the same door, which blocks no event loop."""

import asyncio
import inspect
from collections.abc import Generator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from inspect import isasyncgenfunction

import psycopg
import pytest
from sqlalchemy import make_url

from bursar.checkpoints.ledger import requests
from bursar.checkpoints.ledger.accounts import Account
from bursar.checkpoints.ledger.ledger import Ledger
from bursar.state.errors import LedgerError
from bursar.state.money import USD

NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
FOR_THE_ENGINE = {"run", "read", "bind", "transaction", "url"}


@pytest.fixture
def books(any_ledger: Ledger) -> Ledger:
    """A ledger with one session and its request."""
    account = Account("request:r-1", USD("0.03").nanos)
    any_ledger.run(requests.open_session, "s-1", "acme", at=NOW)
    any_ledger.run(requests.open_request, "s-1", "r-1", accounts=[account], text_hash="0" * 64, at=NOW)
    return any_ledger


def test_every_method_has_a_twin_that_takes_the_same_and_says_the_same() -> None:
    """A new method without one fails here."""
    doors = {name for name, door in vars(Ledger).items() if not name.startswith("_") and inspect.isfunction(door)}
    twins = {
        name for name in doors if inspect.iscoroutinefunction(it := getattr(Ledger, name)) or isasyncgenfunction(it)
    }
    plain = doors - twins - FOR_THE_ENGINE
    assert plain | {f"a{name}" for name in plain} | FOR_THE_ENGINE | {"arun"} == doors | {"url"}
    for name in plain:
        door, twin = getattr(Ledger, name), getattr(Ledger, f"a{name}")
        assert inspect.signature(door).parameters == inspect.signature(twin).parameters
        if isasyncgenfunction(twin):
            continue
        assert inspect.signature(door) == inspect.signature(twin)
        assert twin.__doc__ == door.__doc__


def test_the_twins_read_and_write_as_the_methods_do(books: Ledger) -> None:
    """What one wrote the other reads, and an error is the same error."""

    async def work() -> None:
        assert await books.aspend("s-1") == books.spend("s-1")
        assert await books.aaudit("s-1") == books.audit("s-1")
        assert await books.aopen_holds() == []
        assert await books.asessions() == books.sessions()
        assert await books.apause("agent:a", by="ops")
        assert [row.scope for row in await books.apauses()] == [row.scope for row in books.pauses()] == ["agent:a"]
        assert await books.aunpause("agent:a")
        assert await books.atop_up("r-1", "0.01") == "request:r-1"
        assert await books.averify()
        with pytest.raises(LedgerError, match="no session s-2"):
            await books.aspend("s-2")
        with pytest.raises(LedgerError, match="call c is not in the books"):
            await books.areconcile("c", "0.01")

    asyncio.run(work())
    assert [row.kind for row in books.audit("s-1")] == ["request_opened", "topped_up"]


def test_the_event_loop_goes_on_while_a_twin_waits_for_a_lock(books: Ledger) -> None:
    """The task that gives the lock back runs on that loop: blocked, it never would."""

    async def work() -> None:
        with locked(books):
            waiting = asyncio.ensure_future(books.atop_up("r-1", "0.01"))
            for _ in range(100):
                await asyncio.sleep(0)
            assert not waiting.done()
        assert await waiting == "request:r-1"

    asyncio.run(work())


def test_a_long_log_is_read_by_pages(books: Ledger) -> None:
    """Page by page it is the whole log; after the last event there is none, and a page of nothing is refused."""
    for cents in range(1, 6):
        books.top_up("r-1", USD.from_nanos(cents))

    async def pages() -> list[int]:
        found: list[int] = []
        while page := await books.aaudit("s-1", after=found[-1] if found else 0, limit=4):
            assert len(page) <= 4
            found += [row.sequence for row in page]
        return found

    assert asyncio.run(pages()) == [row.sequence for row in books.audit("s-1")] == [1, 2, 3, 4, 5, 6]
    assert books.audit("s-1", after=6) == []
    with pytest.raises(LedgerError, match="at least one event, not 0"):
        books.audit("s-1", limit=0)
    with pytest.raises(LedgerError, match="no session s-2"):
        books.audit("s-2", after=3, limit=1)


@contextmanager
def locked(books: Ledger) -> Generator[None]:
    """Another program has every account locked inside the block."""
    url = make_url(books.url)
    if url.drivername.startswith("sqlite"):
        import sqlite3

        with closing(sqlite3.connect(str(url.database))) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
        return
    with psycopg.connect(url.set(drivername="postgresql").render_as_string(hide_password=False)) as other:
        other.execute("SELECT * FROM bursar_accounts FOR UPDATE")
        yield
