"""A thread that watches work on PostgreSQL and gives up work that is overdue, whatever the server does.

The server's own time-outs leave two gaps. The server does not know when the caller needs the answer, so work may wait
for another program's lock for longer than its caller does. And a frozen server does not keep its time-outs, though its
host goes on acknowledging what it is sent.
"""

import math
import os
import socket
import struct
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from bursar.checkpoints.database.postgresql_session import says_something, socket_of
from bursar.state.errors import DatabaseError

if TYPE_CHECKING:
    from psycopg import Connection as Psycopg

LOOK_SECONDS = 1.0  # between two looks at work that is not due yet
PULSE_SECONDS = 0.02  # between two looks at work that is due
QUIET_SECONDS = 0.1  # a server that said something within this time is at work
CANCEL_SECONDS = 0.1  # the time that a server has to heed a cancellation
COMMIT_SECONDS = 2.0  # a commit's time beyond that of its work: a disk may be slow, and the end is worth knowing
MARGIN_SECONDS = 5.0  # the time that a server has beyond `statement_timeout` to keep it
SILENT_SECONDS = 0.25  # the least time for work, and for a new connection, while the server is silent
BEGIN_SECONDS = 2.0  # the time that a server has to begin a transaction, which waits for nobody
ACTIVE = 1  # libpq's PQTRANS_ACTIVE: a command was sent and its result has not come
_TCP_INFO_BYTES = 64
_LAST_SENT, _LAST_RECEIVED = 44, 52  # in Linux's `struct tcp_info`: milliseconds since the last data either way


class ServerHealth:
    """What all connections of this process to one server have found out about the server."""

    silent = False  # whether a connection was hung up or not opened in time, and the server has sent nothing since
    opening_seconds = math.inf  # the shortest time in which a connection was opened

    @property
    def patience(self) -> float:
        """The seconds after which a server that does not answer is taken for frozen.

        This is four times the shortest time in which a connection was opened, but at least `SILENT_SECONDS` and at most
        `BEGIN_SECONDS`.
        """
        return min(max(SILENT_SECONDS, 4 * self.opening_seconds), BEGIN_SECONDS)


class ConnectionDeadline:
    """The deadline of the work on one PostgreSQL connection. `Database` sets it, and `DeadlineWatch` enforces it."""

    def __init__(self, server: ServerHealth, *, statement_seconds: float) -> None:
        self.committing = False  # whether the commit is under way, which nobody cancels
        self.given_up: float | None = None  # when the work was given up
        self.unheard = False  # whether the server did not answer: the connection was hung up, or not opened in time
        self._lock = threading.Lock()
        self._driver: Psycopg[Any] | None = None
        self._server = server
        self._silence = statement_seconds + MARGIN_SECONDS
        self._until: float | None = None
        self._begun_by: float | None = None
        self._busy = False
        _watch.add(self)

    def begin(self, until: float | None) -> None:
        """Begin to watch work, which is to be given up at `until`, in seconds of `time.monotonic`.

        If `until` is infinite, the work is never given up. If `until` is None, the work is given up after the server
        has sent nothing for longer than a statement may take, or soon if the server has been silent lately.
        """
        now = time.monotonic()
        begin_seconds = BEGIN_SECONDS
        if self._server.silent:
            begin_seconds = self._server.patience
            until = now + begin_seconds if until is None else until
        self._until, self._begun_by = until, now + begin_seconds
        self.given_up, self.unheard, self.committing = None, False, False
        self._busy = True
        _watch.expect(now, until)

    def begun(self) -> None:
        """Stop limiting how long the transaction may take to begin.

        Call this once it has begun, or at the start if its beginning must not be limited: a pooler may let it wait.
        """
        self._begun_by = None

    def replaced(self) -> bool:
        """Watch the work as before, so that it can begin again on a new connection, and return True.

        If the work was given up after its transaction had begun, change nothing and return False: the caller then
        raises the work's error.
        """
        with self._lock:
            if self.given_up is not None and self._begun_by is None:
                return False
            self.given_up, self.unheard = None, False
        _watch.expect(time.monotonic(), self._until)
        return True

    @property
    def driver(self) -> "Psycopg[Any] | None":
        """The driver's connection, while it is open."""
        return self._driver

    @driver.setter
    def driver(self, opened: "Psycopg[Any] | None") -> None:
        with self._lock:  # race: the watch may be using the socket
            self._driver = opened

    def end(self) -> bool:
        """End the watch over the work, and return whether the work was given up.

        If the work was given up, the caller drops the connection, because a cancellation that is under way could hit
        later work on the connection.
        """
        with self._lock:  # race: the watch may be giving it up; afterwards it cannot
            self._busy = False
        return self.given_up is not None

    def heard(self) -> None:
        """Note that the server has answered."""
        self._server.silent = False

    def opened(self, driver: "Psycopg[Any] | None", seconds: float) -> None:
        """Note that a connection was opened, and in how many seconds."""
        self.driver = driver
        self._server.opening_seconds = min(self._server.opening_seconds, seconds)
        self.heard()

    @property
    def suspect(self) -> bool:
        """Whether the server did not answer last time, so that the connection must be replaced before its next use.

        Raises `DatabaseError` if the server did not answer last time and the work's `until` is over.
        """
        if self._server.silent and self._until is not None and self._until <= time.monotonic():
            self.unanswered()
            raise DatabaseError("the server was silent when it was last asked")
        return self._server.silent

    def unanswered(self) -> None:
        """Note that the server did not open a connection in time, so the work is given up."""
        self.given_up = time.monotonic()
        self.unheard = self._server.silent = True

    @property
    def patience(self) -> float | None:
        """Seconds in which the connection must be opened; None if the driver's own limit applies."""
        if self._until is None or self._until == math.inf:
            return None
        return max(self._until - time.monotonic(), self._server.patience)

    def look(self, now: float) -> float:
        """If the work is overdue, give it up: cancel its statement, or shut the socket down if that cannot help.

        Returns when to look again, in seconds of `time.monotonic`; infinite if there is nothing to look at.
        """
        with self._lock:
            if not self._busy or self.unheard:
                return math.inf
            if self.given_up is not None:
                if now >= self.given_up + CANCEL_SECONDS:
                    self._hang_up()
                return now + PULSE_SECONDS
            due, quiet = self._limits()
            if now < due:
                return min(due, now + LOOK_SECONDS)
            if self._quiet_seconds(unknown=0.0 if self._until is None else math.inf) < quiet:
                return now + (LOOK_SECONDS if quiet > LOOK_SECONDS else PULSE_SECONDS)
            self.given_up = now
            if self._begun_by is not None or self.committing or self._server.silent:
                self._hang_up()
            else:
                self._cancel()
            return now + PULSE_SECONDS

    def _limits(self) -> tuple[float, float]:
        """Return when the work becomes overdue, in seconds of `time.monotonic`, and a number of seconds.

        Overdue work is given up once the server has sent nothing for that number of seconds.
        """
        if self._begun_by is not None:
            return self._begun_by if self._until is None else min(self._begun_by, self._until), QUIET_SECONDS
        if self._until is None:
            return -math.inf, self._silence
        return self._until + COMMIT_SECONDS if self.committing else self._until, QUIET_SECONDS

    def _quiet_seconds(self, *, unknown: float) -> float:
        """Return for how many seconds the server has sent nothing; 0 if no answer is due, or the answer can be read.

        If the operating system does not tell how long, as for a Unix socket and outside Linux, return `unknown`.
        """
        driver = self._driver
        if driver is None or driver.closed or driver.pgconn.transaction_status != ACTIVE:
            return 0.0
        number = socket_of(driver)
        if number is None or says_something(number):
            return 0.0
        try:
            with socket.socket(fileno=os.dup(number)) as line:
                known = line.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
        except (AttributeError, OSError):
            return unknown
        since = (struct.unpack_from("=I", known, place)[0] for place in (_LAST_SENT, _LAST_RECEIVED))
        return min(since) / 1000

    def _cancel(self) -> None:
        """Ask the server, from a new thread, to cancel the statement that runs on the connection."""
        driver = self._driver
        if driver is not None:  # in a thread of its own, because a frozen server does not answer this either
            threading.Thread(target=_cancel, args=(driver,), name="bursar-cancel", daemon=True).start()

    def _hang_up(self) -> None:
        """Shut the socket down, so that the thread that waits for the server gets an error."""
        driver = self._driver
        self.unheard = self._server.silent = True
        number = None if driver is None else socket_of(driver)
        if number is not None:
            with suppress(OSError), socket.socket(fileno=os.dup(number)) as line:
                line.shutdown(socket.SHUT_RDWR)


class DeadlineWatch:
    """The thread that gives up overdue work on the connections of this process. It sleeps while no connection works."""

    def __init__(self) -> None:
        self._lines: WeakSet[ConnectionDeadline] = WeakSet()
        self._wake = threading.Condition()
        self._next = math.inf  # when it looks; infinite while it sleeps
        self._started = False

    def add(self, line: ConnectionDeadline) -> None:
        """Watch the connection of `line` from now on."""
        with self._wake:
            self._lines.add(line)

    def expect(self, now: float, until: float | None) -> None:
        """Let the watch's thread look at work that begins `now` after `LOOK_SECONDS`, or at `until` if that is earlier.

        This wakes the thread if it would look later. If it will look early enough anyway, this takes no lock.
        """
        soon = now + LOOK_SECONDS
        if until is not None and until < soon:
            soon = until
        if soon < self._next:
            self._rouse(soon)

    def _rouse(self, at: float) -> None:
        with self._wake:
            self._next = min(self._next, at)
            if not self._started:
                self._started = True
                threading.Thread(target=self._work, name="bursar-overdue", daemon=True).start()
            self._wake.notify()

    def _work(self) -> None:
        while True:  # a look at a time, for as long as the process lives
            with self._wake:
                left = self._next - time.monotonic()
                if left > 0:
                    self._wake.wait(None if left == math.inf else left)
                    continue
                self._next = math.inf  # race: work that begins from here on wakes it, whether this look sees it or not
                lines = list(self._lines)
            now = time.monotonic()
            at = min((line.look(now) for line in lines), default=math.inf)
            del lines  # or the last database would never be forgotten
            with self._wake:
                self._next = min(self._next, at)


def _cancel(driver: "Psycopg[Any]") -> None:
    """Ask the server to cancel the statement that runs on this connection, which frees its locks. Ignores errors."""
    from psycopg import Error

    with suppress(Error, OSError):
        driver.cancel_safe(timeout=MARGIN_SECONDS)


def _begin_anew() -> None:
    global _watch  # noqa: PLW0603 - a process has one
    _watch = DeadlineWatch()


_watch = DeadlineWatch()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)  # a child inherits no thread, and its databases begin anew too
