"""Finds the account that a file is about, and gives records stable ids, so that a second import changes nothing."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Final

from bursar.genie.household.folding import fold
from bursar.genie.household.records import AccountKind, BankTransaction

_KINDS: Final[tuple[tuple[AccountKind, str], ...]] = (
    ("brokerage", r"broker|depot|invest|portfolio|ira\b|401k|titres|valores"),
    ("savings", r"saving|spar|tagesgeld|epargne|livret|ahorro|spaar|moneymrkt"),
    ("loan", r"loan|mortgage|darlehen|ratenkredit|pret\b|emprunt|prestamo|hipoteca|lening|hypotheek|creditline"),
    ("card", r"card|visa|master|amex|american ?express|discover|kreditkarte|carte|tarjeta|karte|credit"),
    ("current", r"check|current|giro|courant|corriente|betaal|kontokorrent"),
)
# Words of a file name that change from one export to the next, so they are no part of an account's identity.
_PASSING: Final = re.compile(
    r"^(?:(?:19|20)\d{2}|\d{1,2}|(?:19|20)\d{4}(?:\d{2})?|q[1-4]|copy|kopie|export|download|"
    r"jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|january|february|march|april|june|july|august|september|october|"
    r"november|december|to|from|bis|von)$"
)


@dataclass(frozen=True, slots=True)
class Identity:
    """An account as a file names it. `id` has no account number in clear; `kind` is None if no word says the kind."""

    id: str
    name: str
    kind: AccountKind | None


def kind_of(*texts: str) -> AccountKind | None:
    """Return the kind of account that the texts (a name, type or file name) say, or None if no word says a kind."""
    for text in texts:
        folded = fold(text)
        for kind, pattern in _KINDS:
            if re.search(pattern, folded):
                return kind
    return None


def identify(label: str, *, hints: tuple[str, ...] = (), kind: AccountKind | None = None) -> Identity:
    """Return the identity of an account by its `label`, a number or a name.

    The same number with other spaces gives the same id. If `kind` is None, the label and `hints` say the kind.
    """
    plain = re.sub(r"[^0-9a-z]", "", fold(label))
    known = kind or kind_of(label, *hints)
    if sum(character.isdigit() for character in plain) >= 6:
        return Identity(
            f"acct-{sha256(plain.encode()).hexdigest()[:12]}", f"{known or 'account'} ending {plain[-4:]}", known
        )
    slug = "-".join(re.findall(r"[a-z0-9]+", fold(label)))[:60]
    return Identity(slug or "account", " ".join(label.split()) or "account", known)


def identify_file(path: Path) -> Identity:
    """Return an account's identity for a file that names no account.

    The identity is made from the file's name without dates, counters and words like "export".
    """
    words = [word for word in re.findall(r"[^\W_]+", path.stem) if not _PASSING.match(fold(word))]
    return identify(" ".join(words) or path.stem)


def number_transactions(rows: Iterable[BankTransaction]) -> list[BankTransaction]:
    """Return the rows with ids, made from account, day, amount, currency, payee, memo and number among identical rows.

    So two identical coffees on one day stay two postings. Shuffled, overlapping and repeated files give the same ids.
    """
    seen: Counter[str] = Counter()
    numbered: list[BankTransaction] = []
    for row in rows:
        words = " ".join(fold(f"{row.payee} | {row.memo}").split())
        key = "\x1f".join((row.account_id, row.booked_on.isoformat(), plain(row.amount), row.currency, words))
        seen[key] += 1
        numbered.append(replace(row, id=digest("row", key, str(seen[key]))))
    return numbered


def digest(*parts: str) -> str:
    """Return a short id that is always the same for the same parts."""
    return sha256("\x1f".join(parts).encode()).hexdigest()[:32]


def plain(amount: Decimal) -> str:
    """Return the amount as text without trailing zeros, so that 4.5 and 4.50 give the same text."""
    return format(amount.normalize(), "f")
