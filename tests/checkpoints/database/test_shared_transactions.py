"""On SQLite whoever has the connection does what others wait for too: one commit for all, and each fails alone."""

import asyncio
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from bursar.checkpoints.database.database import Database, Work
from bursar.state.errors import DatabaseError
from tests.support.notes import Busy, add, notes, noting


async def meanwhile(database: Database, works: Sequence[Work[str]]) -> tuple[list[str | BaseException], list[str]]:
    """What became of works that all waited for the connection, and the statements of the transactions then."""
    with Busy(database) as busy:
        tasks = [asyncio.create_task(database.arun(work)) for work in works]
        await asyncio.sleep(0)  # each task has asked now
        busy.go_on()
        return await asyncio.gather(*tasks, return_exceptions=True), busy.statements


def test_waiting_work_shares_one_commit_and_fails_alone(lite: Database) -> None:
    """On SQLite, work that waited is done in one transaction; what raises is undone, and takes nothing else with it."""

    def fail(connection: Connection) -> str:
        add("undone", connection)
        raise LookupError("no")

    def stop(connection: Connection) -> str:
        add("undone too", connection)
        raise StopIteration

    done, statements = asyncio.run(meanwhile(lite, [noting("a"), fail, noting("b", "a"), stop, noting("c", "d")]))
    assert [done[0], done[4]] == ["a", "cd"]
    assert [type(one) for one in done[1:4]] == [LookupError, IntegrityError, RuntimeError]
    assert statements.count("COMMIT") == 2  # Busy's own, and one for all
    assert notes(lite) == ["a", "c", "d"]


@pytest.mark.parametrize("work", ["write", "brief write", "read"])
@pytest.mark.parametrize("begun", ["write", "brief write", "read"])
def test_work_joins_what_is_being_written(lite: Database, begun: str, work: str) -> None:
    """On SQLite, work that comes before a commit is part of it, unless it needs one that waits for the disk.

    It never joins what is only read: that sees nothing that another process wrote since.
    """
    kinds = {
        "write": {"readonly": False, "durable": True},
        "brief write": {"readonly": False, "durable": False},
        "read": {"readonly": True, "durable": True},
    }
    joins = begun == "write" or (begun == "brief write" and work != "write")

    async def ask() -> tuple[str, list[str]]:
        with Busy(lite, **kinds[begun]) as busy:
            asked = asyncio.create_task(lite.arun(noting() if work == "read" else noting("a"), **kinds[work]))
            await asyncio.sleep(0)  # it has asked now
            busy.go_on()
            return await asked, busy.statements

    done, statements = asyncio.run(ask())
    assert done == ("" if work == "read" else "a")
    assert statements.count("COMMIT") == (1 if joins else 2)
    assert notes(lite) == ([] if work == "read" else ["a"])


def test_work_apart_shares_with_nobody(lite: Database) -> None:
    """Neither what waits with it nor what is being written is part of its transaction."""

    async def ask(*, readonly: bool) -> list[str]:
        with Busy(lite, readonly=readonly) as busy:
            tasks = [asyncio.create_task(lite.arun(noting(), apart=apart)) for apart in (True, False)]
            await asyncio.sleep(0)  # both have asked now
            busy.go_on()
            await asyncio.gather(*tasks)
            return busy.statements

    for readonly in (True, False):
        assert asyncio.run(ask(readonly=readonly)).count("COMMIT") == 3


def test_an_error_behind_an_undone_transaction_is_its_own(lite: Database) -> None:
    """Work that hides the fault with which SQLite undid all is told its error, once; the others are done."""
    times = 0

    def hide(connection: Connection) -> str:
        nonlocal times
        times += 1
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        driver.execute("ROLLBACK")  # as a full disk does
        raise ValueError("hidden")

    done, _ = asyncio.run(meanwhile(lite, [noting("a"), hide, noting("b")]))
    assert [done[0], done[2]] == notes(lite) == ["a", "b"]
    assert isinstance(done[1], ValueError)
    assert times == 1


def test_a_full_disk_fails_what_it_undoes(lite: Database) -> None:
    """When SQLite undoes a transaction as a whole, all who shared it hear of it: what was acknowledged is there."""

    def fill(connection: Connection) -> str:
        connection.execute(text("PRAGMA max_page_count = 4"))
        return add("x" * 100_000, connection)

    works = [noting("a"), fill, noting("b")]
    done, _ = asyncio.run(meanwhile(lite, works))
    assert isinstance(done[1], DatabaseError)
    assert "the disk is full" in str(done[1])
    assert notes(lite) == [one for one in done if isinstance(one, str)]


def test_reading_needs_no_write_lock(tmp_path: Path, lite: Database) -> None:
    """While another process writes, what only reads is done."""
    lite.run(noting("a"))
    other = sqlite3.connect(tmp_path / "notes.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    query = text("SELECT note FROM notes")
    assert lite.run(lambda connection: connection.execute(query).scalar(), readonly=True) == "a"
    other.close()
