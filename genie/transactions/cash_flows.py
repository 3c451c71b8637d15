"""Classifies each posting as income, spending, refund or transfer, and computes exact totals."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from statistics import median
from typing import Final, Literal

from bursar.genie.household.records import BankAccount, BankTransaction
from bursar.genie.transactions.categories import (
    UNCATEGORISED,
    category_of,
    is_essential,
    is_income,
    merchant_of,
)
from bursar.genie.transactions.transfers import own_movements

Flow = Literal["income", "spending", "refund", "transfer"]

ZERO: Final = Decimal(0)


@dataclass(frozen=True, slots=True)
class Entry:
    """A classified posting `row`: whether it is income, spending, refund or transfer, its category and its merchant.

    The property `size` is the amount of the posting without its sign.
    """

    row: BankTransaction
    flow: Flow
    category: str
    merchant: str

    @property
    def size(self) -> Decimal:
        return abs(self.row.amount)

    @property
    def month(self) -> date:
        """The first day of the month in which the posting was booked."""
        return self.row.booked_on.replace(day=1)


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums in one currency, all positive: money earned, money spent, money that merchants gave back."""

    income: Decimal = ZERO
    spending: Decimal = ZERO
    refunds: Decimal = ZERO

    @property
    def net(self) -> Decimal:
        """Income plus refunds less spending, exact: the sum of the postings' signed amounts."""
        return self.income + self.refunds - self.spending


def classify(transactions: Iterable[BankTransaction], accounts: Iterable[BankAccount] = ()) -> tuple[Entry, ...]:
    """Classify every posting, and return the entries by day and id; the order of `transactions` does not matter.

    Money that comes in is a refund if its merchant was paid before and its category is not an income category. Pass the
    whole history, not one month: whether a posting is a transfer or a refund depends on other postings. `accounts` are
    the household's own accounts, by whose names and kinds more transfers are found.
    """
    rows = sorted(transactions, key=lambda row: (row.booked_on, row.id))
    moved = own_movements(rows, accounts)
    first_paid: dict[tuple[str, str], date] = {}
    for row in rows:
        if row.amount < 0 and row.id not in moved:
            first_paid.setdefault((merchant_of(row.payee), row.currency), row.booked_on)
    spelled = _spellings(rows)
    entries: list[Entry] = []
    for row in rows:
        merchant, category = merchant_of(row.payee), category_of(row)
        category = spelled.get(category.casefold(), category)
        paid_before = first_paid.get((merchant, row.currency), date.max) <= row.booked_on
        flow: Flow = "spending" if row.amount < 0 else "income"
        if row.id in moved:
            flow = "transfer"
        elif row.amount > 0 and paid_before and not is_income(category):
            flow = "refund"
        entries.append(Entry(row, flow, category, merchant))
    return tuple(entries)


def totals(entries: Iterable[Entry]) -> dict[str, Totals]:
    """Return the totals by currency, without transfers. Amounts of different currencies are never added up."""
    sums: defaultdict[str, Totals] = defaultdict(Totals)
    for entry in entries:
        sums[entry.row.currency] = _plus(sums[entry.row.currency], entry)
    return {currency: sums[currency] for currency in sorted(sums)}


def totals_by_month(entries: Iterable[Entry]) -> dict[tuple[date, str], Totals]:
    """Return the totals by month (its first day) and currency, sorted by both, without transfers."""
    sums: defaultdict[tuple[date, str], Totals] = defaultdict(Totals)
    for entry in entries:
        key = entry.month, entry.row.currency
        sums[key] = _plus(sums[key], entry)
    return {key: sums[key] for key in sorted(sums)}


def totals_by_category(entries: Iterable[Entry]) -> dict[tuple[str, str], Totals]:
    """Return the totals by category and currency, without transfers, the largest spending first."""
    sums: defaultdict[tuple[str, str], Totals] = defaultdict(Totals)
    for entry in entries:
        if entry.flow != "transfer":
            key = entry.category, entry.row.currency
            sums[key] = _plus(sums[key], entry)
    return {key: sums[key] for key in sorted(sums, key=lambda key: (-sums[key].spending, key))}


def totals_by_month_and_category(entries: Iterable[Entry]) -> dict[tuple[date, str, str], Totals]:
    """Return the totals by month (its first day), category and currency, sorted by all three, without transfers."""
    sums: defaultdict[tuple[date, str, str], Totals] = defaultdict(Totals)
    for entry in entries:
        if entry.flow != "transfer":
            key = entry.month, entry.category, entry.row.currency
            sums[key] = _plus(sums[key], entry)
    return {key: sums[key] for key in sorted(sums)}


def monthly_totals(
    transactions: Iterable[BankTransaction], accounts: Iterable[BankAccount] = ()
) -> dict[tuple[date, str], Totals]:
    """Classify the postings and return their totals by month (its first day) and currency, without transfers."""
    return totals_by_month(classify(transactions, accounts))


def category_totals(
    transactions: Iterable[BankTransaction], accounts: Iterable[BankAccount] = ()
) -> dict[tuple[str, str], Totals]:
    """Classify the postings and return their totals by category and currency, without transfers, most spent first."""
    return totals_by_category(classify(transactions, accounts))


def median_essential_spend(
    transactions: Iterable[BankTransaction], accounts: Iterable[BankAccount] = (), *, currency: str
) -> Decimal | None:
    """Return the median, over whole months, of a month's essential spending less its refunds; unrounded.

    A whole month is a month that the data cover from end to end; see `whole_months`. Return None if there is no whole
    month.
    """
    entries = classify(transactions, accounts)
    essential = totals_by_month(
        entry for entry in entries if entry.flow in ("spending", "refund") and is_essential(entry.category)
    )
    values = [essential.get((month, currency), Totals()) for month in whole_months(entries)]
    return median(value.spending - value.refunds for value in values) if values else None


def monthly_income(
    transactions: Iterable[BankTransaction], accounts: Iterable[BankAccount] = (), *, currency: str
) -> Decimal | None:
    """Return the median of the whole months' income, unrounded, without refunds; None if there is no whole month."""
    entries = classify(transactions, accounts)
    sums = totals_by_month(entries)
    values = [sums.get((month, currency), Totals()).income for month in whole_months(entries)]
    return median(values) if values else None


def whole_months(entries: Sequence[Entry]) -> tuple[date, ...]:
    """Return the first days of the months that the data cover from end to end, oldest first.

    The first month counts if the first posting is in the month's first week. The last month counts if the last posting
    is in the month's last week. The reason: banks post nothing on some days, and a statement of whole months seldom
    ends with a posting.
    """
    if not entries:
        return ()
    days = [entry.row.booked_on for entry in entries]
    first, last = min(days), max(days)
    start = first.replace(day=1) if first.day <= 7 else next_month(first)
    final_week = (next_month(last) - last).days <= 7
    stop = next_month(last) if final_week else last.replace(day=1)
    found: list[date] = []
    while start < stop:
        found.append(start)
        start = next_month(start)
    return tuple(found)


def next_month(day: date) -> date:
    """Return the first day of the month after the month of `day`."""
    return date(day.year + day.month // 12, day.month % 12 + 1, 1)


def _plus(sums: Totals, entry: Entry) -> Totals:
    match entry.flow:
        case "income":
            return replace(sums, income=sums.income + entry.size)
        case "spending":
            return replace(sums, spending=sums.spending + entry.size)
        case "refund":
            return replace(sums, refunds=sums.refunds + entry.size)
        case "transfer":
            return sums


def _spellings(rows: Iterable[BankTransaction]) -> Mapping[str, str]:
    """Return the bank's spelling of each category by its lower-case name: so a rule's "groceries" joins "Groceries"."""
    spelled: dict[str, str] = {UNCATEGORISED: UNCATEGORISED}
    for own in sorted({row.category.strip() for row in rows} - {""}):
        spelled.setdefault(own.casefold(), own)
    return spelled
