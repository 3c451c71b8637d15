"""A statement of many values, handed to PostgreSQL by libpq itself: a third of the CPU of a cursor's way.

psycopg looks for placeholders in a long statement each time it is executed, and turns it into bytes, finds a dumper for
each value, and waits in a loop of its own. Here the placeholders are libpq's own (`$1`), every value goes in binary,
and the thread waits in libpq, without the interpreter's lock.
"""

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from bursar.checkpoints.engines import FATAL, fault_of

if TYPE_CHECKING:
    from psycopg import Connection as Psycopg
    from psycopg.pq.abc import PGresult

BOOL, BYTEA, INT8, TEXT = 16, 17, 20, 25  # PostgreSQL's numbers for the types
BINARY = 1
MAX_PREPARED = 128  # statements that the server keeps ready for a connection
KNOWN = "bursar_direct"  # in a connection's `info`
Value = str | bytes | bytearray | int | bool | None
_INT8 = struct.Struct("!q")


class Direct(NamedTuple):
    """A statement whose placeholders are `$1`, `$2`, … and the type of each."""

    sql: bytes
    types: Sequence[int]

    def __call__(self, connection: Connection, values: Sequence[Value]) -> None:
        """Run it, a transaction by itself where none has begun. What a connection runs again is prepared.

        Raises SQLAlchemy's errors, as `Prepared` does.
        """
        driver = cast("Psycopg[Any]", connection.connection.driver_connection)
        info = connection.info
        known = info.get(KNOWN)
        if known is None:
            known = info[KNOWN] = _Known(driver.info.encoding, [], {})
        try:
            binary = [_binary(value, known.encoding) for value in values]
            done = self._execute(driver, known, cast(list[bytes], binary))  # libpq's None is a NULL
            if done.status == FATAL:
                raise fault_of(done)
        except connection.dialect.loaded_dbapi.Error as error:
            dialect = connection.dialect
            sql = self.sql.decode()
            raise DBAPIError.instance(sql, None, error, dialect.loaded_dbapi.Error, dialect=dialect) from error

    def _execute(self, driver: "Psycopg[Any]", known: "_Known", values: list[bytes]) -> "PGresult":
        name = known.names.get(self.sql)
        formats = (BINARY,) * len(values)
        if not name:
            if name is None or driver.prepare_threshold is None:  # it is not known to be used again, or not to be kept
                if len(known.names) < MAX_PREPARED:
                    known.names[self.sql] = b""
                return driver.pgconn.exec_params(self.sql, values, self.types, formats)
            name = b"bursar_%d" % len(known.prepared)
            done = driver.pgconn.prepare(name, self.sql, self.types)
            if done.status == FATAL:
                return done
            known.names[self.sql] = name
            known.prepared.append(name)
        return driver.pgconn.exec_prepared(name, values, formats)


class _Known(NamedTuple):
    """Of a connection: its encoding, what is prepared, and by statement its name there; empty: it was used once."""

    encoding: str
    prepared: list[bytes]
    names: dict[bytes, bytes]


def _binary(value: Value, encoding: str) -> bytes | bytearray | None:
    if value is None or isinstance(value, (bytes, bytearray)):
        return value
    if isinstance(value, str):
        return value.encode(encoding)
    if isinstance(value, bool):
        return b"\1" if value else b"\0"
    return _INT8.pack(value)
