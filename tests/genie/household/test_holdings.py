"""Valuing lots at their latest close, and the common history of returns."""

from datetime import date, timedelta
from decimal import Decimal

import numpy as np
import pytest

from bursar.genie.household.holdings import MAX_PRICE_AGE_DAYS, History, cut_gaps, history, value
from bursar.genie.household.records import ClosingPrice, Lot
from bursar.genie.household.source import QueryRows

D = Decimal
TODAY = date(2025, 6, 30)


def lot(
    name: str, symbol: str = "VTI", *, quantity: int = 10, bought: date = date(2024, 1, 2), currency: str = "USD"
) -> Lot:
    return Lot(name, "broker", symbol, symbol, "equity", D(quantity), D(50), bought, currency)


def price(symbol: str, day: date, close: str, currency: str = "USD") -> ClosingPrice:
    return ClosingPrice(symbol, day, D(close), currency)


def series(symbol: str, days: list[date], *closes: int) -> list[ClosingPrice]:
    return [price(symbol, day, str(close)) for day, close in zip(days, closes, strict=True)]


def test_lots_of_one_symbol_are_added_up_at_the_newest_close_that_is_not_in_the_future() -> None:
    """Two lots make one holding; tomorrow's price and tomorrow's purchase do not count."""
    lots = [lot("a"), lot("b", quantity=5), lot("c", bought=TODAY + timedelta(days=1))]
    prices = [
        price("VTI", TODAY - timedelta(days=1), "100.25"),
        price("VTI", TODAY - timedelta(days=9), "90"),
        price("VTI", TODAY + timedelta(days=1), "500"),
    ]
    valuation = value(lots, prices, currency="USD", today=TODAY)
    (held,) = valuation.holdings
    assert (held.quantity, held.value) == (15, D("1503.75"))
    assert valuation.total == D("1503.75")
    assert valuation.as_of == TODAY - timedelta(days=1)
    assert valuation.gaps == ()


def test_what_cannot_be_valued_is_a_gap_and_never_a_guess() -> None:
    """Another currency, no price at all, and a price that is too old are each named and left out."""
    lots = [lot("a", "EUR1", currency="EUR"), lot("b", "NONE"), lot("c", "OLD"), lot("d", "EDGE")]
    prices = [
        price("NONE", TODAY, "9", currency="EUR"),
        price("OLD", TODAY - timedelta(days=MAX_PRICE_AGE_DAYS + 1), "9"),
        price("EDGE", TODAY - timedelta(days=MAX_PRICE_AGE_DAYS), "9"),
    ]
    valuation = value(lots, prices, currency="USD", today=TODAY)
    assert [held.symbol for held in valuation.holdings] == ["EDGE"]
    assert [gap.split()[0] for gap in valuation.gaps if not gap.startswith("The")] == ["EUR1", "NONE"]
    assert any("OLD is too old" in gap for gap in valuation.gaps)


def test_returns_are_simple_and_over_days_on_which_all_have_prices() -> None:
    """A day that one symbol misses is left out for all."""
    days = [date(2025, 6, 23) + timedelta(days=n) for n in range(5)]
    prices = series("A", days, 100, 110, 121, 121, 121) + series("B", [*days[:2], *days[3:]], 10, 10, 20, 20)
    past = history(prices, ["A", "B"], currency="USD", today=TODAY)
    assert isinstance(past, History)
    assert past.days == (days[0], days[1], days[3], days[4])
    assert past.returns == pytest.approx(np.array([[0.1, 0.0], [0.1, 1.0], [0.0, 0.0]]))


@pytest.mark.parametrize(("step", "period", "periods"), [(1, "day", 252), (7, "week", 52), (30, "month", 12)])
def test_the_period_is_read_from_the_steps_between_prices(step: int, period: str, periods: int) -> None:
    """Daily, weekly and monthly prices are told apart by their usual step."""
    days = [date(2024, 1, 1) + timedelta(days=step * n) for n in range(6)]
    past = history(series("A", days, 1, 2, 3, 4, 5, 6), ["A"], currency="USD", today=TODAY)
    assert isinstance(past, History)
    assert (past.period, past.periods_per_year) == (period, periods)


def test_only_the_days_after_a_break_count() -> None:
    """A hole of a month in daily prices is no daily return."""
    days = [date(2025, 1, n) for n in (2, 3, 6)] + [date(2025, 3, n) for n in (3, 4, 5, 6)]
    past = history(series("A", days, 1, 2, 3, 4, 5, 6, 7), ["A"], currency="USD", today=TODAY)
    assert isinstance(past, History)
    assert past.days[0] == date(2025, 3, 3)
    assert len(past.returns) == 3


@pytest.mark.parametrize(
    ("days", "reason"),
    [
        ([date(2025, 1, 1), date(2025, 1, 2)], "too few days"),
        ([date(2025, 1, 1), date(2025, 1, 15), date(2025, 1, 29)], "neither daily"),
        ([date(2025, 1, n) for n in (1, 2, 3)] + [date(2025, 3, 1)], "break"),
    ],
)
def test_a_history_that_cannot_be_used_says_why(days: list[date], reason: str) -> None:
    """Too few days, an odd step, or a break just now: a sentence and no numbers."""
    past = history([price("A", day, "5") for day in days], ["A"], currency="USD", today=TODAY)
    assert isinstance(past, str)
    assert reason in past


def test_no_symbols_have_no_history() -> None:
    """Nothing held is said as such, not raised."""
    assert isinstance(history([], [], currency="USD", today=TODAY), str)


def test_rows_that_were_cut_are_said_to_be_incomplete() -> None:
    """One sentence for each query that met the row limit, none for a whole one."""
    lots = QueryRows((lot("a"),), TODAY, truncated=True, query="lots")
    prices = QueryRows((price("VTI", TODAY, "1"),), TODAY, truncated=False, query="prices")
    (gap,) = cut_gaps(lots, prices)
    assert "lots were cut" in gap
