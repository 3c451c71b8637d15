"""The several questions in one message, each with its kind, its days and what it is narrowed to."""

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
# A clause of one of these kinds that names no days means those of its neighbour: "what did I spend and earn in May".
_SHARES_DAYS: Final[frozenset[Kind]] = frozenset({"spending", "income", "saved", "largest", "monthly", "overview"})


@dataclass(frozen=True, slots=True)
class Clause:
    """One question: its words, the kind of its answer, the days it names and what it is narrowed to."""

    text: str
    kind: Kind
    asked: tuple[Period, ...]
    focus: Focus

    @property
    def understood(self) -> bool:
        """Whether anything in it says what is asked for."""
        return self.kind != "overview" or bool(self.focus)


def read_clauses(text: str, entries: Sequence[Entry], *, newest: date) -> tuple[Clause, ...]:
    """The questions in `text`, in order, none twice; at least one. Days are seen from `newest`.

    What no rule understands is left out where another clause is understood: it is meant for another specialist.
    Several periods in one question about sums make a question each.
    """
    parts = [_read(part, entries, newest) for part in _parts(text, entries, newest)]
    shared = [_with_days(clause, parts[:at][::-1] + parts[at + 1 :]) for at, clause in enumerate(parts)]
    shared = [clause for clause in shared if clause.understood] or [_read(text, entries, newest)]
    single = [one for clause in shared for one in _by_period(clause)]
    return tuple({(one.kind, one.asked, one.focus): one for one in single[::-1]}.values())[::-1][:MOST_CLAUSES]


def _read(text: str, entries: Sequence[Entry], newest: date) -> Clause:
    return Clause(text, kind_of(text), parse_periods(text, newest=newest), focus_of(text, entries))


def _parts(text: str, entries: Sequence[Entry], newest: date) -> list[str]:
    """The text cut where a question begins; what begins none stays with the question before it."""
    parts: list[str] = []
    begin = 0
    cuts = [match.end() for match in _ENDS.finditer(text)]
    for start, end in pairwise([*cuts, len(text)]):
        before, piece = text[begin:start], text[start:end]
        if not piece.strip(" ?!.,;"):
            continue
        first, other = _read(before, entries, newest), _read(piece, entries, newest)
        opens = _OPENS.match(piece) is not None and first.kind != "change"
        # "groceries in March and on restaurants in April": the second goes on with the verb of the first.
        goes_on = bool(_GOES_ON.match(piece) and other.asked and other.focus and first.asked and first.focus)
        if (opens and (other.understood or first.understood)) or goes_on:
            parts.append(before)
            begin = start
    return [*parts, text[begin:]]


def _with_days(clause: Clause, neighbours: Sequence[Clause]) -> Clause:
    """The clause with the days of the nearest neighbour that names some, the earlier ones first."""
    if clause.asked or clause.kind not in _SHARES_DAYS:
        return clause
    named = [other.asked for other in neighbours if other.asked and other.kind in _SHARES_DAYS]
    return replace(clause, asked=named[0] if named else ())


def _by_period(clause: Clause) -> list[Clause]:
    """One clause for each period, the earlier first; a comparison keeps its two."""
    if clause.kind not in _SHARES_DAYS or len(clause.asked) < 2:
        return [clause]
    ordered = sorted(clause.asked, key=lambda period: (period.start, period.end))
    return [replace(clause, asked=(period,)) for period in ordered]
