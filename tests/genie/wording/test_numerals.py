"""Numbers and dates are read as they are written, whatever the grouping, and names are not numbers."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar.genie.wording.numerals import scan


def values(text: str) -> list[list[str]]:
    return [[str(reading.value.normalize()) for reading in numeral.readings] for numeral in scan(text)[1]]


@pytest.mark.parametrize(
    ("text", "value", "kind"),
    [
        ("$1,234.56", "1234.56", "money"),
        ("1234.56 USD", "1234.56", "money"),
        ("USD1,234.56", "1234.56", "money"),
        ("1.234,56 €", "1234.56", "money"),
        ("1 234,56 €", "1234.56", "money"),
        ("1\u202f234,56\u00a0€", "1234.56", "money"),
        ("1'234.56 CHF", "1234.56", "money"),
        ("₹1,23,456.78", "123456.78", "money"),
        ("US$5 million", "5000000", "money"),
        ("$1.2k", "1200", "money"),
        ("two hundred and fifty dollars", "250", "money"),
        ("50 cents", "0.5", "money"),
        ("12.5 %", "12.5", "percent"),
        ("12,5%", "12.5", "percent"),
        ("ten per cent", "10", "percent"),
        ("150 basis points", "1.5", "percent"),
        ("3.2 months", "3.2", "months"),
        ("one month", "1", "months"),
        ("30-day", "30", "duration"),
        ("3.4x", "3.4", "factor"),
        ("twice", "2", "factor"),
        ("halved", "0.5", "factor"),
        ("twenty-five thousand", "25000", "plain"),
        ("a dozen", "12", "plain"),
        ("zero", "0", "plain"),
        (".5", "0.5", "plain"),
    ],
)
def test_one_number_is_read_with_its_unit(text: str, value: str, kind: str) -> None:
    """Every usual way to write a number gives one numeral with that value and unit."""
    (numeral,) = scan(text)[1]
    assert [reading.value for reading in numeral.readings] == [Decimal(value)]
    assert [mark.kind for mark in numeral.marks] == [kind]
    assert numeral.written in text


@pytest.mark.parametrize(
    "text",
    [
        "401(k) and S&P 500, Form 1040 in Q3",
        "1. first\n2) second",
        "the 2nd of three-letter words".replace("three", "some"),
        "session s-1, W-2, step 3, tx123",
        "f47ac10b-58cc-4372-a567-0e02b2c3d479",
        "https://example.org/2024/5",
        "card ••••1111 and ••••085R",
        "one of them in May",
        "charges made twice",
    ],
)
def test_names_and_labels_are_not_numbers(text: str) -> None:
    """Digits in names, labels, ordinals, links and masks state no quantity."""
    assert scan(text) == ((), ())


@pytest.mark.parametrize(
    ("text", "alternatives"),
    [
        ("2025-03-04", ((2025, 3, 4),)),
        ("4 March 2025", ((2025, 3, 4),)),
        ("March 4th, 2025", ((2025, 3, 4),)),
        ("March 2025", ((2025, 3, None),)),
        ("15 Mar", ((None, 3, 15),)),
        ("04/03/2025", ((2025, 3, 4), (2025, 4, 3))),
        ("31.12.24", ((2024, 12, 31),)),
        ("2024-25", ((2024, None, None),)),
        ("2011-12", ((2011, 12, None), (2011, None, None))),
        ("2025-99-01", ()),
    ],
)
def test_a_date_says_only_what_is_written(
    text: str, alternatives: tuple[tuple[int | None, int | None, int | None], ...]
) -> None:
    """A date is read as a whole, leaves out what is not said, and keeps both readings where the order is unknown."""
    dates, numerals = scan(f"on {text} it was")
    assert numerals == ()
    assert [date.alternatives for date in dates] == [alternatives]


def test_a_range_shares_its_unit() -> None:
    """The bare end of a range may carry the unit of its other end."""
    assert [[m.kind for m in n.marks] for n in scan("12 to 15%, $20–40")[1]] == [
        ["plain", "percent"],
        ["percent"],
        ["money"],
        ["plain", "money"],
    ]


def test_vague_amounts_have_no_reading() -> None:
    """ "Thousands" states a quantity that nothing can support."""
    assert values("thousands of dollars and dozens of fees") == [[], []]


def test_a_spaced_run_may_be_two_numbers() -> None:
    """ "5 100" is five thousand one hundred, or five and a hundred; "1,2,3" is only three numbers."""
    (run,) = scan("5 100")[1]
    assert [part.written for part in run.parts] == ["5", "100"]
    (listed,) = scan("1,2,3")[1]
    assert listed.readings == ()
    assert [part.written for part in listed.parts] == ["1", "2", "3"]


@given(st.decimals(0, Decimal("99999999.99"), places=2), st.sampled_from(["us", "european", "spaced", "plain"]))
def test_grouped_decimals_are_read_back_exactly(value: Decimal, style: str) -> None:
    """A decimal written in any grouping is read as the same decimal to the last place."""
    us = f"{value:,.2f}"
    written = {
        "us": us,
        "european": us.translate(str.maketrans(",.", ".,")),
        "spaced": us.replace(",", "\u00a0"),
        "plain": f"{value:.2f}",
    }[style]
    (numeral,) = scan(f"It is {written} EUR.")[1]
    assert [(r.value, r.quantum) for r in numeral.readings] == [(value, Decimal("0.01"))]


@given(st.text())
def test_any_text_can_be_scanned(text: str) -> None:
    """No text breaks the scan, and what it reports stands in the text."""
    dates, numerals = scan(text)
    assert all(item.written in text for item in (*dates, *numerals))
