"""The number check: a model's answer may state only numbers that tools computed, each at the precision it is written.

The model must not do arithmetic: a sum of two facts is not supported unless it is itself a fact. In doubt the check
refuses, and the templated answer is used: 1,234.56 does not round to "about $1,200", so that is not supported either.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from datetime import date
from decimal import Decimal

from bursar.genie.wording.facts import Fact
from bursar.genie.wording.numerals import Mark, Numeral, PartialDate, Reading, blank, scan

# The units of facts that a number may state, by the unit it is written with. "plain" is decided for each number.
_SUPPORTS: dict[str, frozenset[str]] = {
    "money": frozenset({"money"}),
    "percent": frozenset({"percent", "ratio"}),
    "months": frozenset({"months", "count"}),
    "duration": frozenset({"count", "ratio"}),
    "factor": frozenset({"ratio", "count"}),
}
_PLAIN_UNITS = frozenset({"count", "months", "ratio"})
_SMALLEST_BARE_AMOUNT = 100


def ungrounded(text: str, facts: Sequence[Fact], allowed: Collection[str] = ()) -> tuple[str, ...]:
    """Return the numbers and dates in `text` that no fact supports, as written, in order of appearance.

    A number is supported if a fact of a fitting unit (and currency), rounded to the places that the number is written
    with, equals the number; signs are ignored. A date or a year is supported if a date fact, a fact's `as_of`, or a
    date in a fact's key or words agrees with every part of the date. The words of a text fact may be repeated verbatim.
    `allowed` holds numbers as the user wrote them (`numbers(question)`); a text may repeat their values.

    A number without a unit may state a count, months or a ratio. It may state a percentage only if it is written with
    decimals, and money only if it is written with decimals or is at least 100: $5.20 must not support "5 accounts".
    """
    grounds = _Grounds(facts, allowed)
    dates, numerals = scan(grounds.without_words(text))
    missing = [(d.start, d.written) for d in dates if not grounds.date_holds(d)]
    missing += [(n.start, n.written) for n in numerals if not grounds.number_holds(n)]
    return tuple(written for _, written in sorted(missing))


def numbers(text: str) -> tuple[str, ...]:
    """Return every number and date in `text`, as written. An answer may repeat the numbers of its question."""
    dates, numerals = scan(text)
    return tuple(written for _, written in sorted((item.start, item.written) for item in (*dates, *numerals)))


def choose(
    templated: str, worded: str, facts: Sequence[Fact], allowed: Collection[str] = ()
) -> tuple[str, tuple[str, ...]]:
    """Return the text to show, and the reasons against `worded` if it may not be shown.

    If the facts support every number in `worded`, the text is `worded` and there are no reasons. Otherwise, or if
    `worded` is blank, the text is `templated`. `facts` and `allowed` mean the same as in `ungrounded`.
    """
    if not worded.strip():
        return templated, ("the model returned no words",)
    missing = ungrounded(worded, facts, allowed)
    if not missing:
        return worded, ()
    return templated, tuple(f'"{number}" is supported by no fact' for number in missing)


class _Grounds:
    """The numbers, dates and words that a text may state, collected once from the facts and the allowed numbers."""

    def __init__(self, facts: Sequence[Fact], allowed: Collection[str]) -> None:
        self._facts = facts
        self._days = {fact.as_of for fact in facts} | {f.value for f in facts if isinstance(f.value, date)}
        self._dates: list[PartialDate] = []
        self._said: list[Numeral] = []
        self._words: list[str] = []
        for fact in facts:
            self._dates += scan(fact.key.replace("_", " "))[0]
            if isinstance(fact.value, str):
                self._learn_words(fact.value)
        for number in allowed:
            dates, numerals = scan(number)
            self._dates += dates
            self._said += numerals

    def _learn_words(self, words: str) -> None:
        dates, numerals = scan(words)
        self._dates += dates
        whole = any(n.written == words.strip() for n in numerals)
        if whole:
            self._said += numerals
        elif words.strip():
            self._words.append(words.strip())

    def without_words(self, text: str) -> str:
        """Return `text` with the words of text facts blanked, longest first, so that digits in names go unchecked."""
        for words in sorted(self._words, key=len, reverse=True):
            text = blank(text, re.compile(rf"(?<![\w.,]){re.escape(words)}(?!\w|[.,]\d)", re.IGNORECASE))
        return text

    def date_holds(self, said: PartialDate) -> bool:
        return any(self._date_known(alternative) for alternative in said.alternatives)

    def _date_known(self, said: tuple[int | None, int | None, int | None]) -> bool:
        known = [(day.year, day.month, day.day) for day in self._days]
        if any(all(s is None or s == k for s, k in zip(said, day, strict=True)) for day in known):
            return True
        # A date that a key or the user states in part only ("2025-03") supports no more than that part.
        return any(
            all(s is None or s == k for s, k in zip(said, other, strict=True))
            for date_ in self._dates
            for other in date_.alternatives
        )

    def number_holds(self, numeral: Numeral) -> bool:
        if any(self._reading_holds(r, mark, numeral.written) for r in numeral.readings for mark in numeral.marks):
            return True
        if any(_same(numeral, said) for said in self._said):
            return True
        return bool(numeral.parts) and all(self.number_holds(part) for part in numeral.parts)

    def _reading_holds(self, reading: Reading, mark: Mark, written: str) -> bool:
        is_year = mark.kind == "plain" and re.fullmatch(r"(?:19|20)\d\d", written) is not None
        if is_year and self._date_known((int(written), None, None)):
            return True
        return any(_rounds_to(value, reading) for fact in self._facts for value in _stated(fact, reading, mark))


def _stated(fact: Fact, reading: Reading, mark: Mark) -> Iterator[Decimal]:
    """If a number with this reading and mark may state `fact`, yield the absolute value of `fact` in the mark's unit.

    Otherwise yield nothing.
    """
    if isinstance(fact.value, str | date):
        return
    if mark.kind == "plain":
        precise = reading.quantum < 1
        bare_amount = fact.unit == "money" and reading.value >= _SMALLEST_BARE_AMOUNT
        fits = precise or bare_amount or fact.unit in _PLAIN_UNITS
    else:
        fits = fact.unit in _SUPPORTS[mark.kind]
    if mark.currencies and fact.currency is not None and fact.currency not in mark.currencies:
        return
    if fits:
        value = abs(Decimal(fact.value))
        yield value * 100 if fact.unit == "ratio" and mark.kind == "percent" else value


def _rounds_to(value: Decimal, reading: Reading) -> bool:
    # A half may be rounded up or down: templates and models differ in this.
    return abs(value - reading.value) * 2 <= reading.quantum


def _same(numeral: Numeral, said: Numeral) -> bool:
    """Whether `numeral` repeats the number `said`.

    The two must have a value in common, and a unit in common unless one of them is written without a unit. A percentage
    repeats only a percentage.
    """
    values = {reading.value for reading in numeral.readings} & {reading.value for reading in said.readings}
    kinds = {mark.kind for mark in numeral.marks} & {mark.kind for mark in said.marks}
    bare = any(mark.kind == "plain" for mark in (*numeral.marks, *said.marks))
    return bool(values) and (bool(kinds) or (bare and all(mark.kind != "percent" for mark in numeral.marks)))
