"""Finds what each column means, by the header words of banks in English, German, French, Spanish and Dutch."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, cast

from bursar.genie.household.folding import fold

Role = Literal[
    "booked", "traded", "valued", "time", "amount", "debit", "credit", "direction", "payee", "memo", "balance",
    "currency", "account", "category", "type", "status",
    "symbol", "name", "asset_class", "quantity", "unit_cost", "cost", "acquired", "close",
]  # fmt: skip

_WORDS: Final = cast(
    "dict[Role, list[str]]", tomllib.loads(Path(__file__).with_name("header_words.toml").read_text(encoding="utf-8"))
)
_CURRENCY_IN_HEADER: Final = re.compile(r"\(?\b(?:in\s+)?([A-Z]{3}|[€$£])\s*\)?\s*$")
_PRICED: Final[tuple[Role, ...]] = ("amount", "debit", "credit", "close", "unit_cost", "cost", "balance")
_SIGNS: Final = {"€": "EUR", "$": "USD", "£": "GBP"}
# If a header is not recognised, the beginning of one of its words gives its role: "Amount in account currency" is an
# amount.
_STEMS: Final[tuple[tuple[Role, re.Pattern[str]], ...]] = (
    ("balance", re.compile(r"\b(?:balance|saldo|solde|kontostand)")),
    (
        "debit",
        re.compile(r"\b(?:debit|soll|withdraw|paid out|money out|outgoing|cargo|lastschrift|belast|ausgang|sortie)"),
    ),
    ("credit", re.compile(r"\b(?:credit|haben|deposit|paid in|money in|incoming|abono|gutschrift|eingang|entree)")),
    ("amount", re.compile(r"\b(?:amount|betrag|umsatz|montant|importe|bedrag)|betrag\b|bedrag\b")),
    (
        "payee",
        re.compile(r"\b(?:descri|payee|merchant|recipient|benefi|empf|libelle|concepto|omschr|naam|narrat|detail)"),
    ),
    ("memo", re.compile(r"\b(?:memo|reference|verwend|purpose|note|zweck|motif|mededel)")),
    ("currency", re.compile(r"\b(?:currency|wahrung|devise|divisa|moneda|munt|ccy)")),
    ("booked", re.compile(r"\b(?:date|datum|fecha|buchung|booked|posted)|datum\b|tag\b")),
)
_NO_STEM: Final = re.compile(
    r"\b(?:card|number|no|nr|nummer|limit|type|id|code|score|iban|fee|kind|status)\b|(?:account|konto)$"
)
_DATE: Final = re.compile(r"\b(?:date|datum|fecha|valuta|wertstellung)|datum\b|tag\b")
# Words that no English header has. A file with one of them writes its dates with the day first.
_NOT_ENGLISH: Final = re.compile(
    r"buchung|betrag|datum|valuta|wertstellung|verwendungszweck|empf|soll|haben|saldo|wahrung|umsatz|libelle|montant|solde"
    r"|devise|fecha|importe|concepto|divisa|bedrag|boek|naam|omschrijving|rekening|munt"
)


@dataclass(frozen=True, slots=True)
class Columns:
    """The meaning of a header: the column index of each role, and the currency that an amount's header states.

    `foreign` is True if the header has a word that no English header has.
    """

    at: Mapping[Role, int]
    header: tuple[str, ...]
    currency: str | None
    foreign: bool

    def cell(self, row: Sequence[str], role: Role) -> str:
        """Return the row's text in the column of `role`; empty if the column or the cell is missing."""
        index = self.at.get(role)
        return row[index].strip() if index is not None and index < len(row) else ""

    def describe(self) -> str:
        """Return, for the import report, each role with the header that was read as this role."""
        return ", ".join(f"{role}={self.header[index]}" for role, index in sorted(self.at.items()))


def read_header(cells: Sequence[str]) -> Columns:
    """Return the roles of the columns under these header cells; a cell that is not recognised has no role.

    If several cells fit a role, the role goes to the cell whose words come first in header_words.toml.
    """
    header = tuple(cell.strip() for cell in cells)
    words = [_plain(cell) for cell in header]
    at: dict[Role, int] = {}
    for role, alternatives in _WORDS.items():
        index = _first(words, alternatives, at)
        if index is not None:
            at[role] = index
    if "symbol" not in at:
        _guess(at, words)
    _settle(at, words)
    currencies = (_stated(header[at[role]]) for role in _PRICED if role in at)
    currency = next((stated for stated in currencies if stated), None)
    return Columns(at, header, currency, any(_NOT_ENGLISH.search(word) for word in words))


def _first(words: Sequence[str], alternatives: Sequence[str], taken: Mapping[Role, int]) -> int | None:
    """Return the index of a column that has no role in `taken` and whose header is one of `alternatives`.

    The earlier alternative is preferred. `words` are the headers. Return None if there is no such column.
    """
    for word in alternatives:
        for index, cell in enumerate(words):
            if cell == word and index not in taken.values():
                return index
    return None


def _guess(at: dict[Role, int], words: Sequence[str]) -> None:
    """Add missing roles to `at`: a role gets the first free column whose header has the stem of the role.

    `words` are the headers. `_STEMS` has the stem of each role.
    """
    for role, stem in _STEMS:
        if role in at or (role == "amount" and "debit" in at and "credit" in at):
            continue
        for index, word in enumerate(words):
            is_date = _DATE.search(word) is not None
            free = index not in at.values() and not _NO_STEM.search(word)
            if free and is_date == (role == "booked") and stem.search(word):
                at[role] = index
                break


def _settle(at: dict[Role, int], words: Sequence[str]) -> None:
    """Add roles that `at` still misses, from columns of similar roles: a value date becomes the booking date."""
    if "booked" in at and "valued" in at and not at.keys() & {"amount", "debit", "credit"}:
        at["amount"] = at.pop("valued")
    for stand_in in ("traded", "valued"):
        if "booked" not in at and stand_in in at:
            at["booked"] = at[stand_in]
    if "symbol" in at and "payee" in at:
        at["name"] = at.pop("payee")
    if "payee" not in at and "memo" in at:
        at["payee"] = at.pop("memo")
    if "memo" not in at and (second := _first(words, _WORDS["payee"], at)) is not None:
        at["memo"] = second


def _plain(cell: str) -> str:
    """Return the folded words of a header cell, without the currency that some banks append."""
    stated = _CURRENCY_IN_HEADER.search(cell.strip())
    bare = cell.strip()[: stated.start()] if stated and _stated(cell) else cell
    return " ".join(re.findall(r"[a-z0-9]+", fold(bare).replace("ß", "ss"))) or " ".join(
        re.findall(r"[a-z0-9]+", fold(cell))
    )


def _stated(cell: str) -> str | None:
    match = _CURRENCY_IN_HEADER.search(cell.strip())
    if match is None or cell.strip() == match[1]:
        return None
    if match[1] in _SIGNS:
        return _SIGNS[match[1]]
    return (
        match[1] if match[1] in {"EUR", "USD", "GBP", "CHF", "CAD", "AUD", "SEK", "NOK", "DKK", "JPY", "INR"} else None
    )
