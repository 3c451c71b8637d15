"""Settings stand in the database URL: what they do, and what a wrong one is told."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from bursar import Ledger, SQLAlchemySaver
from bursar.checkpoints.database.database import Database
from bursar.checkpoints.database.url import Settings, parse
from bursar.state.errors import ConfigurationError, DatabaseError

HOST = "postgresql://me:secret@127.0.0.1/books"


def test_settings_are_read_and_taken_out_of_the_url() -> None:
    """What is not Bursar's own goes to the driver as it is."""
    url, settings = parse(
        f"{HOST}?pool_size=20&pool_timeout=0.5&connect_timeout=3&statement_timeout=1.25&prepared_statements=off"
        "&sslmode=require"
    )
    assert settings == Settings(
        pool_size=20, pool_timeout=0.5, connect_timeout=3, statement_timeout=1.25, prepared_statements=False
    )
    assert url.query == {"sslmode": "require"}
    assert parse("sqlite:///x.db?timeout=2")[1].timeout == 2
    assert parse(HOST)[1] == Settings()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (f"{HOST}?pool_size=0", "pool_size must be a whole number of connections from 1 to 1000, not '0'"),
        (f"{HOST}?pool_size=many", "pool_size must be a whole number"),
        (f"{HOST}?pool_size=2&pool_size=3", "pool_size must be a whole number"),
        (f"{HOST}?pool_timeout=-1", "pool_timeout must be from 0 to 3600 seconds, not '-1'"),
        (f"{HOST}?connect_timeout=1.5", "connect_timeout must be a whole number of seconds from 2"),
        (f"{HOST}?statement_timeout=30000", "statement_timeout must be from 0.001 to 3600 seconds, not '30000'"),
        (f"{HOST}?statement_timeout=NaN", "statement_timeout must be"),
        (f"{HOST}?prepared_statements=maybe", "prepared_statements must be on or off, not 'maybe'"),
        (
            f"{HOST}?timeout=3",
            "timeout is no setting of PostgreSQL, which has pool_size, pool_timeout, connect_timeout",
        ),
        ("sqlite:///x.db?pool_size=3", "pool_size is no setting of SQLite, which has timeout"),
        ("postgresql://me:secret@127.0.0.1:port/books", "not a database URL"),
    ],
)
def test_a_wrong_setting_is_told_in_one_line(url: str, message: str) -> None:
    """By ledger and checkpointer, before anything is opened, and without the password."""
    for opens in (Ledger, SQLAlchemySaver):
        with pytest.raises(ConfigurationError, match=message) as refused:
            opens(url)
        assert "\n" not in str(refused.value)
        assert "secret" not in str(refused.value)


def test_one_database_has_one_set_of_settings(tmp_path: Path) -> None:
    """A URL without settings shares what is open; one with others is refused, not ignored."""
    url = f"sqlite:///{tmp_path}/x.db"
    ledger = Ledger(f"{url}?timeout=3")
    assert SQLAlchemySaver(url).database is SQLAlchemySaver(f"{url}?timeout=3").database is ledger.database
    with pytest.raises(ConfigurationError, match="opened it with other settings; write the same URL everywhere"):
        SQLAlchemySaver(f"{url}?timeout=4")
    ledger.database.close()


@pytest.fixture
def small(postgres: str) -> Iterator[Database]:
    """Two connections, and little patience."""
    made = Database(f"{postgres}?pool_size=2&pool_timeout=0.05&statement_timeout=2")
    yield made
    made.close()


class Occupied:
    """Work that keeps a connection until the block ends."""

    def __init__(self, database: Database) -> None:
        self._begun, self._go_on = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=database.run, args=(self._work,))

    def __enter__(self) -> None:
        self._thread.start()
        assert self._begun.wait(60)

    def __exit__(self, *_error: object) -> None:
        self._go_on.set()
        self._thread.join()

    def _work(self, connection: Connection) -> None:
        self._begun.set()
        assert self._go_on.wait(60)


@pytest.mark.postgres
def test_the_server_compiles_no_statement(small: Database) -> None:
    """It would, for half a second a read, where it expects many rows: here it is told to expect them at no cost."""

    def work(connection: Connection) -> str:
        connection.execute(text("SET LOCAL jit_above_cost TO 0"))
        plan = connection.execute(
            text("EXPLAIN (ANALYZE, FORMAT JSON) SELECT sum(relpages) FROM pg_class")
        ).scalar_one()
        return str(plan)

    assert "JIT" not in small.run(work)


@pytest.mark.postgres
def test_a_pool_has_so_many_connections_and_so_much_patience(small: Database) -> None:
    """The third piece of work is told, sync and async, and goes on once there is room."""

    def one(connection: Connection) -> object:
        return connection.execute(text("SELECT 1")).scalar()

    full = r"none of the 2 connections of this process was free within 0\.05 s; raise pool_size"
    with Occupied(small), Occupied(small):
        with pytest.raises(DatabaseError, match=full):
            small.run(one)
        with pytest.raises(DatabaseError, match=full):
            asyncio.run(small.arun(one))
    assert small.run(one) == asyncio.run(small.arun(one)) == 1


@pytest.mark.postgres
@pytest.mark.parametrize("one_statement", [False, True])
def test_a_statement_has_its_time(small: Database, one_statement: bool) -> None:
    """Then it is given up with what to do; the connection goes on, and nothing of the work is kept."""
    long = text("SELECT pg_sleep(60)")
    with pytest.raises(DatabaseError, match=r"a statement may take 2 s.*raise statement_timeout in the URL$"):
        small.run(lambda connection: connection.execute(long), one_statement=one_statement)
    assert small.run(lambda connection: connection.execute(text("SELECT 1")).scalar()) == 1


@pytest.mark.postgres
def test_who_stops_in_the_middle_does_not_keep_its_locks(small: Database) -> None:
    """A transaction that pauses too long is ended by the server: work that waits for its rows goes on."""
    small.run(lambda connection: connection.execute(text("CREATE TABLE held (note TEXT)")))
    paused = threading.Event()

    def pause(connection: Connection) -> None:
        connection.execute(text("LOCK TABLE held"))
        others = Database(small.url)
        others.run(lambda connection: connection.execute(text("INSERT INTO held VALUES ('other')")))
        others.close()
        paused.set()
        connection.execute(text("INSERT INTO held VALUES ('late')"))

    with pytest.raises(DatabaseError, match="no connection"):
        small.run(pause)
    assert paused.is_set()
    assert small.run(lambda connection: list(connection.execute(text("SELECT note FROM held")).scalars())) == ["other"]
    small.run(lambda connection: connection.execute(text("DROP TABLE held")))


@pytest.mark.postgres
def test_prepared_statements_can_be_turned_off(postgres: str) -> None:
    """psycopg prepares what is run often, unless the URL says that it must not."""
    prepared: list[object] = []
    for switch in ("on", "off"):
        database = Database(f"{postgres}?pool_size=1&prepared_statements={switch}")
        for _ in range(10):
            database.run(lambda connection: connection.execute(text("SELECT 40 + 2")).scalar())
        count = text("SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%40 + 2%'")
        prepared.append(database.run(lambda connection: connection.execute(count).scalar()))  # noqa: B023 - runs now
        database.close()
    assert prepared == [1, 0]


@pytest.mark.postgres
def test_the_value_of_a_row_is_not_taken_for_a_fault(postgres: str) -> None:
    """A unique value that reads like a fault of the database is a conflict all the same."""
    from sqlalchemy.exc import IntegrityError

    database = Database(postgres)
    database.run(lambda connection: connection.execute(text("CREATE TABLE words (word TEXT PRIMARY KEY)")))
    add = text("INSERT INTO words VALUES ('locked read-only disk full connection')")
    database.run(lambda connection: connection.execute(add))
    with pytest.raises(IntegrityError):
        database.run(lambda connection: connection.execute(add))
    database.run(lambda connection: connection.execute(text("DROP TABLE words")))
    database.close()
