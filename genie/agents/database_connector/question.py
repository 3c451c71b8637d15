"""Reads from a question to the database connector which records, days, payees, accounts and amounts it asks for."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from typing import Final, Literal

from bursar.genie.household.folding import fold
from bursar.genie.household.records import AccountKind, BankAccount, BankTransaction
from bursar.genie.importing.parsing.amounts import NumberStyle, parse_amount
from bursar.genie.questions.period import Period, parse_periods
from bursar.genie.wording.formatting import MONTH_NAMES

Subject = Literal["accounts", "holdings", "imports", "coverage", "transactions"]

_BOOKINGS: Final = re.compile(
    r"\b(?:transactions?|bookings?|entry|entries|payments?|purchases?|deposits?|withdrawals?|postings?|charges?|lines?)\b"
)
_SUBJECTS: Final[tuple[tuple[Subject, re.Pattern[str]], ...]] = (
    (
        "imports",
        re.compile(r"\b(?:imported|imports?|uploads?|uploaded|files|(?<!on )file|statements? (?:and|did|are))\b"),
    ),
    (
        "coverage",
        re.compile(
            r"\b(?:(?:what|which|how much) (?:raw )?data|how many (?:\w+ ){0,3}(?:rows|transactions|bookings|entries)"
            r"|number of (?:rows|transactions)|which date|date range|range of dates"
            r"|what period|coverage|covers?|how far back)\b"
        ),
    ),
    ("holdings", re.compile(r"\b(?:holdings?|positions?|securities|lots?|portfolio|funds?|shares)\b")),
    ("accounts", re.compile(r"\b(?:accounts|account (?:numbers?|names?|balances?|list)|balances)\b")),
)
_COUNTS: Final = {
    "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
    "twelve": 12, "fifteen": 15, "twenty": 20, "fifty": 50,
}  # fmt: skip
_COUNT: Final = r"(?P<n>\d{1,4}|" + "|".join(_COUNTS) + ")"
_NEWEST: Final = r"(?:last|latest|newest|most recent|recent|past)"
_UNITS: Final = r"(?:days?|weeks?|months?|quarters?|years?)"
_LIMIT: Final = re.compile(
    rf"\b{_NEWEST}\s+{_COUNT}\b(?!\s+{_UNITS})|\b{_COUNT.replace('?P<n>', '?P<m>')}\s+{_NEWEST}\b"
)
_SOME_NEWEST: Final = re.compile(
    r"\b(?:latest|newest|most recent|recent|last (?:transactions|bookings|entries|payments))\b"
)
_MONEY: Final = r"[$€£]?\s?(\d[\d.,]*)"
_BETWEEN: Final = re.compile(
    rf"\bbetween\s+{_MONEY}\s*(?:and|to|-)\s*{_MONEY}(?!\s*(?:st|nd|rd|th)?\s*(?:{'|'.join(MONTH_NAMES).lower()}))"
)
_ABOVE: Final = re.compile(rf"\b(?:above|over|more than|at least|greater than|exceeding|bigger than)\s+{_MONEY}")
_BELOW: Final = re.compile(rf"\b(?:below|under|less than|at most|up to|smaller than)\s+{_MONEY}")
_DAYS_OF_MONTH: Final = re.compile(
    rf"\b(\d{{1,2}})(?:st|nd|rd|th)?\s*(?:to|until|and|-|–)\s*\d{{1,2}}(?:st|nd|rd|th)?\s+(?:of\s+)?(?:{'|'.join(MONTH_NAMES).lower()})"
)
_KINDS: Final[tuple[tuple[AccountKind, re.Pattern[str]], ...]] = (
    ("card", re.compile(r"\b(?:credit )?card\b")),
    ("savings", re.compile(r"\bsavings?\b")),
    ("current", re.compile(r"\bchecking\b|\bcurrent account\b")),
    ("brokerage", re.compile(r"\bbrokerage\b")),
    ("loan", re.compile(r"\bloan account\b")),
)
_IN: Final = re.compile(r"\b(?:deposits?|incoming|money in|credits|income|received)\b")
_OUT: Final = re.compile(r"\b(?:withdrawals?|outgoing|money out|debits|payments?|purchases?|charges?|spent)\b")
_NAMED: Final = re.compile(r"\b(?:at|with|to|from|by|for|named)\s+((?:[A-Z0-9][\w'&.-]*\s?)+)")
# Words of requests themselves: they say nothing about a payee, even if a payee's name has them.
_GRAMMAR: Final = frozenset(
    re.findall(
        r"\w+",
        """
        a about above account accounts all and any are as at balance balances below between book booking bookings by
        card charge charges checking could credit current data database date dates day days debit deposit deposits did
        display do dollar dollars each entries entry euro euros every export find first for from get give has have how i
        in incoming is it items largest last latest least less line lines list look many me money month months more most
        my newest number of on or our out outgoing over paid past payment payments please posting postings pound pounds
        print pull purchase purchases quarter recent record records row rows savings search see show since some spend
        spent statement statements sum table than that the their them there these this to today total transaction
        transactions under up us usd was we week weeks were what when where which who with withdrawal withdrawals year
        years yesterday you your
        """,
    )
) | {word for name in MONTH_NAMES for word in (name.lower(), name.lower()[:3])}


@dataclass(frozen=True, slots=True)
class RecordsRequest:
    """A parsed question, as conditions on rows. An empty or None field is no condition.

    The payee and memo of a row must have all words of one of the `phrases`. `least` and `greatest` bound the amount
    without its sign. If `most` is set, the question asks only for the newest `most` rows that match. `named` is a name
    that the question capitalises and that no row has.
    """

    subject: Subject
    period: Period | None
    phrases: tuple[frozenset[str], ...]
    named: str | None
    account_ids: frozenset[str]
    least: Decimal | None
    greatest: Decimal | None
    direction: Literal["in", "out"] | None
    most: int | None

    @property
    def is_narrow(self) -> bool:
        """Whether the question names a payee, an account, a period or a bound on the amount."""
        return bool(self.phrases or self.named or self.account_ids or self.period or self.least or self.greatest)

    def admits(self, row: BankTransaction) -> bool:
        """Whether `row` meets the conditions of the question. The period and the row limit are not checked here."""
        size = abs(row.amount)
        return (
            (not self.phrases or any(phrase <= row_words(row) for phrase in self.phrases))
            and (not self.account_ids or row.account_id in self.account_ids)
            and (self.least is None or size >= self.least)
            and (self.greatest is None or size <= self.greatest)
            and (self.direction is None or (row.amount > 0) == (self.direction == "in"))
        )


def read_request(
    text: str, *, newest: date, accounts: Iterable[BankAccount], rows: Sequence[BankTransaction]
) -> RecordsRequest:
    """Parse a question, which can name the household's `accounts` and the payees and memos of `rows`.

    `newest` is the newest day in the data: periods such as "last month" count from there.
    """
    plain = fold(text)
    phrases = _phrases(plain, rows)
    named = _NAMED.search(text)
    unknown = None
    if named is not None and not phrases:
        words = [
            word for word in named[1].split() if fold(word).strip(".,?!") not in _GRAMMAR and not word[0].isdigit()
        ]
        unknown = " ".join(words).strip(" .,?!") or None
    least, greatest = _bounds(plain)
    incoming, outgoing = bool(_IN.search(plain)), bool(_OUT.search(plain))
    limit = _LIMIT.search(plain)
    most = None
    if limit is not None:
        said = limit["n"] or limit["m"]
        most = max(1, _COUNTS.get(said) or int(said))
    elif _SOME_NEWEST.search(plain):
        most = 10
    kinds = {kind for kind, pattern in _KINDS if pattern.search(plain)}
    request = RecordsRequest(
        subject="transactions",
        period=_period(text, plain, newest),
        phrases=phrases,
        named=unknown,
        account_ids=frozenset(account.id for account in accounts if account.kind in kinds),
        least=least,
        greatest=greatest,
        direction=None if incoming == outgoing else "in" if incoming else "out",
        most=most,
    )
    return _with_subject(request, plain)


def row_words(row: BankTransaction) -> frozenset[str]:
    """Return the words of a row's payee and memo, case-folded and without accents."""
    return frozenset(re.findall(r"\w+", fold(f"{row.payee} {row.memo}")))


def _with_subject(request: RecordsRequest, plain: str) -> RecordsRequest:
    bookings = _BOOKINGS.search(plain) is not None
    for subject, pattern in _SUBJECTS:
        if not pattern.search(plain):
            continue
        if bookings and (subject in {"accounts", "holdings"} or (request.is_narrow and subject != "imports")):
            continue
        return replace(request, subject=subject)
    return request


def _phrases(plain: str, rows: Sequence[BankTransaction]) -> tuple[frozenset[str], ...]:
    """Return the groups of words by which the question names payees or memos of `rows`.

    Neighbouring words of the question are one group if all of them occur together in a row. If they occur only in
    different rows, each word is a group of its own. A plural matches its singular.
    """
    words = {word for row in rows for word in row_words(row) if word not in _GRAMMAR}
    runs: list[list[str]] = [[]]
    for said in re.findall(r"\w+", plain):
        if said in _GRAMMAR or (said.isdigit() and len(said) < 5):
            runs.append([])
            continue
        found = said if said in words else said.removesuffix("s") if said.removesuffix("s") in words else None
        if found is None:
            runs.append([])
        else:
            runs[-1].append(found)
    present = [row_words(row) for row in rows]
    kept: list[frozenset[str]] = []
    for run in filter(None, runs):
        together = frozenset(run)
        kept += [together] if any(together <= row for row in present) else [frozenset({word}) for word in run]
    return tuple(dict.fromkeys(kept))


def _bounds(plain: str) -> tuple[Decimal | None, Decimal | None]:
    if between := _BETWEEN.search(plain):
        low, high = sorted((_number(between[1]), _number(between[2])))
        return low, high
    above, below = _ABOVE.search(plain), _BELOW.search(plain)
    return (_number(above[1]) if above else None), (_number(below[1]) if below else None)


def _number(text: str) -> Decimal:
    return parse_amount(text.rstrip(".,"), NumberStyle(".", thirds=True))


def _period(text: str, plain: str, newest: date) -> Period | None:
    periods = parse_periods(text, newest=newest)
    if not periods:
        return None
    first = periods[0]
    if len(periods) == 2 and re.search(r"\b(?:between|from)\b", plain):
        return Period(min(one.start for one in periods), max(one.end for one in periods))
    if (days := _DAYS_OF_MONTH.search(plain)) and first.start == first.end and 1 <= int(days[1]) <= first.end.day:
        return Period(first.end.replace(day=int(days[1])), first.end)
    return first
