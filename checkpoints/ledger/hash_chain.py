"""The audit log's chain: each event's hash covers the previous event's hash. The session's row keeps the last hash."""

import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from json.encoder import encode_basestring_ascii
from typing import Any
from weakref import WeakKeyDictionary

from pydantic import ValidationError
from sqlalchemy import Boolean, Engine, bindparam, insert, not_, or_, select, text, update

from bursar.checkpoints.database.statement import Statement
from bursar.checkpoints.ledger.transaction import Transaction
from bursar.checkpoints.schema.ledger_tables import events, sessions
from bursar.state.errors import LedgerError
from bursar.state.events import EVENTS, CallHeld, CallHoldRaised, Decided, Event, RunEnded
from bursar.state.refusals import AccountClosed
from bursar.state.run import Outcome

RUN_COLUMNS = ("run_of", "run_cost")
FIRST = "0" * 64  # the hash that the first event of a session follows


class UnknownSession(LedgerError):
    """The ledger has no such session."""

    def __init__(self, session_id: str) -> None:
        super().__init__(f"no session {session_id!r} in the books")


def stamp(at: datetime) -> str:
    """Return the time as text for the database: UTC to the microsecond, of fixed width.

    Raises `LedgerError` if `at` has no time zone.
    """
    if at.tzinfo is None:
        raise LedgerError(f"a time in the books needs its time zone: {at!r}")
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def digest(key: bytes | None, fields: Sequence[object]) -> str:
    """Return the hash of one event over the JSON of `(session, sequence, at, kind, payload, previous)`, all as stored.

    If there is a `key`, the hash is HMAC-SHA256, so that only the key's holder can write a chain that verifies.
    Otherwise it is SHA-256.
    """
    text = f"[{','.join(map(_written, fields))}]".encode()
    return hashlib.sha256(text).hexdigest() if key is None else hmac.digest(key, text, "sha256").hex()


def _written(field: object) -> str:
    if type(field) is str:
        return encode_basestring_ascii(field)  # what `dumps` calls, at a tenth of its time
    if type(field) is int:
        return str(field)
    return json.dumps(field, separators=(",", ":"), default=repr)


def append(transaction: Transaction, session_id: str, at: str, new: Iterable[Event]) -> tuple[int, str]:
    """Append events to the session's log in this transaction, and return sequence and hash of the last event.

    The session's row is locked until the transaction ends. Raises `UnknownSession` if there is no such session, and
    `AccountClosed` if an event is a hold, or raises one, and an incident closed the session.
    """
    told = list(new)
    pays = any(isinstance(event, CallHeld | CallHoldRaised) for event in told)
    seen = _seen.setdefault(transaction.connection.engine, {})
    # Race: another process may have appended since. So the end in `seen` is a guess, checked against the session's row.
    guess = seen.get(session_id)
    end = None if guess is None else _extend(transaction, session_id, at, new=told, end=guess, pays=pays)
    if end is None:
        # Race: this locks the row, so the end that is read here still holds for the second try.
        found = _head(transaction.connection, session=session_id)
        if not found:
            raise UnknownSession(session_id)
        [(sequence, head, incident)] = found
        if pays and incident is not None:
            why = f"session {session_id} is closed by an incident ({incident}); look into it, then acknowledge it"
            raise AccountClosed(why, scope=f"session:{session_id}")
        end = _extend(transaction, session_id, at, new=told, end=(sequence, head), pays=pays)
    if end is None:
        raise LedgerError(f"the log of session {session_id} changed under the lock of its row")
    if len(seen) >= MAX_SEEN:
        seen.clear()
    seen[session_id] = end
    return end


def _extend(
    transaction: Transaction,
    session_id: str,
    at: str,
    *,
    new: Sequence[Event],
    end: tuple[int, str],
    pays: bool,
) -> tuple[int, str] | None:
    """Append the events to the log if the log ends at `end` (sequence, hash), and return its new end.

    `pays` is whether one of the events is a hold or raises one. If the log ends elsewhere, or if `pays` and an incident
    closed the session, change nothing and return None; the caller then reads the log's end from the session's row.
    """
    sequence, head = end
    rows: list[dict[str, object]] = []
    for event in new:
        rows.append(_row(transaction.key, session_id, at, event, (sequence, head)))
        sequence, head = _end_after(rows[-1])
    connection = transaction.connection
    if len(rows) == 1 and connection.dialect.name == "postgresql":
        return (sequence, head) if _write_one.changes(connection, **rows[0], before=end[0], pays=pays) else None
    if not _advance.changes(
        connection, session=session_id, before=end[0], previous=end[1], last=sequence, hash=head, pays=pays
    ):
        return None
    for row in rows:
        _write(connection, **row)
    return sequence, head


def next_row(transaction: Transaction, session_id: str, at: str, event: Event) -> dict[str, object] | None:
    """Return the event as the log's next row, for a caller whose one SQL statement also changes other tables.

    The row also has `before`, the sequence of the log's last event as this process saw it last. The statement must
    check that the log still ends at `before`; if it does, the caller then calls `note_head`. If this process has not
    seen the log's end, return None; the caller then appends the event by `append`.
    """
    end = _seen.get(transaction.connection.engine, {}).get(session_id)
    return None if end is None else {**_row(transaction.key, session_id, at, event, end), "before": end[0]}


def note_head(transaction: Transaction, row: Mapping[str, object]) -> None:
    """Note in this process that the log ends with `row`, which has just been inserted."""
    _seen[transaction.connection.engine][str(row["session_id"])] = _end_after(row)


def _row(key: bytes | None, session_id: str, at: str, event: Event, end: tuple[int, str]) -> dict[str, object]:
    sequence, previous = end[0] + 1, end[1]
    payload = event.model_dump_json()
    return {
        "session_id": session_id,
        "sequence": sequence,
        "at": at,
        "kind": event.kind,
        "payload": payload,
        "previous": previous,
        "hash": digest(key, (session_id, sequence, at, event.kind, payload, previous)),
        **dict(zip(RUN_COLUMNS, run_of(event), strict=True)),
    }


def run_of(event: Event) -> tuple[str | None, int | None]:
    """Return the handler of the completed run that the event ends, and the run's cost in nano-dollars.

    For a decision about a rung of a cascade, return the name under which its cost is learned, and that cost. They
    stand beside the event too, in `RUN_COLUMNS`, so that a handler's last runs are found by an index. For any other
    event both are None.
    """
    if isinstance(event, Decided) and (name := event.decision.learned_as) is not None:
        return name, None if event.decision.cost is None else event.decision.cost.nanos
    if not isinstance(event, RunEnded) or event.outcome is not Outcome.COMPLETED:
        return None, None
    return event.handler, event.cost.nanos


def _end_after(row: Mapping[str, Any]) -> tuple[int, str]:
    return row["sequence"], row["hash"]


def lock_session(transaction: Transaction, session_id: str) -> None:
    """Lock the session's row, so that other transactions wait for this one before they append to the session's log.

    Lock the session before rows of actions and approvals, and after rows of calls and accounts. Then no transactions
    wait for each other in a circle. Raises `UnknownSession` if there is no such session.
    """
    if not _head(transaction.connection, session=session_id):
        raise UnknownSession(session_id)


def check_readable(event: Event) -> None:
    """Raise `LedgerError` unless reading the event's JSON gives the same event: a NaN in it, for example, is lost."""
    text = event.model_dump_json()
    try:
        read = EVENTS.validate_json(text)
    except ValidationError as error:
        raise LedgerError(f"a {event.kind} event could not be read back: {error.errors()[0]['msg']}") from error
    if read.canonical() != text:
        raise LedgerError(f"a {event.kind} event could not be read back as it was written")


def head_of(transaction: Transaction, session_id: str) -> tuple[int, str] | None:
    """Return sequence and hash of the session's last event; None if there is no such session."""
    found = _end(transaction.connection, session=session_id)
    return (int(found[0][0]), str(found[0][1])) if found else None


_head = Statement(
    select(sessions.c.sequence, sessions.c.head, sessions.c.incident)
    .where(sessions.c.session_id == bindparam("session"))
    .with_for_update()
)
_end = Statement(select(sessions.c.sequence, sessions.c.head).where(sessions.c.session_id == bindparam("session")))
_columns = [column.name for column in events.columns]
_write = Statement(insert(events).values({name: bindparam(name) for name in _columns}))
_advance = Statement(
    update(sessions)
    .values(sequence=bindparam("last"), head=bindparam("hash"))
    .where(
        sessions.c.session_id == bindparam("session"),
        sessions.c.sequence == bindparam("before"),
        sessions.c.head == bindparam("previous"),
        or_(sessions.c.incident.is_(None), not_(bindparam("pays", type_=Boolean))),
    )
)
# Advances the session's row and inserts the event in one round trip, for PostgreSQL.
_write_one = Statement(
    text(
        "WITH ended AS (UPDATE bursar_sessions SET sequence = :sequence, head = :hash "
        "WHERE session_id = :session_id AND sequence = :before AND head = :previous "
        "AND (incident IS NULL OR NOT CAST(:pays AS boolean)) RETURNING session_id) "
        "INSERT INTO bursar_events (session_id, sequence, at, kind, payload, previous, hash, run_of, run_cost) "
        "SELECT :session_id, CAST(:sequence AS BIGINT), :at, :kind, :payload, :previous, :hash, :run_of, "
        "CAST(:run_cost AS BIGINT) FROM ended"
    )
)

MAX_SEEN = 10_000
# The end of each log when this process last wrote to it, by session. It is a guess: see `append`.
_seen: WeakKeyDictionary[Engine, dict[str, tuple[int, str]]] = WeakKeyDictionary()


def check_chain(
    session_id: str, *, rows: Iterable[Sequence[object]], end: tuple[object, object] | None, key: bytes | None
) -> Iterable[str]:
    """Yield a sentence for each problem of a session's log; nothing if the log is whole.

    `rows` are `(sequence, at, kind, payload, previous, hash)`, sorted by sequence. `end` is the sequence and hash in
    the session's row, None if that row is gone. This detects an edited field, a missing, moved or added event, events
    deleted from the end, and another key. Only an anchor detects an old copy of the database that was put back.
    """
    expected, head = 1, FIRST
    last: object = 0
    for sequence, at, kind, payload, previous, kept in rows:
        if sequence != expected:
            yield f"session {session_id}: event {expected} is missing; event {sequence} stands in its place"
        elif previous != head:
            yield f"session {session_id}: event {sequence} does not follow the event before it"
        fields = (session_id, sequence, at, kind, payload, previous)
        if kept != digest(key, fields):
            unkeyed = key is not None and kept == digest(None, fields)
            why = "it was written without the key" if unkeyed else "it was edited, or written with another key"
            yield f"session {session_id}: event {sequence} does not match its hash; {why}"
        last, head = sequence, str(kept)
        expected = sequence + 1 if isinstance(sequence, int) else expected + 1
    if end is None:
        yield f"session {session_id}: its row is missing"
    elif end != (last, head):
        yield f"session {session_id}: the log ends at event {last}, the session counts {end[0]}; its end was changed"
