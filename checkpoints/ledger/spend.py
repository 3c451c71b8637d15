"""Spend of a request or a session, added up from its calls, and the calls that are charged their holds."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam, func, literal_column, null, select, text

from bursar.checkpoints.database.statement import Statement
from bursar.checkpoints.ledger.accounts import cap_of, describe_scope
from bursar.checkpoints.ledger.transaction import Transaction
from bursar.checkpoints.schema.ledger_tables import OPEN_STATES, calls, requests, sessions
from bursar.state.errors import LedgerError
from bursar.state.money import USD, ZERO
from bursar.state.rules.calls import balance
from bursar.state.spend import Spend


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


def spend_of(transaction: Transaction, scope: str) -> Spend:
    """Return what a request or a session was charged. `scope` is `request:ID` or `session:ID`.

    A request is charged for the requests that its runs made, too.

    Raises `LedgerError` if there is no such request or session.
    """
    kind, _, name = scope.partition(":")
    known = _known[kind](transaction.connection, name=name) if kind in _rows else []
    if not known:
        raise LedgerError(f"no {describe_scope(scope)} in the books")
    spent, held, sent, unknown = 0, 0, 0, 0
    by_agent: defaultdict[str, int] = defaultdict(int)
    by_model: defaultdict[str, int] = defaultdict(int)
    by_day: defaultdict[str, int] = defaultdict(int)
    has_made_requests = bool(known[0][1])
    rows = (_family if has_made_requests else _rows[kind])(transaction.connection, name=name)
    cap = cap_of(transaction, scope)
    for agent, model, day, state, number, hold, cost in rows:
        counts = balance(state, int(hold), int(cost or 0))
        held += counts.held
        if state in {"settled", "unknown"}:
            spent += counts.spent
            by_agent[agent] += counts.spent
            by_model[model] += counts.spent
            by_day[day] += counts.spent
        sent += number if state != "void" else 0
        unknown += number if state == "unknown" else 0
    return Spend(
        spent=USD.from_nanos(spent),
        held=USD.from_nanos(held) if held else ZERO,
        budget=None if cap is None else USD.from_nanos(cap),
        calls=sent,
        unknown=unknown,
        by_agent=_dollars(by_agent),
        by_model=_dollars(by_model),
        by_day=dict(sorted(_dollars(by_day).items())),
    )


@dataclass(frozen=True, slots=True)
class ChargedCall:
    """A call that costs something. It was held `at` that time; an `unknown` one costs its hold."""

    call_id: str
    agent: str
    model: str
    unknown: bool
    cost: USD
    at: datetime


def charged_calls(transaction: Transaction, request_id: str) -> list[ChargedCall]:
    """Return the calls of a request, and of the requests that its runs made, that cost something, the oldest first."""
    found: list[ChargedCall] = []
    for call_id, agent, model, state, hold, cost, at in _charged(transaction.connection, name=request_id):
        spent = balance(state, int(hold), int(cost or 0)).spent
        if state in {"settled", "unknown"} and spent:
            charged = USD.from_nanos(spent)
            found.append(ChargedCall(call_id, agent, model, state == "unknown", charged, datetime.fromisoformat(at)))
    return found


def _dollars(sums: Mapping[str, int]) -> dict[str, USD]:
    return {name: USD.from_nanos(nanos) for name, nanos in sums.items()}


_day = func.substr(calls.c.held_at, literal_column("1"), literal_column("10"))
_sums = (
    select(calls.c.agent, calls.c.model, _day, calls.c.state)
    .add_columns(func.count(), func.sum(calls.c.amount), func.sum(calls.c.cost))
    .group_by(calls.c.agent, calls.c.model, _day, calls.c.state)
    .order_by(calls.c.agent, calls.c.model)
)
_rows = {
    "session": Statement(_sums.where(calls.c.session_id == bindparam("name"))),
    "request": Statement(_sums.where(calls.c.request_id == bindparam("name"))),
}
_made = select(requests.c.request_id).where(requests.c.request_id == bindparam("name")).cte("made", recursive=True)
_made = _made.union_all(select(requests.c.request_id).where(requests.c.parent == _made.c.request_id))
_family = Statement(_sums.where(calls.c.request_id.in_(select(_made.c.request_id))))
_charged = Statement(
    select(calls.c.call_id, calls.c.agent, calls.c.model, calls.c.state, calls.c.amount, calls.c.cost, calls.c.held_at)
    .where(calls.c.request_id.in_(select(_made.c.request_id)))
    .order_by(calls.c.held_at, calls.c.call_id)
)
_inner = requests.alias()
_made_by = _inner.c.parent == requests.c.request_id
# Each with whether its runs made requests of their own, whose calls it is charged for too.
_known = {
    "session": Statement(select(sessions.c.session_id, null()).where(sessions.c.session_id == bindparam("name"))),
    "request": Statement(
        select(requests.c.request_id, select(_inner.c.request_id).where(_made_by).limit(1).scalar_subquery()).where(
            requests.c.request_id == bindparam("name")
        )
    ),
}
