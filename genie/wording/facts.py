"""Facts, findings and analyses. A fact is a number or word that a tool computed; an answer states no other number."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Literal

Unit = Literal["money", "percent", "months", "count", "ratio", "date", "text"]


@dataclass(frozen=True, slots=True)
class Fact:
    """One computed value, with everything that is needed to check the value again.

    `unit="percent"` is percentage points (12.5 is 12.5 %). `currency` is set for money only. `tool` names the function
    that computed the value, `source` the query or the file's rows that the value came from.
    """

    key: str
    value: Decimal | int | str | date
    unit: Unit
    as_of: date
    tool: str
    source: str
    currency: str | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """An observation for the user: the rule that fired, why it fired, and the `facts` that the reason states."""

    rule: str
    severity: Literal["info", "notice", "warning", "alert"]
    reason: str
    facts: tuple[Fact, ...] = ()


@dataclass(frozen=True, slots=True)
class Analysis:
    """The result of a tool agent: facts, findings, a templated text that states them, and the gaps of the answer.

    Every number in `text` is a fact of the analysis or of one of its findings, as `ungrounded` in
    `wording/grounding.py` checks. `tables` maps a table's name to its rows, for pictures and for `--json`.
    """

    text: str
    facts: tuple[Fact, ...] = ()
    findings: tuple[Finding, ...] = ()
    gaps: tuple[str, ...] = ()
    confidence: float = 1.0
    tables: Mapping[str, tuple[Mapping[str, str | int | Decimal], ...]] | None = None
