"""The database connector's queries: the only code that reads the household's data for Genie's agents."""

import sqlite3
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from datetime import date
from types import MappingProxyType
from typing import Final, TypeVar, cast

from sqlalchemy import Connection, Engine, Select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from bursar.genie.household.queries import QUERIES, NamedQuery, Parameters, Record, read_profile
from bursar.genie.household.records import BankAccount, BankTransaction, ClosingPrice, ImportedFile, Lot, Profile
from bursar.genie.household.source import QueryRows

R = TypeVar("R", bound=Record)
_KINDS: Final = MappingProxyType({"date": date, "text": str, "count": int})
# SQLite calls the handler that checks the time limit after this many of its instructions: some microseconds.
_STEPS_BETWEEN_CHECKS: Final = 1_000


class DataError(Exception):
    """A query was refused or stopped. Nothing was changed in the database. The error's text says what to do.

    DataError
    ├── UnknownQuery     no query has that name, or the query has no such parameter
    ├── BadParameter     a parameter is of the wrong type or size
    ├── NotReadOnly      the statement is no SELECT, or would write
    └── QueryTimeout     the query took longer than the time limit
    """


class UnknownQuery(DataError):
    """No query has that name, or the query has no such parameter."""


class BadParameter(DataError):
    """A parameter is of the wrong type or size."""


class NotReadOnly(DataError):
    """The statement is no SELECT, or the database refused it as a write."""


class QueryTimeout(DataError):
    """The query took longer than the connector's time limit."""


class Connector:
    """A `Source` that reads one household's data with named, read-only queries.

    Every query runs in a read-only transaction, returns at most `max_rows` rows, and ends within `timeout_seconds`. If
    more transactions or prices match, the newest are returned. `clock` gives monotonic seconds.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        max_rows: int = 10_000,
        timeout_seconds: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if max_rows < 1 or timeout_seconds <= 0:
            raise BadParameter("max_rows must be at least 1 and timeout_seconds above 0")
        if engine.dialect.name not in {"sqlite", "postgresql"}:
            raise BadParameter(f"the connector reads SQLite and PostgreSQL, not {engine.dialect.name}")
        self._engine = engine
        self._max_rows = max_rows
        self._timeout_seconds = timeout_seconds
        self._clock = clock
        # A deadlock: a thread that waits inside SQLite for the shared connection can hold Python's own lock, which the
        # other thread's time limit handler needs. So threads that share one connection take turns here.
        self._turn = threading.Lock() if isinstance(engine.pool, StaticPool) else nullcontext()

    def run(self, name: str, **parameters: date | str | int | None) -> QueryRows[Record]:
        """Run the query `name` with the parameters that are not None, and return its rows.

        Raises `DataError` if the query is refused or stopped.
        """
        query = QUERIES.get(name)
        if query is None:
            raise UnknownQuery(f"no query is named {name!r}; there are {', '.join(sorted(QUERIES))}")
        given = {key: value for key, value in parameters.items() if value is not None}
        _check(query, given)
        return self.fetch(query, given)

    def fetch(self, query: NamedQuery, parameters: Parameters) -> QueryRows[Record]:
        """Run `query`, with parameters that the caller has checked, and return its rows.

        Raises `DataError` if the query is stopped or its statement is no SELECT.
        """
        statement = query.statement(parameters)
        # The type says SELECT, but at run time the statement may be something else.
        if not isinstance(cast("object", statement), Select):
            raise NotReadOnly(f"the query {query.name!r} is no SELECT")
        limit = cast("int | None", parameters.get("limit"))
        wanted = self._max_rows if limit is None else min(limit, self._max_rows)
        with self._reading() as connection:
            # One row more than wanted shows whether the row limit cut any.
            rows = connection.execute(statement.limit(wanted + 1)).all()
            as_of = cast("date | None", connection.scalar(query.as_of))
        items = [query.record(row) for row in rows[:wanted]]
        if query.newest_first:
            items.reverse()
        return QueryRows(tuple(items), as_of, len(rows) > wanted, query.name)

    def accounts(self) -> QueryRows[BankAccount]:
        """Return all accounts, ordered by id."""
        return _typed(self.run("accounts"), BankAccount)

    def transactions(
        self,
        *,
        start: date | None = None,
        end: date | None = None,
        account_id: str | None = None,
        payee: str | None = None,
        limit: int | None = None,
    ) -> QueryRows[BankTransaction]:
        """Return transactions, oldest first.

        `start` and `end` are inclusive. `payee` is a part of the payee's name, in any case. If more rows match than
        `limit`, the newest are returned.
        """
        found = self.run("transactions", start=start, end=end, account_id=account_id, payee=payee, limit=limit)
        return _typed(found, BankTransaction)

    def lots(self) -> QueryRows[Lot]:
        """Return all lots that the household owns, ordered by symbol and day of purchase."""
        return _typed(self.run("lots"), Lot)

    def prices(self, *, start: date | None = None, end: date | None = None) -> QueryRows[ClosingPrice]:
        """Return closing prices, oldest first; `start` and `end` are inclusive."""
        return _typed(self.run("prices", start=start, end=end), ClosingPrice)

    def imports(self) -> QueryRows[ImportedFile]:
        """Return the files that were imported, ordered by day and name."""
        return _typed(self.run("imports"), ImportedFile)

    def profile(self) -> Profile:
        """Return the household's profile; if none was imported, a profile in which everything is unknown."""
        with self._reading() as connection:
            return read_profile(connection) or Profile()

    @contextmanager
    def _reading(self) -> Generator[Connection]:
        """Yield a connection in a read-only transaction with a time limit; roll back at the end of the block.

        Raises a `DataError` in place of each error of the database.
        """
        limit = self._sqlite_limits if self._engine.dialect.name == "sqlite" else self._postgresql_limits
        with self._turn, self._engine.connect() as connection:
            try:
                with limit(connection):
                    yield connection
            except DBAPIError as error:
                raise _explained(error, self._timeout_seconds) from error
            finally:
                connection.rollback()

    @contextmanager
    def _postgresql_limits(self, connection: Connection) -> Generator[None]:
        connection.execute(text("SET TRANSACTION READ ONLY"))
        connection.execute(text(f"SET LOCAL statement_timeout = {max(1, int(self._timeout_seconds * 1000))}"))
        yield

    @contextmanager
    def _sqlite_limits(self, connection: Connection) -> Generator[None]:
        raw = cast("sqlite3.Connection", connection.connection.driver_connection)
        deadline = self._clock() + self._timeout_seconds
        connection.exec_driver_sql("PRAGMA query_only = ON")
        raw.set_progress_handler(lambda: self._clock() > deadline, _STEPS_BETWEEN_CHECKS)
        try:
            yield
        finally:
            # The pool may give this connection to a writer next, so the read-only setting must go.
            raw.set_progress_handler(None, 0)
            connection.exec_driver_sql("PRAGMA query_only = OFF")


def _check(query: NamedQuery, given: Parameters) -> None:
    for key, value in given.items():
        kind = query.parameters.get(key)
        if kind is None:
            known = ", ".join(query.parameters) or "no parameters"
            raise UnknownQuery(f"the query {query.name!r} has no parameter {key!r}; it has {known}")
        if type(value) is not _KINDS[kind]:
            raise BadParameter(f"{key!r} of the query {query.name!r} must be a {kind}, not {value!r}")
        if kind == "count" and cast("int", value) < 1:
            raise BadParameter(f"{key!r} of the query {query.name!r} must be at least 1, not {value}")


def _typed(rows: QueryRows[Record], kind: type[R]) -> QueryRows[R]:
    items = tuple(item for item in rows if isinstance(item, kind))
    return QueryRows(items, rows.as_of, rows.truncated, rows.query)


def _explained(error: DBAPIError, timeout_seconds: float) -> DataError:
    reason = str(error.orig).splitlines()[0] if error.orig is not None else "unknown"
    state = getattr(error.orig, "sqlstate", None)
    if "interrupted" in reason or state == "57014":
        return QueryTimeout(f"the query took longer than {timeout_seconds:g} s; ask for fewer days or one account")
    if "readonly" in reason or state == "25006":
        return NotReadOnly("the query tried to write; only reads are allowed")
    if "no such table" in reason or state == "42P01":
        return DataError("no household data yet; run `bursar import FILE` first")
    return DataError(f"the data could not be read: {reason}")
