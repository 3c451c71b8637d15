"""From an analysis to a report and back: JSON loses no digit, no day, no unit."""

import json
from datetime import date
from decimal import Decimal

import pytest
from pydantic import JsonValue

from bursar.genie.wording.facts import Analysis, Fact, Finding, Unit
from bursar.genie.wording.reporting import all_facts, facts_of, report_of
from bursar.state.run import Report

DAY = date(2025, 3, 1)


def fact(key: str, value: Decimal | int | str | date, unit: Unit, currency: str | None = None) -> Fact:
    return Fact(key, value, unit, DAY, "tool", "query", currency)


FACTS = (
    fact("spent", Decimal("1234.50"), "money", "EUR"),
    fact("share", Decimal("12.5"), "percent"),
    fact("lasting", Decimal("3.2"), "months"),
    fact("payments", 12, "count"),
    fact("index", Decimal("0.42"), "ratio"),
    fact("on", DAY, "date"),
    fact("payee", "Café 24", "text"),
)


def test_facts_come_back_as_they_went() -> None:
    """Every unit's value, with its currency and day, is the same after a journey through JSON."""
    report = report_of(Analysis(text="…", facts=FACTS))

    carried = Report.model_validate_json(report.model_dump_json())

    assert facts_of([carried]) == FACTS  # a count comes back as an equal decimal


def test_facts_of_findings_are_carried_once() -> None:
    """A finding's facts are among the report's; a fact in both places is there once."""
    analysis = Analysis(text="…", facts=FACTS[:1], findings=(Finding("rule", "info", "why", FACTS[:2]),))

    assert all_facts(analysis) == FACTS[:2]
    assert [row["key"] for row in json.loads(report_of(analysis).model_dump_json())["data"]["facts"]] == [
        "spent",
        "share",
    ]


def test_tables_hold_decimal_strings() -> None:
    """Amounts in tables are strings with every digit; sources name tool and query once."""
    report = report_of(
        Analysis(text="…", facts=FACTS, tables={"months": ({"spending": Decimal("10.10")},)}), text="said"
    )

    assert report.data["tables"] == {"months": [{"spending": "10.10"}]}
    assert report.answer == "said"
    assert report.sources == ("tool: query",)


def test_damaged_facts_are_an_error() -> None:
    """A report whose facts lack a unit or have an unknown one is not read as if it had none."""
    row: JsonValue = {"key": "a", "value": "1", "unit": "furlongs", "as_of": "2025-03-01", "tool": "t", "source": "s"}

    with pytest.raises(ValueError, match=r"furlongs|literal"):
        facts_of([Report(answer="…", data={"facts": [row]})])
    with pytest.raises(KeyError):
        facts_of([Report(answer="…", data={"facts": [{"key": "a"}]})])
