"""Finds a posting's category: the bank's own, otherwise that of a rule over whole words, otherwise "uncategorised"."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

from bursar.genie.household.records import BankTransaction

UNCATEGORISED: Final = "uncategorised"
TRANSFERS: Final = "transfers"
BANK_ESSENTIALS: Final = frozenset({"bills", "bills & utilities", "medical", "healthcare", "rent", "mortgage", "loans"})
_LONGEST_PHRASE: Final = 4
_WORD: Final = re.compile(r"[^\W_]+")
_NOISE: Final = frozenset({"pos", "purchase", "debit", "credit", "card", "visa", "mastercard", "contactless"}) | {
    *("recurring", "payment", "online", "sq", "tst", "paypal", "pp", "ach", "web", "id", "ref"),
    *("inc", "llc", "ltd", "gmbh", "co", "com", "www"),
}


@dataclass(frozen=True, slots=True)
class CategoryRules:
    """The rule table by which postings and questions are given categories.

    `phrases` maps words of a posting to a category. `asked` maps words of a question to categories. `income`,
    `spending` and `essential` are sets of categories. A posting with a phrase of `transfer` is a transfer.
    """

    phrases: Mapping[tuple[str, ...], str]
    asked: Mapping[str, tuple[str, ...]]
    income: frozenset[str]
    spending: frozenset[str]
    essential: frozenset[str]
    transfer: frozenset[tuple[str, ...]]


@cache
def rules() -> CategoryRules:
    """Return the rule table in categories.toml. The file is read once."""
    table = tomllib.loads(files("bursar.genie.transactions").joinpath("categories.toml").read_text(encoding="utf-8"))
    phrases: dict[tuple[str, ...], str] = {}
    asked: dict[str, tuple[str, ...]] = {}
    for kind in ("income", "spending"):
        for name, rule in table[kind].items():
            for phrase in rule["words"]:
                phrases.setdefault(words(phrase), name)
            for word in (name, *rule.get("asked", ())):
                asked[word] = (*asked.get(word, ()), name)
    return CategoryRules(
        phrases=phrases,
        asked=asked,
        income=frozenset(table["income"]),
        spending=frozenset(table["spending"]),
        essential=frozenset(name for name, rule in table["spending"].items() if rule.get("essential", False)),
        transfer=frozenset(words(phrase) for phrase in table["transfer"]["words"]),
    )


def words(text: str) -> tuple[str, ...]:
    """Return the words of `text`, case-folded and without punctuation. Every rule matches such words."""
    return tuple(_WORD.findall(text.casefold()))


def category_of(row: BankTransaction) -> str:
    """Return the bank's own category; otherwise that of a rule that matches the payee or, if none does, the memo.

    If no rule matches, return "transfers" if the bank's words call the posting a transfer, otherwise "uncategorised". A
    rule matches whole words only: the rule "emi" does not match "premium".
    """
    own = row.category.strip()
    if own:
        return own
    for text in (row.payee, row.memo):
        found = _longest(words(text))
        if found is not None:
            return found
    return TRANSFERS if says_transfer(row) else UNCATEGORISED


def is_income(category: str) -> bool:
    """Whether money that comes in under this category is income rather than a refund."""
    return category.casefold() in rules().income or category.casefold() in {"income", "paycheck", "wages"}


def is_essential(category: str) -> bool:
    """Whether spending under this category goes on when money is short. The category is a rule's or a bank's name."""
    return category.casefold() in rules().essential or category.casefold() in BANK_ESSENTIALS


def says_transfer(row: BankTransaction) -> bool:
    """Whether the bank's words (category, payee or memo) call this posting a transfer or a card payment."""
    phrases = rules().transfer
    return any(gram in phrases for text in (row.category, row.payee, row.memo) for gram in _grams(words(text)))


def merchant_of(payee: str) -> str:
    """Return the payee in lower case and without reference numbers, dates and banks' jargon.

    All postings of one payee share this name: "POS NETFLIX.COM 866-579" and "Netflix" are both "netflix". If the payee
    has only jargon and numbers, all its words stay.
    """
    all_words = words(payee)
    kept = [word for word in all_words if word not in _NOISE and not any(letter.isdigit() for letter in word)]
    kept = [word for word in kept if len(word) > 1] or kept
    return " ".join(kept or all_words) or payee.strip().casefold()


def _grams(text: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Return every sequence of up to four neighbouring words of `text`, the longest sequences first."""
    return [
        text[start : start + length]
        for length in range(min(_LONGEST_PHRASE, len(text)), 0, -1)
        for start in range(len(text) - length + 1)
    ]


def _longest(text: tuple[str, ...]) -> str | None:
    phrases = rules().phrases
    return next((phrases[gram] for gram in _grams(text) if gram in phrases), None)
