"""The investment specialist: no advice without suitability, weights within the band, trades that add up."""

from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal

import numpy as np
import pytest

from bursar.genie.agents.investment_recommendation.policy_portfolios import caps_of, load
from bursar.genie.agents.investment_recommendation.rebalancing import Costs, TradingTerms
from bursar.genie.agents.investment_recommendation.recommendation import recommend
from bursar.genie.household.records import AssetClass, ClosingPrice, Lot, Profile, RiskBand, Suitability
from bursar.genie.household.source import Source
from bursar.genie.wording.facts import Analysis, Fact
from bursar.genie.wording.grounding import numbers, ungrounded

D = Decimal
TODAY = date(2025, 6, 30)
Household = Callable[..., Source]


def facts_of(analysis: Analysis) -> dict[str, Fact]:
    return {fact.key: fact for fact in analysis.facts}


def assert_grounded(analysis: Analysis, question: str = "") -> None:
    every = [*analysis.facts, *(fact for finding in analysis.findings for fact in finding.facts)]
    for text in (analysis.text, *(finding.reason for finding in analysis.findings)):
        assert ungrounded(text, every, numbers(question)) == ()


def suited(band: RiskBand = "balanced", years: int = 10, *, until: date = date(2026, 1, 1)) -> Profile:
    return Profile(suitability=Suitability(band, years, date(2025, 1, 1), until))


def lot(symbol: str, asset_class: AssetClass, quantity: int) -> Lot:
    return Lot(symbol, "broker", symbol, symbol, asset_class, D(quantity), D(50), date(2024, 1, 2), "USD")


def daily_prices(symbols: dict[str, float], days: int) -> list[ClosingPrice]:
    rng = np.random.default_rng(11)
    found: list[ClosingPrice] = []
    for symbol, deviation in symbols.items():
        level = 100.0
        for back in range(days, -1, -1):
            found.append(ClosingPrice(symbol, TODAY - timedelta(days=back), D(f"{level:.2f}"), "USD"))
            level *= 1 + rng.normal(0.0003, deviation)
    return found


LOTS = [
    lot("WORLD", "equity", 300),
    lot("HOME", "equity", 200),
    lot("BONDS", "bond", 60),
    lot("LAND", "real_estate", 20),
]
PRICES = daily_prices({"WORLD": 0.01, "HOME": 0.014, "BONDS": 0.003, "LAND": 0.009}, 250)


@pytest.mark.parametrize(
    ("profile", "word"),
    [
        (Profile(), "no suitability record"),
        (suited(until=TODAY - timedelta(days=1)), "has expired"),
        (Profile(suitability=Suitability("growth", 10, TODAY + timedelta(days=1), date(2026, 1, 1))), "not valid"),
        (suited(years=-1), "not valid"),
    ],
)
def test_without_a_valid_suitability_record_there_is_no_advice(
    household: Household, profile: Profile, word: str
) -> None:
    """No weights, no trades, no numbers: one gap that says what to do."""
    analysis = recommend(household(lots=LOTS, prices=PRICES, profile=profile), "what should I buy", today=TODAY)
    assert (analysis.facts, analysis.findings, analysis.tables) == ((), (), None)
    (gap,) = analysis.gaps
    assert word in gap
    assert "import a profile (TOML) with your risk band and horizon" in gap
    assert numbers(analysis.text) == ()


def test_a_record_counts_on_its_last_day(household: Household) -> None:
    """Valid until today is valid today."""
    source = household(lots=LOTS, prices=PRICES, profile=suited(until=TODAY))
    assert recommend(source, "should I rebalance", today=TODAY).facts != ()


@pytest.mark.parametrize("band", ["cautious", "balanced", "growth"])
def test_the_weights_lie_within_the_band_and_swing_no_more_than_needed(household: Household, band: RiskBand) -> None:
    """Target weights sum to 100 exactly and obey the caps; where today's weights obey them too, variance falls."""
    analysis = recommend(household(lots=LOTS, prices=PRICES, profile=suited(band)), "rebalance", today=TODAY)
    assert analysis.tables is not None
    rows = analysis.tables["weights"]
    caps = caps_of(load(), band)
    sums: dict[str, Decimal] = {}
    for row in rows:
        weight = D(str(row["target_percent"])) / 100
        assert 0 <= weight <= caps.holding
        sums[str(row["asset_class"])] = sums.get(str(row["asset_class"]), D(0)) + weight
    assert sum(sums.values(), D(0)) == 1
    for name, (low, high) in caps.classes.items():
        assert low <= sums.get(name, D(0)) <= high
    assert analysis.confidence == 1.0
    assert "least variance" in analysis.text
    assert_grounded(analysis)


def test_trades_lead_to_the_target_and_state_their_cost(household: Household) -> None:
    """Sells come first; costs follow the stated model; what is bought is paid by what is sold."""
    terms = TradingTerms(costs=Costs(bps=D(25), fixed=D(1)))
    source = household(lots=LOTS, prices=PRICES, profile=suited())
    analysis = recommend(source, "which trades", today=TODAY, terms=terms)
    assert analysis.tables is not None
    rows = analysis.tables["trades"]
    sides = [str(row["side"]) for row in rows]
    assert sides == sorted(sides, reverse=True)
    assert set(sides) == {"sell", "buy"}
    for row in rows:
        assert terms.costs.of(D(str(row["amount"]))) == row["cost"]
    sold = sum((D(str(row["amount"])) - D(str(row["cost"])) for row in rows if row["side"] == "sell"), D(0))
    bought = sum((D(str(row["amount"])) + D(str(row["cost"])) for row in rows if row["side"] == "buy"), D(0))
    assert bought <= sold
    assert facts_of(analysis)["trade_costs"].value == sum((D(str(row["cost"])) for row in rows), D(0))
    assert "tax_on_sales" in {finding.rule for finding in analysis.findings}
    assert_grounded(analysis)


def test_a_long_list_of_trades_is_cut_and_counted(household: Household) -> None:
    """The text names six trades and says how many more the table has."""
    symbols = [f"E{n}" for n in range(7)]
    lots = [*(lot(symbol, "equity", 100) for symbol in symbols), lot("BONDS", "bond", 10), lot("BILLS", "cash", 10)]
    prices = [ClosingPrice(each.symbol, TODAY, D(100), "USD") for each in lots]
    analysis = recommend(household(lots=lots, prices=prices, profile=suited("cautious")), "rebalance", today=TODAY)
    assert analysis.tables is not None
    assert len(analysis.tables["trades"]) == 9
    assert "and 3 more" in analysis.text
    assert_grounded(analysis)


def test_a_missing_asset_class_gives_the_bands_own_targets_with_the_reason(household: Household) -> None:
    """Shares alone cannot meet a balanced range: shares go to their target, the rest is said to be open."""
    source = household(lots=LOTS[:2], prices=PRICES, profile=suited())
    analysis = recommend(source, "rebalance", today=TODAY)
    facts = facts_of(analysis)
    assert (facts["target_equity"].value, facts["target_bond"].value) == (D("55.0"), D("35.0"))
    assert "cannot meet every range" in analysis.text
    assert "choose diversified funds" in analysis.text
    assert facts["open_bond"].unit == "money"
    assert analysis.confidence < 1.0
    assert_grounded(analysis)


def test_too_little_history_gives_the_bands_own_targets_with_the_reason(household: Household) -> None:
    """Sixty returns are needed; with 59 the policy stands."""
    short = [price for price in PRICES if price.day >= TODAY - timedelta(days=59)]
    analysis = recommend(household(lots=LOTS, prices=short, profile=suited()), "rebalance", today=TODAY)
    assert "too little price history" in analysis.text
    assert "deviation_target" not in facts_of(analysis)
    enough = [price for price in PRICES if price.day >= TODAY - timedelta(days=60)]
    assert "least variance" in recommend(household(lots=LOTS, prices=enough, profile=suited()), "", today=TODAY).text
    assert_grounded(analysis)


def test_a_short_horizon_uses_a_calmer_band_and_says_so(household: Household) -> None:
    """Growth on record with four years to go becomes balanced."""
    analysis = recommend(household(lots=LOTS, prices=PRICES, profile=suited("growth", 4)), "", today=TODAY)
    assert analysis.text.startswith("For a balanced risk band and a horizon of 4 years")
    assert "horizon" in {finding.rule for finding in analysis.findings}
    assert_grounded(analysis)


def test_new_money_is_placed_by_class_where_nothing_is_held(household: Household) -> None:
    """$5,000 for a balanced band: 2,750 in equity, 1,750 in bonds; no security is named."""
    question = "how should I invest $5,000"
    analysis = recommend(household(profile=suited()), question, today=TODAY)
    facts = facts_of(analysis)
    assert (facts["open_equity"].value, facts["open_bond"].value) == (D("2750.00"), D("1750.00"))
    assert analysis.tables is not None
    assert analysis.tables["trades"] == ()
    assert any("no trades" in gap for gap in analysis.gaps)
    assert_grounded(analysis, question)


@pytest.mark.parametrize(
    ("question", "bought"),
    [("invest 5000 dollars", True), ("what if I put another $5,000 in", True), ("rebalance", False)],
)
def test_new_money_needs_fewer_sales(household: Household, question: str, bought: bool) -> None:
    """Buys may exceed sells by the new money, and only by it."""
    analysis = recommend(household(lots=LOTS, prices=PRICES, profile=suited()), question, today=TODAY)
    assert analysis.tables is not None
    rows = analysis.tables["trades"]
    sold = sum((D(str(row["amount"])) for row in rows if row["side"] == "sell"), D(0))
    spent = sum((D(str(row["amount"])) + D(str(row["cost"])) for row in rows if row["side"] == "buy"), D(0))
    assert (spent > sold) == bought
    assert spent <= sold + 5000


def test_only_what_is_held_is_named(household: Household) -> None:
    """No security that the household does not hold is recommended."""
    analysis = recommend(household(lots=LOTS, prices=PRICES, profile=suited()), "which ETFs", today=TODAY)
    assert analysis.tables is not None
    held = {lot.symbol for lot in LOTS}
    assert {str(row["symbol"]) for row in analysis.tables["trades"]} <= held
    named = {fact.value for fact in analysis.facts if fact.unit == "text"}
    assert named <= held
