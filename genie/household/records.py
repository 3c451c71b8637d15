"""The household's data as values, which the database connector returns and every specialist computes with.

Amounts are `Decimal`, not float, in the account's own currency. A positive amount is money that comes in, a negative
amount money that goes out. Dates are the bank's booking dates. A time is present only if the bank gave one.
"""

from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Literal

AccountKind = Literal["current", "savings", "card", "loan", "brokerage"]
AssetClass = Literal["equity", "bond", "cash", "real_estate", "commodity", "other"]
RiskBand = Literal["cautious", "balanced", "growth"]


@dataclass(frozen=True, slots=True)
class BankAccount:
    """An account of the household. `balance` is what the bank stated for the day `balance_on`, or None."""

    id: str
    name: str
    kind: AccountKind
    currency: str
    balance: Decimal | None = None
    balance_on: date | None = None


@dataclass(frozen=True, slots=True)
class BankTransaction:
    """One booked posting. `at` is None if the source has no time: an unknown time does not count as midnight."""

    id: str
    account_id: str
    booked_on: date
    amount: Decimal
    currency: str
    payee: str
    memo: str = ""
    category: str = ""
    at: datetime | None = None
    balance_after: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Lot:
    """One purchase of a security that the household still owns: `quantity` units at `unit_cost` each."""

    id: str
    account_id: str
    symbol: str
    name: str
    asset_class: AssetClass
    quantity: Decimal
    unit_cost: Decimal
    acquired_on: date
    currency: str


@dataclass(frozen=True, slots=True)
class ClosingPrice:
    """The closing price of one unit of `symbol` on `day`."""

    symbol: str
    day: date
    close: Decimal
    currency: str


@dataclass(frozen=True, slots=True)
class Debt:
    """A debt that is paid off over time; `annual_rate` is a fraction (0.065 is 6.5 %)."""

    name: str
    balance: Decimal
    annual_rate: Decimal
    monthly_payment: Decimal
    currency: str


@dataclass(frozen=True, slots=True)
class Suitability:
    """The household's suitability record, which is valid up to the day `valid_until`, inclusive.

    No investment advice may be given without a valid record.
    """

    risk_band: RiskBand
    horizon_years: int
    recorded_on: date
    valid_until: date


@dataclass(frozen=True, slots=True)
class Profile:
    """What the household states about itself. A fact that the household does not state is None; nothing is guessed."""

    country: str | None = None
    tax_year: int | None = None
    filing_status: str | None = None
    dependants: int | None = None
    gross_annual_income: Decimal | None = None
    currency: str = "USD"
    suitability: Suitability | None = None
    debts: tuple[Debt, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class ImportedFile:
    """A file that was imported, and its day and counts at the first import.

    The counts are of records that were added, records that were already stored, and rows that were rejected.
    """

    name: str
    kind: str
    imported_on: date
    added: int
    unchanged: int
    rejected: int
