"""Printed amounts become exact decimals, in both locales, and what is no amount never becomes one."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar.genie.importing.parsing.amounts import DecimalMark, NumberStyle, infer_style, parse_amount, take_apart

POINT, COMMA = NumberStyle("."), NumberStyle(",")
CENTS = st.integers(-(10**14) + 1, 10**14 - 1)


def printed(cents: int, mark: DecimalMark, *, grouped: bool) -> str:
    text = f"{Decimal(cents).scaleb(-2):,.2f}" if grouped else f"{Decimal(cents).scaleb(-2):.2f}"
    return text if mark == "." else text.translate(str.maketrans(",.", ".,"))


@given(CENTS, st.booleans())
def test_every_amount_of_cents_is_read_back_exactly(cents: int, grouped: bool) -> None:
    """Printing to cents with either decimal mark, grouped or not, and reading it gives the same Decimal."""
    for mark in (".", ","):
        assert parse_amount(printed(cents, mark, grouped=grouped), NumberStyle(mark)) == Decimal(cents).scaleb(-2)


@given(st.lists(st.integers(1_000_00, 9_999_999_99), min_size=1), st.sampled_from([".", ","]), st.booleans())
def test_the_decimal_mark_is_inferred_from_amounts_with_cents(
    cents: list[int], mark: DecimalMark, grouped: bool
) -> None:
    """A file of amounts with two decimals shows its own mark, whichever it is."""
    style = infer_style(printed(value, mark, grouped=grouped) for value in cents)
    assert style is not None
    assert style.mark == mark


@pytest.mark.parametrize(
    ("text", "style", "amount"),
    [
        ("19.99", POINT, "19.99"),
        ("$1,234.50", POINT, "1234.50"),
        ("-$1,234.50", POINT, "-1234.50"),
        ("$-1,234.50", POINT, "-1234.50"),
        ("(45.00)", POINT, "-45.00"),
        ("($45.00)", POINT, "-45.00"),
        ("45.00-", POINT, "-45.00"),
        ("+12.00", POINT, "12.00"),
        ("−3.20", POINT, "-3.20"),
        ("1.234,50 €", COMMA, "1234.50"),
        ("EUR -1.234,50", COMMA, "-1234.50"),
        ("1 234,50", COMMA, "1234.50"),
        ("1\u202f234,50", COMMA, "1234.50"),
        ("1'234.50 CHF", POINT, "1234.50"),
        ("12,34,567.80", POINT, "1234567.80"),
        (".5", POINT, "0.5"),
        ("12.", POINT, "12"),
        ("2.450,00 H", COMMA, "2450.00"),
        ("120.00 DR", POINT, "120.00"),
    ],
)
def test_printed_forms(text: str, style: NumberStyle, amount: str) -> None:
    """Currency signs, codes, brackets, trailing minus and groupings are read."""
    assert parse_amount(text, style) == Decimal(amount)


@pytest.mark.parametrize(
    "text",
    ["", "  ", "NaN", "Infinity", "-inf", "1e30", "1E5", "12.3.4", "1,23.4", "--5", "abc", "0x10", "1" * 16, "٣", "$"],
)
def test_what_is_no_amount_is_refused(text: str) -> None:
    """Exponents, infinities, foreign digits and broken groupings raise with a reason."""
    with pytest.raises(ValueError, match=r"\w"):
        parse_amount(text, POINT)


def test_an_amount_in_the_other_locale_is_refused() -> None:
    """A file with decimal commas does not silently read 12.50 as 1250."""
    with pytest.raises(ValueError, match="decimal mark"):
        parse_amount("12.50", COMMA)


def test_thousands_that_could_be_decimals_are_refused_unless_proven() -> None:
    """1.234 is read only where the file shows that it prints three decimals."""
    with pytest.raises(ValueError, match="thousands or decimals"):
        parse_amount("1.234", POINT)
    proven = infer_style(["0.125", "1234.500"])
    assert proven is not None
    assert parse_amount("1.234", proven) == Decimal("1.234")


def test_ambiguous_files_stay_undecided() -> None:
    """Three digits behind every mark prove nothing; whole numbers need no mark."""
    assert infer_style(["1.234", "5.678"]) is None
    assert infer_style(["12", "5"]) == NumberStyle(".")
    assert infer_style(["1.234.567"]) == NumberStyle(",")


def test_a_suffix_tells_the_direction() -> None:
    """CR and H are money in, DR and S money out; the currency is kept apart."""
    assert take_apart("12.00 CR").direction == "in"
    assert take_apart("12,00 S").direction == "out"
    assert take_apart("£12.00").currency == "GBP"
