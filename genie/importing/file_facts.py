"""Finds what is the same for all rows of a delimited file: its number style, its date order, its currency."""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from bursar.genie.importing.import_options import Options
from bursar.genie.importing.import_report import ImportFailed
from bursar.genie.importing.parsing.amounts import NumberStyle, infer_style
from bursar.genie.importing.parsing.columns import Role
from bursar.genie.importing.parsing.dates import DateOrder, infer_order
from bursar.genie.importing.text_table import TextTable

_ISO_CURRENCY: Final = re.compile(r"[A-Z]{3}")
_DATES: Final[tuple[Role, ...]] = ("booked", "traded", "valued", "acquired")


def number_style(table: TextTable, roles: Sequence[Role], options: Options) -> NumberStyle:
    """Return how the columns of these `roles` print numbers. Raises `ImportFailed` if the decimal mark is ambiguous."""
    texts = [text for role in roles for text in _texts(table, (role,))]
    found = infer_style(texts)
    if options.decimal_mark is not None:
        return NumberStyle(
            options.decimal_mark, found is not None and found.mark == options.decimal_mark and found.thirds
        )
    if found is not None:
        return found
    # A file separates columns by semicolons because its amounts have decimal commas.
    if table.delimiter == ";":
        return NumberStyle(",")
    raise ImportFailed("writes amounts like 1.234 that could be thousands or decimals; say --decimal-mark . or ,")


def date_order(table: TextTable, options: Options) -> DateOrder | None:
    """Return the file's order of day and month, or None if its dates can be read without an order.

    Raises `ImportFailed` if the order is needed but ambiguous.
    """
    if options.date_order is not None:
        return options.date_order
    order = infer_order(_texts(table, _DATES))
    if order == "ambiguous":
        if table.columns.foreign:
            return "dmy"
        raise ImportFailed("has dates that read both day-first and month-first; say --date-order dmy or mdy")
    return order


def file_currency(table: TextTable, options: Options) -> tuple[str, str]:
    """Return the currency of the rows that state no currency, and a text for the import report on how it was found."""
    if options.currency is not None:
        return options.currency, "as stated"
    if table.columns.currency is not None:
        return table.columns.currency, "from the header"
    for cells in table.preamble:
        if len(cells) > 1 and re.match(r"(?i)currency|w[äa]hrung|devise|divisa|munt|valuta", cells[0].strip()):
            stated = next((cell.strip() for cell in cells[1:] if is_currency(cell.strip())), None)
            if stated:
                return stated, "from the lines before the header"
    if options.household_currency is not None:
        return options.household_currency, "the household's"
    assumed = "EUR" if table.columns.foreign else "USD"
    return assumed, "assumed, as the file states none; say --currency if it is another"


def is_currency(text: str) -> bool:
    """Whether the text looks like an ISO 4217 code."""
    return _ISO_CURRENCY.fullmatch(text) is not None


def describe_style(style: NumberStyle) -> str:
    """Return the name of the style's decimal mark, for the import report."""
    return "comma" if style.mark == "," else "point"


def _texts(table: TextTable, roles: Iterable[Role]) -> list[str]:
    columns = table.columns
    return [text for role in roles for _, row in table.rows if (text := columns.cell(row, role))]
