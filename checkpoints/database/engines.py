"""`make_engine`: an SQLAlchemy engine for a URL, and the settings of each connection that it opens."""

import re
import sqlite3
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.pool import NullPool, StaticPool

from bursar.checkpoints.database.postgresql_session import FATAL, fault_of
from bursar.checkpoints.database.url import Settings

if TYPE_CHECKING:
    from psycopg import Connection as Psycopg
    from sqlalchemy.pool import ConnectionPoolEntry

MEMORY: Final = re.compile(r"^(file:)?:memory:|^file:.*[?&]mode=memory")
# A server that vanished without a word is noticed within half a minute, not when the operating system gives up.
KEEPALIVE: Final = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 25_000}
PAUSE = 10  # a pause inside a transaction may last so many times as long as a statement
POOLED = "bursar_pooled"  # in a connection's `info`: whether a pooler is between it and the server


def make_engine(url: URL, settings: Settings) -> Engine:
    """Return an engine without a pool: the caller keeps the connections. Each new connection gets the `settings`."""
    if url.get_backend_name() != "sqlite":
        usual = {"fallback_application_name": "bursar", **KEEPALIVE}
        arguments: dict[str, object] = {name: value for name, value in usual.items() if name not in url.query}
        arguments["connect_timeout"] = settings.connect_timeout
        if not settings.prepared_statements:
            arguments["prepare_threshold"] = None
        engine = create_engine(url, poolclass=NullPool, connect_args=arguments)
        event.listen(engine, "connect", partial(_prepare_postgres, settings=settings))
        return engine
    in_memory = not url.database or MEMORY.search(url.database)
    engine = create_engine(
        url,
        poolclass=StaticPool if in_memory else NullPool,
        connect_args={"check_same_thread": False, "timeout": settings.timeout},
    )
    event.listen(engine, "connect", _prepare_sqlite)
    return engine


def _prepare_postgres(connection: "Psycopg[object]", record: "ConnectionPoolEntry", *, settings: Settings) -> None:
    """Set the time-outs of a new connection. If the connection leads to a pooler, turn off prepared statements instead.

    A pooler gives the server's connection to other clients after each transaction, so no setting may outlast a
    transaction, and each transaction sets the time-outs itself. There is a pooler if statements run in another process
    than the driver connected to. Raises the driver's error if the server refuses.
    """
    limits = " || ".join(f"set_config('{name}', '{limit}', false)" for name, limit in limits_of(settings).items())
    same = f"pg_backend_pid() = {connection.info.backend_pid}"
    done = connection.pgconn.exec_(f"SELECT CASE WHEN {same} THEN {limits} END".encode())
    if done.status == FATAL:
        raise fault_of(done)
    record.info[POOLED] = done.get_value(0, 0) is None
    if record.info[POOLED]:
        connection.prepare_threshold = None


def limits_of(settings: Settings) -> dict[str, int]:
    """Return the settings of a PostgreSQL connection by name: the time-outs, in milliseconds, and `jit` turned off.

    A pause between two statements may be this program's own work, such as verifying a long log. So the limit of a pause
    is `PAUSE` times that of a statement; a program that hangs in a transaction still loses its locks in the end. `jit`
    is off because every statement finds a few rows by key. If a table grew since it was analysed, PostgreSQL expects
    many rows and would compile each read for half a second.
    """
    statement = milliseconds(settings.statement_timeout)
    return {"statement_timeout": statement, "idle_in_transaction_session_timeout": PAUSE * statement, "jit": 0}


def milliseconds(seconds: float) -> int:
    """Return the seconds as whole milliseconds, the unit of the settings of PostgreSQL and SQLite."""
    return round(seconds * 1000)


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    with suppress(sqlite3.OperationalError):  # a read-only file keeps its journal mode; reading it still works
        connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
