"""Computes the figures that answers must state, from the sample household's files and from the law, without Genie."""

import csv
import re
from collections import Counter
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

from bursar.genie.household.sample import sample_files

# What a question may call a category, and what the card's statement calls it.
CATEGORIES = {"groceries": "Groceries", "health": "Health", "transport": "Transport", "restaurants": "Dining"}
YEAR = 2025
HEAD_LINES = 3  # of the statement of the checking account, before its table
# Tax year 2025, married filing jointly: the standard deduction as Public Law 119-21 sets it, and the first brackets of
# Revenue Procedure 2024-40 (rate, from, to).
STANDARD_DEDUCTION = 31_500
BRACKETS = (("0.10", 0, 23_850), ("0.12", 23_850, 96_950), ("0.22", 96_950, 206_700))


@dataclass(frozen=True, slots=True)
class BookedRow:
    """A row of a statement. `amount` is below zero if money left the household."""

    day: date
    payee: str
    amount: Decimal
    category: str


@dataclass(frozen=True)
class Household:
    """The sample household, as its own files have it."""

    rows: tuple[BookedRow, ...]
    account_numbers: tuple[str, ...]
    income: Decimal

    def paid(self, payee: str, month: int) -> Decimal:
        """Return what was paid to the payee in the month of `YEAR`."""
        return -sum((row.amount for row in self._in(month) if row.payee == payee), Decimal(0))

    def spent(self, category: str, month: int) -> Decimal:
        """Return what was spent in the month of `YEAR` on the category, by the card's statement."""
        return -sum((row.amount for row in self._in(month) if row.category == CATEGORIES[category]), Decimal(0))

    def booked(self, month: int, first: int, last: int) -> int:
        """Return the number of transactions from one day to another in the month of `YEAR`."""
        return sum(first <= row.day.day <= last for row in self._in(month))

    def payees(self) -> list[str]:
        """Return the payees that were paid by card in each month of `YEAR`, in the order of the alphabet."""
        months = Counter(payee for payee, _ in {(r.payee, r.day.month) for r in self.rows if self._counts(r)})
        return sorted(payee for payee, number in months.items() if number == 12)

    def charged_twice(self) -> Decimal:
        """Return the amount that one payee charged to the card twice on one day."""
        charges = Counter((row.day, row.payee, row.amount) for row in self.rows if row.category)
        [twice] = {amount for (_, _, amount), number in charges.items() if number == 2}
        return -twice

    def income_tax(self) -> Decimal:
        """Return the federal income tax for `YEAR` on the stated income, with the standard deduction."""
        taxable = self.income - STANDARD_DEDUCTION
        return sum(
            (Decimal(rate) * max(Decimal(0), min(taxable, Decimal(to)) - start) for rate, start, to in BRACKETS),
            Decimal(0),
        )

    def _in(self, month: int) -> list[BookedRow]:
        return [row for row in self.rows if (row.day.year, row.day.month) == (YEAR, month)]

    @staticmethod
    def _counts(row: BookedRow) -> bool:
        return row.day.year == YEAR and row.category not in {"", "Payment"}


def read_household() -> Household:
    """Return the sample household, read from its files by other code than Genie's import."""
    files = {path.name: path for path in sample_files()}
    profile = files["profile.toml"].read_text("utf-8")
    income = re.search(r'gross_annual_income = "([\d.]+)"', profile)
    savings = files["savings.ofx"].read_text("utf-8")
    checking = files["checking.csv"].read_text("utf-8")
    numbers = (re.search(r"Account Number,(\d+)", checking), re.search(r"<ACCTID>(\d+)", savings))
    if income is None or None in numbers:
        raise ValueError("the sample household's files have another form")
    return Household(
        rows=(*_checking(files["checking.csv"]), *_card(files["credit_card.csv"]), *_savings(savings)),
        account_numbers=tuple(found[1] for found in numbers if found is not None),
        income=Decimal(income[1]),
    )


def _day(text: str) -> date:
    return datetime.strptime(text, "%m/%d/%Y").date()  # noqa: DTZ007 - a day has no zone


def _checking(path: Path) -> list[BookedRow]:
    table = csv.DictReader(path.read_text("utf-8").splitlines()[HEAD_LINES:])
    return [BookedRow(_day(row["Date"]), row["Description"], Decimal(row["Amount"]), "") for row in table]


def _card(path: Path) -> list[BookedRow]:
    """Return the rows of the card's statement, whose purchases are positive."""
    table = csv.DictReader(path.read_text("utf-8").splitlines())
    return [
        BookedRow(_day(row["Transaction Date"]), row["Description"], -Decimal(row["Amount"]), row["Category"])
        for row in table
    ]


def _savings(statement: str) -> list[BookedRow]:
    found = re.findall(r"<DTPOSTED>(\d{8}).*?<TRNAMT>([-\d.]+)<.*?<NAME>([^<\n]+)", statement)
    return [
        BookedRow(date(int(day[:4]), int(day[4:6]), int(day[6:])), payee, Decimal(amount), "")
        for day, amount, payee in found
    ]
