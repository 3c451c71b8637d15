"""Statements on PostgreSQL through psycopg's libpq, in half the CPU time and half the time of psycopg's cursors.

psycopg converts values and rows. Parameters stand in a statement as `$1`, `$2` and so on.
"""

import select
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from sqlalchemy import Connection

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

IDLE: Final = 0  # PQTRANS_IDLE
ROWS: Final = 2  # PGRES_TUPLES_OK
FATAL: Final = 7  # PGRES_FATAL_ERROR
BINARY: Final = 1
MAX_PREPARED = 200  # statements that a connection prepares; the server parses any others each time
UNPREPARED = ("26000", "0A000")  # SQLSTATEs: the prepared statement is unknown, or its tables have changed since
_LINK = "bursar_libpq"  # in a connection's `info`, which ends with it


class PostgresSession:
    """Runs statements on one connection, and prepares statements that are used often.

    One thread at a time may use a session.
    """

    def __init__(self, driver: Any) -> None:
        from psycopg.adapt import PyFormat, Transformer
        from psycopg.generators import execute

        self._driver = driver
        self._adapt = Transformer(driver)
        self._execute = execute
        self._text, self._binary = PyFormat.TEXT, PyFormat.BINARY
        self._uses: dict[str, int] = {}  # of statements that are not prepared yet
        self._names: dict[str, bytes] = {}
        self._prepared = 0  # how many statements were prepared; an interrupt may have kept one out of `_names`

    @classmethod
    def of(cls, connection: Connection) -> "PostgresSession":
        """Return the connection's session, made on first use. It lasts as long as the driver's connection."""
        info = connection.info
        link = info.get(_LINK)
        if link is None:
            link = info[_LINK] = cls(connection.connection.dbapi_connection)
        return cast(PostgresSession, link)

    def run(self, sql: str, values: Sequence[object]) -> tuple[list[tuple[Any, ...]], int]:
        """Run a statement. Return its rows, and how many rows it returned or changed. Raises psycopg's errors.

        A user's interrupt cancels the statement. The server infers the type of each parameter from its context. If the
        context does not determine the type, the statement must cast the parameter.
        """
        pgconn, adapt = self._driver.pgconn, self._adapt
        # As text, bytes would be sent at twice their size.
        dumped = adapt.dump_sequence(values, [self._binary if type(one) is bytes else self._text for one in values])
        name = self._names.get(sql) or self._prepare(sql)
        if name:
            pgconn.send_query_prepared(name, dumped, adapt.formats, BINARY)
        else:
            pgconn.send_query_params(sql.encode(), dumped, None, adapt.formats, BINARY)
        done = self._answer()
        if done.status != ROWS:
            return [], done.command_tuples or 0
        adapt.set_pgresult(done)
        return adapt.load_rows(0, done.ntuples, tuple), done.ntuples

    def run_many(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        """Run `sql` once for each of `rows`, which are the values of its parameters, in one round trip."""
        if len(rows) == 1:
            self.run(sql, rows[0])
            return
        from psycopg import RawCursor

        with RawCursor(self._driver) as cursor:
            cursor.executemany(sql.encode(), rows)

    def _prepare(self, sql: str) -> bytes | None:
        """Count a use of the statement. After `prepare_threshold` uses, prepare the statement and return its name.

        Before that, return None; the caller then sends the text of the statement. Also return None if the driver
        prepares no statements, or the connection has `MAX_PREPARED` prepared statements.
        """
        threshold = self._driver.prepare_threshold
        uses = self._uses.get(sql, 0)
        if threshold is None or self._prepared == MAX_PREPARED:
            return None
        if uses < threshold:
            self._uses[sql] = uses + 1
            return None
        name = f"bursar_{self._prepared}".encode()
        self._prepared += 1
        self._driver.pgconn.send_prepare(name, sql.encode())
        self._answer()
        self._names[sql] = name
        del self._uses[sql]
        return name

    def _answer(self) -> "PGresult":
        *_, done = self._driver.wait(self._execute(self._driver.pgconn))
        if done.status == FATAL:
            error = fault_of(done)
            if getattr(error, "sqlstate", None) in UNPREPARED:
                self._names.clear()  # a later try prepares them anew
            raise error
        return done


def says_something(socket: int) -> bool:
    """Whether there is data to read from the socket now. `socket` is its file descriptor."""
    if not hasattr(select, "poll"):
        return bool(select.select([socket], [], [], 0)[0])
    poll = select.poll()  # `select` takes no number above 1023, which a busy server's sockets soon have
    poll.register(socket, select.POLLIN)
    return bool(poll.poll(0))


def socket_of(driver: Any) -> int | None:
    """Return the file descriptor of the connection's socket; None if the connection is closed."""
    from psycopg import Error

    try:
        return int(driver.pgconn.socket)
    except Error:
        return None


def command(driver: Any, sql: str) -> str:
    """Send a command without parameters and rows. Returns the server's command tag, such as `COMMIT` or `ROLLBACK`."""
    done: PGresult = driver.pgconn.exec_(sql.encode())
    if done.status == FATAL:
        raise fault_of(done)
    return (done.command_status or b"").decode()


def fault_of(done: "PGresult") -> Exception:
    """Return psycopg's error for a result with the status `FATAL`."""
    from psycopg.errors import OperationalError, error_from_result

    error = error_from_result(done)
    return error if error.sqlstate else OperationalError(str(error))  # the connection is lost
