"""Charges: every call that was charged, with what a bill or an export of costs needs to know of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time

from sqlalchemy import select

from bursar.checkpoints.ledger.hash_chain import stamp
from bursar.checkpoints.ledger.transaction import Transaction
from bursar.checkpoints.schema.ledger_tables import calls, sessions
from bursar.state.rules.pricing import Usage

CHARGED = ("settled", "unknown")


@dataclass(frozen=True, slots=True)
class Charge:
    """A call that was settled at its cost, or that is unknown and charged at its hold; `nanos` is that charge.

    `amount` is its hold, in nano-dollars. `usage` is None if nobody has seen it.
    """

    call_id: str
    session_id: str
    request_id: str
    tenant: str
    agent: str
    model: str
    price_version: str
    state: str
    nanos: int
    amount: int
    usage: Usage | None
    held_at: datetime
    ended_at: datetime


def charges(
    transaction: Transaction, *, session_id: str | None = None, start: date | None = None, end: date | None = None
) -> list[Charge]:
    """Return the charges of one session or of all whose hold was made on `start` or later and before `end`, in order.

    A day begins at 00:00 UTC. The sum of all charges is what `costs` calls spent.
    """
    columns = calls.c
    query = (
        select(columns.call_id, columns.session_id, columns.request_id, sessions.c.tenant)
        .add_columns(columns.agent, columns.model, columns.price_version, columns.state)
        .add_columns(columns.cost, columns.amount, columns.held_at, columns.ended_at)
        .add_columns(columns.input_tokens, columns.output_tokens, columns.cache_read_tokens)
        .add_columns(columns.cache_write_tokens, columns.reasoning_tokens)
        .join(sessions, sessions.c.session_id == columns.session_id)
        .where(columns.state.in_(CHARGED))
        .order_by(columns.held_at, columns.call_id)
    )
    if session_id is not None:
        query = query.where(columns.session_id == session_id)
    if start is not None:
        query = query.where(columns.held_at >= _midnight(start))
    if end is not None:
        query = query.where(columns.held_at < _midnight(end))
    return [_charge(tuple(row)) for row in transaction.connection.execute(query)]


def _midnight(day: date) -> str:
    return stamp(datetime.combine(day, time(), UTC))


def _charge(row: Sequence[object]) -> Charge:
    texts = [str(value) for value in row[:8]]
    state, cost, amount, held_at, ended_at, *tokens = row[7:]
    counts = [0 if count is None else int(str(count)) for count in tokens]
    return Charge(
        *texts,
        nanos=int(str(cost if state == "settled" else amount)),
        amount=int(str(amount)),
        usage=None if tokens[0] is None else Usage(*counts),
        held_at=datetime.fromisoformat(str(held_at)),
        ended_at=datetime.fromisoformat(str(ended_at or held_at)),
    )
