"""The connector reads and nothing else: no writes, no more rows and no more time than it was given."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import cast

import pytest
from sqlalchemy import Engine, create_engine, delete, func, insert, select, text

from bursar.genie.agents.database_connector.connector import (
    BadParameter,
    Connector,
    DataError,
    NotReadOnly,
    QueryTimeout,
    UnknownQuery,
)
from bursar.genie.household import schema
from bursar.genie.household.queries import QUERIES, NamedQuery, Parameters, SelectRows
from bursar.genie.household.source import Source
from bursar.genie.importing.importing import import_files
from tests.support.databases import BOTH

STATEMENT = "Date,Description,Amount\n" + "".join(f"2025-01-{day:02},Café {day},-{day}.00\n" for day in range(1, 21))


@pytest.fixture(params=BOTH)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """A household of twenty postings on each database."""
    with ExitStack() as stack:
        url = f"sqlite:///{tmp_path / 'household.db'}"
        if request.param == "postgresql":
            url = stack.enter_context(request.getfixturevalue("new_postgres")())
        made = create_engine(url)
        file = tmp_path / "checking.csv"
        file.write_text(STATEMENT)
        import_files(made, [file], now=datetime(2026, 1, 5, tzinfo=UTC))
        yield made
        made.dispose()


def posing(statement: object) -> NamedQuery:
    """The transactions query with another statement in its place."""

    def build(_: Parameters) -> SelectRows:
        return cast("SelectRows", statement)

    return replace(QUERIES["transactions"], statement=build)


def count(engine: Engine) -> int:
    """How many transactions are stored."""
    with engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(schema.transactions)) or 0


def test_bounds_order_and_limit(engine: Engine) -> None:
    """Days are inclusive, rows oldest first, the limit keeps the newest, the payee is found whatever its case."""
    source: Source = Connector(engine)
    days = [row.booked_on.day for row in source.transactions(start=date(2025, 1, 3), end=date(2025, 1, 5))]
    assert days == [3, 4, 5]
    newest = source.transactions(limit=2)
    assert [row.booked_on.day for row in newest] == [19, 20]
    assert newest.truncated
    assert newest.as_of == date(2025, 1, 20)
    assert [row.payee for row in source.transactions(payee="CAFÉ 7")] == ["Café 7"]
    assert len(source.transactions(payee="%")) == 0
    assert len(source.transactions(account_id="other")) == 0
    assert not source.transactions().truncated


def test_the_row_limit_cuts_and_says_so(engine: Engine) -> None:
    """No more than max_rows come back, the newest, with truncated set, whatever limit was asked for."""
    source = Connector(engine, max_rows=5)
    for rows in (source.transactions(), source.transactions(limit=100)):
        assert [row.booked_on.day for row in rows] == [16, 17, 18, 19, 20]
        assert rows.truncated
    assert not Connector(engine, max_rows=20).transactions().truncated


WRITES = [
    delete(schema.transactions),
    text("DELETE FROM genie_transactions"),
    insert(schema.accounts).values(id="x", name="x", kind="card", currency="USD"),
]


@pytest.mark.parametrize("write", WRITES, ids=["delete", "text", "insert"])
def test_a_write_in_place_of_a_query_is_refused(engine: Engine, write: object) -> None:
    """A query whose statement is no SELECT is refused before it is sent."""
    with pytest.raises(NotReadOnly, match="no SELECT"):
        Connector(engine).fetch(posing(write), {})
    assert count(engine) == 20


def test_the_database_itself_refuses_writes(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A statement that got past the connector's check meets a read-only transaction; later writers are free again."""
    monkeypatch.setattr("bursar.genie.agents.database_connector.connector.Select", object)

    class Sneaking:
        """A write that looks like a query."""

        def limit(self, _: int) -> object:
            return delete(schema.transactions)

    with pytest.raises(NotReadOnly, match="only reads are allowed"):
        Connector(engine).fetch(posing(Sneaking()), {})
    assert count(engine) == 20
    with engine.begin() as connection:
        connection.execute(delete(schema.transactions))
    assert count(engine) == 0


def test_the_time_limit_stops_a_query(engine: Engine) -> None:
    """A query that would run for minutes is stopped; the connection serves the next query."""
    table = schema.transactions
    many = [table.alias(f"t{number}") for number in range(9)]
    endless = select(func.count()).select_from(*many).where(*(many[0].c.payee != one.c.memo for one in many[1:]))
    source = Connector(engine, timeout_seconds=2)
    with pytest.raises(QueryTimeout, match=r"longer than 2 s; ask for fewer days"):
        source.fetch(posing(endless), {})
    assert len(source.transactions()) == 20


def test_unknown_names_and_bad_parameters_are_clear(engine: Engine) -> None:
    """Each error says what there is instead."""
    source = Connector(engine)
    with pytest.raises(UnknownQuery, match="no query is named 'users'; there are accounts, debts, imports"):
        source.run("users")
    with pytest.raises(UnknownQuery, match="has no parameter 'where'; it has start, end, account_id, payee, limit"):
        source.run("transactions", where="1=1")
    with pytest.raises(BadParameter, match="'start' of the query 'transactions' must be a date, not '2025-01-01'"):
        source.run("transactions", start="2025-01-01")
    with pytest.raises(BadParameter, match="must be at least 1, not 0"):
        source.run("transactions", limit=0)
    with pytest.raises(BadParameter, match="max_rows must be at least 1"):
        Connector(engine, max_rows=0)


def test_text_is_never_read_as_sql(engine: Engine) -> None:
    """A payee or account that holds SQL finds nothing and harms nothing."""
    source = Connector(engine)
    assert len(source.run("transactions", payee="'; DROP TABLE genie_transactions; --")) == 0
    assert len(source.run("transactions", account_id="x' OR '1'='1")) == 0
    assert count(engine) == 20


def test_every_query_is_described_and_runs(engine: Engine) -> None:
    """The registry is complete: each query has words for it and runs without parameters."""
    for name, query in QUERIES.items():
        assert query.name == name
        assert query.description
        assert Connector(engine).run(name).query == name


def test_a_database_without_household_says_what_to_do() -> None:
    """Before the first import the error names the command."""
    engine = create_engine("sqlite://")
    with pytest.raises(DataError, match="run `bursar import FILE` first"):
        Connector(engine).accounts()
    engine.dispose()
