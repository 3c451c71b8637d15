"""For Genie's tests: a household held in tuples, the double of the database connector, and empty databases."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from itertools import count

import pytest

from bursar.genie.household.records import BankAccount, BankTransaction, ClosingPrice, Lot, Profile
from bursar.genie.household.source import QueryRows, Source
from bursar.genie.wording import formatting
from bursar.genie.wording.facts import Analysis
from tests.support.household import engine, postgresql_url, sample_file, sqlite

__all__ = ["engine", "household", "postgresql_url", "posting", "sample_file", "sqlite", "ungrounded"]


@dataclass(frozen=True)
class TupleSource:
    """A `Source` over tuples, with the same ordering, bounds and limits as the database connector."""

    held_accounts: tuple[BankAccount, ...]
    held_transactions: tuple[BankTransaction, ...]
    held_lots: tuple[Lot, ...]
    held_prices: tuple[ClosingPrice, ...]
    held_profile: Profile

    def accounts(self) -> QueryRows[BankAccount]:
        days = [account.balance_on for account in self.held_accounts if account.balance_on is not None]
        return QueryRows(self.held_accounts, max(days, default=None), truncated=False, query="accounts")

    def transactions(
        self,
        *,
        start: date | None = None,
        end: date | None = None,
        account_id: str | None = None,
        payee: str | None = None,
        limit: int | None = None,
    ) -> QueryRows[BankTransaction]:
        chosen = [
            row
            for row in self.held_transactions
            if (start is None or row.booked_on >= start)
            and (end is None or row.booked_on <= end)
            and (account_id is None or row.account_id == account_id)
            and (payee is None or payee.casefold() in row.payee.casefold())
        ]
        chosen.sort(key=lambda row: (row.booked_on, row.id))
        cut = limit is not None and len(chosen) > limit
        if cut and limit is not None:
            chosen = chosen[len(chosen) - limit :]
        newest = max((row.booked_on for row in self.held_transactions), default=None)
        return QueryRows(tuple(chosen), newest, truncated=cut, query="transactions")

    def lots(self) -> QueryRows[Lot]:
        newest = max((lot.acquired_on for lot in self.held_lots), default=None)
        return QueryRows(self.held_lots, newest, truncated=False, query="lots")

    def prices(self, *, start: date | None = None, end: date | None = None) -> QueryRows[ClosingPrice]:
        chosen = tuple(
            price
            for price in sorted(self.held_prices, key=lambda row: (row.day, row.symbol))
            if (start is None or price.day >= start) and (end is None or price.day <= end)
        )
        newest = max((price.day for price in self.held_prices), default=None)
        return QueryRows(chosen, newest, truncated=False, query="prices")

    def profile(self) -> Profile:
        return self.held_profile


@pytest.fixture(scope="session")
def household() -> Callable[..., Source]:
    """`household(accounts=…, transactions=…, lots=…, prices=…, profile=…) -> Source`; each part may be left out.

    Accounts left out are made from the transactions and lots: one current (or brokerage) account per account id.
    """

    def build(
        *,
        accounts: Sequence[BankAccount] | None = None,
        transactions: Sequence[BankTransaction] = (),
        lots: Sequence[Lot] = (),
        prices: Sequence[ClosingPrice] = (),
        profile: Profile | None = None,
    ) -> Source:
        if accounts is None:
            held: dict[str, BankAccount] = {}
            for row in transactions:
                held.setdefault(row.account_id, BankAccount(row.account_id, row.account_id, "current", row.currency))
            for lot in lots:
                held.setdefault(lot.account_id, BankAccount(lot.account_id, lot.account_id, "brokerage", lot.currency))
            accounts = tuple(held.values())
        return TupleSource(tuple(accounts), tuple(transactions), tuple(lots), tuple(prices), profile or Profile())

    return build


@pytest.fixture(scope="session")
def posting() -> Callable[..., BankTransaction]:
    """`posting("2025-03-14", "-12.50", "Cafe", account=…, currency=…, category=…, memo=…, at=…) -> BankTransaction`."""
    numbers = count(1)

    def build(
        day: str | date,
        amount: str | Decimal,
        payee: str = "Cafe",
        *,
        account: str = "current",
        currency: str = "USD",
        category: str = "",
        memo: str = "",
        at: datetime | None = None,
        balance_after: Decimal | None = None,
    ) -> BankTransaction:
        return BankTransaction(
            id=f"t{next(numbers):07d}",
            account_id=account,
            booked_on=date.fromisoformat(day) if isinstance(day, str) else day,
            amount=Decimal(amount),
            currency=currency,
            payee=payee,
            memo=memo,
            category=category,
            at=at,
            balance_after=balance_after,
        )

    return build


@pytest.fixture(scope="session")
def ungrounded() -> Callable[[Analysis], str]:
    """`ungrounded(analysis)`: the lines whose numbers remain once every form of every fact is taken out."""
    number = re.compile(r"\d")

    def check(analysis: Analysis) -> str:
        reasons = [finding.reason for finding in analysis.findings]
        rest = "\n".join([analysis.text, *analysis.gaps, *reasons])
        facts = [*analysis.facts, *(fact for finding in analysis.findings for fact in finding.facts)]
        for form in sorted({form for fact in facts for form in formatting.forms(fact)}, key=len, reverse=True):
            if number.search(form):
                rest = re.sub(rf"(?<![\d.,]){re.escape(form)}(?![\d]|[.,]\d)", "", rest)
        return "\n".join(line for line in rest.splitlines() if number.search(line))

    return check
