"""A message with several questions: each is answered for its own days, in order, none twice, none left out."""

from collections.abc import Callable
from datetime import date

import pytest

from bursar.genie.agents.account_analysis.analysis import analyse
from bursar.genie.household.records import BankTransaction
from bursar.genie.household.source import Source
from bursar.genie.questions.subquestions import read_clauses
from bursar.genie.transactions.cash_flows import classify
from bursar.genie.wording.facts import Analysis

NEWEST = date(2025, 4, 30)


@pytest.fixture
def rows(posting: Callable[..., BankTransaction]) -> list[BankTransaction]:
    """Four months: a salary, rent, food, eating out, a subscription whose price rises; a kiosk on the last day."""
    monthly = [
        row
        for month in (1, 2, 3, 4)
        for row in (
            posting(f"2025-{month:02}-01", "3000", "ACME Payroll"),
            posting(f"2025-{month:02}-02", "-1200", "City Apartments Rent"),
            posting(f"2025-{month:02}-05", f"-{80 + month}.25", "Whole Foods"),
            posting(f"2025-{month:02}-09", "-9.99" if month < 4 else "-12.99", "NETFLIX.COM"),
            posting(f"2025-{month:02}-12", f"-2{month}.10", "Cafe Uno"),
        )
    ]
    return [*monthly, posting("2025-04-30", "-1", "Kiosk")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Where did my money go in March, and which subscriptions went up?", [("spending", "2025-03"), ("rises", "")]),
        (
            "What did I spend in February and what was my income in March?",
            [("spending", "2025-02"), ("income", "2025-03")],
        ),
        ("What did I spend and how much did I earn in March?", [("spending", "2025-03"), ("income", "2025-03")]),
        ("How much did I spend in February and March?", [("spending", "2025-02"), ("spending", "2025-03")]),
        ("How much on groceries in March and on rent in April?", [("overview", "2025-03"), ("overview", "2025-04")]),
        ("Compare my spending in February and March", [("change", "2025-02")]),
        ("How much did I spend on food and rent in March?", [("spending", "2025-03")]),
        ("What is my balance? What is my balance?", [("balance", "")]),
        ("How safe are my finances, and what is my balance?", [("balance", "")]),
        ("How much did I save in March?", [("saved", "2025-03")]),
        ("My biggest purchases in March", [("largest", "2025-03")]),
        ("", [("overview", "")]),
        ("?!, and", [("overview", "")]),
    ],
)
def test_questions_are_told_apart(rows: list[BankTransaction], text: str, expected: list[tuple[str, str]]) -> None:
    """Each question has its own kind and its own month; what begins no question stays with the one before it."""
    clauses = read_clauses(text, classify(rows), newest=NEWEST)

    found = [(clause.kind, f"{min(p.start for p in clause.asked):%Y-%m}" if clause.asked else "") for clause in clauses]
    assert found == expected


def test_each_answer_is_a_paragraph_and_every_number_a_fact(
    household: Callable[..., Source], rows: list[BankTransaction], ungrounded: Callable[[Analysis], str]
) -> None:
    """Three questions make three paragraphs, in order; their facts are kept apart and support every number."""
    text = "What did I spend in February, what was my income in March, and which subscriptions went up?"

    answer = analyse(household(transactions=rows), text, today=NEWEST)

    first, second, third = answer.text.split("\n\n")
    assert first.startswith("You spent $1,314.34 in February 2025")
    assert second.startswith("Your income in March 2025 was $3,000.00")
    assert third.startswith("Your only subscription went up:\n- NETFLIX.COM: $12.99 monthly")
    assert ungrounded(answer) == ""
    keys = [fact.key for fact in answer.facts]
    assert len(keys) == len(set(keys))
    assert {"spending.USD", "2.income.USD"} <= set(keys)


@pytest.mark.parametrize(
    ("text", "lead"),
    [
        ("How much did I save in March?", "You saved $1,683.66 in March 2025, 56.1% of your income"),
        (
            "My biggest purchases in March",
            "Your largest single payments in March 2025, one for each payee:\n- $1,200.00",
        ),
        ("What did I spend per month?", "You spent $5,265.36 from 1 January 2025 to 30 April 2025."),
        ("Did my rent bill go up?", "Your only regular payment for housing did not go up."),
        ("Which subscriptions went up in February?", "Your only subscription did not go up in February 2025."),
        ("What did I spend on unicorns?", "Nothing in your data is called unicorns, so this is all your spending."),
    ],
)
def test_leads_with_what_was_asked(
    household: Callable[..., Source],
    rows: list[BankTransaction],
    ungrounded: Callable[[Analysis], str],
    text: str,
    lead: str,
) -> None:
    """Savings, single payments, months, price rises and unknown names each have an answer of their own."""
    answer = analyse(household(transactions=rows), text, today=NEWEST)

    assert answer.text.startswith(lead)
    assert ungrounded(answer) == ""


def test_an_unknown_name_is_a_gap(household: Callable[..., Source], rows: list[BankTransaction]) -> None:
    """A name that the data do not hold is a gap, a known one is not."""
    source = household(transactions=rows)

    assert analyse(source, "What did I spend on unicorns?", today=NEWEST).gaps
    assert not analyse(source, "What did I spend on average?", today=NEWEST).gaps
    assert not analyse(source, "What did I spend at Netflix?", today=NEWEST).gaps
