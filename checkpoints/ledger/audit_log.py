"""The audit log of a session, as it is read: whole, by pages, as it grows, or its incidents alone."""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from pydantic import JsonValue, ValidationError
from sqlalchemy import select

from bursar.checkpoints.ledger.transaction import Transaction
from bursar.checkpoints.schema.ledger_tables import events, requests, sessions
from bursar.state.errors import LedgerError
from bursar.state.events import EVENTS, Acknowledged, Event, Incident

PAGE_ROWS = 500


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One event of a session's log. `sequence` counts from 1; `hash` covers this event and the previous hash."""

    sequence: int
    at: datetime
    kind: str
    event: Event
    hash: str

    def as_dict(self) -> dict[str, JsonValue]:
        """Return the row as a flat mapping of plain values, for a data frame. Amounts are decimal strings."""
        facts: dict[str, JsonValue] = self.event.model_dump(mode="json", exclude={"kind", "version"})
        return {
            "sequence": self.sequence,
            "at": self.at.isoformat(),
            "kind": self.kind,
            **facts,
            "hash": self.hash,
        }


class LogPage(NamedTuple):
    """The next events of a log. `ended` says that they are the last ones: each request of the session is closed."""

    rows: list[AuditRow]
    ended: bool


def read_log(transaction: Transaction, session_id: str, after: int, limit: int | None) -> list[AuditRow]:
    """Return at most `limit` events of the session's log, those after the sequence `after`, in order.

    Raises `LedgerError` if there is no such session, an event cannot be read, or `limit` is not above zero.
    """
    if limit is not None and limit < 1:
        raise LedgerError(f"a page of the log has at least one event, not {limit}")
    columns = events.c
    query = (
        select(columns.sequence, columns.at, columns.kind, columns.payload, columns.hash)
        .where(columns.session_id == session_id, columns.sequence > after)
        .order_by(columns.sequence)
        .limit(limit)
    )
    rows: list[AuditRow] = []
    for sequence, at, kind, payload, kept in transaction.connection.execute(query):
        try:
            event = EVENTS.validate_json(payload)
            rows.append(AuditRow(sequence, datetime.fromisoformat(at), kind, event, kept))
        except (ValidationError, ValueError) as error:
            raise LedgerError(f"session {session_id}: event {sequence} cannot be read; run verify") from error
    if not rows and not is_known(transaction, session_id):
        raise LedgerError(f"no session {session_id} in the books")
    return rows


def is_known(transaction: Transaction, session_id: str) -> bool:
    """Whether the books have the session."""
    query = select(sessions.c.session_id).where(sessions.c.session_id == session_id)
    return transaction.connection.execute(query).first() is not None


def read_page(transaction: Transaction, session_id: str, after: int) -> LogPage:
    """Return the next events after the sequence `after`, at most `PAGE_ROWS`. Raises what `read_log` raises."""
    # Race: a request may be closed after this read, and its last event be written. So the requests are read first.
    waiting = select(requests.c.request_id).where(requests.c.session_id == session_id, requests.c.outcome.is_(None))
    is_open = transaction.connection.execute(waiting.limit(1)).first() is not None
    rows = read_log(transaction, session_id, after, PAGE_ROWS)
    return LogPage(rows, ended=not is_open and len(rows) < PAGE_ROWS)


def follow_log(
    read: Callable[[int], LogPage], after: int, poll_seconds: float, idle_seconds: float
) -> Generator[LogPage]:
    """Yield the pages of a log, each as `read` returns it for the last sequence that was seen, until the log has ended.

    The caller waits `poll_seconds` after a page without rows. After `idle_seconds` of such waits, no page follows.
    Raises `LedgerError` unless `poll_seconds` is above zero.
    """
    if poll_seconds <= 0:
        raise LedgerError(f"poll_seconds is above zero, not {poll_seconds}")
    waited = 0.0
    while waited <= idle_seconds:
        page = read(after)
        yield page
        if page.ended:
            return
        waited = 0.0 if page.rows else waited + poll_seconds
        after = page.rows[-1].sequence if page.rows else after


@dataclass(frozen=True, slots=True)
class IncidentRow:
    """An incident of a session's log. `closes` is whether the incident still keeps its session closed to paid calls.

    `note` is what a person found out; None if nobody has acknowledged the incident.
    """

    session_id: str
    sequence: int
    at: datetime
    call_id: str | None
    what: str
    closes: bool
    note: str | None


def incidents(transaction: Transaction, session_id: str | None) -> list[IncidentRow]:
    """Return the incidents of one session or of all, newest first.

    Raises `LedgerError` if there is no such session, or an event cannot be read.
    """
    columns = events.c
    query = (
        select(columns.session_id, columns.sequence, columns.at, columns.payload)
        .where(columns.kind.in_(["incident", "acknowledged"]))
        .order_by(columns.session_id, columns.sequence.desc())
    )
    if session_id is not None:
        known = select(sessions.c.session_id).where(sessions.c.session_id == session_id)
        if transaction.connection.execute(known).first() is None:
            raise LedgerError(f"no session {session_id} in the books")
        query = query.where(columns.session_id == session_id)
    found: list[IncidentRow] = []
    notes: dict[str, str] = {}
    for session, sequence, at, payload in transaction.connection.execute(query):
        try:
            event = EVENTS.validate_json(payload)
            when = datetime.fromisoformat(at)
        except (ValidationError, ValueError) as error:
            raise LedgerError(f"session {session}: event {sequence} cannot be read; run verify") from error
        if isinstance(event, Acknowledged):
            notes[session] = event.note
        elif isinstance(event, Incident):
            note = notes.get(session)
            closes = event.closes and note is None
            found.append(IncidentRow(session, sequence, when, event.call_id, event.what, closes, note))
    return sorted(found, key=lambda row: row.at, reverse=True)
