"""Calls that are charged their holds, because their costs are not booked."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, text

from bursar.checkpoints.ledger.transaction import Transaction
from bursar.checkpoints.schema.ledger_tables import OPEN_STATES, calls
from bursar.state.money import USD


@dataclass(frozen=True, slots=True)
class OpenHold:
    """A call that is charged its hold, `amount`, because its cost is not booked.

    `state` is `held` (it may be in flight), `sent` (it is in flight), or `unknown` (a person must reconcile it).
    """

    call_id: str
    session_id: str
    agent: str
    model: str
    amount: USD
    state: str
    at: datetime


def open_holds(transaction: Transaction) -> list[OpenHold]:
    """Return every call that is held, sent or unknown, oldest first."""
    columns = calls.c
    query = (
        select(columns.call_id, columns.session_id, columns.agent, columns.model, columns.amount)
        .add_columns(columns.state, columns.held_at)
        .where(text(OPEN_STATES))
        .order_by(columns.held_at, columns.call_id)
    )
    return [
        OpenHold(call_id, session_id, agent, model, USD.from_nanos(amount), state, datetime.fromisoformat(at))
        for call_id, session_id, agent, model, amount, state, at in transaction.connection.execute(query)
    ]
