"""Gains: how often the answers of a cascade's rungs were accepted, what they cost, and what was saved.

A cascade writes one decision for each rung that it asked. What is learned from them stands in an indexed column beside
the event, with the rung's cost. All sessions and tenants count.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from statistics import median_high

from pydantic import JsonValue
from sqlalchemy import bindparam, select, text

from bursar.checkpoints.database.statement import Statement
from bursar.checkpoints.ledger.transaction import Transaction
from bursar.checkpoints.schema.ledger_tables import events
from bursar.state.decision import LEARNED, Decision, learned_name
from bursar.state.events import EVENTS, Decided
from bursar.state.money import USD, ZERO
from bursar.state.rules.value import PRIOR, shrunk

LAST_ANSWERS = 200  # of a rung, accepted and not accepted each
MAX_RUNGS = 40  # in one statement


@dataclass(frozen=True, slots=True)
class RungRecord:
    """How many of a rung's last answers were judged and accepted, and what they cost at the median, None without any.

    Of an even number of costs the median is the higher one in the middle.
    """

    asked: int = 0
    accepted: int = 0
    cost: USD | None = None


def rung_records(transaction: Transaction, by: str, segment: str, rungs: Sequence[str]) -> dict[str, RungRecord]:
    """Return the record of each rung of the agent `by` in the segment. Only the last `LAST_ANSWERS` count."""
    found: dict[str, RungRecord] = {}
    for start in range(0, len(rungs), MAX_RUNGS):
        some = rungs[start : start + MAX_RUNGS]
        keys = [(rung, accepted) for rung in some for accepted in (True, False)]
        names = {learned_name(by, segment, rung, accepted=accepted): (rung, accepted) for rung, accepted in keys}
        values = {f"name_{number}": name for number, name in enumerate(names)}
        judged: dict[str, list[tuple[str, bool, int]]] = {rung: [] for rung in some}
        for name, at, nanos in _last_answers(len(names))(transaction.connection, **values):
            rung, accepted = names[str(name)]
            judged[rung].append((str(at), accepted, int(nanos)))
        found |= {rung: _record(answers) for rung, answers in judged.items()}
    return found


def _record(answers: list[tuple[str, bool, int]]) -> RungRecord:
    last = sorted(answers, reverse=True)[:LAST_ANSWERS]
    if not last:
        return RungRecord()
    accepted = sum(accepted for _, accepted, _ in last)
    return RungRecord(len(last), accepted, USD.from_nanos(median_high(nanos for _, _, nanos in last)))


@cache
def _last_answers(count: int) -> Statement:
    return Statement(text(" UNION ALL ".join(_LAST.format(number=number) for number in range(count))))


_LAST = (
    "SELECT run_of, at, run_cost FROM (SELECT run_of, at, run_cost FROM bursar_events WHERE run_of = :name_{number} "  # noqa: S608 - our own words
    f"ORDER BY at DESC LIMIT {LAST_ANSWERS}) AS last_{{number}}"
)


@dataclass(frozen=True, slots=True)
class GainRow:
    """How the answers of one rung of a specialist's cascade were judged, in one segment.

    Of the `asked` answers `accepted` were accepted; after another rung's answer that was not accepted, the share of
    them is the rung's `gain`, shrunk to the prior 0.3. `mean_cost` is what an answer cost. `saved` is what dearer rungs
    were expected to cost that were not asked, because this rung's answer was accepted or they were not worth it.
    """

    specialist: str
    segment: str
    rung: str
    asked: int
    accepted: int
    gain: Decimal
    mean_cost: USD
    saved: USD

    def as_dict(self) -> dict[str, JsonValue]:
        """Return the row as a flat mapping of plain values, for a data frame. Amounts are decimal strings."""
        return {
            "specialist": self.specialist,
            "segment": self.segment,
            "rung": self.rung,
            "asked": self.asked,
            "accepted": self.accepted,
            "gain": f"{self.gain:f}",
            "mean_cost": f"{self.mean_cost.dollars:f}",
            "saved": f"{self.saved.dollars:f}",
        }


@dataclass(slots=True)
class _Sum:
    asked: int = 0
    accepted: int = 0
    cost: USD = ZERO
    saved: USD = ZERO


def gains(transaction: Transaction) -> list[GainRow]:
    """Return a row for each rung that was judged, in all sessions, sorted by specialist, segment and cost.

    Raises `ValidationError` if an event cannot be read.
    """
    sums: dict[tuple[str, str, str], _Sum] = {}
    for name, decision in _judged(transaction):
        _, agent, segment, rung, accepted = json.loads(name)
        one = sums.setdefault((agent, segment, rung), _Sum())
        one.asked, one.accepted = one.asked + 1, one.accepted + bool(accepted)
        one.cost += decision.cost or ZERO
        one.saved += _saved(decision)
    rows = [
        GainRow(*key, one.asked, one.accepted, shrunk(one.accepted, one.asked, PRIOR), _mean(one), one.saved)
        for key, one in sums.items()
    ]
    return sorted(rows, key=lambda row: (row.specialist, row.segment, row.mean_cost, row.rung))


def _judged(transaction: Transaction) -> Iterable[tuple[str, Decision]]:
    for name, payload in transaction.connection.execute(_ALL_JUDGED, {"names": f'["{LEARNED}",%'}):
        event = EVENTS.validate_json(payload)
        if isinstance(event, Decided):
            yield str(name), event.decision


_ALL_JUDGED = (
    select(events.c.run_of, events.c.payload)
    .where(events.c.run_of.like(bindparam("names")))
    .order_by(events.c.session_id, events.c.sequence)
)


def _saved(decision: Decision) -> USD:
    """Return what the next rung was expected to cost beyond nothing, if the decision asks no other rung."""
    others = [one for one in decision.candidates if one.name != decision.rung]
    if any(one.verdict == "chosen" for one in others):
        return ZERO
    return next((one.expected_cost for one in others if one.expected_cost), ZERO)


def _mean(one: _Sum) -> USD:
    return USD.from_nanos(-(-one.cost.nanos // one.asked))
