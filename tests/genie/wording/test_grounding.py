"""An answer may state computed numbers only: formatting a fact is always supported, changing it never is."""

from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bursar.genie.wording import formatting
from bursar.genie.wording.facts import Fact, Unit
from bursar.genie.wording.grounding import choose, numbers, ungrounded

TODAY = date(2025, 6, 30)


def fact(value: Decimal | int | str | date, unit: Unit, *, currency: str | None = None, key: str = "k") -> Fact:
    code = currency or ("USD" if unit == "money" else None)
    return Fact(key, value, unit, TODAY, "tool", "query", code)


RENT = fact(Decimal("1234.56"), "money")
SHARE = fact(Decimal("12.5"), "percent")
RUNWAY = fact(Decimal("5.24"), "months")
COUNT = fact(3, "count")
BETA = fact(Decimal("0.42"), "ratio")
PAID_ON = fact(date(2025, 3, 14), "date")
PAYEE = fact("7-Eleven 24", "text")
FACTS = (RENT, SHARE, RUNWAY, COUNT, BETA, PAID_ON, PAYEE)


@pytest.mark.parametrize(
    "text",
    [
        "$1,234.56",
        "-$1,234.56",
        "($1,234.56)",
        "1234.56 USD",
        "1.234,56 $",
        "about $1,235",
        "$1.2k",
        "1,234.56",
        "1,235",
        "12.5%",
        "12.5 %",
        "roughly 13 percent or 12%",
        "5.2 months",
        "about five months",
        "three accounts",
        "3 accounts",
        "a ratio of 0.42, or 42%",
        "on 14 March 2025",
        "on March 14",
        "in March 2025",
        "in 2025",
        "2025-03-14",
        "as of 30 June 2025",
        "at 7-ELEVEN 24",
        "1. Rent: $1,234.56\n2. Share: 12.5%",
        "between 12 and 13%",
        "no numbers at all",
        "",
    ],
)
def test_a_fact_is_supported_in_every_form(text: str) -> None:
    """What a fact rounds to, at the precision and in the unit it is written with, is supported."""
    assert ungrounded(text, FACTS) == ()


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("$1,234.57", ("$1,234.57",)),
        ("about $1,200", ("$1,200",)),
        ("€1,234.56", ("€1,234.56",)),
        ("1234.56%", ("1234.56%",)),
        ("$12.50", ("$12.50",)),
        ("12.6%", ("12.6%",)),
        ("5 accounts at $5", ("$5",)),
        ("12 accounts", ("12",)),
        ("four accounts", ("four",)),
        ("3%", ("3%",)),
        ("$3", ("$3",)),
        ("15 March 2025", ("15 March 2025",)),
        ("April 2025", ("April 2025",)),
        ("in 2024", ("2024",)),
        ("31 June 2025", ("31 June 2025",)),
        ("thousands of dollars", ("thousands",)),
        ("it doubled", ("doubled",)),
        ("at Route 25", ("25",)),
        ("$1,234.56 and $9", ("$9",)),
        ("9, then 3, then 8%", ("9", "8%")),
    ],
)
def test_what_no_fact_supports_is_returned_as_written(text: str, missing: tuple[str, ...]) -> None:
    """Another value, unit, currency, day or month is reported, in order, as it stands in the text."""
    assert ungrounded(text, FACTS) == missing


def test_the_sum_of_two_facts_is_not_supported() -> None:
    """The model does no arithmetic: a sum that no tool computed is caught, and passes once it is a fact."""
    parts = (fact(Decimal("100.10"), "money"), fact(Decimal("200.20"), "money"))
    text = "$100.10 and $200.20 make $300.30"
    assert ungrounded(text, parts) == ("$300.30",)
    assert ungrounded(text, (*parts, fact(Decimal("300.30"), "money"))) == ()


def test_numbers_of_the_question_may_be_repeated() -> None:
    """A number or date the user wrote is supported with the same value and unit, and no other."""
    allowed = numbers("Can I save $500 a month until March 2030, or 10%?")
    assert allowed == ("$500", "March 2030", "10%")
    assert ungrounded("To save 500 dollars until March 2030, cut 10 %.", (), allowed) == ()
    assert ungrounded("Save $501 or 500% by May 2030.", (), allowed) == ("$501", "500%", "May 2030")


def test_a_month_named_by_a_key_is_supported() -> None:
    """A fact for a month supports the name of that month, and not its neighbour."""
    march = fact(Decimal(80), "money", key="spending.2024-03.groceries")
    assert ungrounded("In March 2024 you spent $80.00.", (march,)) == ()
    assert ungrounded("In April 2024 you spent $80.00.", (march,)) == ("April 2024",)


def test_a_year_in_a_text_fact_is_supported() -> None:
    """A bare number held as a word may be repeated as that number alone."""
    year = fact("2023", "text")
    assert ungrounded("For tax year 2023", (year,)) == ()
    assert ungrounded("2,023% in 20231", (year,)) == ("2,023%", "20231")


def test_choose_keeps_supported_words() -> None:
    """The worded text is used when everything in it is supported, with no reasons."""
    assert choose("Rent: $1,234.56", "You paid $1,234.56 in rent.", FACTS) == ("You paid $1,234.56 in rent.", ())


def test_choose_falls_back_with_reasons() -> None:
    """One unsupported number brings the templated text back, with every such number named."""
    text, reasons = choose("Rent: $1,234.56", "You paid $1,234.56, 20% more than $1,028.80.", FACTS)
    assert text == "Rent: $1,234.56"
    assert reasons == ('"20%" is supported by no fact', '"$1,028.80" is supported by no fact')


def test_choose_falls_back_from_silence() -> None:
    """An empty wording is not an answer."""
    assert choose("Rent", " \n", FACTS) == ("Rent", ("the model returned no words",))


amounts = st.decimals(Decimal("0.01"), Decimal("9999999.99"), places=2)
days = st.dates(date(2000, 1, 1), date(2039, 12, 31))


@st.composite
def drawn_facts(draw: st.DrawFn) -> Fact:
    unit = draw(st.sampled_from(["money", "percent", "months", "count", "ratio", "date"]))
    match unit:
        case "money":
            return fact(draw(amounts), "money", currency=draw(st.sampled_from(["USD", "EUR", "GBP", "CHF", "JPY"])))
        case "percent":
            return fact(draw(st.decimals(-100, 100, places=2)), "percent")
        case "months":
            return fact(draw(st.decimals(0, 240, places=2)), "months")
        case "count":
            return fact(draw(st.integers(0, 10**6)), "count")
        case "ratio":
            return fact(draw(st.decimals(0, 10, places=4)), "ratio")
        case _:
            return fact(draw(days), "date")


facts = drawn_facts()


@pytest.mark.slow
@given(st.lists(facts, min_size=1, max_size=5))
@settings(max_examples=200)
def test_text_built_from_facts_is_always_supported(held: list[Fact]) -> None:
    """Every form in which a template may write a fact is supported by that fact."""
    for one in held:
        for form in formatting.forms(one):
            assert ungrounded(f"The value is {form}, they say.", held) == (), form


@pytest.mark.slow
@given(amounts, st.data())
@settings(max_examples=300)
def test_a_changed_digit_of_money_is_always_caught(amount: Decimal, data: st.DataObject) -> None:
    """An amount with one digit changed is never taken for the amount."""
    written = f"${amount:,.2f}"
    place = data.draw(st.sampled_from([i for i, c in enumerate(written) if c.isdigit()]))
    digit = data.draw(st.sampled_from([d for d in "0123456789" if d != written[place]]))
    changed = written[:place] + digit + written[place + 1 :]
    assert ungrounded(f"You paid {written} in all.", (fact(amount, "money"),)) == ()
    assert len(ungrounded(f"You paid {changed} in all.", (fact(amount, "money"),))) == 1


@pytest.mark.slow
@given(st.lists(facts, min_size=1, max_size=4), st.integers(0, 99), st.data())
@settings(max_examples=300)
def test_a_percentage_among_other_facts_is_caught(held: list[Fact], tenths: int, data: st.DataObject) -> None:
    """A percentage that no fact holds is caught, whatever other facts stand beside it."""
    points = data.draw(st.integers(0, 99)) + Decimal(tenths) / 10
    near = [abs(Decimal(f.value)) for f in held if isinstance(f.value, int | Decimal)]
    assume(all(abs(v - points) > Decimal("0.05") and abs(v * 100 - points) > Decimal("0.05") for v in near))
    assert ungrounded(f"It rose by {points:.1f}%.", held) == (f"{points:.1f}%",)


@given(days, st.integers(1, 20000))
def test_another_day_is_caught(day: date, later: int) -> None:
    """A day that differs from every date fact is not supported, however close."""
    other = day + timedelta(days=later)
    held = fact(day, "date")
    assume(other != held.as_of)
    assert ungrounded(formatting.day(day), (held,)) == ()
    assert ungrounded(formatting.day(other), (held,)) == (formatting.day(other),)
