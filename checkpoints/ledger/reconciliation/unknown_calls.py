"""Unknown calls: those whose end nobody saw, which stay charged at their holds until they are reconciled."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam, literal_column, select

from bursar.checkpoints.database.statement import Row, Statement
from bursar.checkpoints.ledger.transaction import Transaction
from bursar.checkpoints.schema.ledger_tables import calls

MAX_LOOK_UPS = 8  # unknown calls of one key that a provider is asked for before the call is paid again


@dataclass(frozen=True, slots=True)
class LostCall:
    """An unknown call. `amount` is its hold in nano-dollars, `held_at` is when it may have been sent, at the earliest.

    `price_version` names the price list by which it was held.
    """

    call_id: str
    session_id: str
    agent: str
    model: str
    price_version: str
    amount: int
    held_at: datetime


@dataclass(frozen=True, slots=True)
class LostCalls:
    """The unknown calls that have the key of a call which is about to be paid, the newest first."""

    calls: tuple[LostCall, ...]


def lost_calls_at(
    transaction: Transaction, session_id: str, checkpoint_ns: str, request_hash: str, occurrence: int
) -> tuple[LostCall, ...]:
    """Return the unknown calls with this key, the newest first, `MAX_LOOK_UPS` at most.

    The key is that of `calls.replayable`: the same request of the same node.
    """
    found = _lost_at(
        transaction.connection, session=session_id, checkpoint=checkpoint_ns, request=request_hash, nth=occurrence
    )
    return tuple(sorted(map(_lost, found), key=lambda one: (one.held_at, one.call_id), reverse=True)[:MAX_LOOK_UPS])


def lost_calls(transaction: Transaction, session_id: str | None = None) -> list[LostCall]:
    """Return every unknown call, of one session or of all, the oldest first."""
    query = select(*_COLUMNS).where(_is_unknown).order_by(calls.c.held_at, calls.c.call_id)
    if session_id is not None:
        query = query.where(calls.c.session_id == session_id)
    return [_lost(tuple(row)) for row in transaction.connection.execute(query)]


def _lost(row: Row) -> LostCall:
    call_id, session_id, agent, model, version, amount, held_at = row
    return LostCall(call_id, session_id, agent, model, version, amount, datetime.fromisoformat(held_at))


_is_unknown = calls.c.state == literal_column("'unknown'")
_COLUMNS = (
    *(calls.c.call_id, calls.c.session_id, calls.c.agent, calls.c.model),
    *(calls.c.price_version, calls.c.amount, calls.c.held_at),
)
_lost_at = Statement(
    select(*_COLUMNS).where(
        calls.c.session_id == bindparam("session"),
        calls.c.checkpoint_ns == bindparam("checkpoint"),
        calls.c.request_hash == bindparam("request"),
        calls.c.occurrence == bindparam("nth"),
        _is_unknown,
    )
)
