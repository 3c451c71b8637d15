"""Computes the trades from the holdings to target weights: sells before buys, and no buy above the cash at hand."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_DOWN, ROUND_UP, Decimal
from typing import Literal

from bursar.genie.household.holdings import Holding

_ZERO = Decimal(0)
_ONE = Decimal(1)
_CENT = Decimal("0.01")
_BPS = Decimal(10_000)


@dataclass(frozen=True, slots=True)
class Costs:
    """The cost of a trade: `bps` basis points of its amount plus `fixed`, rounded up to the cent."""

    bps: Decimal = Decimal(10)
    fixed: Decimal = Decimal(0)

    def of(self, amount: Decimal) -> Decimal:
        """Return the cost of trading `amount`."""
        return (amount * self.bps / _BPS + self.fixed).quantize(_CENT, rounding=ROUND_UP)


@dataclass(frozen=True, slots=True)
class TradingTerms:
    """The terms of trades: their costs, the least amount of a trade, and the step of its units (1: whole units)."""

    costs: Costs = Costs()
    least: Decimal = Decimal(100)
    step: Decimal = _ONE


@dataclass(frozen=True, slots=True)
class Trade:
    """A sale or purchase of `units` of a symbol for `amount`, in whole cents; `cost` is the cost of the trade."""

    side: Literal["sell", "buy"]
    symbol: str
    units: Decimal
    amount: Decimal
    cost: Decimal


@dataclass(frozen=True, slots=True)
class RebalancingPlan:
    """The trades of a rebalancing, sells first. `cash_left` is the cash after all trades and costs, never negative."""

    trades: tuple[Trade, ...]
    cash_left: Decimal

    @property
    def cost(self) -> Decimal:
        """The sum of the costs of all trades."""
        return sum((trade.cost for trade in self.trades), _ZERO)

    @property
    def turnover(self) -> Decimal:
        """The total amount of the sells or of the buys, whichever is larger."""
        sold, bought = (sum((t.amount for t in self.trades if t.side == side), _ZERO) for side in ("sell", "buy"))
        return max(sold, bought)


def rebalance(
    holdings: Sequence[Holding], weights: Sequence[Decimal], *, terms: TradingTerms, cash: Decimal = _ZERO
) -> RebalancingPlan:
    """Return the trades that bring `holdings` plus `cash` to `weights`: the sells, then the buys, each largest first.

    Units are rounded down to `terms.step`: no sale exceeds its holding, and no buy passes its target. Amounts of sells
    are rounded down to the cent, amounts of buys up. A buy is made smaller if the cash does not suffice. A trade below
    `terms.least` is left out, and so is a sale that does not bring more than it costs.
    """
    total = sum((holding.value for holding in holdings), cash)
    gaps = [(weight * total - holding.value, holding) for holding, weight in zip(holdings, weights, strict=True)]
    gaps.sort(key=lambda pair: (-abs(pair[0]), pair[1].symbol))
    made: list[Trade] = []
    for gap, holding in gaps:
        units = _stepped(-gap / holding.close, terms.step)
        amount = (units * holding.close).quantize(_CENT, rounding=ROUND_DOWN)
        cost = terms.costs.of(amount)
        if units > 0 and amount >= terms.least and amount > cost:
            made.append(Trade("sell", holding.symbol, units, amount, cost))
            cash += amount - cost
    for gap, holding in gaps:
        # The amount and its cost are each rounded up by less than a cent, so two cents of the cash are not spent.
        affordable = (cash - terms.costs.fixed - 2 * _CENT) / (_ONE + terms.costs.bps / _BPS)
        units = _stepped(min(gap, affordable) / holding.close, terms.step)
        amount = (units * holding.close).quantize(_CENT, rounding=ROUND_UP)
        if units > 0 and amount >= terms.least:
            made.append(Trade("buy", holding.symbol, units, amount, terms.costs.of(amount)))
            cash -= amount + terms.costs.of(amount)
    return RebalancingPlan(tuple(made), cash)


def _stepped(units: Decimal, step: Decimal) -> Decimal:
    return (max(_ZERO, units) / step).quantize(_ONE, rounding=ROUND_DOWN) * step
