"""Transfers: opposite postings on two own accounts are one movement, each used once; life is not."""

import random
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from bursar.genie.household.records import BankAccount, BankTransaction
from bursar.genie.transactions.cash_flows import monthly_totals
from bursar.genie.transactions.transfers import match_transfers, own_movements

Post = Callable[..., BankTransaction]

ACCOUNTS = (
    BankAccount("current", "Everyday", "current", "USD"),
    BankAccount("savings", "Rainy Day", "savings", "USD"),
    BankAccount("card", "Blue Card", "card", "USD"),
    BankAccount("broker", "Invest", "brokerage", "USD"),
)


def test_a_card_payment_is_a_transfer(posting: Post) -> None:
    """What leaves the current account and arrives on the card two days later is one transfer."""
    out = posting("2025-03-20", "-431.12", "BLUE CARD AUTOPAY")
    into = posting("2025-03-22", "431.12", "Payment Thank You", account="card")

    (pair,) = match_transfers([into, out], ACCOUNTS)

    assert (pair.source, pair.target) == (out, into)


def test_the_name_of_an_own_account_is_enough(posting: Post) -> None:
    """A posting written to "Rainy Day" is a transfer to the account of that name."""
    rows = [posting("2025-03-20", "-50", "Rainy Day"), posting("2025-03-20", "50", "J Doe", account="savings")]

    assert len(match_transfers(rows, ACCOUNTS)) == 1


def test_each_posting_is_used_once(posting: Post) -> None:
    """Of two equal deposits one alone pairs with the one withdrawal: the nearest in time."""
    out = posting("2025-03-10", "-100", "Transfer")
    near, far = (posting(day, "100", "Transfer", account="savings") for day in ("2025-03-11", "2025-03-13"))

    assert [pair.target for pair in match_transfers([far, out, near], ACCOUNTS)] == [near]


def test_the_most_pairs_win_over_the_nearest(posting: Post) -> None:
    """Taking the nearest pair first would leave two postings over; the assignment pairs all four."""
    outs = [posting(day, "-100", "Transfer") for day in ("2025-03-01", "2025-03-05")]
    ins = [posting(day, "100", "Transfer", account="savings") for day in ("2025-03-04", "2025-03-08")]

    assert [(pair.source, pair.target) for pair in match_transfers([*outs, *ins])] == list(zip(outs, ins, strict=True))


def test_equal_amounts_that_are_something_else_do_not_pair(posting: Post) -> None:
    """Rent and salary, a card purchase and a friend's money, other currencies, one account, or late days: no pair."""
    day = "2025-03-01"
    pairs = [
        (posting(day, "-2000", "Landlord"), posting(day, "2000", "Payroll", account="savings")),
        (posting(day, "-50", "Blue Shop", account="card"), posting(day, "50", "Jo")),
        (posting(day, "-60", "Transfer"), posting(day, "60", "Transfer", account="savings", currency="EUR")),
        (posting(day, "-70", "Transfer"), posting(day, "70", "Transfer")),
        (posting(day, "-80", "Transfer"), posting("2025-03-06", "80", "Transfer", account="savings")),
    ]

    assert match_transfers([row for pair in pairs for row in pair], ACCOUNTS) == ()


def test_one_sided_movements(posting: Post) -> None:
    """A payment received on a card and purchases of shares are not income or spending; a dividend is income."""
    received = posting("2025-03-20", "431.12", "Payment Thank You", account="card")
    bought = posting("2025-03-20", "-900", "BUY VTI", account="broker")
    dividend = posting("2025-03-20", "12", "VTI dividend", account="broker")

    assert own_movements([received, bought, dividend], ACCOUNTS) == {received.id, bought.id}


@given(
    moves=st.lists(
        st.tuples(st.dates(date(2025, 1, 1), date(2025, 3, 1)), st.integers(1, 5), st.integers(0, 4)), max_size=12
    ),
    life=st.lists(st.tuples(st.dates(date(2025, 1, 1), date(2025, 3, 1)), st.integers(1, 500)), max_size=12),
    seed=st.integers(0, 99),
)
@settings(deadline=None)
def test_transfers_are_never_income_or_spending(
    posting: Post, moves: list[tuple[date, int, int]], life: list[tuple[date, int]], seed: int
) -> None:
    """However many equal transfers crowd a week, totals are those of the other postings alone, in any order."""
    bought = [posting(day, Decimal(-amount), "Whole Foods", account="card") for day, amount in life]
    moved: list[BankTransaction] = []
    for day, amount, lag in moves:
        moved.append(posting(day, Decimal(-amount), "Transfer to savings"))
        moved.append(posting(day + timedelta(days=lag), Decimal(amount), "Transfer from current", account="savings"))
    rows = random.Random(seed).sample([*bought, *moved], len(bought) + len(moved))

    sums = {key: value for key, value in monthly_totals(rows, ACCOUNTS).items() if value.spending or value.income}

    assert sums == monthly_totals(bought, ACCOUNTS)
    ids = [row.id for pair in match_transfers(rows, ACCOUNTS) for row in (pair.source, pair.target)]
    assert len(ids) == len(set(ids)) == len(moved)
