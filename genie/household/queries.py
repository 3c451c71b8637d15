"""The named, read-only queries over the household's data, and how their rows become records."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType
from typing import Any, Final, Literal

from sqlalchemy import Connection, Row, Select, func, select

from bursar.genie.household import schema
from bursar.genie.household.folding import fold
from bursar.genie.household.records import (
    BankAccount,
    BankTransaction,
    ClosingPrice,
    Debt,
    ImportedFile,
    Lot,
    Profile,
    Suitability,
)

ParameterKind = Literal["date", "text", "count"]
Parameters = Mapping[str, date | str | int]
Record = BankAccount | BankTransaction | Lot | ClosingPrice | Debt | ImportedFile
SelectRows = Select[*tuple[Any, ...]]
ResultRow = Row[*tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class NamedQuery:
    """One named query: its parameters, its statement, and `record`, the function that turns a row into a record.

    If `newest_first`, the statement returns the newest rows first. `as_of` selects the newest day of the data, no
    matter which rows the parameters leave out.
    """

    name: str
    description: str
    parameters: Mapping[str, ParameterKind]
    statement: Callable[[Parameters], SelectRows]
    record: Callable[[ResultRow], Record]
    as_of: SelectRows
    newest_first: bool = False


def _accounts(_: Parameters) -> SelectRows:
    return select(schema.accounts).order_by(schema.accounts.c.id)


def _transactions(parameters: Parameters) -> SelectRows:
    table = schema.transactions
    names = [field.name for field in table.columns if field.name not in {"payee_folded", "origin"}]
    statement = select(*(table.c[name] for name in names))
    if (start := parameters.get("start")) is not None:
        statement = statement.where(table.c.booked_on >= start)
    if (end := parameters.get("end")) is not None:
        statement = statement.where(table.c.booked_on <= end)
    if (account_id := parameters.get("account_id")) is not None:
        statement = statement.where(table.c.account_id == account_id)
    if (payee := parameters.get("payee")) is not None:
        statement = statement.where(table.c.payee_folded.contains(fold(str(payee)), autoescape=True))
    return statement.order_by(table.c.booked_on.desc(), table.c.at.desc().nulls_last(), table.c.id.desc())


def _lots(_: Parameters) -> SelectRows:
    return select(schema.lots).order_by(schema.lots.c.symbol, schema.lots.c.acquired_on, schema.lots.c.id)


def _prices(parameters: Parameters) -> SelectRows:
    table = schema.prices
    statement = select(table)
    if (start := parameters.get("start")) is not None:
        statement = statement.where(table.c.day >= start)
    if (end := parameters.get("end")) is not None:
        statement = statement.where(table.c.day <= end)
    return statement.order_by(table.c.day.desc(), table.c.symbol.desc())


def _debts(_: Parameters) -> SelectRows:
    return select(schema.debts).order_by(schema.debts.c.name)


def _imports(_: Parameters) -> SelectRows:
    table = schema.imports
    shown = (table.c.file_name, table.c.kind, table.c.imported_on, table.c.added, table.c.unchanged, table.c.rejected)
    return select(*shown).order_by(table.c.imported_on, table.c.file_name, table.c.file_hash)


_NEWEST_BOOKING: Final = select(func.max(schema.transactions.c.booked_on))
_NEWEST_PRICE: Final = select(func.max(schema.prices.c.day))
_NEWEST_IMPORT: Final = select(func.max(schema.imports.c.imported_on))
_QUERIES: Final = (
    NamedQuery(
        "accounts",
        "all accounts with their stated balances",
        {},
        _accounts,
        lambda row: BankAccount(*row),
        _NEWEST_BOOKING,
    ),
    NamedQuery(
        "transactions",
        "transactions by day, account and payee; limit keeps the newest",
        {"start": "date", "end": "date", "account_id": "text", "payee": "text", "limit": "count"},
        _transactions,
        lambda row: BankTransaction(*row),
        _NEWEST_BOOKING,
        newest_first=True,
    ),
    NamedQuery("lots", "purchases of securities that are still held", {}, _lots, lambda row: Lot(*row), _NEWEST_PRICE),
    NamedQuery(
        "prices",
        "closing prices by day",
        {"start": "date", "end": "date"},
        _prices,
        lambda row: ClosingPrice(*row),
        _NEWEST_PRICE,
        newest_first=True,
    ),
    NamedQuery("imports", "files that were imported", {}, _imports, lambda row: ImportedFile(*row), _NEWEST_IMPORT),
    NamedQuery("debts", "debts of the profile", {}, _debts, lambda row: Debt(*row), _NEWEST_BOOKING),
)
QUERIES: Final[Mapping[str, NamedQuery]] = MappingProxyType({query.name: query for query in _QUERIES})


def read_profile(connection: Connection) -> Profile | None:
    """Return the stored profile with its debts and suitability record, or None if no profile is stored."""
    row = connection.execute(select(schema.profile)).one_or_none()
    if row is None:
        return None
    recorded = connection.execute(select(schema.suitability)).one_or_none()
    debts = connection.execute(_debts({})).all()
    return Profile(
        country=row.country,
        tax_year=row.tax_year,
        filing_status=row.filing_status,
        dependants=row.dependants,
        gross_annual_income=row.gross_annual_income,
        currency=row.currency,
        suitability=None
        if recorded is None
        else Suitability(recorded.risk_band, recorded.horizon_years, recorded.recorded_on, recorded.valid_until),
        debts=tuple(Debt(*debt) for debt in debts),
    )
