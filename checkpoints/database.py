"""One door to a database: short transactions, from any thread and any event loop, on SQLite and PostgreSQL.

There is one implementation for sync and async callers. A piece of *work* is a function of a SQLAlchemy `Connection`;
it runs in a transaction of its own on a worker thread that holds its connection. SQLite has one worker (it has one
writer anyway, and a held connection costs half the CPU of a pooled one), PostgreSQL as many as `pool_size`.
"""

import asyncio
import os
import re
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.pool import StaticPool

from bursar.state.errors import ConfigurationError, DatabaseError

T = TypeVar("T")
Work = Callable[[Connection], T]

DEFAULT_POOL_SIZE = 8
BUSY_TIMEOUT_SECONDS = 10


class Database:
    """A database by URL; `at(url)` shares one per process, so that ledger and saver use the same connections."""

    _shared: dict[tuple[int, str], "Database"] = {}  # noqa: RUF012 - one registry per process, on purpose
    _shared_lock = threading.Lock()

    def __init__(self, url: str | URL, *, pool_size: int = DEFAULT_POOL_SIZE) -> None:
        self.url = _parse(url)
        self.dialect = self.url.get_backend_name()
        self.workers = 1 if self.dialect == "sqlite" else pool_size
        self._lock = threading.Lock()
        self._process = 0
        self._inherited: list[Engine | None] = []
        self._engine: Engine | None = None
        self._executor: ThreadPoolExecutor | None = None

    @classmethod
    def at(cls, url: "str | URL | Database") -> "Database":
        """The process's one database for `url`, so that an SQLite database in memory is one database too."""
        if isinstance(url, Database):
            return url
        key = (os.getpid(), _parse(url).render_as_string(hide_password=False))
        with cls._shared_lock:
            if key not in cls._shared:
                cls._shared[key] = cls(url)
            return cls._shared[key]

    @property
    def engine(self) -> Engine:
        """The SQLAlchemy engine, made on first use and made anew in a forked child."""
        return self._open()[0]

    def run(self, work: Work[T]) -> T:
        """Run `work` in one transaction and return its result once it is committed.

        Raises what `work` raises, after a roll-back; `DatabaseError` if the database cannot be used.
        """
        return self._submit(work).result()

    async def arun(self, work: Work[T]) -> T:
        """As `run`, without blocking the event loop. Cancelling the caller does not cancel work that was submitted."""
        return await asyncio.shield(asyncio.wrap_future(self._submit(work)))

    def close(self) -> None:
        """Finish what was submitted and close every connection. Using the database again opens it anew."""
        with self._lock:
            engine, executor = self._engine, self._executor
            self._engine = self._executor = None
        if executor is not None:
            executor.shutdown(wait=True)
        if engine is not None:
            engine.dispose()

    def _submit(self, work: Work[T]) -> "Future[T]":
        engine, executor = self._open()
        return executor.submit(self._transact, engine, work)

    def _open(self) -> tuple[Engine, ThreadPoolExecutor]:
        with self._lock:
            if self._process != os.getpid():  # a fork inherits neither threads nor usable connections
                self._inherited.append(self._engine)  # kept, never closed: the parent still uses its connections
                self._engine = self._executor = None
                self._process = os.getpid()
            if self._engine is None:
                self._engine = _make_engine(self.url, self.workers)
            if self._executor is None:
                self._executor = ThreadPoolExecutor(self.workers, thread_name_prefix="bursar-database")
            return self._engine, self._executor

    def _transact(self, engine: Engine, work: Work[T]) -> T:
        try:
            with engine.begin() as connection:
                return work(connection)
        except DBAPIError as error:
            reason = _explain(error)
            if reason is None:
                raise
            raise DatabaseError(f"{self.url.render_as_string(hide_password=True)}: {reason}") from error


def _parse(url: str | URL) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ConfigurationError(
            f"not a database URL: {_mask(str(url))!r}; write sqlite:///file.db or postgresql+psycopg://user@host/database"
        ) from None
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername not in {"sqlite", "sqlite+pysqlite", "postgresql+psycopg"}:
        raise ConfigurationError(
            f"{parsed.drivername} is not supported; write sqlite:///file.db or postgresql+psycopg://user@host/database"
        )
    try:
        parsed.get_dialect().import_dbapi()
    except ImportError as error:
        raise ConfigurationError(f"{parsed.drivername} needs its driver ({error}); install bursar[postgres]") from None
    if parsed.get_backend_name() == "sqlite" and not (parsed.database or ":memory:").startswith((":memory:", "file:")):
        parsed = parsed.set(database=os.path.abspath(parsed.database or ""))  # the same file after a change of folder
    return parsed


def _mask(url: str) -> str:
    return re.sub(r"(//[^:@/]*):[^@]*@", r"\1:***@", url)


def _make_engine(url: URL, workers: int) -> Engine:
    if url.get_backend_name() == "sqlite":
        engine = create_engine(
            url, poolclass=StaticPool, connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT_SECONDS}
        )
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_immediate)
        return engine
    return create_engine(
        url,
        pool_size=workers,
        max_overflow=0,
        pool_pre_ping=True,
        connect_args={"connect_timeout": BUSY_TIMEOUT_SECONDS},
    )


def _prepare_sqlite(connection: DBAPIConnection, _record: object) -> None:
    # The driver must not open transactions of its own: ours are BEGIN IMMEDIATE, so that two writers queue, not clash.
    connection.isolation_level = None
    cursor = connection.cursor()
    with suppress(sqlite3.OperationalError):  # a read-only file keeps its journal mode; reading it still works
        cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def _begin_immediate(connection: Connection) -> None:
    try:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    except OperationalError as error:
        if "readonly" not in str(error.orig):
            raise
        connection.exec_driver_sql("BEGIN")


def _explain(error: DBAPIError) -> str | None:
    """One line that says what to do about an operational fault; None when the statement itself was at fault."""
    text = str(error.orig).lower()
    if "locked" in text:
        return f"locked by another process for over {BUSY_TIMEOUT_SECONDS} s; end that process or try again"
    if "readonly" in text or "read-only" in text:
        return "read-only; make the file and its folder writable"
    if ("full" in text and "disk" in text) or "no space left" in text:
        return "the disk is full; free some space, nothing was written"
    if "unable to open" in text:
        return "cannot be opened; check that the folder exists and is writable"
    if "not a database" in text or "malformed" in text:
        return "not an SQLite database, or damaged"
    if error.connection_invalidated or "connection" in text:
        return f"no connection ({str(error.orig).strip().splitlines()[0]})"
    return None
