"""Turns an analysis into a report, which the graph carries as JSON, and reads its facts back for the gate's check."""

from collections.abc import Callable, Iterable, Mapping
from datetime import date
from decimal import Decimal
from typing import cast

from pydantic import JsonValue, TypeAdapter

from bursar import Report
from bursar.genie.wording.facts import Analysis, Fact, Unit

_UNIT: TypeAdapter[Unit] = TypeAdapter(Unit)
_VALUES: Mapping[Unit, Callable[[str], Decimal | int | str | date]] = {
    "money": Decimal,
    "percent": Decimal,
    "ratio": Decimal,
    "months": Decimal,
    "count": Decimal,
    "date": date.fromisoformat,
    "text": str,
}


def report_of(analysis: Analysis, *, text: str | None = None) -> Report:
    """Return the analysis as a report. If `text` is given, the report's answer is `text`, not the analysis's own text.

    The report's `data` holds `facts` (also the facts of findings), `findings` and `tables`, with every number as a
    decimal string.
    """
    data: dict[str, JsonValue] = {
        "facts": [_fact_json(fact) for fact in all_facts(analysis)],
        "findings": [{"rule": f.rule, "severity": f.severity, "reason": f.reason} for f in analysis.findings],
        "tables": {
            name: [{column: str(cell) for column, cell in row.items()} for row in rows]
            for name, rows in (analysis.tables or {}).items()
        },
    }
    return Report(
        answer=analysis.text if text is None else text,
        data=data,
        confidence=analysis.confidence,
        sources=tuple(dict.fromkeys(f"{fact.tool}: {fact.source}" for fact in analysis.facts)),
        gaps=analysis.gaps,
    )


def all_facts(analysis: Analysis) -> tuple[Fact, ...]:
    """Return the facts of an analysis and of its findings, each once."""
    return tuple(dict.fromkeys((*analysis.facts, *(fact for finding in analysis.findings for fact in finding.facts))))


def facts_of(reports: Iterable[Report]) -> tuple[Fact, ...]:
    """Return the facts in the reports' `data`, as `report_of` put them there.

    Raises `ValueError` or `KeyError` if a fact is damaged.
    """
    carried = (cast("list[Mapping[str, str | None]]", report.data.get("facts", [])) for report in reports)
    return tuple(_fact(row) for rows in carried for row in rows)


def _fact_json(fact: Fact) -> JsonValue:
    return {
        "key": fact.key,
        "value": fact.value.isoformat() if isinstance(fact.value, date) else str(fact.value),
        "unit": fact.unit,
        "as_of": fact.as_of.isoformat(),
        "tool": fact.tool,
        "source": fact.source,
        "currency": fact.currency,
    }


def _fact(row: Mapping[str, str | None]) -> Fact:
    unit = _UNIT.validate_python(row["unit"])
    return Fact(
        key=str(row["key"]),
        value=_VALUES[unit](str(row["value"])),
        unit=unit,
        as_of=date.fromisoformat(str(row["as_of"])),
        tool=str(row["tool"]),
        source=str(row["source"]),
        currency=row["currency"],
    )
