"""Work on PostgreSQL that is overdue is given up by this process: for a lock, for a server that is frozen."""

import math
import os
import signal
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg
import pytest
from sqlalchemy import Connection, text

from bursar.checkpoints.database import postgresql_deadline as overdue
from bursar.checkpoints.database import retry_queue as again
from bursar.checkpoints.database.database import Database
from bursar.state.errors import DatabaseError, LedgerError
from tests.support import servers
from tests.support.clock import Stopwatch, wait_until

pytestmark = pytest.mark.postgres

SLOW = text("SELECT pg_sleep(0.15)")


@dataclass
class Frozen:
    """Server processes that were stopped, to go on when the test ends."""

    stopped: list[int] = field(default_factory=list[int])

    def __call__(self, connection: Connection) -> None:
        """Stop the one that serves this connection."""
        process = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        os.kill(process, signal.SIGSTOP)
        self.stopped.append(process)

    def go_on(self) -> None:
        """Let them work again."""
        while self.stopped:
            os.kill(self.stopped.pop(), signal.SIGCONT)


@pytest.fixture(scope="module")
def server() -> Iterator[servers.Postgres]:
    """A server of these tests' own, with a table of one row."""
    with servers.postgres() as made:
        made.execute("CREATE TABLE rows (name TEXT PRIMARY KEY, number INT)")
        made.execute("INSERT INTO rows VALUES ('a', 0)")
        yield made


@pytest.fixture
def database(server: servers.Postgres) -> Iterator[Database]:
    """Two connections to it."""
    made = Database(f"{server.url}?pool_size=2&statement_timeout=20")
    made.run(count)
    yield made
    made.close()


MUCH_LATER_SECONDS = 15  # far less than a statement's own time-out, far more than a busy machine is late


@pytest.fixture
def freeze() -> Iterator[Frozen]:
    """Stops a server's process."""
    made = Frozen()
    yield made
    made.go_on()


@contextmanager
def locked(server: servers.Postgres) -> Generator[None]:
    """Another program has the row."""
    with psycopg.connect(server.url.replace("+psycopg", "")) as other:
        other.execute("SELECT * FROM rows FOR UPDATE")
        yield


def count(connection: Connection) -> int:
    """Raise the row's number."""
    return connection.execute(text("UPDATE rows SET number = number + 1 RETURNING number")).scalar_one()


def number(connection: Connection) -> int:
    """The row's number."""
    return connection.execute(text("SELECT number FROM rows")).scalar_one()


def within(seconds: float) -> float:
    """So many seconds from now."""
    return time.monotonic() + seconds


def test_a_lock_is_waited_for_until_then(server: servers.Postgres, database: Database) -> None:
    """The server is told to stop, so what the work had locked is free at once; nothing of it is kept."""
    before = database.run(number)
    server.execute("CREATE TABLE beside (name TEXT)")

    def two(connection: Connection) -> None:
        connection.execute(text("LOCK TABLE beside"))
        count(connection)

    with locked(server):
        with Stopwatch() as took, pytest.raises(DatabaseError, match=r"given up: .* another program may hold a lock"):
            database.run(two, until=within(0.3))
        assert took.seconds >= 0.3
        assert took.is_within(MUCH_LATER_SECONDS)
        server.execute("SET lock_timeout = 2000; LOCK TABLE beside; DROP TABLE beside")
    assert database.run(count, until=within(0.3)) == before + 1


def test_a_server_that_is_at_work_is_left_alone(database: Database) -> None:
    """Work that is late and goes on is not given up, and neither is a commit that takes its time."""

    def many(connection: Connection) -> int:
        for _ in range(2_000):
            number(connection)
        return count(connection)

    before = database.run(number)
    assert database.run(many, until=within(0)) == before + 1
    database.run(lambda connection: [connection.execute(text(sql)) for sql in _slow_commit("0.4")])
    try:
        database.run(lambda connection: connection.execute(text("INSERT INTO slow VALUES (1)")), until=within(0))
    finally:
        database.run(lambda connection: connection.execute(text("DROP TABLE slow")))


def _slow_commit(seconds: str) -> list[str]:
    return [
        "CREATE TABLE slow (number INT)",
        "CREATE OR REPLACE FUNCTION sleep() RETURNS trigger LANGUAGE plpgsql AS $$"
        f" BEGIN PERFORM pg_sleep({seconds}); RETURN NULL; END $$",
        "CREATE CONSTRAINT TRIGGER sleeps AFTER INSERT ON slow DEFERRABLE INITIALLY DEFERRED FOR EACH ROW"
        " EXECUTE FUNCTION sleep()",
    ]


def test_a_process_that_is_frozen_is_not_waited_for(database: Database, freeze: Frozen) -> None:
    """In the middle of the work it is a fault, and nothing was written; the next work has another connection."""
    before = database.run(number)

    def work(connection: Connection) -> None:
        count(connection)
        freeze(connection)
        number(connection)

    with pytest.raises(DatabaseError, match=r"the server does not answer.*nothing was written"):
        database.run(work, until=within(0.2))
    freeze.go_on()
    assert database.run(count) == before + 1


def test_a_commit_that_is_not_answered(database: Database, freeze: Frozen) -> None:
    """Then nobody knows, and the error says so."""
    with Stopwatch() as took, pytest.raises(DatabaseError, match="whether the work was kept is not known"):
        database.run(freeze, until=within(0.2))
    assert took.is_within(0.2 + overdue.COMMIT_SECONDS + MUCH_LATER_SECONDS)


def test_a_connection_whose_process_froze_while_idle_is_replaced(database: Database, freeze: Frozen) -> None:
    """Nothing was asked of it yet, so no work is lost and nobody hears of it; in any time."""
    for until in (None, math.inf, 10.0):
        process: list[int] = []

        def remember(connection: Connection) -> None:
            process.append(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())  # noqa: B023 - runs now

        database.run(remember)
        os.kill(process[0], signal.SIGSTOP)
        freeze.stopped.append(process[0])
        with Stopwatch() as took:
            database.run(count, until=until if until is None else within(until))
        assert took.is_within(overdue.BEGIN_SECONDS + MUCH_LATER_SECONDS)


def test_without_a_deadline_a_server_has_some_seconds_more_than_a_statement(
    server: servers.Postgres, freeze: Frozen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would have given up a statement by itself by then; a statement that takes its time is left alone."""
    monkeypatch.setattr(overdue, "MARGIN_SECONDS", 0.5)
    made = Database(f"{server.url}?pool_size=1&statement_timeout=2")
    made.run(lambda connection: [connection.execute(SLOW) for _ in range(20)])
    for one_statement in (False, True):

        def work(connection: Connection) -> None:
            freeze(connection)
            number(connection)

        with pytest.raises(DatabaseError, match="the server does not answer"):
            made.run(work, one_statement=one_statement)
        freeze.go_on()
    assert made.run(number) >= 0
    made.close()


def test_a_whole_server_that_is_frozen(server: servers.Postgres) -> None:
    """Work is told within its time, new connections included, and after the first time soon; thawed, all is well."""
    made = Database(f"{server.url}?pool_size=2&statement_timeout=20")
    made.run(number)
    with servers.frozen(server):
        for seconds in (0.5, 1.0, 0.0, None):
            with Stopwatch() as took, pytest.raises(DatabaseError, match="the server does not answer"):
                made.run(count, until=None if seconds is None else within(seconds))
            assert took.is_within(MUCH_LATER_SECONDS)
    assert made.run(count) > 0
    made.close()


def test_what_must_be_kept_is_tried_again(
    server: servers.Postgres, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller hears of the fault; the work is done once when the lock is gone, or not at all if the books refuse."""
    monkeypatch.setattr(again, "RETRY_SECONDS", 0.1)
    monkeypatch.setattr(again, "PATIENCE_SECONDS", 0.1)
    refused = threading.Event()

    def refuse(connection: Connection) -> None:
        number(connection)
        if refused.is_set():
            refused.clear()
            raise LedgerError("somebody else did it")
        refused.set()
        count(connection)

    before = database.run(number)
    with locked(server):
        for work in (count, refuse):
            with pytest.raises(DatabaseError, match="given up"):
                database.run(work, until=within(1), lasting=True)
        assert refused.is_set()
        time.sleep(0.5)
    wait_until(lambda: database.run(number) > before and not refused.is_set())
    time.sleep(0.5)
    assert database.run(number) == before + 1
    assert not refused.is_set()
