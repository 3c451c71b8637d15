"""SQL that is rendered once and then passed straight to the driver: a fraction of the CPU of `Connection.execute`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from operator import itemgetter
from typing import Any, TypeAlias, cast

from sqlalchemy import Connection, Table, TextClause, UpdateBase, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.compiler import SQLCompiler

from bursar.checkpoints.database.postgresql_session import PostgresSession

Row: TypeAlias = tuple[Any, ...]
Rendered: TypeAlias = tuple[str, dict[str, object], Callable[[Mapping[str, object]], Sequence[object]]]


class Statement:
    """A SQLAlchemy Core statement, run as `statement(connection, name=value, …)` in the connection's transaction.

    Every value is a named `bindparam`. Values whose type needs a conversion (dates, decimals, JSON) are not supported.
    Errors are SQLAlchemy's own, as from `Connection.execute`. `sqlite` is the statement for SQLite if it differs.
    """

    def __init__(self, statement: ClauseElement, *, sqlite: ClauseElement | None = None) -> None:
        self._statements = {"postgresql": statement, "sqlite": statement if sqlite is None else sqlite}
        self._rendered: dict[str, Rendered] = {}

    def __call__(self, connection: Connection, **values: object) -> list[Row]:
        """Run the statement and return its rows; an empty list if it is a statement without rows, such as an INSERT."""
        return self._run(connection, values)[0]

    def changes(self, connection: Connection, **values: object) -> int:
        """Run the statement and return how many rows it inserted, updated or deleted."""
        return self._run(connection, values)[1]

    def _run(self, connection: Connection, values: dict[str, object]) -> tuple[list[Row], int]:
        dialect = connection.dialect
        sql, defaults, ordered = self._rendered.get(dialect.name) or self._render(connection)
        return execute(connection, sql, ordered(defaults | values if defaults else values))

    def changes_of_each(self, connection: Connection, rows: Sequence[dict[str, object]]) -> list[int]:
        """Run the statement for each of `rows`, in order; on SQLite, by one call of the driver.

        Returns, for each of `rows`, how many rows of the table the statement changed.
        """
        sql, defaults, ordered = self._rendered.get(connection.dialect.name) or self._render(connection)
        return _execute_each(connection, sql, [ordered(defaults | row) for row in rows])

    def explained(self, connection: Connection, **values: object) -> list[Row]:
        """Return the rows of the database's EXPLAIN for the statement, without running the statement."""
        sql, defaults, ordered = self._render(connection)
        explain = "EXPLAIN QUERY PLAN" if connection.dialect.name == "sqlite" else "EXPLAIN"
        return execute(connection, f"{explain} {sql}", ordered(defaults | values))[0]

    def _render(self, connection: Connection) -> Rendered:
        # Race: several threads may render at the same time; they all render the same.
        dialect = connection.dialect
        if dialect.name == "postgresql":
            dialect = cast(Any, type(dialect))(paramstyle="numeric_dollar")
        compiled = self._statements[dialect.name].compile(dialect=dialect)
        assert isinstance(compiled, SQLCompiler)
        defaults = {name: value for name, value in (compiled.params or {}).items() if value is not None}
        rendered = (str(compiled), defaults, _in_order(compiled.positiontup or ()))
        self._rendered[dialect.name] = rendered
        return rendered


def execute(connection: Connection, sql: str, values: Sequence[object]) -> tuple[list[Row], int]:
    """Run `sql` with `values` for its parameters: `?` on SQLite, `$1`, `$2` … on PostgreSQL.

    Returns its rows, and how many rows it returned or changed. Raises SQLAlchemy's errors.
    """
    dialect = connection.dialect
    try:
        if dialect.name == "postgresql":
            return PostgresSession.of(connection).run(sql, values)
        driver = cast(Any, connection.connection.dbapi_connection)  # no wrapper of SQLAlchemy's around it
        cursor = driver.execute(sql, values)
        return cursor.fetchall() if cursor.description else [], cursor.rowcount
    except dialect.loaded_dbapi.Error as error:
        raise _fault(connection, sql, error) from error


def execute_many(connection: Connection, sql: str, rows: Sequence[Sequence[object]]) -> None:
    """Run `sql` once for each of `rows`, the values of its parameters, in order. Raises SQLAlchemy's errors."""
    try:
        if connection.dialect.name == "postgresql":
            PostgresSession.of(connection).run_many(sql, rows)
        else:
            cast(Any, connection.connection.dbapi_connection).executemany(sql, rows)
    except connection.dialect.loaded_dbapi.Error as error:
        raise _fault(connection, sql, error) from error


def _execute_each(connection: Connection, sql: str, rows: Sequence[Sequence[object]]) -> list[int]:
    if connection.dialect.name == "postgresql":
        return [execute(connection, sql, row)[1] for row in rows]
    driver = cast(Any, connection.connection.dbapi_connection)
    changed: list[int] = [driver.total_changes]

    def in_turn() -> Iterator[Sequence[object]]:
        for row in rows:
            yield row
            changed.append(driver.total_changes)  # the driver asks for a row once it is done with the one before

    try:
        driver.executemany(sql, in_turn())
    except connection.dialect.loaded_dbapi.Error as error:
        raise _fault(connection, sql, error) from error
    return [after - before for before, after in pairwise(changed)]


def _fault(connection: Connection, sql: str, error: Any) -> DBAPIError:
    """Return SQLAlchemy's error for one of the driver's errors."""
    dialect = connection.dialect
    return cast(DBAPIError, DBAPIError.instance(sql, None, error, dialect.loaded_dbapi.Error, dialect=dialect))


class ReturningStatement:
    """A statement that changes at most one row and returns that row.

    PostgreSQL runs `change`, which has a RETURNING clause. For RETURNING, SQLite would build a table, at several times
    the cost of the change. So SQLite runs `sqlite`, and then `read` if a row was changed.
    """

    def __init__(
        self, change: UpdateBase | TextClause, *, sqlite: UpdateBase | TextClause, read: ClauseElement
    ) -> None:
        self._change = Statement(change, sqlite=sqlite)
        self._read = Statement(read)

    def __call__(self, connection: Connection, **values: object) -> list[Row]:
        """Change the row and return it, in a list, as it is afterwards; an empty list if no row was changed."""
        if connection.dialect.name != "sqlite":
            return self._change(connection, **values)
        return self._read(connection, **values) if self._change.changes(connection, **values) else []


def _in_order(names: Sequence[str]) -> Callable[[Mapping[str, object]], Sequence[object]]:
    """Return a function that takes a mapping and returns its values for these names, in this order."""
    if len(names) > 1:
        return itemgetter(*names)
    return lambda values: [values[name] for name in names]


def insert_new(table: Table) -> Statement:
    """Return a statement that inserts a row into `table`. It changes nothing if a row has that primary key already."""
    columns = ", ".join(column.name for column in table.columns)
    values = ", ".join(f":{column.name}" for column in table.columns)
    # As text, which both databases understand: importing their dialects' own inserts takes longer than all of Bursar.
    return Statement(
        text(f"INSERT INTO {table.name} ({columns}) VALUES ({values}) ON CONFLICT DO NOTHING")  # noqa: S608 - our own names
    )
