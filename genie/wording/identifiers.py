"""Finds personal and bank identifiers in prose by their checksums, and masks all but the last four characters.

A kind is *strong* if its shape and checksum leave no ordinary reading: payment cards (issuer prefix and Luhn),
IBANs, dashed US SSNs and ITINs, UK national insurance numbers, Indian PANs, grouped Aadhaar numbers, Italian fiscal
codes, e-mail addresses. A kind is *weak* if amounts and references share its shape (nine, eleven or twelve plain
digits): a candidate counts only if the kind's name stands before it on the same line.

A long reference that happens to have an issuer's prefix and a valid Luhn digit is hidden too: hiding a reference costs
less than showing a card. Phone numbers stay: on a statement they belong to merchants, and a user needs them to dispute
a charge.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["card", "iban", "ssn", "itin", "nino", "pan", "aadhaar", "codice_fiscale", "idnr", "routing", "email"]

MASK = "••••"
_KEPT = 4
_CONTEXT_CHARS = 40

# A separator of digit groups. All separators of a number must be the same.
_SEP = r"[ \u00a0\u2009\u202f.\-\u2010-\u2015]"
_DASH = r"[-\u2010-\u2013]"

# First digits (low, high) and lengths of the card schemes: ISO/IEC 7812, as the schemes publish it.
_ISSUERS: tuple[tuple[int, int, frozenset[int]], ...] = (
    (4, 4, frozenset({13, 16, 19})),  # Visa
    (51, 55, frozenset({16})),  # Mastercard
    (2221, 2720, frozenset({16})),  # Mastercard
    (34, 34, frozenset({15})),  # American Express
    (37, 37, frozenset({15})),  # American Express
    (300, 305, frozenset(range(14, 20))),  # Diners Club
    (36, 36, frozenset(range(14, 20))),  # Diners Club
    (38, 39, frozenset(range(14, 20))),  # Diners Club
    (3528, 3589, frozenset(range(16, 20))),  # JCB
    (6011, 6011, frozenset(range(16, 20))),  # Discover
    (644, 659, frozenset(range(16, 20))),  # Discover, RuPay
    (62, 62, frozenset(range(16, 20))),  # UnionPay
    (60, 60, frozenset({16})),  # RuPay
    (81, 82, frozenset(range(16, 20))),  # RuPay
    (508, 508, frozenset({16})),  # RuPay
    (5018, 5038, frozenset(range(13, 20))),  # Maestro
    (5893, 5893, frozenset(range(13, 20))),  # Maestro
    (6304, 6304, frozenset(range(13, 20))),  # Maestro
    (6759, 6763, frozenset(range(13, 20))),  # Maestro
    (2200, 2204, frozenset(range(16, 20))),  # Mir
)


@dataclass(frozen=True, slots=True)
class Identifier:
    """An identifier in a text: `text[start:end]` is the identifier, `masked` may be shown in its place."""

    kind: Kind
    start: int
    end: int
    masked: str


@dataclass(frozen=True, slots=True)
class _Recogniser:
    """How one kind of identifier is recognised.

    The first group of `shape` is the candidate, and `proves` checks the candidate without its separators. `context`
    matches the words that must stand before a candidate of a weak kind.
    """

    kind: Kind
    shape: re.Pattern[str]
    proves: Callable[[str], bool]
    context: re.Pattern[str] | None = None


def _overlapping(pattern: str, *, after: str = r"(?![A-Za-z0-9])") -> re.Pattern[str]:
    """Return an expression whose group 1 is `pattern`, and whose `finditer` yields overlapping candidates too.

    So a candidate is found although it starts inside a rejected candidate. The expression `after` must match
    directly after the candidate.
    """
    return re.compile(rf"(?<![A-Za-z0-9])(?=({pattern}){after})")


def _is_card(digits: str) -> bool:
    from stdnum import luhn

    issued = any(
        low <= int(digits[: len(str(low))]) <= high and len(digits) in lengths for low, high, lengths in _ISSUERS
    )
    return issued and luhn.is_valid(digits)


def _is_ssn(digits: str) -> bool:
    from stdnum.us import ssn

    return ssn.is_valid(digits)


def _is_itin(digits: str) -> bool:
    from stdnum.us import itin

    return itin.is_valid(digits)


def _is_routing(digits: str) -> bool:
    from stdnum.us import rtn

    return rtn.is_valid(digits)


def _is_nino(letters: str) -> bool:
    return letters[:2] not in {"BG", "GB", "KN", "NK", "NT", "TN", "ZZ"}


def _is_pan(letters: str) -> bool:
    from stdnum.in_ import pan

    return pan.is_valid(letters)


def _is_aadhaar(digits: str) -> bool:
    from stdnum.in_ import aadhaar

    return aadhaar.is_valid(digits)


def _is_grouped_aadhaar(digits: str) -> bool:
    # "2023 2024 2025" is three years, even if the check digit is right.
    years = all(digits[i : i + 2] in {"19", "20"} for i in (0, 4, 8))
    return not years and _is_aadhaar(digits)


def _is_codice_fiscale(letters: str) -> bool:
    from stdnum.it import codicefiscale

    return any(c.isdigit() for c in letters) and codicefiscale.is_valid(letters)


def _is_idnr(digits: str) -> bool:
    from stdnum.de import idnr

    return idnr.is_valid(digits)


def _is_iban(letters: str) -> bool:
    from stdnum import iban

    # Only the international checksum is checked, not the national rules: a near miss may be somebody's account.
    return iban.is_valid(letters, check_country=False)


_SSN_WORDS = re.compile(r"\b(?:ssn|itin|social security|tax(?:payer)? id\w*)\b", re.IGNORECASE)
_NINE = _overlapping(r"\d{9}|\d{3} \d{2} \d{4}")
_THREE_TWO_FOUR = _overlapping(rf"\d{{3}}({_DASH})\d{{2}}\2\d{{4}}", after=rf"(?!\w|{_DASH}\w)")

_RECOGNISERS: tuple[_Recogniser, ...] = (
    _Recogniser("card", re.compile(r"(?<![A-Za-z0-9])(?<!\d\.)(?=(\d{13,19})(?![A-Za-z0-9]|\.\d))"), _is_card),
    _Recogniser("card", _overlapping(rf"\d{{4}}({_SEP})\d{{4}}\2\d{{4}}\2\d{{4}}\2\d{{3}}"), _is_card),
    _Recogniser("card", _overlapping(rf"\d{{4}}({_SEP})\d{{4}}\2\d{{4}}\2\d{{4}}"), _is_card),
    _Recogniser("card", _overlapping(rf"\d{{4}}({_SEP})\d{{6}}\2\d{{4,5}}"), _is_card),
    _Recogniser("ssn", _THREE_TWO_FOUR, _is_ssn),
    _Recogniser("itin", _THREE_TWO_FOUR, _is_itin),
    _Recogniser("ssn", _NINE, _is_ssn, _SSN_WORDS),
    _Recogniser("itin", _NINE, _is_itin, _SSN_WORDS),
    _Recogniser(
        "routing",
        _overlapping(r"\d{9}|\d{4}[- ]\d{4}[- ]\d"),
        _is_routing,
        re.compile(r"\b(?:routing|rtn|aba|transit)\b", re.IGNORECASE),
    ),
    _Recogniser(
        "nino",
        _overlapping(r"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z]([ \-]?)\d\d\2\d\d\2\d\d\2[A-D]"),
        _is_nino,
    ),
    _Recogniser("pan", _overlapping(r"[A-Z]{5}\d{4}[A-Z]"), _is_pan),
    _Recogniser(
        "aadhaar",
        re.compile(r"(?<![A-Za-z0-9])(?<!\d[ \-])(?=(\d{4}([ \-])\d{4}\2\d{4})(?![A-Za-z0-9]|[ \-]\d))"),
        _is_grouped_aadhaar,
    ),
    _Recogniser("aadhaar", _overlapping(r"\d{12}"), _is_aadhaar, re.compile(r"\b(?:aadhaa?r|uidai)\b", re.IGNORECASE)),
    _Recogniser(
        "codice_fiscale",
        _overlapping(r"[A-Za-z]{3}([ \-]?)[A-Za-z]{3}\2[0-9A-Za-z]{5}\2[0-9A-Za-z]{5}"),
        _is_codice_fiscale,
    ),
    _Recogniser(
        "idnr",
        _overlapping(r"\d{11}|\d{2}([ \-])\d{3}\2\d{3}\2\d{3}"),
        _is_idnr,
        re.compile(r"steuer|\bid-?nr\b|\btin\b|\btax(?:payer)? id\w*", re.IGNORECASE),
    ),
)

_IBAN = re.compile(rf"(?<![A-Za-z0-9])(?=([A-Za-z]{{2}}\d{{2}}(?:{_SEP}?[A-Za-z0-9]){{11,30}}))")
_EMAIL = re.compile(r"(?<![\w.+\-])[\w.+\-]{1,64}@[\w\-]{1,63}(?:\.[\w\-]{1,63})+")
_UUID = re.compile(r"(?<![0-9A-Fa-f])[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}(?![0-9A-Fa-f])")


def _bare(text: str) -> str:
    return "".join(c for c in text if c.isalnum())


def _has_context(text: str, start: int, words: re.Pattern[str]) -> bool:
    line = text.rfind("\n", 0, start) + 1
    return words.search(text, max(line, start - _CONTEXT_CHARS), start) is not None


def _ibans(text: str) -> Iterator[tuple[Kind, int, int]]:
    """Yield kind, start and end of the longest valid IBAN at each place at which an IBAN may start.

    The end of a candidate is found by dropping its last characters, one at a time, until the rest is a valid IBAN.
    """
    for match in _IBAN.finditer(text):
        candidate = match.group(1)
        for end in range(len(candidate), 14, -1):
            tail = match.start() + end
            whole = candidate[end - 1].isalnum() and not text[tail : tail + 1].isalnum()
            if whole and _is_iban(_bare(candidate[:end])):
                yield "iban", match.start(), tail
                break


def _candidates(text: str) -> Iterator[tuple[Kind, int, int]]:
    for recogniser in _RECOGNISERS:
        for match in recogniser.shape.finditer(text):
            context = recogniser.context
            if (context is None or _has_context(text, match.start(), context)) and recogniser.proves(
                _bare(match.group(1))
            ):
                yield recogniser.kind, match.start(1), match.end(1)
    yield from _ibans(text)
    for match in _EMAIL.finditer(text):
        yield "email", match.start(), match.end()


def find(text: str) -> tuple[Identifier, ...]:
    """Return the identifiers in `text`, in order.

    Of two overlapping identifiers, only the one that starts earlier is returned, or the longer of two at one start.
    Session ids, UUIDs, dates, amounts and ticker symbols are not identifiers.
    """
    taken = [match.span() for match in _UUID.finditer(text)]
    found: list[Identifier] = []
    for kind, start, end in sorted(_candidates(text), key=lambda c: (c[1], -c[2])):
        if any(start < right and left < end for left, right in taken):
            continue
        taken.append((start, end))
        said = text[start:end]
        masked = MASK + said[said.index("@") :] if kind == "email" else MASK + _bare(said)[-_KEPT:]
        found.append(Identifier(kind, start, end, masked))
    return tuple(found)


def mask(text: str) -> str:
    """Return `text` with each identifier masked. `find` finds nothing in the result: a second call changes nothing.

    The search repeats, because the last digits of a masked identifier can form a new identifier with the digits after
    them. Each round masks at least one more identifier, so there are at most as many rounds as the text has characters.
    """
    for _ in range(len(text)):
        found = find(text)
        if not found:
            break
        for identifier in reversed(found):
            text = text[: identifier.start] + identifier.masked + text[identifier.end :]
    return text
