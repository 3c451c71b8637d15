"""Recurring payments: found by their cadence, month ends included; habits and coincidences are not."""

import random
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar.genie.household.records import BankTransaction
from bursar.genie.transactions.recurring import add_months, find_recurring

Post = Callable[..., BankTransaction]

START = date(2024, 1, 31)


@pytest.mark.parametrize(
    ("days", "cadence", "due"),
    [
        (["2025-01-06", "2025-01-13", "2025-01-20", "2025-01-27"], "weekly", date(2025, 2, 3)),
        (["2025-01-03", "2025-01-17", "2025-01-31"], "bi-weekly", date(2025, 2, 14)),
        (["2025-01-31", "2025-02-28", "2025-03-31"], "monthly", date(2025, 4, 30)),
        (["2025-01-01", "2025-01-31", "2025-03-02"], "monthly", date(2025, 4, 1)),
        (["2024-03-15", "2024-06-15", "2024-09-15", "2024-12-15"], "quarterly", date(2025, 3, 15)),
        (["2022-02-28", "2023-02-28", "2024-02-29"], "annual", date(2025, 2, 28)),
    ],
)
def test_every_cadence_is_found_with_its_next_day(posting: Post, days: list[str], cadence: str, due: date) -> None:
    """Weekly to annual streams are told by their gaps; a 30-day one that skips February by name is monthly."""
    (stream,) = find_recurring(posting(day, "-10.00", "Gym") for day in days)

    assert (stream.cadence, stream.next_due) == (cadence, due)


@pytest.mark.parametrize(
    "days",
    [
        ["2025-01-06", "2025-01-08", "2025-01-10"],
        ["2025-01-06", "2025-02-06"],
        ["2025-01-06", "2025-01-06", "2025-02-06"],
        ["2025-01-06", "2025-01-20", "2025-03-27", "2025-04-02"],
    ],
)
def test_coincidences_are_no_stream(posting: Post, days: list[str]) -> None:
    """Three coffees in a week, two payments, two periods, or no rhythm make no subscription."""
    assert find_recurring(posting(day, "-4.50", "Coffee Bar") for day in days) == ()


def test_a_weekly_shop_of_changing_size_is_a_habit(posting: Post) -> None:
    """A weekly rhythm with ever other amounts is no payment that comes due."""
    rng = random.Random(1)
    rows = [
        posting(START + timedelta(days=7 * n), Decimal(-rng.randrange(2000, 9000)) / 100, "Aldi") for n in range(12)
    ]

    assert find_recurring(rows) == ()


def test_one_missed_month_does_not_hide_a_stream(posting: Post) -> None:
    """The median and the MAD bear one gap of two months."""
    rows = [posting(add_months(date(2024, 1, 5), n, 5), "-30.00", "Gym") for n in range(10) if n != 4]

    assert [stream.cadence for stream in find_recurring(rows)] == ["monthly"]


def test_two_subscriptions_at_one_merchant_are_two_streams(posting: Post) -> None:
    """Streams of different amounts at one merchant are told apart."""
    rows = [
        posting(add_months(date(2024, 1, day), n, day), amount, "APPLE.COM/BILL")
        for n in range(6)
        for day, amount in ((3, "-2.99"), (12, "-16.99"))
    ]

    assert [stream.amount for stream in find_recurring(rows)] == [Decimal("-2.99"), Decimal("-16.99")]


def test_only_a_running_rise_is_a_rise(posting: Post) -> None:
    """A price that went up keeps its stream and says from what to what, and since when; one that fell does not."""
    up = [posting(add_months(date(2024, 1, 9), n, 9), "-9.99" if n < 4 else "-12.49", "Up") for n in range(6)]
    down = [posting(add_months(date(2024, 1, 9), n, 9), "-12.49" if n < 4 else "-9.99", "Down") for n in range(6)]

    fallen, risen = find_recurring([*up, *down])

    assert fallen.rise is None
    assert risen.rise is not None
    assert (risen.rise.on, risen.rise.old, risen.rise.new) == (date(2024, 5, 9), Decimal("9.99"), Decimal("12.49"))
    assert risen.rise.points.quantize(Decimal("0.1")) == Decimal("25.0")


def test_a_cancelled_stream_is_no_longer_active(posting: Post) -> None:
    """A stream is active until half a period past its next day."""
    (stream,) = find_recurring(posting(f"2024-0{month}-09", "-9.99", "Gym") for month in (1, 2, 3))

    assert stream.next_due == date(2024, 4, 9)
    assert stream.active(date(2024, 4, 20))
    assert not stream.active(date(2024, 6, 1))


@given(
    n=st.integers(3, 18),
    start=st.dates(date(2020, 1, 1), date(2024, 12, 31)),
    cents=st.integers(100, 10**6),
    seed=st.integers(0, 99),
)
def test_a_monthly_payment_is_found_in_any_order(posting: Post, n: int, start: date, cents: int, seed: int) -> None:
    """Any monthly series of three or more, from any day of the month, is one monthly stream of all its rows."""
    rows = [posting(add_months(start, k, start.day), Decimal(-cents) / 100, "Landlord") for k in range(n)]

    (stream,) = find_recurring(random.Random(seed).sample(rows, n))

    assert stream.cadence == "monthly"
    assert stream.ids == {row.id for row in rows}
