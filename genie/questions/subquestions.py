"""Reads the questions in one message, each with its kind, its periods and its focus."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import pairwise
from typing import Final

from bursar.genie.questions.account_questions import Focus, Kind, focus_of, kind_of
from bursar.genie.questions.period import Period, parse_periods
from bursar.genie.transactions.cash_flows import Entry

MOST_CLAUSES: Final = 5
_ENDS: Final = re.compile(r"[?!;\n]+|\.(?=\s|$)|,?\s+(?:and|also|plus|then)\s+|,\s+", re.IGNORECASE)
_OPENS: Final = re.compile(
    r"(?:and |also |then |so )*(?:what|which|who|where|when|why|how|did|do|does|is|are|was|were|have|has|had|can|show"
    r"|list|tell|give|compare|my|our)\b",
    re.IGNORECASE,
)
_GOES_ON: Final = re.compile(r"(?:on|for|at|in|to)\b", re.IGNORECASE)
# A clause of these kinds that names no period means its neighbour's period: "what did I spend and earn in May".
_SHARES_DAYS: Final[frozenset[Kind]] = frozenset({"spending", "income", "saved", "largest", "monthly", "overview"})


@dataclass(frozen=True, slots=True)
class Clause:
    """One question: its words, the kind of its answer, the periods that it names, and its focus."""

    text: str
    kind: Kind
    asked: tuple[Period, ...]
    focus: Focus

    @property
    def understood(self) -> bool:
        """Whether a rule found a kind of answer or a focus in the question."""
        return self.kind != "overview" or bool(self.focus)


def read_clauses(text: str, entries: Sequence[Entry], *, newest: date) -> tuple[Clause, ...]:
    """Return the questions in `text`, in order, each once: at least one, at most `MOST_CLAUSES`.

    Periods count from the day `newest`. If a rule understands any question, each question that no rule understands is
    left out, because it is meant for another specialist. A question about sums that names several periods becomes one
    question for each period.
    """
    parts = [_read(part, entries, newest) for part in _parts(text, entries, newest)]
    shared = [_with_days(clause, parts[:at][::-1] + parts[at + 1 :]) for at, clause in enumerate(parts)]
    shared = [clause for clause in shared if clause.understood] or [_read(text, entries, newest)]
    single = [one for clause in shared for one in _by_period(clause)]
    return tuple({(one.kind, one.asked, one.focus): one for one in single[::-1]}.values())[::-1][:MOST_CLAUSES]


def _read(text: str, entries: Sequence[Entry], newest: date) -> Clause:
    return Clause(text, kind_of(text), parse_periods(text, newest=newest), focus_of(text, entries))


def _parts(text: str, entries: Sequence[Entry], newest: date) -> list[str]:
    """Cut `text` into its questions. A clause that begins no question stays with the question before the clause."""
    parts: list[str] = []
    begin = 0
    cuts = [match.end() for match in _ENDS.finditer(text)]
    for start, end in pairwise([*cuts, len(text)]):
        before, piece = text[begin:start], text[start:end]
        if not piece.strip(" ?!.,;"):
            continue
        first, other = _read(before, entries, newest), _read(piece, entries, newest)
        opens = _OPENS.match(piece) is not None and first.kind != "change"
        # "groceries in March and on restaurants in April": the second question has the verb of the first.
        goes_on = bool(_GOES_ON.match(piece) and other.asked and other.focus and first.asked and first.focus)
        if (opens and (other.understood or first.understood)) or goes_on:
            parts.append(before)
            begin = start
    return [*parts, text[begin:]]


def _with_days(clause: Clause, neighbours: Sequence[Clause]) -> Clause:
    """If `clause` names no period, return it with the periods of the first of `neighbours` that names a period.

    Otherwise return `clause` unchanged. Only clauses of the kinds in `_SHARES_DAYS` take and give periods.
    """
    if clause.asked or clause.kind not in _SHARES_DAYS:
        return clause
    named = [other.asked for other in neighbours if other.asked and other.kind in _SHARES_DAYS]
    return replace(clause, asked=named[0] if named else ())


def _by_period(clause: Clause) -> list[Clause]:
    """Split a clause that names several periods into one clause for each period, the earliest first.

    Only the kinds of clauses in `_SHARES_DAYS` are split; any other, such as a comparison, stays one clause.
    """
    if clause.kind not in _SHARES_DAYS or len(clause.asked) < 2:
        return [clause]
    ordered = sorted(clause.asked, key=lambda period: (period.start, period.end))
    return [replace(clause, asked=(period,)) for period in ordered]
