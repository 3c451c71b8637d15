"""Generates two years of an invented household's bookings; the constants at the top list the oddities planted there."""

import calendar
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from random import Random
from typing import Final

MONTHS: Final = 24
# The planted oddities; each number is how many months before the last month the oddity happens.
PRICE_RISE: Final = 10
DUPLICATE: Final = 4
FRAUD: Final = 2

CHECKING_OPENS: Final = Decimal("6240.18")
SAVINGS_OPENS: Final = Decimal("14500.00")
CARD_OPENS: Final = Decimal("-1874.36")
_SAVINGS_RATE: Final = Decimal("0.038")
_CENT: Final = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class Booking:
    """One posting of the invented household. An amount above zero is money that comes in."""

    day: date
    payee: str
    amount: Decimal
    category: str = ""


@dataclass(frozen=True, slots=True)
class Life:
    """The bookings of each account, in order of their days."""

    checking: tuple[Booking, ...]
    savings: tuple[Booking, ...]
    card: tuple[Booking, ...]


# Payee, category, cheapest and dearest in cents, visits in a month.
_SHOPS: Final = (
    ("FRESH VALLEY MARKET", "Groceries", 4200, 13800, 5),
    ("GREEN BASKET GROCERS", "Groceries", 2100, 8900, 3),
    ("COSTLESS WAREHOUSE", "Groceries", 9800, 24500, 1),
    ("BLUE DOOR COFFEE", "Dining", 425, 1480, 6),
    ("LUIGI'S TRATTORIA", "Dining", 3800, 9600, 1),
    ("NOODLE HOUSE 88", "Dining", 1900, 5200, 2),
    ("PRAIRIE FUEL STOP 114", "Transport", 3100, 6200, 3),
    ("CITY PARKING AUTHORITY", "Transport", 400, 1800, 2),
    ("WELLSPRING PHARMACY", "Health", 800, 5400, 1),
    ("RIVERBEND BOOKS", "Shopping", 1200, 6400, 1),
    ("HARDWARE & GARDEN CO", "Shopping", 1500, 14500, 1),
)
# Payee, day of month, cents, category.
_SUBSCRIPTIONS: Final = (
    ("NETFLIX.COM", 4, 1549, "Entertainment"),
    ("SPOTIFY USA", 7, 1199, "Entertainment"),
    ("IRON WORKS GYM", 1, 3900, "Health"),
    ("CLOUDBOX STORAGE", 12, 299, "Services"),
    ("THE DAILY LEDGER NEWS", 15, 1700, "Services"),
    ("PIXELFORGE STUDIO", 23, 2299, "Services"),
)
_DEARER: Final = ("NETFLIX.COM", 1799)
# Payee, day of month, cents: paid from the current account.
_BILLS: Final = (
    ("OAKWOOD APARTMENTS RENT", 1, 248000),
    ("LITTLE ACORNS DAYCARE", 3, 142000),
    ("FIBERLINE INTERNET", 8, 6999),
    ("SUMMIT AUTO FINANCE LOAN PMT", 10, 38942),
    ("MERIDIAN MOBILE", 14, 9000),
    ("STATEWIDE AUTO INSURANCE", 16, 14275),
    ("FEDERAL STUDENT LOAN SERVICING", 18, 24117),
)


def live(rng: Random, end: date) -> Life:
    """Return the household's bookings of the 24 months that end with the month of `end`, without days after `end`."""
    months = [_month_before(end, back) for back in reversed(range(MONTHS))]
    card = [booking for back, first in _counted(months) for booking in _card_month(rng, first, back)]
    checking = [booking for _, first in _counted(months) for booking in _checking_month(rng, first)]
    savings: list[Booking] = []
    owed, saved = CARD_OPENS, SAVINGS_OPENS
    payments: list[Booking] = []
    for _, first in _counted(months):
        pay_day = first.replace(day=21)
        checking.append(Booking(pay_day, "CARD AUTOPAY 3391", owed))
        payments.append(Booking(pay_day, "AUTOPAY PAYMENT - THANK YOU", -owed, "Payment"))
        owed = sum((booking.amount for booking in card if _same_month(booking.day, first)), Decimal(0))
        checking.append(Booking(first.replace(day=2), "TRANSFER TO SAVINGS 0551", Decimal(-600)))
        savings.append(Booking(first.replace(day=2), "TRANSFER FROM CHECKING 7820", Decimal(600)))
        interest = ((saved + 600) * _SAVINGS_RATE / 12).quantize(_CENT)
        savings.append(Booking(_last(first), "INTEREST PAID", interest))
        saved += 600 + interest
    checking += _biweekly_salary(months[0], end)
    return Life(*(_in_order(account, end) for account in (checking, savings, [*card, *payments])))


def _card_month(rng: Random, first: date, back: int) -> Iterator[Booking]:
    length = _last(first).day
    for payee, category, low, high, visits in _SHOPS:
        for day in sorted(rng.sample(range(1, length + 1), visits)):
            yield Booking(first.replace(day=day), payee, _spent(rng.randrange(low, high)), category)
    for payee, day, cents, category in _SUBSCRIPTIONS:
        dearer = payee == _DEARER[0] and back <= PRICE_RISE
        yield Booking(first.replace(day=day), payee, _spent(_DEARER[1] if dearer else cents), category)
    if first.month in {7, 12}:
        yield Booking(first.replace(day=9), "COASTLINE AIRWAYS", _spent(rng.randrange(48000, 92000)), "Travel")
        yield Booking(first.replace(day=17), "HARBORVIEW INN", _spent(rng.randrange(35000, 70000)), "Travel")
    if back == DUPLICATE:
        for _ in range(2):
            yield Booking(first.replace(day=13), "BRIGHT HOME FURNISHINGS", _spent(18437), "Shopping")
    if back == FRAUD:
        yield Booking(first.replace(day=26), "LUXE ELECTRONICS OUTLET MIAMI", _spent(248900), "")


def _checking_month(rng: Random, first: date) -> Iterator[Booking]:
    pay_day = _last(first)
    while pay_day.weekday() > 4:
        pay_day -= timedelta(days=1)
    yield Booking(pay_day, "NORTHWIND LOGISTICS PAYROLL", Decimal("5218.40"))
    for payee, day, cents in _BILLS:
        yield Booking(first.replace(day=day), payee, _spent(cents))
    winter = first.month in {12, 1, 2}
    summer = first.month in {6, 7, 8}
    heating = rng.randrange(9000, 14000) if winter or summer else rng.randrange(5200, 8200)
    yield Booking(first.replace(day=6), "CITY POWER & LIGHT", _spent(heating))
    if first.month % 3 == 0:
        yield Booking(first.replace(day=11), "MUNICIPAL WATER", _spent(rng.randrange(7800, 11200)))
    yield Booking(first.replace(day=rng.randrange(5, 28)), "ATM WITHDRAWAL 2207", Decimal(-rng.choice((60, 80, 100))))


def _biweekly_salary(first: date, end: date) -> Iterator[Booking]:
    day = first + timedelta(days=(4 - first.weekday()) % 7)
    while day <= end:
        yield Booking(day, "LAKESIDE HIGH SCHOOL PAYROLL", Decimal("1846.12"))
        day += timedelta(days=14)


def _in_order(bookings: list[Booking], end: date) -> tuple[Booking, ...]:
    kept = (booking for booking in bookings if booking.day <= end and booking.amount != 0)
    return tuple(sorted(kept, key=lambda booking: (booking.day, booking.payee, booking.amount)))


def _counted(months: list[date]) -> Iterator[tuple[int, date]]:
    """Yield a pair for each month: the number of `months` that come after this month, and the month."""
    return ((len(months) - 1 - index, first) for index, first in enumerate(months))


def _month_before(day: date, months: int) -> date:
    index = day.year * 12 + day.month - 1 - months
    return date(index // 12, index % 12 + 1, 1)


def _same_month(day: date, first: date) -> bool:
    return (day.year, day.month) == (first.year, first.month)


def _last(first: date) -> date:
    return first.replace(day=calendar.monthrange(first.year, first.month)[1])


def _spent(cents: int) -> Decimal:
    return Decimal(-cents).scaleb(-2)
