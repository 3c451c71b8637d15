"""Calls on their way to a provider: known in memory at once, in the books with a transaction that comes by anyway.

A commit of its own before each call would tell after a crash that a call was surely not sent, if the process died in
the few instructions between its hold and its sending. It would cost every call a third commit; so after a crash a call
that is held counts as one that may have been sent.
"""

import threading
from datetime import datetime, timedelta
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, bindparam, literal_column, select, update

from bursar.checkpoints.database.database import Database
from bursar.checkpoints.database.statement import Statement
from bursar.checkpoints.schema.ledger_tables import calls

BRIEF = timedelta(seconds=1)  # calls that are answered sooner are never written as sent
MAX_AT_ONCE = 8


class InFlightCalls:
    """The calls that a process has sent and not seen the end of."""

    _of: "WeakKeyDictionary[Database, InFlightCalls]" = WeakKeyDictionary()  # noqa: RUF012 - one registry per process

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: set[str] = set()
        self._unwritten: dict[str, datetime] = {}  # the longest on its way first

    @classmethod
    def of(cls, database: Database) -> "InFlightCalls":
        """Those of this process and database."""
        return cls._of.setdefault(database, cls())

    def __contains__(self, call_id: str) -> bool:
        return call_id in self._all

    def begin(self, call_id: str, at: datetime) -> None:
        """From now on the call may have been sent."""
        with self._lock:
            self._all.add(call_id)
            self._unwritten[call_id] = at

    def end(self, call_id: str) -> None:
        """The call's end is being written; it need not be known here any more."""
        with self._lock:
            self._all.discard(call_id)
            self._unwritten.pop(call_id, None)

    def write(self, connection: Connection, at: datetime) -> None:
        """Afterwards calls that were sent a second ago or more are in the books as sent, a few at a time.

        It waits for nobody's lock. If the transaction is rolled back they stay held there, which says less and is true.
        """
        if self._unwritten:
            for call_id in self._due(at):
                _send(connection, call=call_id)

    def _due(self, at: datetime) -> list[str]:
        due: list[str] = []
        with self._lock:
            for call_id, since in self._unwritten.items():
                if len(due) == MAX_AT_ONCE or at - since < BRIEF:
                    break
                due.append(call_id)
            for call_id in due:
                del self._unwritten[call_id]
        return due


_free = select(calls.c.call_id).where(calls.c.call_id == bindparam("call"), calls.c.state == literal_column("'held'"))
_send = Statement(
    update(calls)
    .values(state=literal_column("'sent'"))
    .where(calls.c.call_id == _free.with_for_update(skip_locked=True).scalar_subquery())
)
