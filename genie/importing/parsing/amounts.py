"""Reads printed amounts as exact decimals. The decimal mark is decided once for a file, not row by row."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal

DecimalMark = Literal[".", ","]
Direction = Literal["in", "out"]

_SYMBOLS: Final = {"$": "USD", "US$": "USD", "€": "EUR", "£": "GBP", "¥": "JPY", "₹": "INR", "CHF": "CHF", "kr": ""}
_SPACES: Final = re.compile(r"[\s\u00a0\u202f\u2009'’]+")
_CODE: Final = re.compile(r"^([A-Z]{3})(?=[\s\d(+−-])|(?<=[\s\d)])([A-Z]{3})$")
_SUFFIX: Final = re.compile(r"(?<=[\d)\s])(CR|DR|C|D|H|S)\.?$", re.IGNORECASE)
_LIMIT: Final = Decimal(10) ** 15


@dataclass(frozen=True, slots=True)
class NumberStyle:
    """How a file prints numbers. If `thirds`, numbers can have three decimals, so 1.234 is not read as 1234."""

    mark: DecimalMark
    thirds: bool = False


@dataclass(frozen=True, slots=True)
class Printed:
    """The parts of a printed amount: its digits, whether it has a minus sign, its CR/DR suffix, its currency."""

    digits: str
    negative: bool
    direction: Direction | None
    currency: str | None


def take_apart(text: str) -> Printed:
    """Split a printed amount into its parts. Raises `ValueError` with a reason if `text` has no number."""
    rest, currency = text.strip(), None
    if not rest:
        raise ValueError("no amount")
    direction: Direction | None = None
    if suffix := _SUFFIX.search(rest):
        direction = "in" if suffix[1].upper() in {"CR", "C", "H"} else "out"
        rest = rest[: suffix.start()].rstrip()
    if code := _CODE.search(rest):
        currency = code[1] or code[2]
        rest = (rest[: code.start()] + rest[code.end() :]).strip()
    for symbol, iso in _SYMBOLS.items():
        if symbol in rest:
            currency, rest = iso or currency, rest.replace(symbol, "")
    rest = _SPACES.sub("", rest).replace("−", "-").replace("–", "-")
    negative = False
    if rest.startswith("(") and rest.endswith(")"):
        negative, rest = True, rest[1:-1]
    if rest[:1] in {"+", "-"}:
        negative, rest = negative != (rest[0] == "-"), rest[1:]
    elif rest[-1:] in {"+", "-"}:
        negative, rest = negative != (rest[-1] == "-"), rest[:-1]
    if not re.fullmatch(r"[0-9.,]*[0-9][.,]?", rest):
        raise ValueError(f"{text.strip()!r} is no amount")
    return Printed(rest, negative, direction, currency)


def parse_amount(text: str, style: NumberStyle) -> Decimal:
    """Return the signed amount, exact. Raises `ValueError` with a reason if `text` is no amount in this style."""
    printed = take_apart(text)
    value = _digits(printed.digits, style, text)
    return -value if printed.negative else value


def _digits(digits: str, style: NumberStyle, text: str) -> Decimal:
    mark = re.escape(style.mark)
    group = re.escape("," if style.mark == "." else ".")
    # The third alternative is the Indian grouping 12,34,567.
    shape = rf"(?:\d+|\d{{1,3}}(?:{group}\d{{3}})+|\d{{1,2}}(?:{group}\d{{2}})+{group}\d{{3}})?(?:{mark}\d*)?"
    if not re.fullmatch(shape, digits):
        raise ValueError(f"{text.strip()!r} does not fit the file's decimal mark {style.mark!r}")
    if not style.thirds and re.fullmatch(rf"[1-9]\d{{0,2}}{mark}\d{{3}}", digits):
        raise ValueError(f"{text.strip()!r} could be thousands or decimals")
    plain = digits.replace("," if style.mark == "." else ".", "").replace(style.mark, ".")
    value = Decimal(plain)
    if value >= _LIMIT:
        raise ValueError(f"{text.strip()!r} is too large for an amount")
    return value


def infer_style(texts: Iterable[str]) -> NumberStyle | None:
    """Return the number style of a file by all its amounts together, or None if the decimal mark stays ambiguous.

    The last of two different marks is the decimal mark. A mark that repeats groups thousands. A mark that is not
    followed by exactly three digits, or that follows a lone zero or more than three digits, is the decimal mark.
    """
    votes: dict[DecimalMark, int] = {".": 0, ",": 0}
    thirds: dict[DecimalMark, bool] = {".": False, ",": False}
    doubtful = False
    for text in texts:
        try:
            digits = take_apart(text).digits
        except ValueError:
            continue
        mark = _evidence(digits)
        if mark is None:
            doubtful = doubtful or "." in digits or "," in digits
            continue
        votes[mark] += 1
        whole, _, decimals = digits.rpartition(mark)
        if (
            len(decimals) >= 3
            and mark in digits
            and (len(decimals) > 3 or whole == "0" or "." in whole or "," in whole)
        ):
            thirds[mark] = True
    if votes["."] == votes[","]:
        return None if doubtful or votes["."] else NumberStyle(".")
    best: DecimalMark = "." if votes["."] > votes[","] else ","
    return NumberStyle(best, thirds[best])


def _evidence(digits: str) -> DecimalMark | None:
    last_dot, last_comma = digits.rfind("."), digits.rfind(",")
    if last_dot >= 0 and last_comma >= 0:
        return "." if last_dot > last_comma else ","
    if last_dot < 0 and last_comma < 0:
        return None
    mark: DecimalMark = "." if last_dot >= 0 else ","
    other: DecimalMark = "," if mark == "." else "."
    if digits.count(mark) > 1:
        return other
    whole, _, decimals = digits.partition(mark)
    return mark if len(decimals) != 3 or whole in {"", "0"} or len(whole) > 3 else None
