"""Reads bank and card statements from delimited text."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

from bursar.genie.household.folding import fold
from bursar.genie.household.records import AccountKind, BankAccount, BankTransaction
from bursar.genie.importing.file_facts import date_order, describe_style, file_currency, is_currency, number_style
from bursar.genie.importing.import_options import Content, Options
from bursar.genie.importing.import_report import ImportFailed, Rejected
from bursar.genie.importing.parsing.amounts import Direction, NumberStyle, parse_amount, take_apart
from bursar.genie.importing.parsing.columns import Columns
from bursar.genie.importing.parsing.dates import DateOrder, at_moment, parse_date, parse_time
from bursar.genie.importing.parsing.sign_rules import (
    Printing,
    balance_is_owed,
    direction_of,
    infer_rule,
    split_columns_sign,
)
from bursar.genie.importing.stable_ids import Identity, identify, identify_file, number_transactions
from bursar.genie.importing.text_table import TextTable, account_in_preamble, overflow

_NOT_BOOKED = frozenset(["pending", "declined", "failed", "reverted", "cancelled", "canceled", "vorgemerkt"])


@dataclass(frozen=True, slots=True)
class _Line:
    """A row that could be read; its amounts still have their printed signs.

    The amount is in `debit` or `credit` if the file has such columns, otherwise in `printing.amount`.
    """

    number: int
    text: str
    day: date
    at: datetime | None
    printing: Printing
    debit: Decimal | None
    credit: Decimal | None
    currency: str
    identity: Identity
    row: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Reading:
    """How the cells of a file are read.

    If `split`, amounts are in a debit and a credit column. If `direction_column`, a column says whether a row is debit
    or credit. If `directed_by_type`, this column is the type column.
    """

    columns: Columns
    style: NumberStyle
    order: DateOrder | None
    currency: str
    split: bool
    direction_column: bool
    directed_by_type: bool


_Signed = tuple[_Line, Decimal, Decimal | None]


def read_statement(table: TextTable, path: Path, options: Options) -> Content:
    """Return a transaction for every row that can be read, and a rejected row for every other row.

    Raises `ImportFailed` if no row can be read, if the number style or date order stays ambiguous, or if
    `options.account` names one account for a file with several accounts.
    """
    currency, currency_how = file_currency(table, options)
    columns = table.columns
    split = "debit" in columns.at or "credit" in columns.at
    split = split and ("amount" not in columns.at or {"debit", "credit"} <= columns.at.keys())
    style = number_style(table, ("debit", "credit", "balance") if split else ("amount", "balance"), options)
    order = date_order(table, options)
    by_type = "direction" not in columns.at and _type_is_direction(table)
    reading = _Reading(columns, style, order, currency, split, "direction" in columns.at or by_type, by_type)
    default = _file_identity(table, path, options)
    lines: list[_Line] = []
    rejected: list[Rejected] = []
    for number, row in table.rows:
        text = table.delimiter.join(row)
        try:
            if (reason := overflow(columns, row)) is not None:
                raise ValueError(reason)  # noqa: TRY301
            lines.append(_read_line(number, text, row, reading=reading, default=default, account=options.account))
        except ValueError as error:
            rejected.append(Rejected(number, str(error), text))
    if not lines and rejected:
        raise ImportFailed(f"has no readable row; the first problem is in line {rejected[0].row}: {rejected[0].reason}")
    identities = {line.identity.id: line.identity for line in lines}
    if options.account is not None and len({columns.cell(line.row, "account") for line in lines} - {""}) > 1:
        raise ImportFailed("holds several accounts; leave --account out")
    signed, rules = _sign(lines, reading)
    transactions = number_transactions(_transaction(line, amount, balance, columns) for line, amount, balance in signed)
    accounts = tuple(
        BankAccount(identity.id, identity.name, rules[identity.id][1], _main_currency(transactions, identity.id))
        for identity in identities.values()
    )
    inferred = {
        **table.inferred,
        "decimal mark": describe_style(style),
        "date order": {"dmy": "day first", "mdy": "month first", None: "not needed"}[order],
        "sign rule": "; ".join(sorted({rule for rule, _ in rules.values()})) or "as printed",
        "currency": f"{currency} ({currency_how})" if "currency" not in columns.at else "from the currency column",
    }
    return Content("statement", "csv", accounts, tuple(transactions), rejected=tuple(rejected), inferred=inferred)


def _file_identity(table: TextTable, path: Path, options: Options) -> Identity:
    if options.account is not None:
        return identify(options.account, hints=(path.stem,))
    stated = account_in_preamble(table.preamble)
    return identify(stated, hints=(path.stem,)) if stated else identify_file(path)


def _type_is_direction(table: TextTable) -> bool:
    """Whether the type column says debit or credit in every row, with at least one row of each."""
    if "type" not in table.columns.at:
        return False
    found = {direction_of(table.columns.cell(row, "type")) for _, row in table.rows}
    return found == {"in", "out"}


def _read_line(
    number: int, text: str, row: tuple[str, ...], *, reading: _Reading, default: Identity, account: str | None
) -> _Line:
    columns = reading.columns
    status = fold(columns.cell(row, "status"))
    if status in _NOT_BOOKED:
        raise ValueError(f"not booked: {status}")
    day, moment = parse_date(columns.cell(row, "booked"), reading.order)
    if clock := columns.cell(row, "time"):
        moment = parse_time(clock)
    debit = credit = None
    amount, direction, stated = Decimal(0), None, None
    if reading.split:
        debit, credit, stated = _debit_and_credit(row, reading)
    else:
        printed = columns.cell(row, "amount")
        amount = parse_amount(printed, reading.style)
        part = take_apart(printed)
        direction, stated = part.direction, part.currency
        if reading.direction_column:
            word = columns.cell(row, "type" if reading.directed_by_type else "direction")
            direction = direction_of(word)
            if direction is None:
                raise ValueError(f"{word!r} says neither debit nor credit")
    balance_text = columns.cell(row, "balance")
    balance = parse_amount(balance_text, reading.style) if balance_text else None
    currency = columns.cell(row, "currency").upper() or stated or reading.currency
    if not is_currency(currency):
        raise ValueError(f"{currency!r} is no currency code")
    named = columns.cell(row, "account")
    identity = identify(named, hints=(default.name,)) if named and account is None else default
    words = " ".join(columns.cell(row, role) for role in ("payee", "memo", "type", "category"))
    printing = Printing(amount, direction, balance, words)
    return _Line(number, text, day, at_moment(day, moment), printing, debit, credit, currency, identity, row)


def _debit_and_credit(row: tuple[str, ...], reading: _Reading) -> tuple[Decimal | None, Decimal | None, str | None]:
    """Return the row's debit, its credit and its currency. One of debit and credit is None.

    A zero beside an amount means "none". Raises `ValueError` if the row has two amounts or no amount.
    """
    texts = [reading.columns.cell(row, "debit"), reading.columns.cell(row, "credit")]
    debit, credit = (parse_amount(text, reading.style) if text.strip("-– ") else None for text in texts)
    currency = next((part for text in texts if text.strip("-– ") and (part := take_apart(text).currency)), None)
    if debit and credit:
        raise ValueError("has both a debit and a credit")
    if debit is not None and credit is not None:
        debit, credit = (debit, None) if debit else (None, credit)
    if debit is None and credit is None:
        raise ValueError("no amount")
    return debit, credit, currency


def _sign(lines: Sequence[_Line], reading: _Reading) -> tuple[list[_Signed], dict[str, tuple[str, AccountKind]]]:
    """Return two results: the lines with their signs, and the rules by which the signs were found.

    The first has each line with its signed amount and balance, in the file's order. The second maps each account id to
    the account's sign rule (as text for the import report) and kind.
    """
    signed: dict[int, _Signed] = {}
    rules: dict[str, tuple[str, AccountKind]] = {}
    for identity in {line.identity.id: line.identity for line in lines}.values():
        own = [line for line in lines if line.identity.id == identity.id]
        kind = identity.kind
        if reading.split:
            amounts, reason = _from_columns(own), "debit and credit columns"
        elif any(line.printing.direction for line in own):
            amounts, reason = _from_directions(own), "debit or credit as stated in each row"
        else:
            rule = infer_rule([line.printing for line in own], kind)
            amounts, reason = (
                [-line.printing.amount if rule.flip else line.printing.amount for line in own],
                rule.reason,
            )
            kind = kind or ("card" if rule.flip and rule.payments else None)
        turned = -1 if balance_is_owed(list(zip(amounts, [line.printing.balance for line in own], strict=True))) else 1
        for line, amount in zip(own, amounts, strict=True):
            balance = line.printing.balance
            signed[line.number] = (line, amount, None if balance is None else turned * balance)
        rules[identity.id] = (reason, kind or "current")
    return [signed[line.number] for line in lines], rules


def _from_columns(lines: Sequence[_Line]) -> list[Decimal]:
    sign = split_columns_sign([line.debit for line in lines if line.debit is not None])
    return [line.credit if line.credit is not None else sign * (line.debit or Decimal(0)) for line in lines]


def _from_directions(lines: Sequence[_Line]) -> list[Decimal]:
    """Return the signed amounts of lines that state their direction.

    If only debits are marked, lines without a mark are incoming; otherwise such lines are outgoing. If most outgoing
    amounts are printed negative, every amount is kept. Otherwise outgoing amounts are negated, so that an outgoing
    amount that is printed negative is a reversal.
    """
    marked = {line.printing.direction for line in lines}
    unmarked: Direction = "in" if marked == {"out", None} else "out"
    outgoing = [line.printing.amount for line in lines if (line.printing.direction or unmarked) == "out"]
    already_signed = sum(1 for amount in outgoing if amount < 0) * 2 > len(outgoing)
    return [
        -line.printing.amount
        if (line.printing.direction or unmarked) == "out" and not already_signed
        else line.printing.amount
        for line in lines
    ]


def _transaction(line: _Line, amount: Decimal, balance: Decimal | None, columns: Columns) -> BankTransaction:
    payee, memo, kind = (columns.cell(line.row, role) for role in ("payee", "memo", "type"))
    return BankTransaction(
        id="",
        account_id=line.identity.id,
        booked_on=line.day,
        amount=amount,
        currency=line.currency,
        payee=" ".join((payee or memo or kind).split()),
        memo=" ".join(memo.split()) if payee else "",
        category=columns.cell(line.row, "category"),
        at=line.at,
        balance_after=balance,
    )


def _main_currency(transactions: Sequence[BankTransaction], account_id: str) -> str:
    counted = Counter(row.currency for row in transactions if row.account_id == account_id)
    return min(counted, key=lambda currency: (-counted[currency], currency))
