"""The tables that hold the household's data, the same on SQLite and PostgreSQL."""

from decimal import Decimal
from typing import Final

from sqlalchemy import (
    Column,
    Date,
    DateTime,
    Dialect,
    Engine,
    Index,
    Integer,
    MetaData,
    Numeric,
    String,
    Table,
    Text,
    func,
    select,
)
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlalchemy.types import TypeDecorator, TypeEngine

# Any fixed number: it names the advisory lock under which PostgreSQL creates or fills these tables.
WRITE_LOCK: Final = 0x67656E6965


class Exact(TypeDecorator[Decimal]):
    """A column type that keeps a `Decimal` with its scale: as text on SQLite, as NUMERIC on PostgreSQL.

    Raises `ValueError` for NaN and infinities. Sums are computed in Python: SQLite would add text as floats.
    """

    impl = String(60)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Decimal] | TypeEngine[str]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(Numeric(asdecimal=True))
        return dialect.type_descriptor(String(60))

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> Decimal | str | None:
        if value is None:
            return None
        if not value.is_finite():
            raise ValueError(f"{value} is no amount: it must be finite")
        return value if dialect.name == "postgresql" else format(value, "f")

    def process_result_value(self, value: str | Decimal | None, dialect: Dialect) -> Decimal | None:
        return None if value is None else Decimal(value)


metadata = MetaData()

accounts = Table(
    "genie_accounts",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", Text, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("currency", String(3), nullable=False),
    Column("balance", Exact),
    Column("balance_on", Date),
)

transactions = Table(
    "genie_transactions",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("account_id", String(64), nullable=False),
    Column("booked_on", Date, nullable=False),
    Column("amount", Exact, nullable=False),
    Column("currency", String(3), nullable=False),
    Column("payee", Text, nullable=False),
    Column("memo", Text, nullable=False),
    Column("category", Text, nullable=False),
    Column("at", DateTime),
    Column("balance_after", Exact),
    Column("payee_folded", Text, nullable=False),
    Column("origin", String(8), nullable=False),
    Index("genie_transactions_by_day", "booked_on", "account_id"),
)

lots = Table(
    "genie_lots",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("account_id", String(64), nullable=False),
    Column("symbol", String(32), nullable=False),
    Column("name", Text, nullable=False),
    Column("asset_class", String(16), nullable=False),
    Column("quantity", Exact, nullable=False),
    Column("unit_cost", Exact, nullable=False),
    Column("acquired_on", Date, nullable=False),
    Column("currency", String(3), nullable=False),
)

prices = Table(
    "genie_prices",
    metadata,
    Column("symbol", String(32), primary_key=True),
    Column("day", Date, primary_key=True),
    Column("close", Exact, nullable=False),
    Column("currency", String(3), nullable=False),
)

profile = Table(
    "genie_profile",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("country", Text),
    Column("tax_year", Integer),
    Column("filing_status", Text),
    Column("dependants", Integer),
    Column("gross_annual_income", Exact),
    Column("currency", String(3), nullable=False),
)

suitability = Table(
    "genie_suitability",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("risk_band", String(16), nullable=False),
    Column("horizon_years", Integer, nullable=False),
    Column("recorded_on", Date, nullable=False),
    Column("valid_until", Date, nullable=False),
)

debts = Table(
    "genie_debts",
    metadata,
    Column("name", Text, primary_key=True),
    Column("balance", Exact, nullable=False),
    Column("annual_rate", Exact, nullable=False),
    Column("monthly_payment", Exact, nullable=False),
    Column("currency", String(3), nullable=False),
)

imports = Table(
    "genie_imports",
    metadata,
    Column("file_hash", String(64), primary_key=True),
    Column("file_name", Text, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("imported_on", Date, nullable=False),
    Column("added", Integer, nullable=False),
    Column("unchanged", Integer, nullable=False),
    Column("rejected", Integer, nullable=False),
)


def prepare(engine: Engine) -> None:
    """Create the household's tables that are missing. Several processes may call this function at the same time."""
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            # Race: another process may create the same table between IF NOT EXISTS's look and its create, and then
            # PostgreSQL raises an error. With the lock, processes take turns.
            connection.execute(select(func.pg_advisory_xact_lock(WRITE_LOCK)))
        for table in metadata.sorted_tables:
            connection.execute(CreateTable(table, if_not_exists=True))
            for index in sorted(table.indexes, key=lambda index: str(index.name)):
                connection.execute(CreateIndex(index, if_not_exists=True))
