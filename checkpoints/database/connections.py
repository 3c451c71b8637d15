"""A connection that is kept, whose transactions the driver begins and ends."""

import sqlite3
import threading
import time
from concurrent.futures import Future

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from bursar.checkpoints.database.engines import POOLED, limits_of, milliseconds
from bursar.checkpoints.database.postgresql_deadline import ConnectionDeadline, ServerHealth
from bursar.checkpoints.database.postgresql_session import IDLE, command, says_something
from bursar.checkpoints.database.url import Settings
from bursar.state.errors import DatabaseError

_threads = threading.local()
CHECKPOINT_PAGES = 1000  # of SQLite's log, above which it is moved into the database
MOVE_EVERY = 32  # durable commits: so often one looks whether the log is to be moved


def is_opening() -> bool:
    """Whether this thread opens a connection to a database of Bursar's own."""
    return getattr(_threads, "opening", False)


class DriverConnection:
    """A connection, opened on first use and kept until `drop`. For one thread at a time.

    The driver sends BEGIN and COMMIT itself, at a third of the CPU of SQLAlchemy's own; to SQLAlchemy all of it is one
    transaction that never ends, so that nothing it executes commits.
    """

    def __init__(self, engine: Engine, settings: Settings, server: ServerHealth) -> None:
        self._engine = engine
        self._settings = settings
        self._sqlite = engine.dialect.name == "sqlite"
        self._connection: Connection | None = None
        self._one_statement = False  # whether the transaction that is going on is one, on PostgreSQL
        self._durable = self._patient = True  # how an SQLite connection commits, and whether it waits for a lock
        self._moves = True  # whether a commit may move SQLite's log into the database
        self.line = None if self._sqlite else ConnectionDeadline(server, statement_seconds=settings.statement_timeout)
        self._commits = -1  # durable ones since one did: the first does, for a process may end before MOVE_EVERY

    def begin(self, *, readonly: bool, durable: bool = True, one_statement: bool = False) -> Connection:
        """The connection, in a new transaction. SQLite takes its write lock at once, unless it is only read.

        `one_statement` says that on PostgreSQL a single statement follows, so that none has to begin or to commit.
        A commit that is not `durable` waits for no disk. A connection that was lost since its last use is replaced,
        once. Raises the driver's errors and SQLAlchemy's.
        """
        if self.line is not None and self.line.suspect:
            self.drop()
        kept = self._connection is not None
        self._one_statement = one_statement and durable and not self._sqlite
        if self._one_statement:
            if kept and self._is_stale():
                self.drop()
            connection = self._open()
            self._one_statement = not connection.info[POOLED]  # else it needs a transaction that says its time-out
            if self.line is not None and self._one_statement:
                self.line.begun()
                self.line.committing = True
                return connection
        try:
            if self._sqlite:
                self._tune(durable=self._durable if readonly else durable, patient=self._patient or readonly)
                if durable and not readonly:
                    self._look_after_log()
            self._send(self._opening(readonly=readonly, durable=durable))
        except self._engine.dialect.loaded_dbapi.Error as error:
            if self._sqlite and "readonly" in str(error):
                self._send("BEGIN")  # a file that may only be read can still be read
            elif self._sqlite and not self._patient and "locked" in str(error):
                self._tune(durable=self._durable if readonly else durable, patient=True)
                self._send(self._opening(readonly=readonly, durable=durable))
            elif kept and self.line is not None and self.line.replaced():
                self.drop()
                self._send(self._opening(readonly=readonly, durable=durable))
            else:
                raise
        if self.line is not None:
            self.line.begun()
        return self._open()

    def _opening(self, *, readonly: bool, durable: bool) -> str:
        if self._sqlite:
            return "BEGIN" if readonly else "BEGIN IMMEDIATE"
        opening = "BEGIN READ ONLY" if readonly else "BEGIN"
        if not (readonly or durable):
            opening += "; SET LOCAL synchronous_commit TO off"
        if self._open().info[POOLED] and self.line is not None:
            self.line.begun()
            opening += "".join(f"; SET LOCAL {name} TO {limit}" for name, limit in limits_of(self._settings).items())
        return opening

    def begin_at_once(self, *, readonly: bool) -> Connection | None:
        """As `begin` on SQLite, for a commit that is not durable; None where it would wait, or there is a fault."""
        if self._connection is None:
            return None
        try:
            self._tune(durable=self._durable if readonly else False, patient=False)
            self._send("BEGIN" if readonly else "BEGIN IMMEDIATE")
        except self._engine.dialect.loaded_dbapi.Error:
            return None
        return self._connection

    @property
    def commits_itself(self) -> bool:
        """Whether the statement of the work commits, and no `commit` does."""
        return self._one_statement

    def commit(self) -> None:
        """End the transaction; what it did is durable. Raises the driver's errors, and `DatabaseError` if it was lost.

        PostgreSQL answers COMMIT with ROLLBACK, and no error, when a statement had failed and its error was swallowed.
        """
        if not self._one_statement:
            if self.line is not None:
                self.line.committing = True
            if self._send("COMMIT") == "ROLLBACK":
                raise DatabaseError("a statement of the work had failed, so nothing of it was kept")
        if self.line is not None:
            self.line.heard()

    def rollback(self) -> None:
        """Undo the transaction; the connection is dropped if that is not possible."""
        if self._connection is None or self._connection.invalidated:
            self.drop()
        elif self._one_statement:
            if not self._is_idle():  # it was interrupted
                self.drop()
        elif not self.is_over():
            try:
                self._send("ROLLBACK")
            except self._engine.dialect.loaded_dbapi.Error:
                self.drop()

    def is_over(self) -> bool:
        """Whether SQLite has no transaction any more. PostgreSQL always has one until it is ended."""
        if self._connection is None or self._connection.invalidated:  # as SQLAlchemy does where it is interrupted
            return True
        driver = self._connection.connection.driver_connection
        return isinstance(driver, sqlite3.Connection) and not driver.in_transaction

    def savepoint(self) -> None:
        """Mark a place to go back to."""
        self._send("SAVEPOINT work")

    def undo_to_savepoint(self) -> None:
        """Undo everything since `savepoint`."""
        self._send("ROLLBACK TO work")

    def drop(self) -> None:
        """Close the connection. The next use opens a new one."""
        if self.line is not None:
            self.line.driver = None
        connection, self._connection = self._connection, None
        self._durable = self._patient = self._moves = True
        if connection is not None:
            connection.invalidate()
            connection.close()

    def _is_idle(self) -> bool:
        """Whether a connection to PostgreSQL is open, with no statement or transaction going on."""
        driver = self._connection and self._connection.connection.driver_connection
        return driver is not None and driver.pgconn.transaction_status == IDLE  # of one that is closed it is unknown

    def _is_stale(self) -> bool:
        """Whether the server has something to say although nothing was asked: that it has closed the connection."""
        driver = self._connection and self._connection.connection.driver_connection
        return driver is None or not self._is_idle() or says_something(driver.pgconn.socket)

    def _open(self) -> Connection:
        if self._connection is None:
            began = time.monotonic()
            patience = None if self.line is None else self.line.patience
            _threads.opening = True
            try:
                made = self._engine.connect() if patience is None else self._connect_within(patience)
            finally:
                _threads.opening = False
            connection = made.execution_options(isolation_level="AUTOCOMMIT")
            connection.begin()
            self._connection = connection
            if self.line is not None:
                self.line.opened(connection.connection.driver_connection, time.monotonic() - began)
        return self._connection

    def _connect_within(self, seconds: float) -> Connection:
        """Open one in a thread of its own: the driver gives a server that does not answer two seconds at least.

        One that comes too late is closed there. Raises `DatabaseError`.
        """
        coming: Future[Connection] = Future()

        def connect() -> None:
            try:
                made = self._engine.connect()
            except (DBAPIError, self._engine.dialect.loaded_dbapi.Error) as error:
                if coming.set_running_or_notify_cancel():
                    coming.set_exception(error)
                return
            if coming.set_running_or_notify_cancel():
                coming.set_result(made)
            else:
                made.close()

        threading.Thread(target=connect, name="bursar-connect", daemon=True).start()
        try:
            return coming.result(seconds)
        except TimeoutError:
            if not coming.cancel():  # it came just now
                return coming.result()
        assert self.line is not None
        self.line.unanswered()
        raise DatabaseError(f"no connection was opened within {seconds:.2f} s")

    def _look_after_log(self) -> None:
        """Let one durable commit in `MOVE_EVERY` move SQLite's log into the database, where it has grown long."""
        self._commits = (self._commits + 1) % MOVE_EVERY
        if self._moves is bool(self._commits):
            self._moves = not self._commits
            self._send(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES if self._moves else 0}")

    def _tune(self, *, durable: bool, patient: bool) -> None:
        """How an SQLite connection commits: a commit that waits for no disk leaves moving the log to a durable one."""
        self._open()
        if durable is not self._durable:
            self._send(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            self._durable = durable
        if not durable and self._moves:
            self._send("PRAGMA wal_autocheckpoint=0")
            self._moves = False
        if patient is not self._patient:
            self._send(f"PRAGMA busy_timeout={milliseconds(self._settings.timeout) if patient else 0}")
            self._patient = patient

    def _send(self, order: str) -> str | None:
        """Send a command that has no values; PostgreSQL's own word for what it did."""
        driver = self._open().connection.driver_connection
        assert driver is not None
        if self._sqlite:
            driver.execute(order).close()
            return None
        return command(driver, order)
