"""Reads holdings (one line for each lot) and closing prices from delimited text."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeVar

from bursar.genie.household.folding import fold
from bursar.genie.household.records import AssetClass, BankAccount, ClosingPrice, Lot
from bursar.genie.importing.file_facts import date_order, describe_style, file_currency, is_currency, number_style
from bursar.genie.importing.import_options import Content, Options, cost_of_one
from bursar.genie.importing.import_report import ImportFailed, Rejected
from bursar.genie.importing.parsing.amounts import NumberStyle, parse_amount
from bursar.genie.importing.parsing.columns import Columns, Role
from bursar.genie.importing.parsing.dates import DateOrder, parse_date
from bursar.genie.importing.stable_ids import Identity, digest, identify, identify_file, plain
from bursar.genie.importing.text_table import TextTable, account_in_preamble, overflow

T = TypeVar("T")
_CLASSES: Final[tuple[tuple[AssetClass, tuple[str, ...]], ...]] = (
    ("real_estate", ("real estate", "real_estate", "reit", "property", "immobil", "vastgoed", "inmueble")),
    ("bond", ("bond", "fixed income", "anleihe", "rente", "obligation", "obligatie", "bono", "treasur")),
    ("cash", ("cash", "money market", "geldmarkt", "liquid", "efectivo")),
    ("commodity", ("commodit", "gold", "rohstoff", "silver", "matiere", "materia")),
    ("equity", ("equit", "stock", "share", "aktie", "action", "accion", "aandel")),
)


def read_holdings(table: TextTable, path: Path, options: Options) -> Content:
    """Read one lot from each row. Raises `ImportFailed` if the file's number style or date order stays ambiguous.

    If no row is rejected, the file counts as a list of all lots of its accounts.
    """
    style, order, currency, inferred = _reading(table, ("quantity", "unit_cost", "cost"), options)
    stated = options.account or account_in_preamble(table.preamble)
    default = identify(stated, kind="brokerage") if stated else replace(identify_file(path), kind="brokerage")
    identities: dict[str, Identity] = {}

    def read(row: tuple[str, ...]) -> Lot:
        named = table.columns.cell(row, "account")
        identity = identify(named, kind="brokerage") if named and options.account is None else default
        lot = _lot(row, table.columns, style=style, order=order, currency=currency, account_id=identity.id)
        identities[identity.id] = identity
        return lot

    lots, rejected = _read_rows(table, read)
    numbered = number_lots(lots)
    currencies = {
        identity: Counter(lot.currency for lot in lots if lot.account_id == identity) for identity in identities
    }
    accounts = tuple(
        BankAccount(
            one.id, one.name, "brokerage", min(currencies[one.id], key=lambda code: (-currencies[one.id][code], code))
        )
        for one in identities.values()
    )
    whole = frozenset[str]() if rejected else frozenset(identities)
    return Content(
        "holdings", "csv", accounts, lots=numbered, rejected=rejected, inferred=inferred, whole_accounts=whole
    )


def read_prices(table: TextTable, options: Options) -> Content:
    """Read one closing price from each row. Raises `ImportFailed` if the number style or date order is ambiguous."""
    style, order, currency, inferred = _reading(table, ("close",), options)
    columns = table.columns

    def read(row: tuple[str, ...]) -> ClosingPrice:
        day, _ = parse_date(columns.cell(row, "booked"), order)
        close = parse_amount(columns.cell(row, "close"), style)
        if close <= 0:
            raise ValueError(f"a price of {close} is not above zero")
        return ClosingPrice(_symbol(row, columns), day, close, _currency(row, columns, currency))

    prices, rejected = _read_rows(table, read)
    return Content("prices", "csv", prices=tuple(prices), rejected=rejected, inferred=inferred)


def number_lots(lots: Sequence[Lot]) -> tuple[Lot, ...]:
    """Return the lots with deterministic ids. Equal purchases on one day get different ids, so that none is lost."""
    seen: Counter[tuple[str, ...]] = Counter()
    numbered: list[Lot] = []
    for lot in lots:
        key = (lot.account_id, lot.symbol, lot.acquired_on.isoformat(), plain(lot.quantity), plain(lot.unit_cost))
        seen[key] += 1
        numbered.append(replace(lot, id=digest("lot", *key, lot.currency, str(seen[key]))))
    return tuple(numbered)


def asset_class(text: str) -> AssetClass:
    """Return the asset class that the text names, or "other" if it names none of the asset classes."""
    folded = fold(text)
    for kind, words in _CLASSES:
        if any(word in folded for word in words):
            return kind
    return "other"


def _reading(
    table: TextTable, roles: Sequence[Role], options: Options
) -> tuple[NumberStyle, DateOrder | None, str, dict[str, str]]:
    style = number_style(table, roles, options)
    # Quantities and prices can have three decimals, so three digits after the mark do not mean thousands.
    style = replace(style, thirds=True)
    order = date_order(table, options)
    currency, how = file_currency(table, options)
    inferred = {**table.inferred, "decimal mark": describe_style(style), "currency": f"{currency} ({how})"}
    return style, order, currency, inferred


def _lot(
    row: tuple[str, ...],
    columns: Columns,
    *,
    style: NumberStyle,
    order: DateOrder | None,
    currency: str,
    account_id: str,
) -> Lot:
    quantity = parse_amount(columns.cell(row, "quantity"), style)
    if quantity <= 0:
        raise ValueError(f"a quantity of {quantity} is not above zero")
    unit_text = columns.cell(row, "unit_cost")
    unit_cost = (
        parse_amount(unit_text, style)
        if unit_text
        else cost_of_one(parse_amount(columns.cell(row, "cost"), style), quantity)
    )
    if unit_cost < 0:
        raise ValueError(f"a cost of {unit_cost} is below zero")
    acquired = columns.cell(row, "acquired") or columns.cell(row, "booked")
    symbol = _symbol(row, columns)
    return Lot(
        id="",
        account_id=account_id,
        symbol=symbol,
        name=columns.cell(row, "name") or symbol,
        asset_class=asset_class(columns.cell(row, "asset_class")),
        quantity=quantity,
        unit_cost=unit_cost,
        acquired_on=parse_date(acquired, order)[0],
        currency=_currency(row, columns, currency),
    )


def _symbol(row: tuple[str, ...], columns: Columns) -> str:
    symbol = columns.cell(row, "symbol").upper()
    if not symbol or len(symbol) > 32:
        raise ValueError(f"{symbol!r} is no symbol")
    return symbol


def _currency(row: tuple[str, ...], columns: Columns, default: str) -> str:
    currency = columns.cell(row, "currency").upper() or default
    if not is_currency(currency):
        raise ValueError(f"{currency!r} is no currency code")
    return currency


def _read_rows(table: TextTable, read: Callable[[tuple[str, ...]], T]) -> tuple[list[T], tuple[Rejected, ...]]:
    kept: list[T] = []
    rejected: list[Rejected] = []
    for number, row in table.rows:
        try:
            if (reason := overflow(table.columns, row)) is not None:
                raise ValueError(reason)  # noqa: TRY301
            kept.append(read(row))
        except ValueError as error:
            rejected.append(Rejected(number, str(error), table.delimiter.join(row)))
    if not kept and rejected:
        raise ImportFailed(f"has no readable row; the first problem is in line {rejected[0].row}: {rejected[0].reason}")
    return kept, tuple(rejected)
