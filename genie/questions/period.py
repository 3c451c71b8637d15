"""Reads the periods that a question names ("in March", "last 3 months", "since January").

Such periods count from the newest day in the data.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from bursar.genie.wording import formatting

_MONTH_WORDS: Final = {
    word: number
    for number, name in enumerate(formatting.MONTH_NAMES, start=1)
    for word in {name.casefold(), name.casefold()[:3]}
} | {"sept": 9}
_NUMBER_WORDS: Final = {
    word: number
    for number, word in enumerate(
        ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"), start=1
    )
} | {"a": 1, "couple of": 2}
_MONTH: Final = r"(?P<{0}>" + "|".join(sorted(_MONTH_WORDS, key=lambda word: (-len(word), word))) + r")\b\.?"
_YEAR: Final = r"(?:,?\s+(?:of\s+)?(?P<{0}>(?:19|20)\d\d)\b)?"
_DAY: Final = r"(?P<{0}>\d{{1,2}})(?:st|nd|rd|th)?"
_ISO: Final = r"(?P<{0}>(?:19|20)\d\d-\d\d-\d\d)"
_LEAD: Final = r"\b(?:in|for|during|of|over|from|this|on|and|vs|versus|than|with|to)\s+(?:the\s+)?(?:month\s+of\s+)?"


@dataclass(frozen=True, slots=True)
class Period:
    """The days from `start` to `end`, both inclusive."""

    start: date
    end: date

    def __contains__(self, day: date) -> bool:
        return self.start <= day <= self.end

    @property
    def is_month(self) -> bool:
        """Whether the period is exactly one calendar month."""
        return self.start.day == 1 and self.end == _month(self.start.year, self.start.month).end

    @property
    def is_year(self) -> bool:
        """Whether the period is exactly one calendar year."""
        return (self.start, self.end) == (date(self.start.year, 1, 1), date(self.start.year, 12, 31))

    def before(self) -> "Period":
        """Return the period of the same length that ends the day before `start`; whole months give whole months."""
        end = self.start - timedelta(days=1)
        whole_months = self.start.day == 1 and (self.end + timedelta(days=1)).day == 1
        if not whole_months:
            return Period(end - (self.end - self.start), end)
        length = (self.end.year - self.start.year) * 12 + self.end.month - self.start.month + 1
        return Period(_shift(self.start, -length), end)


def parse_period(text: str, *, newest: date) -> Period | None:
    """Return the period that `text` names, or None. A month without a year is the newest such month that has begun.

    `newest` is the newest day in the data. "last month" is the calendar month before the month of `newest`, "last 3
    months" the three newest whole months. "may" counts as a month only after a word such as "in", before a year, or as
    "May" inside a sentence. An impossible day is ignored: "31 February" names February.
    """
    return next(iter(parse_periods(text, newest=newest, most=1)), None)


def parse_periods(text: str, *, newest: date, most: int = 2) -> tuple[Period, ...]:
    """Return up to `most` periods that `text` names, each read as `parse_period` says.

    A period that is named more exactly comes first: "3 March 2025" before "in March", and "in March" before "2025".
    """
    plain = re.sub(r"\s+", " ", text)
    found: list[Period] = []
    for _ in range(most):
        match, period = _first(plain, newest)
        if match is None or period is None:
            break
        found.append(period)
        plain = plain[: match.start()] + "; " + plain[match.end() :]
    return tuple(found)


def _first(plain: str, newest: date) -> tuple[re.Match[str], Period] | tuple[None, None]:
    for pattern, build in _FORMS:
        for match in pattern.finditer(plain):
            if match.groupdict().get("bare") and not _is_month_name(match):
                continue
            try:
                return match, build(match, newest)
            except ValueError:
                continue
    return None, None


def _is_month_name(match: re.Match[str]) -> bool:
    """Whether the matched word is meant as a month, unlike in "may I" and "march on".

    "May" and "March" must have their capital, and "May" must not be the first word of the text.
    """
    word = match.group("bare")
    if word.casefold() not in ("may", "march"):
        return True
    return word[0].isupper() and (word.casefold() == "march" or match.start("bare") > 0)


def month_of(day: date) -> Period:
    """Return the calendar month of `day`."""
    return _month(day.year, day.month)


def when(period: Period) -> str:
    """Return the period in words: `in March 2025`, `in 2025`, `on 3 March 2025`, `from 1 March 2025 to 9 April 2025`.

    If the first and the last day are recorded as facts, these facts support every date in the words.
    """
    if period.start == period.end:
        return f"on {formatting.day(period.start)}"
    if period.is_month:
        return f"in {formatting.month(period.start)}"
    if period.is_year:
        return f"in {period.start.year}"
    return f"from {formatting.day(period.start)} to {formatting.day(period.end)}"


def _month(year: int, number: int) -> Period:
    start = date(year, number, 1)
    return Period(start, _shift(start, 1) - timedelta(days=1))


def _shift(first: date, months: int) -> date:
    year, month = divmod(first.year * 12 + first.month - 1 + months, 12)
    return date(year, month + 1, 1)


def _named_month(match: re.Match[str], newest: date, *, month: str = "month", year: str = "year") -> Period:
    number = _MONTH_WORDS[match.group(month).casefold()]
    given = match.groupdict().get(year)
    if given:
        return _month(int(given), number)
    return _month(newest.year if number <= newest.month else newest.year - 1, number)


def _named_day(match: re.Match[str], newest: date) -> Period:
    number, day = _MONTH_WORDS[match.group("month").casefold()], int(match.group("day"))
    if match.group("year"):
        found = date(int(match.group("year")), number, day)
    else:
        found = date(newest.year, number, day)
        found = found if found <= newest else date(newest.year - 1, number, day)
    return Period(found, found)


def _month_range(match: re.Match[str], newest: date) -> Period:
    last = _named_month(match, newest, month="month2", year="year2")
    first = _MONTH_WORDS[match.group("month1").casefold()]
    year = int(match.group("year1")) if match.group("year1") else last.end.year - (first > last.end.month)
    start = date(year, first, 1)
    if start > last.end:
        raise ValueError("a period ends before it begins")
    return Period(start, last.end)


def _iso_range(match: re.Match[str], newest: date) -> Period:
    start, end = date.fromisoformat(match.group("iso1")), date.fromisoformat(match.group("iso2"))
    return Period(min(start, end), max(start, end))


def _iso_day(match: re.Match[str], newest: date) -> Period:
    day = date.fromisoformat(match.group("iso"))
    return Period(day, max(day, newest)) if match.group("since") else Period(day, day)


def _since_month(match: re.Match[str], newest: date) -> Period:
    start = _named_month(match, newest).start
    return Period(start, max(start, newest))


def _since_year(match: re.Match[str], newest: date) -> Period:
    start = date(int(match.group("year")), 1, 1)
    return Period(start, max(start, newest))


def _last_n(match: re.Match[str], newest: date) -> Period:
    word = match.group("n").casefold()
    number = _NUMBER_WORDS.get(word) or int(word)
    if not 1 <= number <= 1000:
        raise ValueError("a number of periods out of range")
    unit = match.group("unit").casefold()
    if unit in ("day", "week"):
        return Period(newest - timedelta(days=number * (7 if unit == "week" else 1) - 1), newest)
    length = number * {"month": 1, "quarter": 3, "year": 12}[unit]
    tomorrow = newest + timedelta(days=1)
    stop = tomorrow if tomorrow.day == 1 else newest.replace(day=1)
    return Period(_shift(stop, -length), stop - timedelta(days=1))


def _relative(match: re.Match[str], newest: date) -> Period:
    """Return the whole week, month, quarter or year that "this" or "last" means, counted from the day `newest`.

    "This month" is the whole calendar month of `newest`, later days included; "last month" is the month before.
    """
    back = 0 if match.group("which").casefold() in ("this", "current") else 1
    match match.group("unit").casefold():
        case "week":
            monday = newest - timedelta(days=newest.weekday() + 7 * back)
            return Period(monday, monday + timedelta(days=6))
        case "month":
            start = _shift(newest.replace(day=1), -back)
            return _month(start.year, start.month)
        case "quarter":
            start = _shift(date(newest.year, (newest.month - 1) // 3 * 3 + 1, 1), -3 * back)
            return Period(start, _shift(start, 3) - timedelta(days=1))
        case _:
            return _year(newest.year - back)


def _year(year: int) -> Period:
    return Period(date(year, 1, 1), date(year, 12, 31))


def _quarter(match: re.Match[str], newest: date) -> Period:
    number = int(match.group("quarter"))
    begun = newest.month > 3 * (number - 1)
    year = int(match.group("year")) if match.group("year") else newest.year - (not begun)
    start = date(year, 3 * number - 2, 1)
    return Period(start, _shift(start, 3) - timedelta(days=1))


def _form(
    pattern: str, build: Callable[[re.Match[str], date], Period]
) -> tuple[re.Pattern[str], Callable[[re.Match[str], date], Period]]:
    return re.compile(pattern, re.IGNORECASE), build


_FORMS: Final = (
    _form(_ISO.format("iso1") + r"\s*(?:to|until|and|-|–)\s*" + _ISO.format("iso2"), _iso_range),
    _form(r"\b(?P<since>since\s+)?" + _ISO.format("iso"), _iso_day),
    _form(r"\b(?P<y>(?:19|20)\d\d)-(?P<m>\d\d)\b", lambda match, _: _month(int(match["y"]), int(match["m"]))),
    _form(
        r"\b(?:from|between)\s+"
        + _MONTH.format("month1")
        + _YEAR.format("year1")
        + r"\s*(?:to|until|through|and|-|–)\s*"
        + _MONTH.format("month2")
        + _YEAR.format("year2"),
        _month_range,
    ),
    _form(r"\b" + _DAY.format("day") + r"\s+(?:of\s+)?" + _MONTH.format("month") + _YEAR.format("year"), _named_day),
    _form(
        r"\b" + _MONTH.format("month") + r"\s+" + _DAY.format("day") + r"\b(?!\d)" + _YEAR.format("year"), _named_day
    ),
    _form(r"\bsince\s+" + _MONTH.format("month") + _YEAR.format("year"), _since_month),
    _form(r"\bsince\s+(?P<year>(?:19|20)\d\d)\b", _since_year),
    _form(
        r"\b(?:last|past|previous|latest)\s+(?P<n>\d{1,4}|"
        + "|".join(_NUMBER_WORDS)
        + r")\s+(?P<unit>day|week|month|quarter|year)s?\b",
        _last_n,
    ),
    _form(r"\bQ(?P<quarter>[1-4])" + _YEAR.format("year"), _quarter),
    _form(r"\b(?P<which>this|current|last|past|previous)\s+(?P<unit>week|month|quarter|year)\b", _relative),
    _form(r"\b(?:year to date|ytd)\b", lambda _, newest: Period(date(newest.year, 1, 1), newest)),
    _form(r"\byesterday\b", lambda _, newest: Period(newest - timedelta(days=1), newest - timedelta(days=1))),
    _form(r"\btoday\b", lambda _, newest: Period(newest, newest)),
    _form(_LEAD + _MONTH.format("month") + _YEAR.format("year"), _named_month),
    _form(r"\b(?P<month>" + "|".join(_MONTH_WORDS) + r")\.?\s+(?P<year>(?:19|20)\d\d)\b", _named_month),
    _form(
        r"\b(?P<bare>(?P<month>" + "|".join(name.casefold() for name in formatting.MONTH_NAMES) + r"))\b(?P<year>)",
        _named_month,
    ),
    _form(r"(?<![$€£₹.,\d])\b(?P<year>(?:19|20)\d\d)\b(?![.,]\d)", lambda match, _: _year(int(match["year"]))),
)
