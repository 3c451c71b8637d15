"""The tax specialist: estimates from the profile, ranked loss sales, and "not covered" instead of a guess."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import pytest

from bursar.genie.agents.tax_optimisation.optimisation import optimise, stated_gains
from bursar.genie.household.records import ClosingPrice, Lot, Profile
from bursar.genie.household.source import Source
from bursar.genie.wording.facts import Analysis, Fact
from bursar.genie.wording.grounding import numbers, ungrounded

D = Decimal
TODAY = date(2025, 6, 30)
Household = Callable[..., Source]
PROFILE = Profile(country="US", tax_year=2025, filing_status="single", gross_annual_income=D(90_000))


def facts_of(analysis: Analysis) -> dict[str, Fact]:
    return {fact.key: fact for fact in analysis.facts}


def assert_grounded(analysis: Analysis, question: str = "") -> None:
    every = [*analysis.facts, *(fact for finding in analysis.findings for fact in finding.facts)]
    for text in (analysis.text, *(finding.reason for finding in analysis.findings)):
        assert ungrounded(text, every, numbers(question)) == ()


def lot(name: str, symbol: str, *, bought: date, cost: int, quantity: int = 100) -> Lot:
    return Lot(name, "broker", symbol, symbol, "equity", D(quantity), D(cost), bought, "USD")


def price(symbol: str, close: int, day: date = TODAY) -> ClosingPrice:
    return ClosingPrice(symbol, day, D(close), "USD")


def test_an_estimate_from_the_profile_alone(household: Household) -> None:
    """Single, 90,000: 74,250 taxable; 5,578.50 + 22 % of 25,775 = 11,249.00; 22 % on the next dollar."""
    analysis = optimise(household(profile=PROFILE), "how much tax will I pay", today=TODAY)
    facts = facts_of(analysis)
    assert facts["tax"].value == D("11249.00")
    assert facts["taxable_income"].value == 74_250
    assert facts["marginal_rate"].value == D("22.0")
    assert facts["effective_rate"].value == D("12.5")
    assert analysis.text.startswith("Your 2025 federal income tax comes to about $11,249.00")
    assert analysis.tables is not None
    assert [(row["rate_percent"], row["amount"]) for row in analysis.tables["bands"]] == [
        (D(10), D(11_925)),
        (D(12), D(36_550)),
        (D(22), D(25_775)),
    ]
    assert_grounded(analysis)


def test_what_is_not_covered_is_named_in_every_estimate(household: Household) -> None:
    """State tax, NIIT and AMT are said to be left out; sales that nobody stated are said to be assumed as none."""
    analysis = optimise(household(profile=PROFILE), "my tax", today=TODAY)
    for word in ("state", "NIIT", "AMT", "credits"):
        assert word in analysis.text
    assert "Assumed: no sales so far this year" in analysis.text
    assert analysis.gaps == ()


@pytest.mark.parametrize(
    ("profile", "word"),
    [
        (replace(PROFILE, country=None), "country is not on record"),
        (replace(PROFILE, country="DE"), "Tax in DE is not covered"),
        (replace(PROFILE, tax_year=None), "tax year is not on record"),
        (replace(PROFILE, tax_year=2024), "not covered"),
        (replace(PROFILE, tax_year=2026), "not covered"),
        (replace(PROFILE, filing_status=None), "filing status is not on record"),
        (replace(PROFILE, filing_status="it's complicated"), "not one of: single"),
        (replace(PROFILE, gross_annual_income=None), "income is not on record"),
        (replace(PROFILE, gross_annual_income=D(-1)), "is negative"),
        (replace(PROFILE, currency="EUR"), "no exchange rate"),
        (Profile(), "country is not on record"),
    ],
)
def test_a_missing_or_foreign_profile_is_not_guessed(household: Household, profile: Profile, word: str) -> None:
    """No numbers at all, and a gap that names the reason."""
    analysis = optimise(household(profile=profile), "my tax", today=TODAY)
    assert analysis.facts == ()
    assert word in " ".join(analysis.gaps)
    assert numbers(analysis.text) == ()


def test_gains_stated_in_the_question_are_taxed(household: Household) -> None:
    """20,000 of long-term gain on 90,000 adds 15 % of it."""
    question = "what is my tax if I realise a $20,000 long-term capital gain"
    analysis = optimise(household(profile=PROFILE), question, today=TODAY)
    assert facts_of(analysis)["tax"].value == D("14249.00")
    assert analysis.gaps == ()
    assert_grounded(analysis, question)


@pytest.mark.parametrize(
    ("text", "gains"),
    [
        ("I realised a $2,000 long-term gain", ("0", "2000")),
        ("a short-term loss of 500.25 and $1,000 in long-term gains", ("-500.25", "1000")),
        ("$10 short term gain, another $5 short-term capital gain", ("15", "0")),
        ("long-term capital losses of $3,000", ("0", "-3000")),
        ("what about long-term gains in 2025?", ("0", "0")),
        ("", ("0", "0")),
    ],
)
def test_stated_gains_are_read_as_people_write_them(text: str, gains: tuple[str, str]) -> None:
    """Amounts count for the term and sign that stand with them, and nothing else does."""
    assert stated_gains(text) == (D(gains[0]), D(gains[1]))


def test_loss_sales_are_ranked_with_what_each_saves(household: Household) -> None:
    """5,000 of short gain at 22 % takes the short loss first; then the ordinary limit takes 3,000 of the long loss."""
    source = household(
        profile=PROFILE,
        lots=[
            lot("s", "AAA", bought=date(2025, 2, 3), cost=150),
            lot("l", "BBB", bought=date(2023, 2, 3), cost=140),
            lot("g", "CCC", bought=date(2023, 2, 3), cost=50),
        ],
        prices=[price("AAA", 100), price("BBB", 100), price("CCC", 100)],
    )
    question = "how can I lower my tax after a $5,000 short-term gain"
    analysis = optimise(source, question, today=TODAY)
    facts = facts_of(analysis)
    assert analysis.text.startswith("Selling 2 lots at a loss would save $1,760.00 this year")
    assert facts["harvest_saving"].value == D("1760.00")
    assert (facts["sale_1_symbol"].value, facts["sale_1_saving"].value) == ("AAA", D("1100.00"))
    assert (facts["sale_2_symbol"].value, facts["sale_2_saving"].value) == ("BBB", D("660.00"))
    assert facts["harvest_carried"].value == D("1000.00")
    assert facts["rebuy_from"].value == date(2025, 7, 31)
    assert analysis.tables is not None
    assert [(row["lot"], row["against"], row["amount"]) for row in analysis.tables["uses"]] == [
        ("s", "short gain", D(5_000)),
        ("l", "ordinary income", D(3_000)),
        ("l", "carried forward", D(1_000)),
    ]
    assert_grounded(analysis, question)


@pytest.mark.parametrize(("days", "saves"), [(30, False), (31, True)])
def test_a_recent_purchase_of_the_same_symbol_blocks_the_loss(household: Household, days: int, saves: bool) -> None:
    """Bought 30 days ago: a warning with the day from which the loss counts, and no sale; 31 days ago: a sale."""
    bought = TODAY - timedelta(days=days)
    source = household(
        profile=PROFILE,
        lots=[lot("old", "AAA", bought=date(2023, 2, 3), cost=120), lot("new", "AAA", bought=bought, cost=90)],
        prices=[price("AAA", 100)],
    )
    analysis = optimise(source, "which losses should I realise", today=TODAY)
    assert ("harvest_saving" in facts_of(analysis)) == saves
    washed = [finding for finding in analysis.findings if finding.rule == "wash_sale"]
    assert bool(washed) != saves
    if washed:
        assert {fact.key: fact.value for fact in washed[0].facts}["clean_on"] == date(2025, 7, 1)
    assert_grounded(analysis)


def test_a_gain_that_turns_long_term_soon_is_mentioned(household: Household) -> None:
    """Bought on 1 July 2024, the gain is long-term from 2 July 2025."""
    source = household(
        profile=PROFILE, lots=[lot("g", "CCC", bought=date(2024, 7, 1), cost=50)], prices=[price("CCC", 100)]
    )
    analysis = optimise(source, "tax on my gains", today=TODAY)
    (finding,) = analysis.findings
    assert finding.rule == "holding_period"
    assert "2 July 2025" in finding.reason
    assert "No sale at a loss would lower this year's tax." in analysis.text
    assert_grounded(analysis)


def test_a_sale_outside_the_tax_year_is_not_weighed(household: Household) -> None:
    """In 2026 a sale cannot change the tax of 2025: the estimate stands, the losses are an assumption in the text."""
    source = household(
        profile=PROFILE, lots=[lot("l", "AAA", bought=date(2023, 2, 3), cost=150)], prices=[price("AAA", 100)]
    )
    analysis = optimise(source, "my tax", today=date(2026, 1, 1))
    assert facts_of(analysis)["tax"].value == D("11249.00")
    assert "harvest_saving" not in facts_of(analysis)
    assert any("does not count in the tax year" in gap for gap in analysis.gaps)
    assert_grounded(analysis)


def test_a_lot_without_a_recent_price_is_a_gap(household: Household) -> None:
    """An old close is not used to claim a loss."""
    source = household(
        profile=PROFILE,
        lots=[lot("l", "AAA", bought=date(2023, 2, 3), cost=150)],
        prices=[price("AAA", 100, date(2025, 3, 1))],
    )
    analysis = optimise(source, "my tax", today=TODAY)
    assert "harvest_saving" not in facts_of(analysis)
    assert any("AAA" in gap for gap in analysis.gaps)


def test_a_carried_loss_and_an_income_below_the_deduction(household: Household) -> None:
    """No tax, no saving, and the stated loss carries over whole."""
    source = household(profile=replace(PROFILE, gross_annual_income=D(12_000)))
    question = "I have a $4,000 long-term loss"
    analysis = optimise(source, question, today=TODAY)
    facts = facts_of(analysis)
    assert facts["tax"].value == 0
    assert facts["loss_carried"].value == 4_000
    assert_grounded(analysis, question)
