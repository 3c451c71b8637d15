"""Reads what a question about the accounts asks for: its kind, and the categories or merchants that it names."""

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import pairwise
from typing import Final, Literal, get_args

from bursar.genie.transactions.cash_flows import Entry
from bursar.genie.transactions.categories import rules, words

Kind = Literal[
    "balance", "recurring", "rises", "largest", "saved", "monthly", "change", "income", "spending", "overview"
]


_SPENT_ON: Final = re.compile(r"\b(?:on|at|to)\s+(?:(?:my|the|our|a|an)\s+)?(?P<word>[^\W\d_][\w'&-]+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Signs:
    """The words and phrases of account_questions.toml by which the kind of a question is found."""

    phrases: tuple[tuple[Kind, tuple[str, ...]], ...]
    kinds: tuple[tuple[Kind, frozenset[str]], ...]
    regular: frozenset[str]
    risen: frozenset[str]
    empty: frozenset[str]


@cache
def _signs() -> _Signs:
    table = tomllib.loads(
        files("bursar.genie.questions").joinpath("account_questions.toml").read_text(encoding="utf-8")
    )
    known: dict[str, Kind] = {kind: kind for kind in get_args(Kind)}
    return _Signs(
        phrases=tuple((known[kind], words(phrase)) for kind, phrase in table["phrases"]),
        kinds=tuple((known[kind], frozenset(words(signs))) for kind, signs in table["kinds"].items()),
        regular=frozenset(words(table["rises"]["of"])),
        risen=frozenset(words(table["rises"]["words"])),
        empty=frozenset(words(table["empty"]["words"])),
    )


@dataclass(frozen=True, slots=True)
class Focus:
    """What limits the answer to a question: the categories that it names or, if it names none, the merchants.

    `label` is their names for the answer. A focus without categories and merchants is false.
    """

    categories: frozenset[str] = frozenset()
    merchants: frozenset[str] = frozenset()
    label: str = ""

    def __contains__(self, entry: Entry) -> bool:
        return entry.category in self.categories or entry.merchant in self.merchants

    def __bool__(self) -> bool:
        return bool(self.categories or self.merchants)


def kind_of(text: str) -> Kind:
    """Return the kind of answer that `text` asks for, or "overview" if no word of `text` says a kind."""
    asked = words(text)
    if _signs().regular.intersection(asked) and _signs().risen.intersection(asked):
        return "rises"
    for kind, phrase in _signs().phrases:
        if any(asked[start : start + len(phrase)] == phrase for start in range(len(asked))):
            return kind
    for kind, signs in _signs().kinds:
        if signs.intersection(asked):
            return kind
    return "overview"


def focus_of(text: str, entries: Iterable[Entry]) -> Focus:
    """Return the spending categories that `text` names or, if it names none, the merchants that it names.

    A category is named by its own words or by the rule table's words for it. Only categories and merchants of `entries`
    are found. Whole words count: "car" does not name "childcare".
    """
    spent = [entry for entry in entries if entry.flow in ("spending", "refund")]
    asked = words(text)
    named = {word for word in asked if word not in _signs().empty}
    pairs = {f"{one} {two}" for one, two in pairwise(asked)}
    meant = {name for word in named | pairs for name in rules().asked.get(word, ())}
    categories = {
        category
        for category in {entry.category for entry in spent}
        if category.casefold() in meant or named.intersection(words(category)) or _within(category, meant)
    }
    if categories:
        return Focus(categories=frozenset(categories), label=_listed(categories))
    return payees_of(text, spent)


def payees_of(text: str, entries: Iterable[Entry]) -> Focus:
    """Return the merchants that `text` names, among the merchants for which `entries` have spending or refunds."""
    spent = [entry for entry in entries if entry.flow in ("spending", "refund")]
    asked = words(text)
    merchants = {merchant for merchant in {entry.merchant for entry in spent} if _names(asked, merchant.split())}
    payees = {entry.merchant: entry.row.payee.strip() for entry in spent if entry.merchant in merchants}
    return Focus(merchants=frozenset(merchants), label=_listed(payees.values()))


def unknown_name(text: str) -> str | None:
    """Return the word after "on", "at" or "to" that says what or where money was spent, or None if there is none.

    Call this only for a question without a focus, because the word then names nothing in the data.
    """
    for match in _SPENT_ON.finditer(text):
        word = match.group("word")
        if word.casefold() not in _signs().empty:
            return word
    return None


def _within(category: str, meant: set[str]) -> bool:
    """Whether a bank's `category` is only another word for categories in `meant`, as "Dining" is for "eating out"."""
    known = rules().asked.get(category.casefold(), ())
    return bool(known) and meant.issuperset(known)


def _names(asked: tuple[str, ...], merchant: list[str]) -> bool:
    """Whether the question, whose words are `asked`, names the merchant, whose name's words are `merchant`.

    The question names the merchant if it has the first word of the name and this word has at least four letters. A
    first word of three letters is enough only if the name has no second word, or the second follows in the question.
    """
    first = merchant[0] if merchant else ""
    if len(first) < 3 or first in _signs().empty:
        return False
    starts = [index for index, word in enumerate(asked) if word == first]
    follows = {asked[index + 1] for index in starts if index + 1 < len(asked)}
    return bool(starts) and (len(first) >= 4 or len(merchant) == 1 or merchant[1] in follows)


def _listed(names: Iterable[str]) -> str:
    ordered = sorted({name.casefold() if name[1:].islower() else name for name in names})
    return " and ".join([", ".join(ordered[:-1]), ordered[-1]] if len(ordered) > 1 else ordered)
