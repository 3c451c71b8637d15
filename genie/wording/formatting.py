"""Writes numbers into answers: one form for each unit, so that a written number can be checked against its fact."""

from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Final

from bursar.genie.wording.facts import Fact

SYMBOLS: Final = {"USD": "$", "EUR": "€", "GBP": "£", "INR": "₹", "JPY": "¥"}
DECIMALS: Final = {"JPY": 0, "KRW": 0, "VND": 0, "CLP": 0, "ISK": 0, "BHD": 3, "KWD": 3, "OMR": 3, "TND": 3}
MONTH_NAMES: Final = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)


def money(amount: Decimal, currency: str) -> str:
    """Return an amount as text, rounded half to even to the currency's decimals: `$1,234.56`, `-€5.00`, `5.00 CHF`."""
    rounded = rounded_money(amount, currency)
    digits = f"{abs(rounded):,f}"
    sign = "-" if rounded < 0 else ""
    symbol = SYMBOLS.get(currency)
    return f"{sign}{symbol}{digits}" if symbol else f"{sign}{digits} {currency}"


def rounded_money(amount: Decimal, currency: str) -> Decimal:
    """Return `amount` rounded half to even to the currency's decimals: two, unless ISO 4217 says otherwise."""
    return amount.quantize(Decimal(1).scaleb(-DECIMALS.get(currency, 2)), rounding=ROUND_HALF_EVEN)


def percent(points: Decimal) -> str:
    """Return percentage points as text, with one decimal, which is left out if it is zero: `12.5%`, `12%`."""
    return f"{_short(points, 1)}%"


def ratio(value: Decimal) -> str:
    """Return a number as text, with at most two decimals and no trailing zeros: `0.42`, `0.5`."""
    return _short(value, 2)


def months(value: Decimal) -> str:
    """Return a number of months as text, with one decimal, which is left out if it is zero: `3.2 months`, `1 month`."""
    number = _short(value, 1)
    return f"{number} month" if number == "1" else f"{number} months"


def count(value: int) -> str:
    """Return a number of things as text: `1,234`."""
    return f"{value:,d}"


def day(value: date) -> str:
    """Return a day as text: `14 March 2025`."""
    return f"{value.day} {MONTH_NAMES[value.month - 1]} {value.year}"


def month(value: date) -> str:
    """Return the month that the day is in as text: `March 2025`."""
    return f"{MONTH_NAMES[value.month - 1]} {value.year}"


def forms(fact: Fact) -> tuple[str, ...]:
    """Return every text by which an answer may write this fact, the usual text first.

    A date may be written as its day, its month or its year. An amount of money or a percentage may also be written
    without its sign ("you spent …").
    """
    value = fact.value
    if isinstance(value, str):
        return (value,)
    if isinstance(value, date):
        return (day(value), month(value), str(value.year), value.isoformat())
    number = Decimal(value)
    match fact.unit:
        case "money":
            currency = fact.currency or ""
            return (money(number, currency), money(abs(number), currency))
        case "percent":
            return (percent(number), percent(abs(number)))
        case "months":
            return (months(number), _short(number, 1))
        case "count":
            return (count(int(number)), str(int(number)))
        case "ratio" | "date" | "text":
            return (ratio(number),)


def _short(value: Decimal, decimals: int) -> str:
    rounded = value.quantize(Decimal(1).scaleb(-decimals), rounding=ROUND_HALF_EVEN)
    if rounded == 0:
        return "0"
    text = f"{rounded:,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
