"""Spend of a request or a session, added up from its calls."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from sqlalchemy import bindparam, func, literal_column, select

from bursar.checkpoints.database.statement import Row, Statement
from bursar.checkpoints.ledger.accounts import cap_and_charge, describe_scope
from bursar.checkpoints.ledger.transaction import Transaction
from bursar.checkpoints.schema.ledger_tables import HELD_STATES, calls, requests, sessions
from bursar.state.errors import LedgerError
from bursar.state.money import USD, ZERO
from bursar.state.spend import Spend


def spend_of(transaction: Transaction, scope: str) -> Spend:
    """Return what a request or a session was charged. `scope` is `request:ID` or `session:ID`.

    A request is charged for the requests that its runs made, too.

    Raises `LedgerError` if there is no such request or session.
    """
    kind, _, name = scope.partition(":")
    if kind not in _rows or not _known[kind](transaction.connection, name=name):
        raise LedgerError(f"no {describe_scope(scope)} in the books")
    spent, held, sent, unknown = 0, 0, 0, 0
    by_agent: defaultdict[str, int] = defaultdict(int)
    by_model: defaultdict[str, int] = defaultdict(int)
    by_day: defaultdict[str, int] = defaultdict(int)
    rows = _rows[kind](transaction.connection, name=name)
    cap, charge = cap_and_charge(transaction, scope)
    if kind == "request" and _charge(rows) != charge:  # requests that its runs made add to it
        rows = _family(transaction.connection, name=name)
    for agent, model, day, state, number, hold, cost in rows:
        if state in HELD_STATES:
            held += int(hold)
        elif state in {"settled", "unknown"}:
            charge = int(cost if state == "settled" else hold)
            spent += charge
            by_agent[agent] += charge
            by_model[model] += charge
            by_day[day] += charge
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


def _charge(rows: Sequence[Row]) -> int:
    """Return what the calls of the rows are charged in all: their cost once they are settled, otherwise their hold."""
    return sum(int(cost if state == "settled" else hold) for _, _, _, state, _, hold, cost in rows if state != "void")


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
_known = {
    "session": Statement(select(sessions.c.session_id).where(sessions.c.session_id == bindparam("name"))),
    "request": Statement(select(requests.c.request_id).where(requests.c.request_id == bindparam("name"))),
}
