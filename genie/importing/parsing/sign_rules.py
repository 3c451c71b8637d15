"""Decides for a whole file whether its printed amounts must be negated, so that money that goes out is negative."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from bursar.genie.household.folding import fold
from bursar.genie.household.records import AccountKind
from bursar.genie.importing.parsing.amounts import Direction

_OUT: Final = re.compile(
    r"dr|d|dbit|debit|debet|s|soll|sollbuchung|af|cargo|debe|out|-|withdrawal|lastschrift|belastung|uit"
)
_IN: Final = re.compile(r"cr|c|crdt|credit|h|haben|bij|abono|haber|in|\+|deposit|gutschrift|credito|eingang")
_PAYMENT: Final = re.compile(
    r"thank you|payment received|autopay|auto pay|automatic payment|online payment|received with thanks"
    r"|zahlung erhalten|ihre zahlung|ausgleich kreditkarte|kartenabrechnung|paiement recu|votre paiement|merci"
    r"|pago recibido|su pago|gracias|uw betaling|betaling ontvangen"
)
_CARD_PAYMENT: Final = re.compile(r"\b(?:payment|zahlung|paiement|pago|betaling)\b")


@dataclass(frozen=True, slots=True)
class Printing:
    """A row as printed: its amount with its sign, its direction and its balance if stated, and its words."""

    amount: Decimal
    direction: Direction | None
    balance: Decimal | None
    words: str


@dataclass(frozen=True, slots=True)
class SignRule:
    """Whether the printed amounts of a file must be negated (`flip`), and the reason.

    `payments` is True if the reason is that payments received, which are money in, are printed negative.
    """

    flip: bool
    reason: str
    payments: bool = False


def direction_of(text: str) -> Direction | None:
    """Return "out" if `text` is a word for a debit, "in" if it is a word for a credit, otherwise None."""
    word = fold(text).strip(" .")
    return "out" if _OUT.fullmatch(word) else "in" if _IN.fullmatch(word) else None


def split_columns_sign(debits: Sequence[Decimal]) -> int:
    """Return the factor by which printed debits become negative: 1 if most are printed negative, otherwise -1.

    If the factor is -1, a debit that is printed negative is a reversal.
    """
    negative = sum(1 for value in debits if value < 0)
    return 1 if negative * 2 > len(debits) else -1


def closing_balance(rows: Sequence[tuple[Decimal, Decimal]]) -> Decimal | None:
    """Return the balance at the end of a day, from its (amount, balance after) rows in any order.

    The opening balance of a row is its balance after less its amount, and each row but the first opens with the balance
    after another row. The only balance with which no row opens ends the day. Return None if there is not exactly one
    such balance, for example if a row is missing.
    """
    left = Counter(balance for _, balance in rows)
    left.subtract(balance - amount for amount, balance in rows)
    ends = [balance for balance, count in left.items() if count > 0]
    return ends[0] if len(ends) == 1 else None


def infer_rule(rows: Sequence[Printing], kind: AccountKind | None) -> SignRule:
    """Return the sign rule of a file that has one amount column and states no direction; the rows are in any order."""
    by_balance = _by_balance(rows, kind)
    if by_balance is not None:
        return by_balance
    if _payments_prove_owed(rows, kind):
        return SignRule(
            True, "flipped: payments received are negative, so purchases are printed positive", payments=True
        )
    return SignRule(False, "as printed")


def balance_is_owed(rows: Sequence[tuple[Decimal, Decimal | None]]) -> bool:
    """Whether the balance is money owed, which falls if money comes in. `rows` are (signed amount, balance).

    The opening balance of a row is its balance minus its amount. The balance is owed if more opening balances are
    another row's balance with negated amounts than with the amounts as given.
    """
    kept, negated = _chains(rows)
    return negated > kept


def _chains(rows: Sequence[tuple[Decimal, Decimal | None]]) -> tuple[int, int]:
    """Return two counts of the rows whose opening balance is another row's balance.

    The first count is for the amounts as given, the second for negated amounts. Both counts are 0 if neither covers
    half of the rows.
    """
    chained = [(amount, balance) for amount, balance in rows if balance is not None and amount != 0]
    known = {balance for _, balance in chained}
    kept = sum(1 for amount, balance in chained if balance - amount in known)
    negated = sum(1 for amount, balance in chained if balance + amount in known)
    return (kept, negated) if max(kept, negated) * 2 >= len(chained) else (0, 0)


def _by_balance(rows: Sequence[Printing], kind: AccountKind | None) -> SignRule | None:
    kept, negated = _chains([(row.amount, row.balance) for row in rows])
    if kept == negated:
        return None
    if negated > kept:
        return SignRule(True, "flipped: the running balance falls where the amount is positive")
    balances = [row.balance for row in rows if row.balance is not None]
    owed = sum(1 for balance in balances if balance > 0) * 2 > len(balances)
    if kind == "card" and owed and not _payments_are_positive(rows):
        return SignRule(True, "flipped: the running balance is what is owed on the card")
    return SignRule(False, "as printed: the running balance agrees")


def _is_payment(row: Printing, kind: AccountKind | None) -> bool:
    words = fold(row.words)
    return bool(_PAYMENT.search(words) or (kind == "card" and _CARD_PAYMENT.search(words)))


def _payments_are_positive(rows: Sequence[Printing]) -> bool:
    payments = [row.amount for row in rows if _is_payment(row, "card")]
    return bool(payments) and all(amount > 0 for amount in payments)


def _payments_prove_owed(rows: Sequence[Printing], kind: AccountKind | None) -> bool:
    if kind not in {"card", None}:
        return False
    payments = [row.amount for row in rows if _is_payment(row, kind)]
    others = [row.amount for row in rows if not _is_payment(row, kind)]
    positive = sum(1 for amount in others if amount > 0)
    return bool(payments) and all(amount < 0 for amount in payments) and positive * 2 > len(others)
