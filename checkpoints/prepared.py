"""SQL that is rendered once and then handed straight to the driver: a third of the CPU of `Connection.execute`."""

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, TypeAlias, cast

from sqlalchemy import Connection, Table, text
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
        dialect = connection.dialect
        sql, defaults, ordered = self._rendered.get(dialect.name) or self._render(connection)
        if defaults:
            values = defaults | values
        driver = cast(Any, connection.connection.dbapi_connection)  # no wrapper of SQLAlchemy's around it
        try:
            if ordered is None:  # psycopg: as text, a value of bytes would come at twice its size
                cursor = driver.execute(sql, values, binary=True)
            else:
                cursor = driver.execute(sql, ordered(values))
            return cursor.fetchall() if cursor.description else []
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


def _in_order(names: Sequence[str] | None) -> Callable[[Mapping[str, object]], Sequence[object]]:
    """What picks the values of these names, in this order."""
    names = names or ()
    if len(names) > 1:
        return itemgetter(*names)
    return lambda values: [values[name] for name in names]


def insert_new(table: Table) -> Prepared:
    """Insert a row unless its primary key is there already; returns the key if it was inserted, else no row."""
    columns = ", ".join(column.name for column in table.columns)
    values = ", ".join(f":{column.name}" for column in table.columns)
    keys = ", ".join(column.name for column in table.primary_key.columns)
    # As text, which both databases understand: importing their dialects' own inserts takes longer than all of Bursar.
    return Prepared(
        text(f"INSERT INTO {table.name} ({columns}) VALUES ({values}) ON CONFLICT DO NOTHING RETURNING {keys}")  # noqa: S608 - our own names
    )
