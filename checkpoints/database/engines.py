"""An engine for a URL, and how each of its connections is set up."""

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
    """Return an engine whose connections are not pooled: the caller keeps the connection that it opens."""
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
    """Set the time-outs for the connection's life, unless a pooler is in between, which gives it to others after us.

    A pooler shows in that it hides which of the server's processes does the work. Behind a pooler nothing may outlast
    a transaction: each transaction sets the time-outs, and no statement is prepared.
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
    """Return the settings of PostgreSQL: its time-outs, in milliseconds, and that it compiles no statement.

    A pause between two statements may be this program's own work, such as verifying a long log. So it has more time
    than a statement, but a program that stops for good in a transaction does not keep its locks for ever. Every
    statement looks up a few rows by their keys. If a table was not analysed since it grew, the server expects many
    rows, and would compile each read anew for half a second.
    """
    statement = milliseconds(settings.statement_timeout)
    return {"statement_timeout": statement, "idle_in_transaction_session_timeout": PAUSE * statement, "jit": 0}


def milliseconds(seconds: float) -> int:
    """Return the seconds as whole milliseconds, as PostgreSQL and SQLite take them."""
    return round(seconds * 1000)


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    with suppress(sqlite3.OperationalError):  # a read-only file keeps its journal mode; reading it still works
        connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
