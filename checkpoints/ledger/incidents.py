"""Incidents: the log's events of things that must not happen and did, and whether each still closes its session."""

from dataclasses import dataclass
from datetime import datetime

from pydantic import ValidationError
from sqlalchemy import select

from bursar.checkpoints.ledger.transaction import Transaction
from bursar.checkpoints.schema.ledger_tables import events, sessions
from bursar.state.errors import LedgerError
from bursar.state.events import EVENTS, Acknowledged, Incident


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
