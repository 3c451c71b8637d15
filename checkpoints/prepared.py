"""SQL that is rendered once and then handed straight to the driver: a third of the CPU of `Connection.execute`."""

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, TypeAlias, cast

from sqlalchemy import Connection, Table, TextClause, UpdateBase, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.compiler import SQLCompiler

Row: TypeAlias = tuple[Any, ...]
Rendered: TypeAlias = tuple[str, dict[str, object], Callable[[Mapping[str, object]], Sequence[object]] | None]


class Prepared:
    """A Core statement, run as `prepared(connection, name=value, …)` inside the connection's transaction.

    Every value is a named `bindparam`; types that need a conversion (dates, decimals, JSON) are not for it.
    Errors are SQLAlchemy's own, as from `Connection.execute`. `sqlite` is the statement there if it differs.
    """

    def __init__(self, statement: ClauseElement, *, sqlite: ClauseElement | None = None) -> None:
        self._statements = {"postgresql": statement, "sqlite": statement if sqlite is None else sqlite}
        self._rendered: dict[str, Rendered] = {}

    def __call__(self, connection: Connection, **values: object) -> list[Row]:
        """The rows that the statement returns, none if it returns none by nature."""
        cursor = self._executed(connection, values)
        return cursor.fetchall() if cursor.description else []

    def changes(self, connection: Connection, **values: object) -> int:
        """How many rows the statement inserted, updated or deleted."""
        return self._executed(connection, values).rowcount

    def _executed(self, connection: Connection, values: dict[str, object]) -> Any:
        dialect = connection.dialect
        sql, defaults, ordered = self._rendered.get(dialect.name) or self._render(connection)
        if defaults:
            values = defaults | values
        driver = cast(Any, connection.connection.dbapi_connection)  # no wrapper of SQLAlchemy's around it
        try:
            if ordered is None:  # psycopg: as text, a value of bytes would come at twice its size
                return driver.execute(sql, values, binary=True)
            return driver.execute(sql, ordered(values))
        except dialect.loaded_dbapi.Error as error:
            raise DBAPIError.instance(sql, None, error, dialect.loaded_dbapi.Error, dialect=dialect) from error

    def sql(self, connection: Connection) -> str:
        """The statement as the connection's driver receives it."""
        return (self._rendered.get(connection.dialect.name) or self._render(connection))[0]

    def _render(self, connection: Connection) -> Rendered:
        # Threads may render at the same time; they all render the same.
        compiled = self._statements[connection.dialect.name].compile(dialect=connection.dialect)
        assert isinstance(compiled, SQLCompiler)
        defaults = {name: value for name, value in (compiled.params or {}).items() if value is not None}
        rendered = (str(compiled), defaults, _in_order(compiled.positiontup) if compiled.positional else None)
        self._rendered[connection.dialect.name] = rendered
        return rendered


class Returning:
    """A change of one row that returns it, or no row where it changed none.

    SQLite builds a table for the rows of a RETURNING, at several times the cost of the change: there `read` finds it.
    """

    def __init__(
        self, change: UpdateBase | TextClause, *, sqlite: UpdateBase | TextClause, read: ClauseElement
    ) -> None:
        self._change = Prepared(change, sqlite=sqlite)
        self._read = Prepared(read)

    def __call__(self, connection: Connection, **values: object) -> list[Row]:
        """The row as the change left it."""
        if connection.dialect.name != "sqlite":
            return self._change(connection, **values)
        return self._read(connection, **values) if self._change.changes(connection, **values) else []


def _in_order(names: Sequence[str] | None) -> Callable[[Mapping[str, object]], Sequence[object]]:
    """What picks the values of these names, in this order."""
    names = names or ()
    if len(names) > 1:
        return itemgetter(*names)
    return lambda values: [values[name] for name in names]


def insert_new(table: Table) -> Prepared:
    """Insert a row unless its primary key is there already; then it changes no row."""
    columns = ", ".join(column.name for column in table.columns)
    values = ", ".join(f":{column.name}" for column in table.columns)
    # As text, which both databases understand: importing their dialects' own inserts takes longer than all of Bursar.
    return Prepared(
        text(f"INSERT INTO {table.name} ({columns}) VALUES ({values}) ON CONFLICT DO NOTHING")  # noqa: S608 - our own names
    )
