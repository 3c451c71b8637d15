"""Costs: what was spent, by agent, model, day, tenant or session, and what the last runs of handlers cost.

`costs` returns rows that make a data frame. `median_costs` is what the next run of a handler is expected to cost, and
`quoted_costs` compares what was expected so with what the runs then cost. `expected_takes` shows all that is expected.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import cache
from typing import Literal, get_args

from pydantic import JsonValue
from sqlalchemy import ColumnElement, Text, case, func, select, text

from bursar.checkpoints.database.statement import Statement
from bursar.checkpoints.ledger.admission_facts import answer_lengths
from bursar.checkpoints.ledger.hash_chain import stamp
from bursar.checkpoints.ledger.transaction import Transaction
from bursar.checkpoints.schema.ledger_tables import calls, events, sessions
from bursar.state.errors import LedgerError
from bursar.state.events import EVENTS, Planned, RunEnded
from bursar.state.money import USD, ZERO
from bursar.state.rules.calls import IN_FLIGHT

LAST_RUNS = 50
MAX_NAMES = 100  # in one statement

By = Literal["agent", "model", "day", "tenant", "session"]


@dataclass(frozen=True, slots=True)
class CostRow:
    """What one agent, model, day, tenant or session was charged. `by` is one of these five words.

    `name` names the agent, model, day, tenant or session. `spent` is the cost of settled calls plus the holds of
    unknown calls, whose end nobody saw; `unknown` is the number of unknown calls. `held` is reserved by calls in
    flight. `calls` is the number of all calls but void ones. `cache_saved` is what the providers' prompt caches saved:
    hits cost less than plain input, writes may cost more, so it is below zero if the writes cost more than the hits
    saved.
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
    cache_saved: USD = ZERO

    @property
    def cache_hit_rate(self) -> Decimal:
        """The part of the input tokens that providers read from their caches: 0 to 1, rounded to four decimals."""
        return (Decimal(self.cache_read_tokens) / max(self.input_tokens, 1)).quantize(Decimal("0.0001"))

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
            "cache_hit_rate": f"{self.cache_hit_rate:f}",
            "cache_saved": f"{self.cache_saved.dollars:f}",
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
        calls.c.cache_saved,
    )
    query = (
        select(name, func.count())
        .add_columns(func.sum(case((calls.c.state == "settled", calls.c.cost), (_unknown(), calls.c.amount))))
        .add_columns(func.sum(case((calls.c.state.in_(IN_FLIGHT), calls.c.amount))))
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


@dataclass(frozen=True, slots=True)
class QuotedCostRow:
    """What the `runs` of one agent's own handler were expected to cost in their plans, and what they cost, in all."""

    agent: str
    runs: int
    expected: USD
    real: USD

    def as_dict(self) -> dict[str, JsonValue]:
        """Return the row as a flat mapping of plain values, for a data frame. Amounts are decimal strings."""
        amounts = {"expected": f"{self.expected.dollars:f}", "real": f"{self.real.dollars:f}"}
        return {"agent": self.agent, "runs": self.runs, **amounts}


def quoted_costs(
    transaction: Transaction,
    *,
    session_id: str | None = None,
    start: datetime | date | None = None,
    end: datetime | date | None = None,
) -> list[QuotedCostRow]:
    """Return what runs were expected to cost and did cost, by agent, in one session or all, sorted by name.

    Only runs that were planned at `start` or later, and ended before `end`, are counted. A run of a fallback has no
    quote. A day begins at 00:00 UTC. Raises `ValidationError` if an event cannot be read.
    """
    columns = events.c
    query = select(columns.payload).where(columns.kind.in_(("planned", "run_ended")))
    if session_id is not None:
        query = query.where(columns.session_id == session_id)
    if start is not None:
        query = query.where(columns.at >= _moment(start))
    if end is not None:
        query = query.where(columns.at < _moment(end))
    expected: dict[tuple[str, str], int] = {}
    real: dict[tuple[str, str], tuple[str, int]] = {}
    for (payload,) in transaction.connection.execute(query.order_by(columns.session_id, columns.sequence)):
        event = EVENTS.validate_json(payload)
        if isinstance(event, Planned):
            # The gate's plan comes after the guardian's, and may lack steps of it.
            expected |= {(event.request_id, s.name): s.expects.nanos for s in event.steps if not s.chain_index}
        elif isinstance(event, RunEnded) and not event.level and (event.request_id, event.step) in expected:
            # A run that a crash cut off after its end ends again. It pays once: the last end has its whole cost.
            real[event.request_id, event.step] = (event.specialist, event.cost.nanos)
    sums: dict[str, tuple[int, int, int]] = {}
    for run, (agent, nanos) in real.items():
        runs, quoted, cost = sums.get(agent, (0, 0, 0))
        sums[agent] = (runs + 1, quoted + expected[run], cost + nanos)
    return [
        QuotedCostRow(agent, runs, USD.from_nanos(quoted), USD.from_nanos(cost))
        for agent, (runs, quoted, cost) in sorted(sums.items())
    ]


@dataclass(frozen=True, slots=True)
class ExpectedCostRow:
    """What one agent is expected to take, with one of its models; `model` is "" if no whole answer of it is known.

    `cost` and `turns` are the medians of the last `LAST_RUNS` completed runs of the agent's own handler, `runs` is
    their number; without runs both are None. `output` and `output_most` are the median and the 99.5 % quantile of the
    output tokens of the last `answers` whole answers (`answer_lengths`); without answers they are 0.
    """

    agent: str
    model: str
    runs: int
    cost: USD | None
    turns: int | None
    answers: int
    output: int
    output_most: int

    def as_dict(self) -> dict[str, JsonValue]:
        """Return the row as a flat mapping of plain values, for a data frame. Amounts are decimal strings."""
        return {
            "agent": self.agent,
            "model": self.model,
            "runs": self.runs,
            "cost": None if self.cost is None else f"{self.cost.dollars:f}",
            "turns": self.turns,
            "answers": self.answers,
            "output_p50": self.output,
            "output_p99.5": self.output_most,
        }


def expected_takes(transaction: Transaction) -> list[ExpectedCostRow]:
    """Return what each agent is expected to take, by model, in all sessions, sorted by name.

    Raises `ValidationError` if an event cannot be read.
    """
    runs: dict[str, list[RunEnded]] = {}
    for (handler,) in _handlers(transaction.connection):
        for (payload,) in _last_runs(transaction.connection, handler=handler):
            event = EVENTS.validate_json(payload)
            if isinstance(event, RunEnded) and not event.level:
                runs.setdefault(event.specialist, []).append(event)
    known = [(str(agent), str(model)) for agent, model in _answering(transaction.connection)]
    silent = runs.keys() - {agent for agent, _ in known}
    rows: list[ExpectedCostRow] = []
    for agent, model in sorted([*known, *((agent, "") for agent in silent)]):
        ended, lengths = runs.get(agent, []), answer_lengths(transaction, agent, model)
        cost, turns = _median([one.cost.nanos for one in ended]), _median([one.turns for one in ended])
        spent = None if cost is None else USD.from_nanos(cost)
        took = (lengths.answers, lengths.median, lengths.most)
        rows.append(ExpectedCostRow(agent, model, len(ended), spent, turns, *took))
    return rows


def _median(numbers: Sequence[int]) -> int | None:
    """Return the median, halfway between the two in the middle and rounded up if there are two; None of nothing."""
    ranked, middle = sorted(numbers), len(numbers) // 2
    return -(-(ranked[middle] + ranked[~middle]) // 2) if ranked else None


def median_costs(transaction: Transaction, handlers: Sequence[str]) -> dict[str, USD]:
    """Return the median of what the last `LAST_RUNS` completed runs of each handler cost, in all sessions, by name.

    A handler without completed runs is not in the result. The median of an even number of runs is halfway between the
    two in the middle, rounded up.
    """
    middle: dict[str, list[int]] = {}
    for start in range(0, len(handlers), MAX_NAMES):
        some = handlers[start : start + MAX_NAMES]
        values = {f"handler_{number}": name for number, name in enumerate(some)}
        for name, nanos in _middle_costs(len(some))(transaction.connection, **values):
            middle.setdefault(str(name), []).append(int(nanos))
    return {name: USD.from_nanos(-(-sum(nanos) // len(nanos))) for name, nanos in middle.items()}


_handlers = Statement(text("SELECT DISTINCT run_of FROM bursar_events WHERE run_of IS NOT NULL"))
_last_runs = Statement(
    text(f"SELECT payload FROM bursar_events WHERE run_of = :handler ORDER BY at DESC LIMIT {LAST_RUNS}")  # noqa: S608 - our own words
)
_answering = Statement(text("SELECT DISTINCT agent, model FROM bursar_calls WHERE whole IS TRUE"))


@cache
def _middle_costs(count: int) -> Statement:
    """Return the statement that gives the costs of the runs in the middle, one or two for each handler."""
    return Statement(text(" UNION ALL ".join(_MIDDLE.format(number=number) for number in range(count))))


_MIDDLE = (
    "SELECT run_of, run_cost FROM (SELECT run_of, run_cost, row_number() OVER (ORDER BY run_cost) AS place, "  # noqa: S608 - our own words
    "count(*) OVER () AS runs FROM (SELECT run_of, run_cost FROM bursar_events WHERE run_of = :handler_{number} "
    f"ORDER BY at DESC LIMIT {LAST_RUNS}) AS last_{{number}}) AS ranked_{{number}} "
    "WHERE place IN ((runs + 1) / 2, runs / 2 + 1)"
)


def _row(by: By, name: str, *sums: int) -> CostRow:
    count, spent, held, unknown, *tokens, saved = sums
    amount, net = USD.from_nanos(spent), USD.from_nanos(saved)
    return CostRow(by, name, count, amount, USD.from_nanos(held), unknown, *tokens, cache_saved=net)


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
