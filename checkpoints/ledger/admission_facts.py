"""The facts that admit or refuse a paid call or a run: room in its accounts, pauses, breakers that saw faults lately.

One statement reads them all, because every paid call needs them, and every run that may pay needs them to begin.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from weakref import WeakKeyDictionary

from sqlalchemy import Engine, text

from bursar.checkpoints.database.statement import Statement
from bursar.checkpoints.ledger.circuit_breakers import read
from bursar.checkpoints.ledger.hash_chain import stamp
from bursar.checkpoints.ledger.transaction import Transaction
from bursar.checkpoints.schema.ledger_tables import OPEN_STATES
from bursar.state.circuit_breaker import Breaker
from bursar.state.refusals import Paused
from bursar.state.rules.calls import Offer
from bursar.state.rules.pricing import ORDINARY_OUTPUT_TOKENS

LAST_ANSWERS, ENOUGH_ANSWERS = 1_000, 20
USES = 20  # how many calls of a process use a length before it is read again
MAX_KNOWN = 10_000

# What was read, and how many calls may still use it, by agent and model.
_ordinary: WeakKeyDictionary[Engine, dict[tuple[str, str], tuple[int, int]]] = WeakKeyDictionary()
_lengths = Statement(
    text(
        "SELECT count(*), max(CASE WHEN place = (answers + 1) / 2 THEN output_tokens END), "  # noqa: S608 - our own words
        "max(CASE WHEN place = (995 * answers + 999) / 1000 THEN output_tokens END) FROM (SELECT output_tokens, "
        "row_number() OVER (ORDER BY output_tokens) AS place, count(*) OVER () AS answers FROM (SELECT output_tokens "
        "FROM bursar_calls WHERE agent = :agent AND model = :model AND whole IS TRUE ORDER BY ended_at DESC "
        f"LIMIT {LAST_ANSWERS}) AS last_answers) AS ranked"
    )
)


@dataclass(frozen=True, slots=True)
class RunLocation:
    """A run's session, request, agent and `checkpoint_ns`.

    If a node runs again after a crash, a retry or an interrupt, its `checkpoint_ns` is the same. If it runs again in a
    fork or after an edit of the state, it has another `checkpoint_ns`.
    """

    session_id: str
    request_id: str
    agent: str
    checkpoint_ns: str


@dataclass(frozen=True, slots=True)
class AdmissionFacts:
    """What decides whether a caller may pay for a call or start a run.

    `left` is the least room in any of the caller's accounts, in nano-dollars; None if no account has a cap. `paused`
    maps each paused scope to the note of its pause. `breakers` has the breakers that saw faults lately; every other is
    closed. The last three are about one run. `elsewhere` is the number of calls that the run's agent sent for the same
    request at another `checkpoint_ns`, and their cost in nano-dollars. `held` is whether an earlier try of the run left
    calls in flight. `undoing` is whether the run's actions are undone or being undone.
    """

    left: int | None
    paused: Mapping[str, str] = field(default_factory=dict[str, str])
    breakers: Mapping[str, Breaker] = field(default_factory=dict[str, Breaker])
    elsewhere: tuple[int, int] = (0, 0)
    held: bool = False
    undoing: bool = False

    def refusal(self, scopes: Sequence[str]) -> Paused | None:
        """Return the error to raise for the first paused scope of `scopes`; None if no scope is paused."""
        return next((paused(scope, self.paused[scope]) for scope in scopes if scope in self.paused), None)


def sized_by_books(transaction: Transaction, offer: Offer, agent: str) -> Offer:
    """Return the offer for answers as long as the agent's last whole answers of that model were.

    An offer whose size does not depend on that comes back unchanged, and so does one before there are enough answers.
    """
    if offer.learned is None:
        return offer
    known = _ordinary.setdefault(transaction.connection.engine, {})
    tokens, uses = known.get((agent, offer.model), (0, 0))
    if not uses:
        lengths = answer_lengths(transaction, agent, offer.model)
        tokens, uses = lengths.most if lengths.answers >= ENOUGH_ANSWERS else ORDINARY_OUTPUT_TOKENS, USES
        if len(known) >= MAX_KNOWN:
            known.clear()
    # Race: two threads may count one use twice or once. The figure is read again a call sooner or later.
    known[agent, offer.model] = (tokens, uses - 1)
    return offer.learned(tokens)


@dataclass(frozen=True, slots=True)
class AnswerLengths:
    """How long an agent's last whole answers of a model were: their number, the median and the 99.5 % quantile.

    Both are output tokens, by the nearest rank: of n sorted answers the quantile q is the one of rank ⌈q·n⌉. Without
    answers both are 0.
    """

    answers: int
    median: int
    most: int


def answer_lengths(transaction: Transaction, agent: str, model: str) -> AnswerLengths:
    """Return the lengths of the last `LAST_ANSWERS` whole answers that the agent got of the model."""
    [found] = _lengths(transaction.connection, agent=agent, model=model)
    return AnswerLengths(*(int(one or 0) for one in found))


_SUFFIX = re.compile(r"[@\[].*")


def pauses_of(tenant: str, *paths: str) -> tuple[str, ...]:
    """Return the scopes whose pause stops a call: `all`, the tenant's scope, and the scope of each agent in `paths`.

    A path names an agent and the agents called below it: in `tax → lookup`, `tax` called `lookup`. What tells an
    agent's runs in one request apart, as in `tax@2`, names no other agent.
    """
    agents = [_SUFFIX.sub("", step) for path in paths for step in path.split(" → ")]
    names = [part for agent in agents for part in agent.split(".")]
    return ("all", f"tenant:{tenant}", *(f"agent:{name}" for name in dict.fromkeys(names)))


def paused(scope: str, note: str) -> Paused:
    """Return the error to raise for a paused scope."""
    what = "everything" if scope == "all" else scope.replace(":", " ", 1)
    why = f" ({note})" if note else ""
    return Paused(
        f"{what} is paused{why}; nothing was spent; `bursar unpause {scope.replace(':', ' ', 1)}` ends it", scope
    )


def read_admission_facts(
    transaction: Transaction,
    accounts: Sequence[str],
    *,
    pauses: Sequence[str],
    breakers: Sequence[str],
    at: datetime,
    place: RunLocation | None = None,
) -> AdmissionFacts:
    """Return the least room of `accounts` (scopes), and which of the scopes `pauses` are paused.

    The result also has each breaker in `breakers` that saw faults lately. If `place` is given, the result has the facts
    about that run, too.
    """
    values: dict[str, object] = {f"account_{number}": name for number, name in enumerate(accounts)}
    values |= {f"pause_{number}": name for number, name in enumerate(pauses)}
    values |= {f"breaker_{number}": name for number, name in enumerate(breakers)}
    if breakers:
        values["now"] = stamp(at)
    if place is not None:
        values |= {"session": place.session_id, "request": place.request_id}
        values |= {"agent": place.agent, "checkpoint": place.checkpoint_ns, "length": len(place.checkpoint_ns)}
    left: int | None = None
    stopped: dict[str, str] = {}
    faulty: dict[str, Breaker] = {}
    elsewhere, held, undoing = (0, 0), False, False
    statement = _standing(len(accounts), len(pauses), len(breakers), place is not None)
    for kind, name, number, what in statement(transaction.connection, **values):
        match kind:
            case "room":
                left = int(number) if left is None else min(left, int(number))
            case "pause":
                stopped[name] = what
            case "breaker":
                faulty[name] = read(what)
            case "elsewhere":
                elsewhere = (int(name), int(number or 0))
            case "held":
                held = True
            case _:
                undoing = True
    return AdmissionFacts(left, stopped, faulty, elsewhere, held, undoing)


MANY = 50  # names; above that SQLite too gets one list of them


@cache
def _standing(accounts: int, pauses: int, breakers: int, placed: bool) -> Statement:
    named = (("account", _ROOM, accounts), ("pause", _PAUSES, pauses), ("breaker", _BREAKERS, breakers))
    at_once = [f"{part} IN ({', '.join(_names(kind, count))})" for kind, part, count in named if count]
    # For a list of names SQLite builds a table, at the cost of a dozen looks at an index.
    singly = [f"{part} = {name}" for kind, part, count in named for name in _names(kind, count)]
    sqlite = singly if len(singly) <= MANY else at_once
    if placed:
        at_once = [*at_once, _ELSEWHERE, _UNDOING, _HELD.format(index="")]
        # Two indexes have a session's calls. SQLite would choose the one that has all of them, not the open ones.
        sqlite = [*sqlite, _ELSEWHERE, _UNDOING, _HELD.format(index="INDEXED BY bursar_calls_open")]
    return Statement(text(" UNION ALL ".join(at_once)), sqlite=text(" UNION ALL ".join(sqlite)))


def _names(kind: str, count: int) -> list[str]:
    return [f":{kind}_{number}" for number in range(count)]


# The casts are for PostgreSQL, to which NULL alone is a text.
_ROOM = (
    "SELECT 'room', CAST(NULL AS TEXT), cap - spent - held, CAST(NULL AS TEXT) "
    "FROM bursar_accounts WHERE cap IS NOT NULL AND scope"
)
_PAUSES = "SELECT 'pause', scope, CAST(NULL AS BIGINT), note FROM bursar_pauses WHERE scope"
_BREAKERS = "SELECT 'breaker', name, CAST(NULL AS BIGINT), record FROM bursar_breakers WHERE until > :now AND name"
_ELSEWHERE = (
    "SELECT 'elsewhere', CAST(count(*) AS TEXT), "
    "CAST(sum(CASE state WHEN 'settled' THEN cost ELSE amount END) AS BIGINT), CAST(NULL AS TEXT) "
    "FROM bursar_calls WHERE request_id = :request AND agent = :agent AND checkpoint_ns <> :checkpoint "
    "AND state <> 'void'"
)
_HELD = (
    "SELECT 'held', CAST(NULL AS TEXT), CAST(NULL AS BIGINT), CAST(NULL AS TEXT) "  # noqa: S608 - our own words
    f"FROM bursar_calls {{index}} WHERE session_id = :session AND {OPEN_STATES} AND state <> 'unknown' "
    "AND substr(checkpoint_ns, 1, CAST(:length AS INTEGER)) = :checkpoint"
)
_UNDOING = (
    "SELECT 'undoing', CAST(NULL AS TEXT), CAST(NULL AS BIGINT), CAST(NULL AS TEXT) "
    "FROM bursar_actions WHERE session_id = :session AND checkpoint_ns = :checkpoint "
    "AND state IN ('undoing', 'undone')"
)
