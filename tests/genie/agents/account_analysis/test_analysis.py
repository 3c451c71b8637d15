"""Account analysis: totals are the data's to the cent, answers answer the question, every number is a fact."""

import random
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bursar.genie.agents.account_analysis.analysis import analyse
from bursar.genie.agents.account_analysis.change import bridge
from bursar.genie.household.records import BankAccount, BankTransaction
from bursar.genie.household.source import Source
from bursar.genie.transactions.cash_flows import (
    category_totals,
    classify,
    median_essential_spend,
    monthly_income,
    monthly_totals,
)
from bursar.genie.wording.facts import Analysis

Build = Callable[..., Source]
Post = Callable[..., BankTransaction]
Check = Callable[[Analysis], str]

TODAY = date(2025, 4, 20)


@pytest.fixture
def home(household: Build, posting: Post) -> Source:
    """Four months of a small household: salary, rent, food, a subscription whose price rises, a savings transfer."""
    rows: list[BankTransaction] = []
    for month in (1, 2, 3, 4):
        rows += [
            posting(f"2025-{month:02}-01", "3000.00", "ACME Payroll"),
            posting(f"2025-{month:02}-02", "-1200.00", "City Apartments"),
            posting(f"2025-{month:02}-05", f"-{80 + month}.25", "Whole Foods 123"),
            posting(f"2025-{month:02}-09", "-9.99" if month < 4 else "-12.99", "NETFLIX.COM"),
            posting(f"2025-{month:02}-10", "-400.00", "Transfer to savings"),
            posting(f"2025-{month:02}-11", "400.00", "Transfer from current", account="savings"),
            posting(f"2025-{month:02}-12", f"-2{month}.10", "Cafe Uno"),
        ]
    accounts = (
        BankAccount("current", "Everyday", "current", "USD", Decimal("1234.56"), date(2025, 4, 12)),
        BankAccount("savings", "Rainy day", "savings", "USD", Decimal("1600.00"), date(2025, 4, 11)),
    )
    return household(accounts=accounts, transactions=rows)


@pytest.mark.parametrize(
    ("question", "lead"),
    [
        ("Where did my money go in March?", "You spent $1,316.34 in March 2025, in 4 payments."),
        ("how much did I spend on food in March", "You spent $106.35 on eating out and groceries in March 2025"),
        ("what did I pay Netflix in April?", "You spent $12.99 on NETFLIX.COM in April 2025"),
        ("what is my income", "Your income from 1 January 2025 to 12 April 2025 was $12,000.00."),
        ("what subscriptions do I have", "You have 1 subscription, $12.99 a month:"),
        ("how does March compare", "In March 2025 you spent $1,316.34, $2.00 (0.2%) more than in February 2025"),
        ("what's my balance", "You have $2,834.56 in current and savings accounts."),
        ("summary of March please", "In March 2025 $3,000.00 came in, $1,316.34 was spent"),
    ],
)
def test_leads_with_the_number_that_was_asked_for(home: Source, ungrounded: Check, question: str, lead: str) -> None:
    """Each kind of question is answered in the first line, for the period it names."""
    answer = analyse(home, question, today=TODAY)

    assert answer.text.startswith(lead)
    assert ungrounded(answer) == ""


def test_another_question_gets_another_answer(home: Source) -> None:
    """No two kinds of question share an answer."""
    questions = ("where did my money go", "my income", "my subscriptions", "my balance", "compare April with March")

    assert len({analyse(home, question, today=TODAY).text for question in questions}) == len(questions)


def test_a_price_rise_is_told_with_old_and_new(home: Source) -> None:
    """A subscription that went from 9.99 to 12.99 is one stream with a rise, in the text and as a finding."""
    answer = analyse(home, "which subscriptions went up", today=TODAY)

    assert "it rose from $9.99 by 30% on 9 April 2025" in answer.text
    (finding,) = answer.findings
    assert finding.rule == "price-rise"
    assert "from $9.99 to $12.99 (30%)" in finding.reason


def test_the_running_month_is_compared_day_for_day(home: Source) -> None:
    """Twelve days of April stand against twelve days of March, and the drivers are named."""
    answer = analyse(home, "how does this month compare", today=TODAY)

    assert "from 1 March 2025 to 12 March 2025" in answer.text
    assert "- Subscriptions: up $3.00, from $9.99 to $12.99" in answer.text


def test_currencies_are_never_added_up(household: Build, posting: Post) -> None:
    """Dollars and euros have a total each; no number mixes them."""
    source = household(
        transactions=[posting("2025-03-01", "-10.00"), posting("2025-03-02", "-20.00", currency="EUR", account="euro")]
    )
    answer = analyse(source, "how much did I spend", today=TODAY)

    spent = {fact.key: fact.value for fact in answer.facts if fact.key.startswith("spending.")}
    assert spent == {"spending.USD": Decimal("10.00"), "spending.EUR": Decimal("20.00")}
    assert "30.00" not in answer.text


def test_a_refund_is_no_income(household: Build, posting: Post) -> None:
    """Money back from a merchant that was paid before is told apart from income."""
    source = household(transactions=[posting("2025-03-01", "-50", "Zara"), posting("2025-03-09", "20", "ZARA 0042")])

    answer = analyse(source, "how much did I spend in March", today=TODAY)

    assert {fact.key: fact.value for fact in answer.facts}["refunds.USD"] == Decimal(20)
    assert {fact.key: fact.value for fact in answer.facts}["income.USD"] == Decimal(0)
    assert "$20.00 back in refunds" in answer.text


def test_gaps_name_what_is_missing(home: Source, household: Build) -> None:
    """A period outside the data, old data and no data are told, not glossed over."""
    outside = analyse(home, "what did I spend in 2019", today=TODAY)
    stale = analyse(home, "what did I spend", today=TODAY + timedelta(days=90))
    empty = analyse(household(), "what did I spend", today=TODAY)

    assert outside.text == "There is no spending in 2019."
    assert outside.gaps == ("the data cover 1 January 2025 to 12 April 2025 only",)
    assert "the newest transaction is of 12 April 2025" in stale.gaps
    assert empty.confidence == 0.0
    assert "Import a bank statement" in empty.text


def test_a_bank_without_balances_is_not_given_any(household: Build, posting: Post) -> None:
    """Where the bank stated no balance the answer says so; where a posting carries one, that one counts."""
    row = posting("2025-03-01", "-10", balance_after=Decimal("90.00"))

    assert (
        "stated no balance"
        in analyse(household(transactions=[posting("2025-03-01", "-10")]), "balance", today=TODAY).text
    )
    assert "current: $90.00 on 1 March 2025" in analyse(household(transactions=[row]), "balance", today=TODAY).text


def test_a_six_month_statement_is_not_one_month(household: Build, posting: Post) -> None:
    """Usual income and essential spend are medians over whole months, not sums over the statement."""
    rows = [
        row
        for month in range(1, 7)
        for row in (
            posting(f"2025-{month:02}-01", "2000", "Salary"),
            posting(f"2025-{month:02}-28", "-700", "Rent"),
            posting(f"2025-{month:02}-20", "-90", "Cinema"),
        )
    ]

    assert monthly_income(rows, currency="USD") == Decimal(2000)
    assert median_essential_spend(rows, currency="USD") == Decimal(700)
    assert monthly_income(rows[:1], currency="USD") is None


PAYEES = st.sampled_from(["Whole Foods", "Shell", "Netflix", "Blue Shop", "Acme Payroll", "premium specs", "Zara 12"])
POSTINGS = st.lists(
    st.tuples(
        st.dates(date(2024, 11, 1), date(2025, 4, 12)),
        st.decimals("-2000", "2000", places=2).filter(lambda amount: amount != 0),
        PAYEES,
        st.sampled_from(["USD", "EUR"]),
        st.sampled_from(["", "", "Leisure", "groceries", "Groceries"]),
    ),
    min_size=1,
    max_size=40,
)
QUESTIONS = st.sampled_from(
    ["where did my money go", "income in March", "compare", "food", "my subscriptions", "balance", "summary", "netflix"]
)


@given(drawn=POSTINGS, question=QUESTIONS, seed=st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_totals_are_the_data_and_order_changes_nothing(
    household: Build,
    posting: Post,
    ungrounded: Check,
    drawn: list[tuple[date, Decimal, str, str, str]],
    question: str,
    seed: int,
) -> None:
    """Sums by month and by category equal a plain loop over the postings; shuffled rows give the same analysis."""
    rows = [
        posting(day, amount, payee, currency=currency, category=category)
        for day, amount, payee, currency, category in drawn
    ]
    shuffled = random.Random(seed).sample(rows, len(rows))
    spent: dict[tuple[date, str], Decimal] = {}
    net: dict[tuple[date, str], Decimal] = {}
    for row in rows:
        key = row.booked_on.replace(day=1), row.currency
        net[key] = net.get(key, Decimal(0)) + row.amount
        spent[key] = spent.get(key, Decimal(0)) - min(row.amount, Decimal(0))

    by_month = monthly_totals(shuffled)

    assert {key: sums.net for key, sums in by_month.items()} == net
    assert {key: sums.spending for key, sums in by_month.items()} == spent
    for currency in ("USD", "EUR"):
        by_category = [sums for (_, held), sums in category_totals(rows).items() if held == currency]
        assert sum(sums.spending for sums in by_category) == sum(
            v for (_, held), v in spent.items() if held == currency
        )
    first = analyse(household(transactions=rows), question, today=TODAY)
    accounts = household(transactions=rows).accounts().items
    assert first == analyse(household(accounts=accounts, transactions=shuffled), question, today=TODAY)
    assert ungrounded(first) == ""


def test_totals_equal_a_pandas_computation(posting: Post) -> None:
    """Month and category totals of a seeded year equal pandas' group-by to the cent."""
    import pandas as pd

    rng = random.Random(7)
    rows = [
        posting(
            date(2025, 1, 1) + timedelta(days=rng.randrange(365)),
            Decimal(-rng.randrange(1, 99999)) / 100,
            "Shop",
            category=rng.choice(["Food", "Travel", "Home"]),
        )
        for _ in range(500)
    ]
    cents = pd.DataFrame(
        {"month": r.booked_on.replace(day=1), "category": r.category, "cents": int(-r.amount * 100)} for r in rows
    )

    by_month = {month: int(sums.spending * 100) for (month, _), sums in monthly_totals(rows).items()}
    by_category = {name: int(sums.spending * 100) for (name, _), sums in category_totals(rows).items()}

    assert by_month == cents.groupby("month")["cents"].sum().to_dict()
    assert by_category == cents.groupby("category")["cents"].sum().to_dict()


@given(drawn=POSTINGS)
@settings(max_examples=40, deadline=None)
def test_a_bridge_adds_up(posting: Post, drawn: list[tuple[date, Decimal, str, str, str]]) -> None:
    """The steps between two periods sum to the difference of their spending, to the cent."""
    rows = [posting(day, amount, payee, category=category) for day, amount, payee, _, category in drawn]
    entries = classify(rows)
    before = tuple(entry for entry in entries if entry.row.booked_on < date(2025, 2, 1))
    after = tuple(entry for entry in entries if entry.row.booked_on >= date(2025, 2, 1))

    steps = bridge(before, after, currency="USD")

    spent = [sum(entry.size for entry in part if entry.flow == "spending") for part in (before, after)]
    assert sum(step.change for step in steps) == spent[1] - spent[0]
