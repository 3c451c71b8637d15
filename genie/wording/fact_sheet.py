"""The sheet of facts: the method that writes a number for an answer also records the number as a fact."""

from datetime import date
from decimal import Decimal

from bursar.genie.wording import formatting
from bursar.genie.wording.facts import Fact, Unit


class Sheet:
    """A collection of facts under unique keys. Each method records one value and returns its text for an answer.

    The same key with the same value is recorded once. Each method raises `ValueError` if the key has another value.
    `prefix` starts every key, which keeps the facts of a message's questions apart.
    """

    def __init__(self, *, as_of: date, tool: str, source: str, prefix: str = "") -> None:
        self._as_of = as_of
        self._tool = tool
        self._source = source
        self._prefix = prefix
        self._facts: dict[str, Fact] = {}

    def money(self, key: str, value: Decimal, currency: str) -> str:
        """Record an amount in `currency`, and return its text, such as `$1,234.56`."""
        return self._add(key, value, "money", currency)

    def percent(self, key: str, points: Decimal) -> str:
        """Record percentage points (12.5 is 12.5 %), rounded to one decimal, and return their text, such as `12.5%`."""
        return self._add(key, points.quantize(Decimal("0.1")), "percent")

    def ratio(self, key: str, value: Decimal) -> str:
        """Record a plain number, rounded to two decimals, and return its text, such as `0.42`."""
        return self._add(key, value.quantize(Decimal("0.01")), "ratio")

    def count(self, key: str, value: int) -> str:
        """Record a number of things, and return its text, such as `1,234`."""
        return self._add(key, value, "count")

    def counted(self, key: str, value: int, noun: str) -> str:
        """Record a number of things, and return it with the noun: `1 payment`, `3 payments`."""
        return f"{self.count(key, value)} {noun if value == 1 else noun + 's'}"

    def day(self, key: str, value: date) -> str:
        """Record a day, and return its text, such as `14 March 2025`."""
        return self._add(key, value, "date")

    def month(self, key: str, value: date) -> str:
        """Record the first day of the month of `value`, and return the month's text, such as `March 2025`."""
        self._add(key, value.replace(day=1), "date")
        return formatting.month(value)

    def word(self, key: str, value: str) -> str:
        """Record and return a name from the data (a payee, a category).

        The number check then does not take digits in the name for numbers of the answer.
        """
        return self._add(key, value, "text")

    def facts(self) -> tuple[Fact, ...]:
        """Return the facts in the order in which they were recorded."""
        return tuple(self._facts.values())

    def _add(self, key: str, value: Decimal | int | str | date, unit: Unit, currency: str | None = None) -> str:
        key = self._prefix + key
        fact = Fact(key, value, unit, self._as_of, self._tool, self._source, currency)
        held = self._facts.setdefault(key, fact)
        if held != fact:
            raise ValueError(f"two values for the fact {key}: {held.value} and {value}; give each its own key")
        return formatting.forms(fact)[0]
