"""The risk specialist on small households: figures by hand, gaps by name, every number a fact."""

from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal

import numpy as np
import pytest

from bursar.genie.agents.risk_assessment.assessment import assess
from bursar.genie.household.records import AssetClass, BankAccount, BankTransaction, ClosingPrice, Debt, Lot, Profile
from bursar.genie.household.source import Source
from bursar.genie.wording.facts import Analysis, Fact
from bursar.genie.wording.grounding import numbers, ungrounded

D = Decimal
TODAY = date(2025, 6, 30)
Household = Callable[..., Source]
Posting = Callable[..., BankTransaction]


def facts_of(analysis: Analysis) -> dict[str, Fact]:
    return {fact.key: fact for fact in analysis.facts}


def assert_grounded(analysis: Analysis, question: str) -> None:
    every = [*analysis.facts, *(fact for finding in analysis.findings for fact in finding.facts)]
    for text in (analysis.text, *(finding.reason for finding in analysis.findings)):
        assert ungrounded(text, every, numbers(question)) == ()


def rents(posting: Posting) -> list[BankTransaction]:
    return [posting(f"2025-{month:02d}-{day:02d}", "-1000", "Rent") for month in range(1, 7) for day in (1, 28)]


def daily_prices(symbols: str, days: int, *, end: date = TODAY, seed: int = 5) -> list[ClosingPrice]:
    rng = np.random.default_rng(seed)
    found: list[ClosingPrice] = []
    for symbol in symbols:
        level = 100.0
        for back in range(days, -1, -1):
            found.append(ClosingPrice(symbol, end - timedelta(days=back), D(f"{level:.2f}"), "USD"))
            level *= 1 + rng.normal(0.0004, 0.01)
    return found


def lot(symbol: str, quantity: int, asset_class: AssetClass = "equity") -> Lot:
    return Lot(symbol, "broker", symbol, symbol, asset_class, D(quantity), D(50), date(2024, 1, 2), "USD")


def test_the_emergency_fund_is_liquid_money_over_median_essential_spending(
    household: Household, posting: Posting
) -> None:
    """9,000 on current and savings accounts over 2,000 a month of rent lasts 4.5 months; brokerage does not count."""
    accounts = [
        BankAccount("current", "Everyday", "current", "USD", D(4000), TODAY),
        BankAccount("savings", "Savings", "savings", "USD", D(5000), TODAY),
        BankAccount("broker", "Broker", "brokerage", "USD", D(99999), TODAY),
    ]
    question = "how big is my emergency fund"
    analysis = assess(household(accounts=accounts, transactions=rents(posting)), question, today=TODAY)
    facts = facts_of(analysis)
    assert facts["emergency_months"].value == D("4.5")
    assert facts["liquid"].value == 9000
    assert "4.5 months" in analysis.text
    assert [(finding.rule, finding.severity) for finding in analysis.findings] == [("emergency_fund", "notice")]
    assert analysis.gaps == ()
    assert analysis.confidence == 1.0
    assert_grounded(analysis, question)


@pytest.mark.parametrize(("held", "severity"), [(11999, "notice"), (5800, "warning"), (-50, "warning")])
def test_a_thin_cushion_is_a_finding(household: Household, posting: Posting, held: int, severity: str) -> None:
    """Below six months is a notice, below three a warning; an overdraft covers nothing."""
    accounts = [BankAccount("current", "Everyday", "current", "USD", D(held), TODAY)]
    analysis = assess(household(accounts=accounts, transactions=rents(posting)), "emergency fund", today=TODAY)
    if held == 11999:
        assert facts_of(analysis)["emergency_months"].value == D("6.0")
        assert analysis.findings == ()
    else:
        assert [finding.severity for finding in analysis.findings] == [severity]
    assert_grounded(analysis, "emergency fund")


def test_an_unknown_balance_is_named_and_not_guessed(household: Household, posting: Posting) -> None:
    """With no stated balance there is no figure, and the gap says what to import."""
    source = household(transactions=rents(posting))
    analysis = assess(source, "would my emergency fund last", today=TODAY)
    assert analysis.facts == ()
    assert "import" in analysis.gaps[0]
    assert analysis.confidence == 0.0
    assert analysis.text.startswith("I cannot assess this yet.")


def test_debt_to_income_is_payments_over_gross_monthly_income(household: Household) -> None:
    """2,250 of 5,000 a month is 45 %, above both limits; a debt in another currency is a gap."""
    debts = (
        Debt("Mortgage", D(200_000), D("0.05"), D(2000), "USD"),
        Debt("Car", D(9_000), D("0.07"), D(250), "USD"),
        Debt("Flat", D(1), D("0.01"), D(1), "EUR"),
    )
    question = "do I have too much debt"
    source = household(profile=Profile(gross_annual_income=D(60_000), debts=debts))
    analysis = assess(source, question, today=TODAY)
    assert facts_of(analysis)["debt_to_income"].value == D("45.0")
    assert facts_of(analysis)["debt_balance"].value == 209_000
    assert [finding.severity for finding in analysis.findings] == ["warning"]
    assert any("Flat" in gap for gap in analysis.gaps)
    assert_grounded(analysis, question)


def test_debt_without_income_or_without_debts_is_a_gap(household: Household) -> None:
    """Neither an unknown income nor an empty list of debts is taken as a number."""
    debts = (Debt("Car", D(9_000), D("0.07"), D(250), "USD"),)
    for profile, word in ((Profile(debts=debts), "income"), (Profile(gross_annual_income=D(1)), "debts")):
        analysis = assess(household(profile=profile), "debt to income ratio", today=TODAY)
        assert analysis.facts == ()
        assert word in " ".join(analysis.gaps)


def test_concentration_by_holding_and_by_class(household: Household) -> None:
    """Values of 500, 300 and 200: 0.38 by holding, 0.64 + 0.04 by class, the largest at half of the whole."""
    lots = [lot("A", 5), lot("B", 3), lot("C", 2, "bond")]
    prices = [ClosingPrice(symbol, TODAY, D(100), "USD") for symbol in "ABC"]
    question = "how concentrated is my wealth"
    analysis = assess(household(lots=lots, prices=prices), question, today=TODAY)
    facts = facts_of(analysis)
    assert (facts["hhi_holdings"].value, facts["hhi_classes"].value) == (D("0.38"), D("0.68"))
    assert facts["largest_share"].value == D("50.0")
    assert [finding.rule for finding in analysis.findings] == ["concentration"]
    assert analysis.tables is not None
    assert [row["share_percent"] for row in analysis.tables["holdings"]] == [D("50.0"), D("30.0"), D("20.0")]
    assert_grounded(analysis, question)


def test_market_risk_states_horizon_confidence_and_observations(household: Household) -> None:
    """Daily prices give one-day historical figures and month figures scaled from them."""
    source = household(lots=[lot("A", 5), lot("B", 3, "bond")], prices=daily_prices("AB", 300))
    question = "how risky is my portfolio"
    analysis = assess(source, question, today=TODAY)
    facts = facts_of(analysis)
    assert facts["observations"].value == 300
    assert facts["confidence"].value == D("95.0")
    assert facts["periods_per_year"].value == 252
    assert 0 < D(str(facts["historical_var"].value)) <= D(str(facts["historical_shortfall"].value))
    assert D(str(facts["historical_var"].value)) < D(str(facts["month_var"].value))
    assert "over a day" in analysis.text
    assert "Scaled to a month" in analysis.text
    assert analysis.gaps == ()
    assert_grounded(analysis, question)


def test_the_question_may_name_confidence_and_horizon(household: Household) -> None:
    """99 per cent and a week are taken over; a confidence that leaves too few returns in the tail is a gap."""
    source = household(lots=[lot("A", 5)], prices=daily_prices("A", 300))
    question = "VaR and expected shortfall at 99 percent for one week"
    analysis = assess(source, question, today=TODAY)
    assert facts_of(analysis)["confidence"].value == D("99.0")
    assert "week_var" in facts_of(analysis)
    assert analysis.text.startswith("At 99% confidence")
    assert_grounded(analysis, question)
    few = assess(source, "value at risk at 99.5 % confidence", today=TODAY)
    assert "historical_var" not in facts_of(few)
    assert any("too few returns for value at risk" in gap for gap in few.gaps)


def test_a_named_fall_is_applied_to_the_equities_alone(household: Household) -> None:
    """A fall of 30 % takes 150 off 500 of shares and nothing off the bonds."""
    prices = [ClosingPrice(symbol, TODAY, D(100), "USD") for symbol in "AB"]
    source = household(lots=[lot("A", 5), lot("B", 5, "bond")], prices=prices)
    question = "what would a 30 percent fall in shares do to me"
    analysis = assess(source, question, today=TODAY)
    assert facts_of(analysis)["shock_loss"].value == D("150.00")
    assert facts_of(analysis)["shock_share"].value == D("15.0")
    assert any("need a history" in gap for gap in analysis.gaps)
    assert_grounded(analysis, question)


def test_a_short_history_has_no_volatility(household: Household) -> None:
    """Fewer than twelve returns are a gap."""
    analysis = assess(household(lots=[lot("A", 5)], prices=daily_prices("A", 11)), "volatility", today=TODAY)
    assert "volatility" not in facts_of(analysis)
    assert any("too few returns for volatility" in gap for gap in analysis.gaps)


def test_a_question_without_a_topic_gets_all_four_parts(household: Household, posting: Posting) -> None:
    """Everything on record: four parts, no gaps, every number a fact."""
    source = household(
        accounts=[BankAccount("current", "Everyday", "current", "USD", D(20_000), TODAY)],
        transactions=rents(posting),
        lots=[lot("A", 5), lot("B", 3, "bond")],
        prices=daily_prices("AB", 100),
        profile=Profile(gross_annual_income=D(60_000), debts=(Debt("Car", D(9_000), D("0.07"), D(250), "USD"),)),
    )
    analysis = assess(source, "am I safe", today=TODAY)
    assert {"emergency_months", "debt_to_income", "hhi_holdings", "historical_var"} <= set(facts_of(analysis))
    assert analysis.confidence == 1.0
    assert analysis.gaps == ()
    assert_grounded(analysis, "am I safe")


def test_an_empty_household_gets_gaps_and_no_numbers(household: Household) -> None:
    """Nothing on record: no facts, and each part names what is missing once."""
    analysis = assess(household(), "how safe am I", today=TODAY)
    assert analysis.facts == ()
    assert len(analysis.gaps) == len(set(analysis.gaps)) >= 4
    assert numbers(analysis.text) == ()
