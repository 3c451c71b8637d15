"""Generates the market of the sample household: six invented funds, their daily closes, and the household's lots."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from random import Random
from typing import Final

from bursar.genie.household.records import AssetClass

_HOLIDAYS: Final = frozenset({(1, 1), (6, 19), (7, 4), (12, 25)})
_CENT: Final = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class Fund:
    """An invented fund. `drift` and `volatility` are yearly fractions.

    `beta` is the weight of the market's common factor in the fund's returns.
    """

    symbol: str
    name: str
    asset_class: AssetClass
    start: Decimal
    drift: float
    volatility: float
    beta: float


FUNDS: Final = (
    Fund("USEQ", "Total US Stock Fund", "equity", Decimal("212.40"), 0.11, 0.16, 0.95),
    Fund("INEQ", "International Stock Fund", "equity", Decimal("58.10"), 0.02, 0.17, 0.80),
    Fund("USBD", "US Aggregate Bond Fund", "bond", Decimal("74.25"), 0.035, 0.055, 0.10),
    Fund("REIX", "Real Estate Index Fund", "real_estate", Decimal("88.60"), -0.04, 0.19, 0.65),
    Fund("AUGX", "Physical Gold Fund", "commodity", Decimal("190.75"), 0.13, 0.15, 0.05),
    Fund("TBLX", "Treasury Bill Fund", "cash", Decimal("100.20"), 0.045, 0.004, 0.0),
)
# Symbol, quantity, and when it was bought: years before the window with the cost as a fraction of the first close,
# or "peak" for the window's dearest day, or days before the end.
_LOTS: Final = (
    ("USEQ", "120", 3, "0.71"),
    ("USEQ", "45.5", 2, "0.83"),
    ("USEQ", "18.25", "days", "140"),
    ("INEQ", "210", 2, "0.94"),
    ("INEQ", "60", "peak", ""),
    ("USBD", "155", 3, "1.09"),
    ("USBD", "80", "days", "400"),
    ("REIX", "64", "peak", ""),
    ("REIX", "10", "days", "13"),
    ("AUGX", "22", 2, "0.88"),
    ("TBLX", "75", "days", "250"),
)


@dataclass(frozen=True, slots=True)
class Close:
    """The price of one unit of a fund at the end of a day."""

    symbol: str
    day: date
    close: Decimal


@dataclass(frozen=True, slots=True)
class SamplePurchase:
    """A purchase of a fund, which the sample's holdings file lists as one lot."""

    fund: Fund
    quantity: Decimal
    unit_cost: Decimal
    day: date


def closes(rng: Random, start: date, end: date) -> tuple[Close, ...]:
    """Return a close for each fund and each trading day from `start` to `end`.

    A day's return mixes a factor that all funds share and a factor of the fund; both are nearly normal.
    """
    levels = {fund.symbol: float(fund.start) for fund in FUNDS}
    found: list[Close] = []
    day = start
    while day <= end:
        if day.weekday() < 5 and (day.month, day.day) not in _HOLIDAYS:
            common = _normal(rng)
            for fund in FUNDS:
                own = _normal(rng)
                shock = fund.beta * common + (1 - fund.beta * fund.beta) ** 0.5 * own
                levels[fund.symbol] *= 1 + fund.drift / 260 + fund.volatility / 260**0.5 * shock
                found.append(Close(fund.symbol, day, Decimal(levels[fund.symbol]).quantize(_CENT)))
        day += timedelta(days=1)
    return tuple(found)


def purchases(prices: tuple[Close, ...], start: date, end: date) -> tuple[SamplePurchase, ...]:
    """Return the lots that the household owns: old lots with gains, lots bought at the peak, recent lots."""
    funds = {fund.symbol: fund for fund in FUNDS}
    history: Mapping[str, list[Close]] = {
        symbol: [price for price in prices if price.symbol == symbol] for symbol in funds
    }
    lots: list[SamplePurchase] = []
    for symbol, quantity, when, detail in _LOTS:
        days = history[symbol]
        if when == "peak":
            bought = max(days, key=lambda price: (price.close, price.day))
        elif when == "days":
            bought = max((price for price in days if price.day <= end - timedelta(days=int(detail))), key=_day)
        else:
            cost = (days[0].close * Decimal(detail)).quantize(_CENT)
            bought = Close(symbol, start.replace(year=start.year - int(when), month=5, day=17), cost)
        lots.append(SamplePurchase(funds[symbol], Decimal(quantity), bought.close, bought.day))
    return tuple(lots)


def _normal(rng: Random) -> float:
    """Return a nearly normal number with variance 1.

    Only sums are used, because sums are the same on every platform, unlike logarithms and cosines.
    """
    return sum(rng.random() for _ in range(12)) - 6


def _day(price: Close) -> date:
    return price.day
