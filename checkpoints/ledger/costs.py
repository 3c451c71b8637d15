"""Costs: what was spent, by agent, model, day, tenant or session, as rows that make a data frame."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Literal, get_args

from pydantic import JsonValue
from sqlalchemy import ColumnElement, Text, case, func, select

from bursar.checkpoints.ledger.hash_chain import stamp
from bursar.checkpoints.ledger.transaction import Transaction
from bursar.checkpoints.schema.ledger_tables import HELD_STATES, calls, sessions
from bursar.state.errors import LedgerError
from bursar.state.money import USD

By = Literal["agent", "model", "day", "tenant", "session"]


@dataclass(frozen=True, slots=True)
class CostRow:
    """What one agent, model, day, tenant or session was charged. `by` is one of these five words.

    `name` names the agent, model, day, tenant or session. `spent` is the cost of settled calls plus the holds of
    unknown calls, whose end nobody saw; `unknown` is the number of unknown calls. `held` is reserved by calls in
    flight. `calls` is the number of all calls but void ones.
    """

    by: By
    name: str
    calls: int
    spent: USD
    held: USD
    unknown: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int

    def as_dict(self) -> dict[str, JsonValue]:
        """Return the row as a flat mapping of plain values, for a data frame. Amounts are decimal strings."""
        return {
            self.by: self.name,
            "calls": self.calls,
            "spent": f"{self.spent.dollars:f}",
            "held": f"{self.held.dollars:f}",
            "unknown": self.unknown,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "cache_read_tokens": self.cache_read_tokens,
            "cache_write_tokens": self.cache_write_tokens,
            "reasoning_tokens": self.reasoning_tokens,
        }


def costs(
    transaction: Transaction,
    by: By,
    *,
    session_id: str | None = None,
    start: datetime | date | None = None,
    end: datetime | date | None = None,
) -> list[CostRow]:
    """Return what each agent, model, day, tenant or session was charged, in one session or all, sorted by name.

    Only calls whose hold was made at `start` or later and before `end` are counted. A day begins at 00:00 UTC. Raises
    `LedgerError` if `by` is none of the five words.
    """
    if by not in get_args(By):
        raise LedgerError(f"costs are by {', '.join(get_args(By))}, not by {by}")
    name = _name(by)
    sent = calls.c.state != "void"
    tokens = (
        calls.c.input_tokens,
        calls.c.output_tokens,
        calls.c.cache_read_tokens,
        calls.c.cache_write_tokens,
        calls.c.reasoning_tokens,
    )
    query = (
        select(name, func.count())
        .add_columns(func.sum(case((calls.c.state == "settled", calls.c.cost), (_unknown(), calls.c.amount))))
        .add_columns(func.sum(case((calls.c.state.in_(HELD_STATES), calls.c.amount))))
        .add_columns(func.sum(case((_unknown(), 1), else_=0)), *(func.sum(column) for column in tokens))
        .where(sent)
        .group_by(name)
    )
    if by == "tenant":
        query = query.join(sessions, sessions.c.session_id == calls.c.session_id)
    if session_id is not None:
        query = query.where(calls.c.session_id == session_id)
    if start is not None:
        query = query.where(calls.c.held_at >= _moment(start))
    if end is not None:
        query = query.where(calls.c.held_at < _moment(end))
    rows = (tuple(row) for row in transaction.connection.execute(query))
    return sorted((_row(by, str(first), *map(_whole, rest)) for first, *rest in rows), key=lambda row: row.name)


def _row(by: By, name: str, *sums: int) -> CostRow:
    count, spent, held, unknown, *tokens = sums
    return CostRow(by, name, count, USD.from_nanos(spent), USD.from_nanos(held), unknown, *tokens)


def _whole(value: object) -> int:
    return int(str(value or 0))


def _name(by: By) -> ColumnElement[str]:
    columns: dict[str, ColumnElement[str]] = {
        "agent": calls.c.agent,
        "model": calls.c.model,
        "day": func.substr(calls.c.held_at, 1, 10, type_=Text),
        "tenant": sessions.c.tenant,
        "session": calls.c.session_id,
    }
    return columns[by]


def _unknown() -> ColumnElement[bool]:
    return calls.c.state == "unknown"


def _moment(at: datetime | date) -> str:
    return stamp(at if isinstance(at, datetime) else datetime.combine(at, time(), UTC))
