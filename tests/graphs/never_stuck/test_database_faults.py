"""The database fails in the middle of a request: a clear error, nothing lost, and the request goes on afterwards."""

import os
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from langchain_core.messages import BaseMessage

from bursar import Ledger, Report, Task
from bursar.state.errors import DatabaseError
from bursar.state.money import USD
from tests.support import servers
from tests.support.graphs import answer_of, ask, build, priced, scripted, session, specialist


class Lock:
    """Another program's write lock on an SQLite file."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)

    def take(self) -> None:
        """Lock everybody else out."""
        self._connection.execute("BEGIN IMMEDIATE")

    def release(self) -> None:
        """Let them in again."""
        self._connection.rollback()

    def close(self) -> None:
        """Give up."""
        self._connection.close()


@contextmanager
def _impatient(tmp_path: Path) -> Generator[tuple[Ledger, Lock]]:
    ledger = Ledger(f"sqlite:///{tmp_path}/books.db?timeout=0.1")
    lock = Lock(tmp_path / "books.db")
    yield ledger, lock
    lock.close()
    assert ledger.verify()
    ledger.database.close()


def test_a_locked_database_after_a_paid_call(tmp_path: Path) -> None:
    """The run cannot be booked, so the request stops with an error; resumed, it answers and pays for nothing twice."""
    with _impatient(tmp_path) as (ledger, lock), scripted("one") as model:

        def handler(task: Task) -> Report:
            said = priced(model).invoke(task.text).text
            if not model.left and len(locked) < 1:
                locked.append(lock.take())
            return Report(answer=said)

        locked: list[None] = []
        app = build(ledger, [specialist("a", handler)])
        with pytest.raises(DatabaseError, match="locked by another process"):
            ask(app)
        lock.release()
        result = app.invoke(None, session())
        assert answer_of(result) == "one"
        assert result["spend"].spent == USD("0.001") == ledger.spend("s-1").spent


def test_a_locked_database_between_hold_and_settlement(tmp_path: Path) -> None:
    """What a call cost could not be booked: the request stops; resumed, the call is unknown and a new one answers."""
    with _impatient(tmp_path) as (ledger, lock):

        def locks(messages: list[BaseMessage]) -> str:
            lock.take()
            return "lost"

        with scripted(locks, "one") as model:
            app = build(ledger, [specialist("a", priced(model))])
            with pytest.raises(DatabaseError, match="locked by another process"):
                ask(app)
            lock.release()
            assert [hold.state for hold in ledger.open_holds()] == ["sent"]
            result = app.invoke(None, session())
        assert answer_of(result) == "one"
        assert [hold.state for hold in ledger.open_holds()] == ["unknown"]
        assert result["spend"].spent == USD("0.006")


def test_a_lock_that_passes_leaves_no_hold_behind(tmp_path: Path) -> None:
    """Where the books are back before the run ends, it has failed, its call is unknown, and the fallback answers."""
    with _impatient(tmp_path) as (ledger, lock):

        def locks(messages: list[BaseMessage]) -> str:
            lock.take()
            return "lost"

        with scripted(locks) as model:

            def handler(task: Task) -> Report:
                try:
                    return Report(answer=priced(model).invoke(task.text).text)
                finally:
                    lock.release()

            result = ask(build(ledger, [specialist("a", handler)]))
        assert answer_of(result).startswith("a by rule")
        assert result["runs"][0].reason.startswith("the database of the ledger failed")
        assert [hold.state for hold in ledger.open_holds()] == ["unknown"]
        assert result["spend"].spent == USD("0.005")


@pytest.mark.postgres
def test_lost_connections_are_replaced(postgres: str) -> None:
    """Every connection is cut between hold and settlement: the request ends with its answer, paid for once."""
    ledger = Ledger(postgres)

    def cut(messages: list[BaseMessage]) -> str:
        with psycopg.connect(postgres.replace("+psycopg", ""), autocommit=True) as admin:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        return "one"

    with scripted(cut) as model:
        result = ask(build(ledger, [specialist("a", priced(model))]), name="s-cut")
    assert answer_of(result) == "one"
    assert result["spend"].spent == USD("0.001") == ledger.spend("s-cut").spent
    assert ledger.open_holds() == []
    assert ledger.verify("s-cut")
    ledger.database.close()


def test_a_disk_that_was_full_when_the_answer_came(ledger: Ledger) -> None:
    """The answer could not be kept: its run has failed and says why, its call is unknown, and the fallback answers."""

    def limit(pages: int) -> None:
        ledger.database.run(lambda connection: connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}"))

    def fills(messages: list[BaseMessage]) -> str:
        limit(1)  # which SQLite takes for as many as there are
        return os.urandom(500_000).hex()

    with scripted(fills) as model:

        def handler(task: Task) -> Report:
            try:
                return Report(answer=priced(model).invoke(task.text).text)
            finally:
                limit(1_000_000)

        result = ask(build(ledger, [specialist("a", handler)], show_errors=True))
    assert answer_of(result).startswith("a by rule")
    assert "the disk is full; free some space, nothing was written" in result["runs"][0].reason
    assert [hold.state for hold in ledger.open_holds()] == ["unknown"]
    assert result["spend"].spent == USD("0.005")


@pytest.mark.postgres
def test_a_server_that_crashes_between_hold_and_settlement() -> None:
    """It is back before the call is: the request ends with its answer, paid for once, and the books agree."""
    with servers.postgres() as server:
        ledger = Ledger(server.url)

        def crashes(messages: list[BaseMessage]) -> str:
            server.restart()
            return "one"

        with scripted(crashes) as model:
            result = ask(build(ledger, [specialist("a", priced(model))]))
        assert answer_of(result) == "one"
        assert result["spend"].spent == USD("0.001") == ledger.spend("s-1").spent
        assert ledger.open_holds() == []
        assert ledger.verify()
        ledger.database.close()


@pytest.mark.postgres
def test_a_server_that_is_down_when_the_answer_comes() -> None:
    """The request stops with one clear line; resumed when the server is back, it answers and every cent is known."""
    with servers.postgres() as server:
        ledger = Ledger(server.url)

        def crashes(messages: list[BaseMessage]) -> str:
            server.stop()
            return "lost"

        with scripted(crashes, "one") as model:
            app = build(ledger, [specialist("a", priced(model))])
            with pytest.raises(DatabaseError, match=r"no connection \(") as told:
                ask(app)
            assert "\n" not in str(told.value)
            server.start()
            result = app.invoke(None, session())
        assert answer_of(result) == "one"
        assert [hold.state for hold in ledger.open_holds()] == ["unknown"]
        assert result["spend"].spent == USD("0.006")
        assert ledger.verify()
        ledger.database.close()
