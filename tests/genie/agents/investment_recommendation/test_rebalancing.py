"""Trades: sells before buys, whole cents, never more than is held or than the cash at hand."""

from datetime import date
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from bursar.genie.agents.investment_recommendation.rebalancing import Costs, TradingTerms, rebalance
from bursar.genie.household.holdings import Holding

D = Decimal


def holding(symbol: str, quantity: str, close: str) -> Holding:
    return Holding(symbol, symbol, "equity", D(quantity), D(close), date(2025, 6, 30))


HELD = (holding("A", "100", "100"), holding("B", "100", "50"))


def test_two_holdings_reach_equal_weights_in_whole_units() -> None:
    """15,000 in all: 2,500 of A is sold; after its cost of 2.50, 49 units of B are bought at 50."""
    plan = rebalance(HELD, (D("0.5"), D("0.5")), terms=TradingTerms(), cash=D(0))
    sell, buy = plan.trades
    assert (sell.side, sell.symbol, sell.units, sell.amount, sell.cost) == ("sell", "A", 25, D("2500.00"), D("2.50"))
    assert (buy.side, buy.symbol, buy.units, buy.amount, buy.cost) == ("buy", "B", 49, D("2450.00"), D("2.45"))
    assert plan.cash_left == D("45.05")
    assert plan.cost == D("4.95")
    assert plan.turnover == D("2500.00")


def test_fractional_units_follow_the_step() -> None:
    """With a step of 0.001 the buy spends all but the last fraction of a unit."""
    plan = rebalance(HELD, (D("0.5"), D("0.5")), terms=TradingTerms(step=D("0.001")))
    assert plan.trades[1].units == D("49.899")
    assert plan.cash_left < 1


def test_small_trades_are_left_out() -> None:
    """A gap below the least amount is not traded."""
    assert rebalance(HELD, (D("0.66"), D("0.34")), terms=TradingTerms(least=D(101))).trades == ()


def test_new_cash_is_placed_without_any_sale() -> None:
    """Cash from outside pays for buys, its costs included."""
    plan = rebalance(HELD, (D("0.5"), D("0.5")), terms=TradingTerms(), cash=D(5000))
    assert [(trade.side, trade.symbol, trade.units) for trade in plan.trades] == [("buy", "B", 99)]
    assert plan.cash_left == D(5000) - 4950 - D("4.95")


def test_a_trade_that_costs_more_than_it_brings_is_not_made() -> None:
    """A fixed fee above the amount stops the sale."""
    terms = TradingTerms(costs=Costs(fixed=D(3000)))
    assert rebalance(HELD, (D("0.5"), D("0.5")), terms=terms).trades == ()


numbers = st.decimals("0.01", 5_000, places=2)


@settings(deadline=None)
@given(
    st.lists(st.tuples(numbers, numbers, st.integers(0, 100)), min_size=1, max_size=6),
    st.decimals(0, 10_000, places=2),
    st.sampled_from((D(1), D("0.001"))),
    st.tuples(st.integers(0, 200), st.decimals(0, 20, places=2)),
)
def test_trades_never_overspend_oversell_or_pass_their_target(
    drawn: list[tuple[Decimal, Decimal, int]], cash: Decimal, step: Decimal, cost: tuple[int, Decimal]
) -> None:
    """For any holdings, targets and costs: sells come first, cash stays at or above nought, value is conserved."""
    held = [Holding(str(n), str(n), "equity", q, c, date(2025, 6, 30)) for n, (q, c, _) in enumerate(drawn)]
    parts = sum(share for _, _, share in drawn) or 1
    weights = [(D(share) / parts).quantize(D("0.0001"), rounding="ROUND_DOWN") for _, _, share in drawn]
    total = sum((h.value for h in held), cash)
    plan = rebalance(held, weights, terms=TradingTerms(Costs(D(cost[0]), cost[1]), D(50), step), cash=cash)
    sides = [trade.side for trade in plan.trades]
    assert sides == sorted(sides, reverse=True)
    assert plan.cash_left >= 0
    moved = cash
    for trade in plan.trades:
        own, weight = next((h, w) for h, w in zip(held, weights, strict=True) if h.symbol == trade.symbol)
        assert trade.amount >= 50
        assert trade.units % step == 0
        assert trade.amount == trade.amount.quantize(D("0.01"))
        if trade.side == "sell":
            assert trade.units <= own.quantity
            assert own.value - trade.units * own.close >= weight * total
            moved += trade.amount - trade.cost
        else:
            assert own.value + trade.units * own.close <= weight * total
            moved -= trade.amount + trade.cost
    assert moved == plan.cash_left
