"""Formatting and the sheet: one form per unit, and a number is written only by being recorded."""

from datetime import date
from decimal import Decimal

import pytest

from bursar.genie.wording import formatting
from bursar.genie.wording.fact_sheet import Sheet


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        ("1234.56", "USD", "$1,234.56"),
        ("-5", "EUR", "-€5.00"),
        ("0.005", "USD", "$0.00"),
        ("-0.001", "USD", "$0.00"),
        ("19.99", "USD", "$19.99"),
        ("1234567", "JPY", "¥1,234,567"),
        ("1.5", "KWD", "1.500 KWD"),
        ("12.345", "CHF", "12.34 CHF"),
    ],
)
def test_money(amount: str, currency: str, text: str) -> None:
    """Amounts have their currency's symbol or code and its decimals; nothing rounds to minus zero."""
    assert formatting.money(Decimal(amount), currency) == text


def test_other_units() -> None:
    """Percentages, ratios, months, counts and days have one form each."""
    assert formatting.percent(Decimal("12.50")) == "12.5%"
    assert formatting.percent(Decimal(100)) == "100%"
    assert formatting.ratio(Decimal("0.420")) == "0.42"
    assert formatting.months(Decimal(1)) == "1 month"
    assert formatting.months(Decimal("3.21")) == "3.2 months"
    assert formatting.count(12345) == "12,345"
    assert formatting.day(date(2025, 3, 4)) == "4 March 2025"
    assert formatting.month(date(2025, 3, 4)) == "March 2025"


def test_a_sheet_records_what_it_writes() -> None:
    """Each written value is a fact whose forms hold it; a second value under one key is a contradiction."""
    sheet = Sheet(as_of=date(2025, 3, 31), tool="test", source="rows")

    written = (
        sheet.money("m", Decimal("12.5"), "USD"),
        sheet.percent("p", Decimal("3.25")),
        sheet.counted("c", 1, "payment"),
        sheet.day("d", date(2025, 3, 4)),
        sheet.word("w", "7-Eleven"),
    )

    assert written == ("$12.50", "3.2%", "1 payment", "4 March 2025", "7-Eleven")
    assert [fact.key for fact in sheet.facts()] == ["m", "p", "c", "d", "w"]
    assert sheet.money("m", Decimal("12.50"), "USD") == "$12.50"
    with pytest.raises(ValueError, match="two values for the fact m"):
        sheet.money("m", Decimal("12.51"), "USD")
