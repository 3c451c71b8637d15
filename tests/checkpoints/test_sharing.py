"""On SQLite whoever has the connection does what others wait for too: one commit for all, and each fails alone."""

import asyncio
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from bursar.checkpoints.connections import Held
from bursar.checkpoints.database import Database, Work
from bursar.checkpoints.jobs import Turn
from bursar.state.errors import DatabaseError
from tests.checkpoints.notes import add, notes, noting, with_notes


class Busy:
    """Keeps SQLite's one connection at work, so that whatever is asked for meanwhile waits; hears its statements.

    By default it reads, so that nothing joins it.
    """

    def __init__(self, database: Database, *, readonly: bool = True, durable: bool = True) -> None:
        self.statements: list[str] = []
        self._begun, self._go_on = threading.Event(), threading.Event()
        work = partial(database.run, self._work, readonly=readonly, durable=durable)
        self._thread = threading.Thread(target=work)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._begun.wait(10)
        return self

    def __exit__(self, *_error: object) -> None:
        self.go_on()

    def go_on(self) -> None:
        self._go_on.set()
        self._thread.join()

    def _work(self, connection: Connection) -> None:
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        self._begun.set()
        assert self._go_on.wait(10)
        driver.set_trace_callback(self.statements.append)


async def meanwhile(database: Database, works: Sequence[Work[str]]) -> tuple[list[str | BaseException], list[str]]:
    """What became of works that all waited for the connection, and the statements of the transactions then."""
    with Busy(database) as busy:
        tasks = [asyncio.create_task(database.arun(work)) for work in works]
        await asyncio.sleep(0)  # each task has asked now
        busy.go_on()
        return await asyncio.gather(*tasks, return_exceptions=True), busy.statements


@pytest.fixture
def lite(tmp_path: Path) -> Iterator[Database]:
    """An SQLite database with one table of notes."""
    with with_notes(f"sqlite:///{tmp_path}/notes.db") as made:
        yield made


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


def test_an_interrupted_caller_holds_nobody_up(lite: Database) -> None:
    """Who is interrupted while it waits leaves its turn to those behind it."""
    done: list[str] = []
    other = threading.Thread(target=lambda: done.append(lite.run(noting("b"))))

    class Interrupting(Turn):
        def wait(self) -> None:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, Busy(lite) as busy:
        patch.setattr("bursar.checkpoints.database.Turn", Interrupting)
        with pytest.raises(KeyboardInterrupt):
            lite.run(noting("a"))
        patch.undo()
        other.start()
        busy.go_on()
    other.join(20)
    assert done == ["b"]


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


def test_an_interrupt_ends_its_own_work_only(lite: Database) -> None:
    """A user's interrupt in the middle of shared work undoes it; the work of others is done in its turn."""

    def interrupt(connection: Connection) -> str:
        raise KeyboardInterrupt

    def ask(done: list[str]) -> None:
        done.append(asyncio.run(lite.arun(noting("b"))))

    for _ in range(10):
        done: list[str] = []
        lite.run(lambda connection: connection.execute(text("DELETE FROM notes")))
        thread = threading.Thread(target=ask, args=(done,))
        with Busy(lite) as busy:
            thread.start()
            threading.Thread(target=busy.go_on).start()
            with pytest.raises(KeyboardInterrupt):
                lite.run(interrupt)
        thread.join(20)
        assert done == ["b"]
        assert notes(lite) == ["b"]


def interrupted_beside(database: Database, theirs: Work[str]) -> list[str]:
    """What another thread is told of its work, which joins the main thread's transaction, where the user interrupts."""
    told: list[str] = []
    other = threading.Thread(target=lambda: told.append(database.run(theirs)))

    def mine(connection: Connection) -> str:
        if other.ident is None:  # else it is done again
            other.start()
            while not database._queue:  # pyright: ignore[reportPrivateUsage] - until it has asked
                time.sleep(0)
        return add("a", connection)

    with pytest.raises(KeyboardInterrupt):
        database.run(mine)
    other.join(20)
    return told


def test_an_interrupt_beside_a_commit_that_failed_tells_nobody_of_success(
    lite: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted while a failed commit is being handled: nothing was kept, so the others' work is done anew."""
    failed: list[str] = []

    def commit(held: Held) -> None:
        if failed:
            return committed(held)
        failed.append("once")
        undone(held)
        raise sqlite3.OperationalError("database or disk is full")

    def rollback(held: Held) -> None:
        undone(held)
        if failed == ["once"]:
            failed.append("interrupted")
            raise KeyboardInterrupt

    committed, undone = Held.commit, Held.rollback
    monkeypatch.setattr(Held, "commit", commit)
    monkeypatch.setattr(Held, "rollback", rollback)
    assert interrupted_beside(lite, noting("b")) == ["b"]
    assert failed == ["once", "interrupted"]
    assert "b" in notes(lite)


def test_an_interrupt_in_anothers_work_is_not_told_to_its_caller(lite: Database) -> None:
    """The user interrupts the main thread while it does what another thread waits for: that is done all the same."""
    times: list[threading.Thread] = []

    def work(connection: Connection) -> str:
        times.append(threading.current_thread())
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        return add("b", connection)

    assert interrupted_beside(lite, work) == ["b"]
    assert threading.main_thread() in times
    assert "b" in notes(lite)


class Interrupted(deque[Any]):
    """A queue whose first job is asked for by the main thread, which the user interrupts while it takes that."""

    def __init__(self, when: str) -> None:
        super().__init__()
        self.when = when
        self.asked = [threading.Event(), threading.Event()]
        self.interrupted = False

    def append(self, job: object, /) -> None:
        super().append(job)
        self.asked[len(self) - 1].set()

    def popleft(self) -> object:
        if self.interrupted:
            return super().popleft()
        self.interrupted = True
        assert threading.current_thread() is threading.main_thread()
        if self.when == "after":
            super().popleft()
        raise KeyboardInterrupt


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_interrupt_loses_nothing_that_is_being_taken(lite: Database, when: str) -> None:
    """Who is interrupted on the way from the queue to the transaction leaves the work of others, and leaves it once."""
    queue, done, begun = Interrupted(when), list[str](), list[str]()

    def counted(name: str) -> Work[str]:
        def work(connection: Connection) -> str:
            begun.append(name)
            return add(name, connection)

        return work

    def ask() -> None:
        assert queue.asked[0].wait(10)
        done.append(lite.run(counted("b")))

    def free() -> None:
        assert queue.asked[1].wait(10)
        busy.go_on()

    threads = [threading.Thread(target=ask), threading.Thread(target=free)]
    with Busy(lite) as busy:
        lite._queue = queue  # pyright: ignore[reportPrivateUsage]
        for thread in threads:
            thread.start()
        with pytest.raises(KeyboardInterrupt):
            lite.run(counted("a"))
    for thread in threads:
        thread.join(20)
    assert done == ["b"]
    assert begun == notes(lite) == ["a", "b"]


def test_reading_needs_no_write_lock(tmp_path: Path, lite: Database) -> None:
    """While another process writes, what only reads is done."""
    lite.run(noting("a"))
    other = sqlite3.connect(tmp_path / "notes.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    query = text("SELECT note FROM notes")
    assert lite.run(lambda connection: connection.execute(query).scalar(), readonly=True) == "a"
    other.close()
