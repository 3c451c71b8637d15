"""`DriverConnection`: a connection that is kept open, and whose transactions begin and end through the driver."""

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
CHECKPOINT_PAGES = 1000  # size of SQLite's log above which a commit moves it into the database
MOVE_EVERY = 32  # one durable commit in so many may move the log


def is_opening() -> bool:
    """Whether this thread is opening a connection for a `DriverConnection` at this moment."""
    return getattr(_threads, "opening", False)


class DriverConnection:
    """A connection that is opened on first use and kept until `drop`. One thread at a time may use it.

    This class sends BEGIN and COMMIT straight to the driver, which takes a third of the CPU time of SQLAlchemy's
    `Connection.begin` and `commit`. SQLAlchemy is not told of them: to SQLAlchemy the connection is in one transaction
    that never ends, so it never sends a COMMIT of its own.
    """

    def __init__(self, engine: Engine, settings: Settings, server: ServerHealth) -> None:
        self._engine = engine
        self._settings = settings
        self._sqlite = engine.dialect.name == "sqlite"
        self._connection: Connection | None = None
        self._one_statement = False  # whether the present transaction is one statement that commits itself
        self._durable = self._patient = True  # whether SQLite's commits wait for the disk, and begins for a lock
        self._moves = True  # whether a commit may move SQLite's log into the database
        self.line = None if self._sqlite else ConnectionDeadline(server, statement_seconds=settings.statement_timeout)
        self._commits = -1  # durable commits since one that may move the log; the first may: the process may end soon

    def begin(self, *, readonly: bool, durable: bool = True, one_statement: bool = False) -> Connection:
        """Begin a transaction and return its connection. SQLite takes its write lock at once, unless `readonly`.

        `one_statement` promises that a single statement follows: PostgreSQL then needs no BEGIN and no COMMIT. If not
        `durable`, the commit does not wait for the disk. If the connection was lost since its last use, a new one is
        opened, once. Raises the driver's errors and SQLAlchemy's.
        """
        if self.line is not None and self.line.suspect:
            self.drop()
        kept = self._connection is not None
        self._one_statement = one_statement and durable and not self._sqlite
        if self._one_statement:
            if kept and self._is_stale():
                self.drop()
            connection = self._open()
            self._one_statement = not connection.info[POOLED]  # behind a pooler each transaction sets its time-outs
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
        """Begin a transaction on SQLite whose commit is not durable, and return its connection.

        If no connection is open, or beginning the transaction would wait for a lock or fails, return None. The caller
        then lets a thread do the work.
        """
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
        """Whether the transaction is a single statement that commits by itself, so that `commit` sends nothing."""
        return self._one_statement

    def commit(self) -> None:
        """Commit the transaction. Raises the driver's errors, and `DatabaseError` if PostgreSQL rolled back instead.

        PostgreSQL rolls back, without an error, if a statement failed and the work swallowed that statement's error.
        """
        if not self._one_statement:
            if self.line is not None:
                self.line.committing = True
            if self._send("COMMIT") == "ROLLBACK":
                raise DatabaseError("a statement of the work had failed, so nothing of it was kept")
        if self.line is not None:
            self.line.heard()

    def rollback(self) -> None:
        """Undo the transaction, if there is one. If it cannot be undone, drop the connection."""
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
        """Whether no transaction is left to undo: the connection is lost, or SQLite ended the transaction itself.

        False for a connection to PostgreSQL that is not lost.
        """
        if self._connection is None or self._connection.invalidated:  # SQLAlchemy does that after an interrupt
            return True
        driver = self._connection.connection.driver_connection
        return isinstance(driver, sqlite3.Connection) and not driver.in_transaction

    def savepoint(self) -> None:
        """Set a savepoint in the transaction, to which `undo_to_savepoint` goes back."""
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
        return driver is not None and driver.pgconn.transaction_status == IDLE  # a closed one's status is unknown

    def _is_stale(self) -> bool:
        """Whether a connection to PostgreSQL must be replaced: it is closed or busy, or the server has closed it.

        It is busy if a statement or transaction is going on. A server that closes a connection sends a message that
        nobody asked for. So data to read on an idle connection means that the server has closed it.
        """
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
        """Open a connection within `seconds`, in another thread, because the driver's own limit is two seconds or more.

        If the connection is opened too late, the thread closes it. Raises `DatabaseError` if it was not opened in time.
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
            if not coming.cancel():  # race: the connection was opened after the time-out and before this
                return coming.result()
        assert self.line is not None
        self.line.unanswered()
        raise DatabaseError(f"no connection was opened within {seconds:.2f} s")

    def _look_after_log(self) -> None:
        """Set whether SQLite may move its write-ahead log into the database at the durable commit that follows.

        One durable commit in `MOVE_EVERY` may. SQLite then moves the log if the log has `CHECKPOINT_PAGES` pages.
        """
        self._commits = (self._commits + 1) % MOVE_EVERY
        if self._moves is bool(self._commits):
            self._moves = not self._commits
            self._send(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES if self._moves else 0}")

    def _tune(self, *, durable: bool, patient: bool) -> None:
        """Set whether SQLite waits for the disk when it commits (`durable`), and for a lock when it begins (`patient`).

        If not `durable`, this also keeps the commit from moving the write-ahead log into the database.
        """
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
        """Send a command without parameters. Returns PostgreSQL's command tag, such as `COMMIT`; None on SQLite."""
        driver = self._open().connection.driver_connection
        assert driver is not None
        if self._sqlite:
            driver.execute(order).close()
            return None
        return command(driver, order)
