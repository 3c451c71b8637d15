"""Reads bank, card and investment statements in OFX 1 (SGML) and OFX 2 (XML).

The tree is read entry by entry, not converted as a whole, so that one bad entry is rejected and the others are kept.
"""

import html
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Final, TypeVar
from xml.etree.ElementTree import Element

from bursar.genie.household.records import AccountKind, BankAccount, BankTransaction, ClosingPrice, Lot
from bursar.genie.importing.file_facts import is_currency
from bursar.genie.importing.holdings_ofx import StatementTrade, fifo_lots
from bursar.genie.importing.import_options import Content, Options
from bursar.genie.importing.import_report import ImportFailed, Rejected
from bursar.genie.importing.parsing.amounts import NumberStyle, infer_style, parse_amount
from bursar.genie.importing.parsing.dates import parse_date
from bursar.genie.importing.parsing.ofx_tree import parse_ofx
from bursar.genie.importing.stable_ids import Identity, digest, identify, identify_file, plain
from bursar.genie.importing.text_table import decode

T = TypeVar("T")
_STATEMENTS: Final = ("STMTRS", "CCSTMTRS", "INVSTMTRS")
_BANK_KINDS: Final[dict[str, AccountKind]] = {
    "CHECKING": "current",
    "SAVINGS": "savings",
    "MONEYMRKT": "savings",
    "CD": "savings",
    "CREDITLINE": "loan",
}
_MOMENT: Final = re.compile(r"(\d{8})(?:(\d{2})(\d{2})(\d{2})?)?")
_MAX_ENTRIES: Final = 500_000


@dataclass(slots=True)
class _Found:
    """The records and the rejected entries that have been read so far; `entries` counts all entries read."""

    accounts: dict[str, BankAccount] = field(default_factory=dict[str, BankAccount])
    transactions: list[BankTransaction] = field(default_factory=list[BankTransaction])
    lots: list[Lot] = field(default_factory=list[Lot])
    prices: list[ClosingPrice] = field(default_factory=list[ClosingPrice])
    rejected: list[Rejected] = field(default_factory=list[Rejected])
    entries: int = 0

    def read(self, entries: Iterable[Element], reader: Callable[[Element], T]) -> list[T]:
        """Return the result of `reader` for each entry. If `reader` raises `ValueError`, add the entry to `rejected`.

        Raises `ImportFailed` if the file has too many entries.
        """
        kept: list[T] = []
        for entry in entries:
            self.entries += 1
            if self.entries > _MAX_ENTRIES:
                raise ImportFailed(f"has more than {_MAX_ENTRIES} entries; split it")
            try:
                kept.append(reader(entry))
            except ValueError as error:
                texts = ((part.text or "").strip() for part in entry.iter())
                self.rejected.append(Rejected(self.entries, str(error), " ".join(text for text in texts if text)))
        return kept


def looks_like_ofx(content: bytes) -> bool:
    """Whether `content` starts as an OFX file does."""
    start = content[:4096].lstrip(b"\xef\xbb\xbf \r\n\t").upper()
    return start.startswith(b"OFXHEADER") or b"<?OFX" in start or (start.startswith(b"<") and b"<OFX>" in start)


def read_ofx(content: bytes, path: Path, options: Options) -> Content:
    """Read the accounts, transactions, lots and prices of all statements in an OFX file.

    Raises `ImportFailed` if the file is no OFX, has no statement, states no currency, or has several accounts although
    `options.account` names one.
    """
    root = _tree(content)
    statements = [element for tag in _STATEMENTS for element in root.iter(tag)]
    if not statements:
        raise ImportFailed("holds no bank, card or investment statement")
    if options.account is not None and len(statements) > 1:
        raise ImportFailed("holds several accounts; leave --account out")
    amounts = [text for tag in ("TRNAMT", "BALAMT") for element in root.iter(tag) if (text := _own(element))]
    style = infer_style(amounts) or NumberStyle(".")
    found = _Found()
    for statement in statements:
        identity = _identity(statement, path, options)
        currency = options.currency or _text(statement, "CURDEF") or options.household_currency
        if currency is None or not is_currency(currency):
            raise ImportFailed("states no currency; say --currency")
        _read_bookings(statement, identity, found=found, currency=currency, style=style)
        if statement.tag == "INVSTMTRS":
            _read_positions(statement, root, identity, found=found, currency=currency)
        _read_account(statement, identity, found=found, currency=currency, style=style)
    return Content(
        "statement",
        "ofx",
        tuple(found.accounts.values()),
        tuple(_with_real_times(found.transactions)),
        lots=tuple(found.lots),
        prices=tuple(found.prices),
        rejected=tuple(found.rejected),
        inferred={
            "format": "OFX",
            "decimal mark": "comma" if style.mark == "," else "point",
            "sign rule": "as printed",
        },
        whole_accounts=frozenset(lot.account_id for lot in found.lots) if not found.rejected else frozenset(),
    )


def _tree(content: bytes) -> Element:
    text, _ = decode(content)
    try:
        return parse_ofx(text)
    except ValueError as error:
        raise ImportFailed(f"is no OFX that can be read: {error}") from error


def _identity(statement: Element, path: Path, options: Options) -> Identity:
    kind: AccountKind = "card" if statement.tag == "CCSTMTRS" else "current"
    if statement.tag == "INVSTMTRS":
        kind = "brokerage"
    elif statement.tag == "STMTRS":
        kind = _BANK_KINDS.get(_text(statement, "ACCTTYPE") or "", "current")
    number = options.account or _text(statement, "ACCTID")
    return identify(number, kind=kind) if number else replace(identify_file(path), kind=kind)


def _read_bookings(statement: Element, identity: Identity, *, found: _Found, currency: str, style: NumberStyle) -> None:
    def read(entry: Element) -> BankTransaction:
        moment = _moment(_text(entry, "DTPOSTED") or "")
        amount = parse_amount(_text(entry, "TRNAMT") or "", replace(style, thirds=True))
        fitid = _text(entry, "FITID")
        if not fitid:
            raise ValueError("no FITID")
        payee, memo = _text(entry, "NAME") or "", _text(entry, "MEMO") or ""
        own = entry.find("CURRENCY/CURSYM")
        booked = moment.date()
        return BankTransaction(
            # Some banks use one FITID for several postings, so day and amount are in the id too.
            id=digest("fitid", identity.id, fitid, booked.isoformat(), plain(amount)),
            account_id=identity.id,
            booked_on=booked,
            amount=amount,
            currency=_currency(currency if own is None else _own(own)),
            payee=payee or memo,
            memo=memo if payee else "",
            at=moment,
        )

    found.transactions += found.read(statement.iter("STMTTRN"), read)


def _with_real_times(rows: Sequence[BankTransaction]) -> list[BankTransaction]:
    """Return the rows, with `at` set to None if the printed time is not real.

    A bank that has no times prints midnight, or the same time for every posting. So a time is real if it is not
    midnight, and if the rows have at least two different times other than midnight.
    """
    clocks = {row.at.time() for row in rows if row.at is not None}
    meant = len(clocks - {time(0)}) > 1
    return [row if meant and row.at is not None and row.at.time() != time(0) else replace(row, at=None) for row in rows]


def _read_account(statement: Element, identity: Identity, *, found: _Found, currency: str, style: NumberStyle) -> None:
    balance: Decimal | None = None
    balance_on: date | None = None
    ledger = statement.find("LEDGERBAL")
    if ledger is not None:
        for amount, day in found.read(
            [ledger],
            lambda entry: (
                parse_amount(_text(entry, "BALAMT") or "", replace(style, thirds=True)),
                _moment(_text(entry, "DTASOF") or "").date(),
            ),
        ):
            balance, balance_on = amount, day
    found.accounts[identity.id] = BankAccount(
        identity.id, identity.name, identity.kind or "current", currency, balance, balance_on
    )


def _read_positions(statement: Element, root: Element, identity: Identity, *, found: _Found, currency: str) -> None:
    """Add to `found` the price of each position in the statement, and the lots that the position consists of.

    The lots are what the statement's sales leave of its purchases, first in, first out. If these lots do not add up to
    the position's units, only the price is added, and the position is rejected.
    """
    securities = {
        _text(info, "UNIQUEID"): (_text(info, "TICKER") or _text(info, "UNIQUEID") or "", _text(info, "SECNAME") or "")
        for info in root.iter("SECINFO")
    }
    plain_style = NumberStyle(".", thirds=True)

    def trade(entry: Element) -> StatementTrade:
        symbol, name = securities.get(_text(entry, "UNIQUEID"), (_text(entry, "UNIQUEID") or "", ""))
        units = abs(parse_amount(_text(entry, "UNITS") or "", plain_style))
        total = abs(parse_amount(_text(entry, "TOTAL") or "", plain_style))
        bought = entry.tag == "INVBUY"
        return StatementTrade(
            _symbol(symbol), name, _moment(_text(entry, "DTTRADE") or "").date(), units if bought else -units, total
        )

    def position(entry: Element) -> tuple[ClosingPrice, Decimal]:
        symbol = securities.get(_text(entry, "UNIQUEID"), (_text(entry, "UNIQUEID") or "", ""))[0]
        day = _moment(_text(entry, "DTPRICEASOF") or "").date()
        close = parse_amount(_text(entry, "UNITPRICE") or "", plain_style)
        return ClosingPrice(_symbol(symbol), day, close, currency), parse_amount(
            _text(entry, "UNITS") or "", plain_style
        )

    trades = found.read([*statement.iter("INVBUY"), *statement.iter("INVSELL")], trade)
    for price, units in found.read(statement.iter("INVPOS"), position):
        found.prices.append(price)
        own = [one for one in trades if one.symbol == price.symbol]
        lots = fifo_lots(own, identity.id, currency)
        held = sum((lot.quantity for lot in lots), Decimal(0))
        if held == units:
            found.lots += lots
        else:
            reason = f"holds {units} units, its purchases explain {held}; import a holdings CSV with their cost"
            found.rejected.append(Rejected(found.entries, reason, price.symbol))


def _moment(text: str) -> datetime:
    """Return the local time that the bank printed. The UTC offset is ignored: it could move a posting to another day.

    Raises `ValueError` if `text` is no date.
    """
    match = _MOMENT.match(text)
    if match is None:
        raise ValueError(f"{text!r} is no date")
    day, _ = parse_date(match[1], None)
    return datetime.combine(day, time(int(match[2] or 0), int(match[3] or 0), int(match[4] or 0)))


def _currency(text: str) -> str:
    if not is_currency(text):
        raise ValueError(f"{text!r} is no currency code")
    return text


def _symbol(text: str) -> str:
    if not 0 < len(text) <= 32:
        raise ValueError(f"{text!r} is no symbol")
    return text


def _own(element: Element) -> str:
    return html.unescape(element.text or "").strip()


def _text(element: Element, tag: str) -> str | None:
    """Return the text of the first element with this tag inside `element`; None if element or text is missing."""
    found = element.find(f".//{tag}")
    return None if found is None else _own(found) or None
