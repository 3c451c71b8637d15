"""What a user may state about a file, and the content that a file's reader gives to the store."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal

from bursar.genie.household.records import BankAccount, BankTransaction, ClosingPrice, Lot, Profile
from bursar.genie.importing.import_report import FileKind, Rejected
from bursar.genie.importing.parsing.amounts import DecimalMark
from bursar.genie.importing.parsing.dates import DateOrder


@dataclass(frozen=True, slots=True)
class Options:
    """What the user states about a file. The file's reader works out each value that is None.

    `household_currency` is the currency of the stored profile. It is used if the file names no currency.
    """

    currency: str | None = None
    account: str | None = None
    date_order: DateOrder | None = None
    decimal_mark: DecimalMark | None = None
    household_currency: str | None = None


@dataclass(frozen=True, slots=True)
class Content:
    """The records of a file, and its rejected rows.

    `origin` is the file's format: two formats may give the same posting different ids. The file lists every lot of the
    accounts in `whole_accounts`, so a stored lot of these accounts that the file does not list was sold.
    """

    kind: FileKind
    origin: str
    accounts: tuple[BankAccount, ...] = ()
    transactions: tuple[BankTransaction, ...] = ()
    lots: tuple[Lot, ...] = ()
    prices: tuple[ClosingPrice, ...] = ()
    profile: Profile | None = None
    rejected: tuple[Rejected, ...] = ()
    inferred: Mapping[str, str] = field(default_factory=dict[str, str])
    whole_accounts: frozenset[str] = frozenset()

    def days(self) -> list[date]:
        """Return the days of the file's transactions, prices and purchases."""
        return [
            *(row.booked_on for row in self.transactions),
            *(price.day for price in self.prices),
            *(lot.acquired_on for lot in self.lots),
        ]

    def currencies(self) -> set[str]:
        """Return the currencies of the file's records; if the file has no records, the currencies of its accounts."""
        records = (*self.transactions, *self.lots, *self.prices)
        return {record.currency for record in records} or {account.currency for account in self.accounts}


def cost_of_one(total: Decimal, quantity: Decimal) -> Decimal:
    """Return the cost of one unit, to 8 decimals, from the `total` cost of `quantity` units."""
    return (total / quantity).quantize(Decimal("0.00000001")).normalize() + Decimal(0)
