"""Which lines of a provider's usage export are unknown calls: proposals, each with its reason, and never a guess.

Times are microseconds since 1970, amounts are nano-dollars.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

MICROSECONDS = 1_000_000
EARLY_SECONDS = 60  # by which a provider's clock may be behind
WINDOW_SECONDS = 900  # after the hold within which a provider may say that the call was
_SNAPSHOT = re.compile(r"-\d{4}-?\d{2}-?\d{2}$")


@dataclass(frozen=True, slots=True)
class UsageLine:
    """One line of an export: `row` counts from 1. It covers `requests` calls between `start` and `end`.

    `id` is empty if the export has none. Tokens and cost are None if the export does not tell them.
    """

    row: int
    id: str
    start: int
    end: int
    model: str
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost: int | None = None
    requests: int = 1


@dataclass(frozen=True, slots=True)
class BookedCall:
    """A call in the books. `amount` is its hold. Tokens are None if nobody has seen the call's end."""

    call_id: str
    at: int
    model: str
    amount: int
    input_tokens: int | None = None
    output_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class UsageMatch:
    """A line that is proposed to be a call, at this cost, and why."""

    call_id: str
    row: int
    cost: int
    why: str


@dataclass(frozen=True, slots=True)
class UsageProposal:
    """What is proposed: the matches, and for each other unknown call the reason why no line is proposed for it."""

    matches: tuple[UsageMatch, ...]
    unmatched: Mapping[str, str]


CostOf = Callable[[BookedCall, UsageLine], int | None]


def plain_model(name: str) -> str:
    """Return a model's name without what an export adds to it: the date of its snapshot, and the kind of tokens."""
    return _SNAPSHOT.sub("", name.partition(",")[0].strip())


def match_usage(
    unknown: Sequence[BookedCall], settled: Sequence[BookedCall], lines: Sequence[UsageLine], cost_of: CostOf
) -> UsageProposal:
    """Return which lines are proposed to be which of the `unknown` calls. Each line is proposed for one call at most.

    A line with a call's id is that call. Otherwise a line may be a call if it is of one request, of the call's model
    and time, with a cost that the hold covers, and no `settled` call has the line's model, time and tokens. It is
    proposed only if it is the only line that may be the call, and the call is the only one that it may be. `cost_of`
    returns what a line says that a call cost; None if that cannot be known, and then the line is not proposed.
    """
    known = {call.call_id for call in (*unknown, *settled)}
    by_id, unmatched = _by_id(unknown, lines, cost_of)
    taken = {match.call_id for match in by_id} | unmatched.keys()
    rest = [call for call in unknown if call.call_id not in taken]
    free = [line for line in lines if line.id not in known and not any(_is_settled(line, one) for one in settled)]
    may_be = {call.call_id: [line for line in free if _may_be(line, call, cost_of)] for call in rest}
    rivals = Counter(line.row for candidates in may_be.values() for line in candidates)
    found: list[UsageMatch] = []
    for call in rest:
        candidates = may_be[call.call_id]
        cost = cost_of(call, candidates[0]) if len(candidates) == 1 and rivals[candidates[0].row] == 1 else None
        if cost is not None:
            why = f"the only line of {plain_model(call.model)} at its time that its hold covers"
            found.append(UsageMatch(call.call_id, candidates[0].row, cost, why))
        else:
            unmatched[call.call_id] = _why_not(candidates)
    return UsageProposal((*by_id, *found), unmatched)


def _by_id(
    unknown: Sequence[BookedCall], lines: Sequence[UsageLine], cost_of: CostOf
) -> tuple[list[UsageMatch], dict[str, str]]:
    named: dict[str, list[UsageLine]] = defaultdict(list)
    for line in lines:
        named[line.id].append(line)
    matches: list[UsageMatch] = []
    unmatched: dict[str, str] = {}
    for call in unknown:
        own = named.get(call.call_id, [])
        cost = cost_of(call, own[0]) if len(own) == 1 else None
        if cost is not None:
            matches.append(UsageMatch(call.call_id, own[0].row, cost, "its id"))
        elif own:
            rows = ", ".join(str(line.row) for line in own)
            unmatched[call.call_id] = (
                f"several lines have its id: {rows}" if len(own) > 1 else f"line {rows} has its id and no cost"
            )
    return matches, unmatched


def _why_not(candidates: Sequence[UsageLine]) -> str:
    if not candidates:
        return "no line fits"
    rows = ", ".join(str(line.row) for line in candidates)
    return f"ambiguous: lines that may be it, or another call: {rows}"


def _is_at_its_time(line: UsageLine, call: BookedCall) -> bool:
    early, late = EARLY_SECONDS * MICROSECONDS, WINDOW_SECONDS * MICROSECONDS
    return line.end >= call.at - early and line.start <= call.at + late


def _is_of_its_model(line: UsageLine, call: BookedCall) -> bool:
    return line.model == call.model or plain_model(line.model) == plain_model(call.model)


def _is_settled(line: UsageLine, call: BookedCall) -> bool:
    """Whether the line may well be this call, whose end was seen: then it is proposed for no other."""
    tokens = (line.input_tokens, line.output_tokens)
    same = None in tokens or tokens == (call.input_tokens, call.output_tokens)
    return same and _is_of_its_model(line, call) and _is_at_its_time(line, call)


def _may_be(line: UsageLine, call: BookedCall, cost_of: CostOf) -> bool:
    if line.requests != 1 or not _is_of_its_model(line, call) or not _is_at_its_time(line, call):
        return False
    cost = cost_of(call, line)
    return cost is not None and cost <= call.amount
