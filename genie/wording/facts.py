"""A fact is a number (or word) that a tool computed; an answer may state nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Literal

Unit = Literal["money", "percent", "months", "count", "ratio", "date", "text"]


@dataclass(frozen=True, slots=True)
class Fact:
    """One computed value, with what it takes to check it again.

    `unit="percent"` holds percentage points (12.5 is 12.5 %). `currency` is set for money alone.
    `tool` names the function that computed the value, `source` the query or file rows it came from.
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
    """Something worth telling, with the rule that fired and why; `facts` are the numbers it rests on."""

    rule: str
    severity: Literal["info", "notice", "warning", "alert"]
    reason: str
    facts: tuple[Fact, ...] = ()


@dataclass(frozen=True, slots=True)
class Analysis:
    """What a deterministic tool agent returns: facts, findings, the templated text over them, what is missing.

    Every number in `text` is one of the facts (also those inside findings), as `wording.ungrounded` checks.
    `tables` are rows for pictures and for `--json`: name to rows, each cell a string, an int or a Decimal.
    """

    text: str
    facts: tuple[Fact, ...] = ()
    findings: tuple[Finding, ...] = ()
    gaps: tuple[str, ...] = ()
    confidence: float = 1.0
    tables: Mapping[str, tuple[Mapping[str, str | int | Decimal], ...]] | None = None
