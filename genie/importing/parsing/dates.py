"""Reads printed dates. Whether the day or the month comes first is decided once for a file, over all its rows."""

import re
from collections.abc import Iterable
from datetime import date, datetime, time
from typing import Final, Literal

from bursar.genie.household.folding import fold

DateOrder = Literal["dmy", "mdy"]

_YEAR_FIRST: Final = re.compile(r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})(?!\d)|(\d{4})(\d{2})(\d{2})(?!\d)")
_NUMBERS: Final = re.compile(r"(\d{1,2})([-/. ])(\d{1,2})\2(\d{4}|\d{2})(?!\d)")
_DAY_NAMED: Final = re.compile(
    r"(\d{1,2})(?:\.|st|nd|rd|th)?[\s/-]*(?:de\s+)?([a-z]{3,})\.?[\s/,-]*(?:de\s+)?(\d{4}|\d{2})(?!\d)"
)
_NAMED_DAY: Final = re.compile(r"([a-z]{3,})\.?\s*(\d{1,2})(?:st|nd|rd|th)?,?\s+(\d{4})(?!\d)")
_TIME: Final = re.compile(r"(\d{1,2})[:.](\d{2})(?:[:.](\d{2}))?(?:\.\d+)?\s*([ap]\.?m\.?)?", re.IGNORECASE)
# The first letters of the months in English, German, French, Spanish and Dutch, accents removed; longest match first.
_MONTHS: Final = (
    ("jan", "ene"),
    ("feb", "fev"),
    ("mar", "mrz", "mae", "maa", "mrt"),
    ("apr", "avr", "abr"),
    ("may", "mai", "mei"),
    ("jun", "juin"),
    ("jul", "juil"),
    ("aug", "aou", "ago"),
    ("sep", "set"),
    ("oct", "okt"),
    ("nov",),
    ("dec", "dez", "dic"),
)


def parse_date(text: str, order: DateOrder | None) -> tuple[date, time | None]:
    """Return the day, and the time of day if one follows it. Raises `ValueError` with a reason if there is no day.

    `order` decides 03/04/2025. If `order` is None, only dates that read the same in both orders are accepted.
    """
    stripped = fold(text.strip())
    if not stripped:
        raise ValueError("no date")
    try:
        day, end = _day(stripped, order)
        rest = stripped[end:].lstrip("t ,")
        moment = parse_time(rest) if rest else None
    except ValueError as error:
        raise ValueError(f"{text.strip()!r} is no date") from error
    if not 1970 <= day.year <= 2100:
        raise ValueError(f"{text.strip()!r} is no date of this century")
    return day, moment


def parse_time(text: str) -> time:
    """Return a time of day such as 14:05, 14:05:33 or 2:05 pm. Raises `ValueError` if `text` is no time."""
    match = _TIME.match(text.strip())
    if match is None:
        raise ValueError(f"{text.strip()!r} is no time")
    hour = int(match[1])
    if match[4]:
        hour = hour % 12 + (12 if match[4][0] in "pP" else 0)
    return time(hour, int(match[2]), int(match[3] or 0))


def infer_order(texts: Iterable[str], *, dots_are_day_first: bool = True) -> DateOrder | Literal["ambiguous"] | None:
    """Return the order of day and month in a file's dates, or "ambiguous" if the dates do not decide.

    Return None if every date can be read without an order.
    A first number above 12 proves day first, a second number above 12 month first. If `dots_are_day_first`, dates with
    dots are day first. If both orders are proved, the order that more dates prove is returned, and rows with the other
    order will be rejected.
    """
    day_first = month_first = 0
    doubtful = False
    for text in texts:
        match = _NUMBERS.match(text.strip())
        if match is None or _YEAR_FIRST.match(text.strip()):
            continue
        first, second = int(match[1]), int(match[3])
        if (first > 12 >= second) or (match[2] == "." and dots_are_day_first):
            day_first += 1
        elif second > 12 >= first:
            month_first += 1
        else:
            doubtful = doubtful or first != second
    if day_first != month_first:
        return "dmy" if day_first > month_first else "mdy"
    return "ambiguous" if doubtful or day_first else None


def at_moment(day: date, moment: time | None) -> datetime | None:
    """Return day and time together, without a zone; None if `moment` is None: an unknown time is not midnight."""
    return None if moment is None else datetime.combine(day, moment)


def _day(text: str, order: DateOrder | None) -> tuple[date, int]:
    if match := _YEAR_FIRST.match(text):
        year, month, day = (match[1], match[2], match[3]) if match[1] else (match[4], match[5], match[6])
        return date(int(year), int(month), int(day)), match.end()
    if match := _NUMBERS.match(text):
        first, second = int(match[1]), int(match[3])
        if order is None and first != second:
            raise ValueError("the order of day and month is not known")
        day, month = (second, first) if order == "mdy" else (first, second)
        return date(_year(match[4]), month, day), match.end()
    if match := _DAY_NAMED.match(text):
        return date(_year(match[3]), _month(match[2]), int(match[1])), match.end()
    if match := _NAMED_DAY.match(text):
        return date(_year(match[3]), _month(match[1]), int(match[2])), match.end()
    raise ValueError("unknown form")


def _year(text: str) -> int:
    return int(text) if len(text) == 4 else 2000 + int(text)


def _month(name: str) -> int:
    for number, starts in enumerate(_MONTHS, start=1):
        if any(name.startswith(start) for start in starts):
            return number
    raise ValueError("unknown month")
