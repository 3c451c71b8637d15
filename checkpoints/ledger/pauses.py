"""Pauses: a person stops new work of an agent, a tenant or everything, in every process.

Pauses outlive restarts. The log of pauses, `LOG`, says who paused what, when and why. It is chained, keyed and verified
like a session's log.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from pydantic import ValidationError
from sqlalchemy import bindparam, delete, select

from bursar.checkpoints.database.statement import Statement, insert_new
from bursar.checkpoints.ledger.hash_chain import FIRST, append, stamp
from bursar.checkpoints.ledger.requests import PAUSES
from bursar.checkpoints.ledger.transaction import Transaction
from bursar.checkpoints.schema.ledger_tables import events, pauses, sessions
from bursar.state.errors import LedgerError
from bursar.state.events import EVENTS, PauseLifted, PauseSet
from bursar.state.text import clean

LOG = PAUSES
KINDS = ("agent", "tenant")


@dataclass(frozen=True, slots=True)
class PauseRow:
    """A pause or its end: the `scope` (`all`, `tenant:acme`, `agent:tax`), when, by whom and why."""

    scope: str
    at: datetime
    by: str
    note: str


def scope_of(what: str) -> str:
    """Return `what` if it is `all`, `agent:NAME` or `tenant:NAME`. Raises `LedgerError` for anything else."""
    kind, _, name = what.partition(":")
    if what != "all" and (kind not in KINDS or not name.strip() or not name.isprintable()):
        raise LedgerError(f"what can be paused is all, agent:NAME or tenant:NAME, not {what[:60]!r}")
    return what


def pause(transaction: Transaction, row: PauseRow) -> bool:
    """Pause the row's scope and log it. Returns False, and keeps the first pause, if the scope was paused already.

    Raises `LedgerError` if the scope is not `all`, `agent:NAME` or `tenant:NAME`.
    """
    scope, at = scope_of(row.scope), stamp(row.at)
    by, note = clean(row.by), clean(row.note)
    if not _insert.changes(transaction.connection, scope=scope, at=at, by=by, note=note):
        return False
    _log(transaction, at)
    append(transaction, LOG, at, [PauseSet(scope=scope, by=by, note=note)])
    return True


def unpause(transaction: Transaction, row: PauseRow) -> bool:
    """End the pause of the row's scope and log it. Returns False if the scope was not paused."""
    scope, at = scope_of(row.scope), stamp(row.at)
    if not _delete.changes(transaction.connection, paused=scope):
        return False
    _log(transaction, at)
    append(transaction, LOG, at, [PauseLifted(scope=scope, by=row.by, note=row.note)])
    return True


def listed(transaction: Transaction) -> list[PauseRow]:
    """Return every pause that is in force, oldest first."""
    columns = pauses.c
    query = select(columns.scope, columns.at, columns.by, columns.note).order_by(columns.at, columns.scope)
    found = transaction.connection.execute(query)
    return [PauseRow(scope, datetime.fromisoformat(at), by, note) for scope, at, by, note in found]


def check(transaction: Transaction) -> Iterator[str]:
    """Yield a sentence for each scope about which the table of pauses and the log of pauses disagree."""
    expected: dict[str, tuple[str, str, str]] = {}
    columns = events.c
    query = select(columns.at, columns.payload).where(columns.session_id == LOG).order_by(columns.sequence)
    for at, payload in transaction.connection.execute(query):
        try:
            event = EVENTS.validate_json(payload)
        except ValidationError:
            continue  # the check of the chain reports it
        if isinstance(event, PauseSet):
            expected[event.scope] = (at, event.by, event.note)
        elif isinstance(event, PauseLifted):
            expected.pop(event.scope, None)
    found = {row[0]: tuple(row[1:]) for row in _rows(transaction)}
    for scope in sorted(expected.keys() | found.keys()):
        if scope not in found:
            yield f"pauses: {scope} was paused and not lifted, and is not paused"
        elif scope not in expected:
            yield f"pauses: {scope} is paused, and its log does not say so"
        elif found[scope] != expected[scope]:
            yield f"pauses: {scope} is not paused as its log says"


def _rows(transaction: Transaction) -> Sequence[tuple[str, str, str, str]]:
    columns = pauses.c
    query = select(columns.scope, columns.at, columns.by, columns.note)
    return [tuple(row) for row in transaction.connection.execute(query)]


def _log(transaction: Transaction, at: str) -> None:
    _open(transaction.connection, session_id=LOG, tenant="", opened_at=at, sequence=0, head=FIRST, incident=None)


_insert = insert_new(pauses)
_delete = Statement(delete(pauses).where(pauses.c.scope == bindparam("paused")))
_open = insert_new(sessions)
