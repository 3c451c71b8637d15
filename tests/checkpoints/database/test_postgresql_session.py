"""What is prepared on a connection to PostgreSQL, and what becomes of that when something goes wrong."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import DataError, ProgrammingError

from bursar.checkpoints.database.database import Database
from bursar.checkpoints.database.postgresql_session import PostgresSession
from bursar.checkpoints.database.statement import Statement

pytestmark = pytest.mark.postgres
COMMAND_OK = 1  # libpq's PGRES_COMMAND_OK
TIMES = 12  # more than it takes until a statement is prepared


@pytest.fixture
def database(postgres: str) -> Iterator[Database]:
    found = Database(postgres)
    yield found
    found.close()


def names(connection: Connection) -> list[str]:
    query = text("SELECT name FROM pg_prepared_statements WHERE name LIKE 'bursar%' ORDER BY name")
    return list(connection.execute(query).scalars())


def test_what_runs_often_is_prepared_once(database: Database) -> None:
    """Values of every kind come back as they went, before and after."""
    echo = Statement(text("SELECT CAST(:a AS BIGINT), CAST(:b AS TEXT), CAST(:c AS BYTEA), CAST(:d AS BOOLEAN)"))
    values = {"a": 2**62, "b": "größer 'as' $1", "c": b"\x00\xff", "d": True}
    for _ in range(TIMES):
        assert database.run(lambda connection: echo(connection, **values)) == [tuple(values.values())]
        assert database.run(lambda connection: echo(connection, **dict.fromkeys(values))) == [(None,) * 4]
    assert database.run(names) == ["bursar_0"]


def test_an_interrupt_as_it_is_prepared_costs_a_name_and_no_more(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server has prepared it and nobody here knows: the statement, and others, go on under names of their own."""
    one, other = Statement(text("SELECT 1")), Statement(text("SELECT 2"))
    answer, interrupted = PostgresSession._answer, list[str]()  # pyright: ignore[reportPrivateUsage]

    def interrupting(link: PostgresSession) -> object:
        done = answer(link)
        if not interrupted and done.status == COMMAND_OK and not done.command_status:  # as of a PREPARE by libpq
            interrupted.append("once")
            raise KeyboardInterrupt
        return done

    monkeypatch.setattr(PostgresSession, "_answer", interrupting)

    def often(statement: Statement) -> None:
        for _ in range(TIMES):
            database.run(statement)

    with pytest.raises(KeyboardInterrupt):
        often(one)
    often(one)
    often(other)
    assert len(database.run(names)) == 3


def test_what_the_server_forgot_is_prepared_anew(database: Database) -> None:
    """One statement fails with the server's own words; those after it do not."""
    one = Statement(text("SELECT 1"))
    for _ in range(TIMES):
        database.run(one)
    database.run(lambda connection: connection.exec_driver_sql("DEALLOCATE ALL") and None)
    with pytest.raises(ProgrammingError, match="does not exist"):
        database.run(one)
    for _ in range(TIMES):
        assert database.run(one) == [(1,)]
    assert len(database.run(names)) == 1


@pytest.mark.parametrize("value", ["half\x00", 2**63])
def test_what_postgresql_cannot_hold_is_a_data_error(database: Database, value: object) -> None:
    kind = "TEXT" if isinstance(value, str) else "BIGINT"
    echo = Statement(text(f"SELECT CAST(:a AS {kind})"))
    with pytest.raises(DataError):
        database.run(lambda connection: echo(connection, a=value))
