"""What a user may state about files, and what a reader of files hands to the store."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal

from bursar.genie.household.records import BankAccount, ClosingPrice, Lot, Profile, Transaction
from bursar.genie.importing.import_report import FileKind, Rejected
from bursar.genie.importing.parsing.amounts import DecimalMark
from bursar.genie.importing.parsing.dates import DateOrder


@dataclass(frozen=True, slots=True)
class Options:
    """What the user stated; None is to be found out. `household_currency` is the profile's, where a file names none."""

    currency: str | None = None
    account: str | None = None
    date_order: DateOrder | None = None
    decimal_mark: DecimalMark | None = None
    household_currency: str | None = None


@dataclass(frozen=True, slots=True)
class Content:
    """All that a file holds, with its rejected rows.

    `origin` is the format: two formats may describe the same posting under different ids. `whole_accounts` are the
    accounts of which the file lists every lot: a stored lot that it does not list was sold.
    """

    kind: FileKind
    origin: str
    accounts: tuple[BankAccount, ...] = ()
    transactions: tuple[Transaction, ...] = ()
    lots: tuple[Lot, ...] = ()
    prices: tuple[ClosingPrice, ...] = ()
    profile: Profile | None = None
    rejected: tuple[Rejected, ...] = ()
    inferred: Mapping[str, str] = field(default_factory=dict[str, str])
    whole_accounts: frozenset[str] = frozenset()

    def days(self) -> list[date]:
        """Every day that the file's records are about."""
        return [
            *(row.booked_on for row in self.transactions),
            *(price.day for price in self.prices),
            *(lot.acquired_on for lot in self.lots),
        ]

    def currencies(self) -> set[str]:
        """The currencies of the file's records."""
        records = (*self.transactions, *self.lots, *self.prices)
        return {record.currency for record in records} or {account.currency for account in self.accounts}


def cost_of_one(total: Decimal, quantity: Decimal) -> Decimal:
    """Unit cost from a total, to 8 decimals."""
    return (total / quantity).quantize(Decimal("0.00000001")).normalize() + Decimal(0)
