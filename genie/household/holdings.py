"""Values the household's lots at their latest close, and computes their common history of returns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Literal, NamedTuple

from bursar.genie.household.records import AssetClass, ClosingPrice, Lot
from bursar.genie.household.source import QueryRows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Period = Literal["day", "week", "month"]

MAX_PRICE_AGE_DAYS = 35
"""A close older than this many days values no holding. Month-end prices are up to a month old, and some days more."""
PERIODS_PER_YEAR: dict[Period, int] = {"day": 252, "week": 52, "month": 12}


class _Step(NamedTuple):
    """The gap between two successive prices of a daily, weekly or monthly series, in days.

    A series of this `period` usually has gaps of `least` to `most` days. A gap of more than `longest` days is a break.
    """

    period: Period
    least: int
    most: int
    longest: int


_STEPS = (_Step("day", 1, 1, 7), _Step("week", 6, 8, 14), _Step("month", 28, 31, 40))


@dataclass(frozen=True, slots=True)
class Holding:
    """All units of one symbol that the household owns, priced at the close of the day `priced_on`."""

    symbol: str
    name: str
    asset_class: AssetClass
    quantity: Decimal
    close: Decimal
    priced_on: date

    @property
    def value(self) -> Decimal:
        """The market value: quantity times close, exact."""
        return self.quantity * self.close


@dataclass(frozen=True, slots=True)
class Valuation:
    """The holdings in order of symbol; `gaps` has a sentence for each lot or symbol that could not be valued."""

    holdings: tuple[Holding, ...]
    gaps: tuple[str, ...]

    @property
    def total(self) -> Decimal:
        """The market value of all holdings, exact."""
        return sum((holding.value for holding in self.holdings), Decimal(0))

    @property
    def as_of(self) -> date | None:
        """The day of the holdings' oldest close: the total is no newer than this day. None if there is no holding."""
        return min((holding.priced_on for holding in self.holdings), default=None)


@dataclass(frozen=True, slots=True)
class History:
    """The simple returns of `symbols` between successive `days`, on each of which every symbol has a price.

    `returns[t, i]` is the return of symbol `i` from `days[t]` to `days[t + 1]`, so there is one row less than `days`.
    """

    symbols: tuple[str, ...]
    days: tuple[date, ...]
    period: Period
    returns: NDArray[np.float64]

    @property
    def periods_per_year(self) -> int:
        """How many of the history's periods a year has: 252 trading days, 52 weeks or 12 months."""
        return PERIODS_PER_YEAR[self.period]


def cut_gaps(*rows: QueryRows[Lot] | QueryRows[ClosingPrice]) -> tuple[str, ...]:
    """Return a sentence for each result in `rows` that was cut at the row limit.

    The sentence warns that figures over these rows may be incomplete.
    """
    return tuple(
        f"The {each.query} were cut at the row limit: figures over them may be incomplete."
        for each in rows
        if each.truncated
    )


def latest_closes(prices: Iterable[ClosingPrice], *, currency: str, today: date) -> dict[str, ClosingPrice]:
    """Return each symbol's newest price among the prices in `currency` that are no newer than `today`."""
    newest: dict[str, ClosingPrice] = {}
    for price in prices:
        if price.currency == currency and price.day <= today:
            held = newest.get(price.symbol)
            if held is None or price.day >= held.day:
                newest[price.symbol] = price
    return newest


def value(lots: Iterable[Lot], prices: Iterable[ClosingPrice], *, currency: str, today: date) -> Valuation:
    """Return the value in `currency` of the lots that were bought by `today`, one holding for each symbol.

    Nothing is converted or guessed. A lot in another currency, or without a price of the last `MAX_PRICE_AGE_DAYS`, is
    left out, and the valuation's `gaps` say so.
    """
    closes = latest_closes(prices, currency=currency, today=today)
    by_symbol: dict[str, list[Lot]] = {}
    gaps: dict[str, None] = {}
    for lot in sorted(lots, key=lambda lot: (lot.symbol, lot.acquired_on, lot.id)):
        if lot.currency != currency:
            gaps[f"{lot.symbol} is held in {lot.currency}: no exchange rate to {currency}, left out."] = None
        elif lot.acquired_on <= today and lot.quantity > 0:
            by_symbol.setdefault(lot.symbol, []).append(lot)
    holdings: list[Holding] = []
    for symbol, held in by_symbol.items():
        close = closes.get(symbol)
        if close is None or close.close <= 0:
            gaps[f"{symbol} has no price in {currency}: left out; import its prices."] = None
        elif (today - close.day).days > MAX_PRICE_AGE_DAYS:
            gaps[f"The newest price of {symbol} is too old: left out; import newer prices."] = None
        else:
            newest = held[-1]
            quantity = sum((lot.quantity for lot in held), Decimal(0))
            holdings.append(Holding(symbol, newest.name, newest.asset_class, quantity, close.close, close.day))
    return Valuation(tuple(holdings), tuple(gaps))


def history(prices: Iterable[ClosingPrice], symbols: Sequence[str], *, currency: str, today: date) -> History | str:
    """Return the returns over the days on which every symbol has a price, or a sentence that says why there are none.

    Only the days after the last break are used. A break is a step of more than 7 days in daily prices, 14 days in
    weekly and 40 days in monthly prices.
    """
    import numpy as np

    closes: dict[str, dict[date, Decimal]] = {symbol: {} for symbol in symbols}
    for price in prices:
        if price.symbol in closes and price.currency == currency and price.day <= today and price.close > 0:
            closes[price.symbol][price.day] = price.close
    common = sorted(set[date].intersection(*(set(days) for days in closes.values()))) if symbols else []
    if len(common) < 3:
        return "The holdings have too few days with prices in common."
    steps = [(later - earlier).days for earlier, later in pairwise(common)]
    usual = median(steps)
    kind = next((step for step in _STEPS if step.least <= usual <= step.most), None)
    if kind is None:
        return "The prices are neither daily, weekly nor monthly."
    start = max((index + 1 for index, step in enumerate(steps) if step > kind.longest), default=0)
    days = tuple(common[start:])
    if len(days) < 3:
        return "The price history has a break and too few days since."
    levels = np.array([[float(closes[symbol][day]) for symbol in symbols] for day in days], dtype=np.float64)
    return History(tuple(symbols), days, kind.period, levels[1:] / levels[:-1] - 1.0)
