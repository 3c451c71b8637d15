"""Categories, merchants and the words of questions: whole words alone."""

from collections.abc import Callable

import pytest

from bursar.genie.household.records import BankTransaction
from bursar.genie.questions.account_questions import focus_of, kind_of
from bursar.genie.transactions.cash_flows import classify
from bursar.genie.transactions.categories import category_of, is_essential, merchant_of, says_transfer

Post = Callable[..., BankTransaction]


@pytest.mark.parametrize(
    ("payee", "category"),
    [
        ("WHOLE FOODS MKT #123", "groceries"),
        ("Uber Eats", "eating out"),
        ("UBER *TRIP", "transport"),
        ("EMI 0042 HDFC", "debt"),
        ("premium specs", "uncategorised"),
        ("Barnaby Carpets", "uncategorised"),
        ("Transfer 8812", "transfers"),
        ("", "uncategorised"),
    ],
)
def test_rules_match_whole_words_and_the_longest_phrase(posting: Post, payee: str, category: str) -> None:
    """ "Uber Eats" is food, "premium" is no EMI, "Barnaby" no bar; what no rule knows is uncategorised."""
    assert category_of(posting("2025-03-01", "-1", payee)) == category


def test_the_banks_own_category_wins(posting: Post) -> None:
    """A category from the bank is kept as it is spelled, and a rule's joins it."""
    rows = [posting("2025-03-01", "-1", "Aldi"), posting("2025-03-02", "-1", "Netflix", category="Groceries ")]

    assert [entry.category for entry in classify(rows)] == ["Groceries", "Groceries"]
    assert is_essential("Groceries")


def test_the_memo_is_read_after_the_payee(posting: Post) -> None:
    """Only where the payee says nothing does the memo decide."""
    assert category_of(posting("2025-03-01", "-1", "J Smith", memo="rent March")) == "housing"
    assert category_of(posting("2025-03-01", "-1", "Aldi", memo="rent March")) == "groceries"


@pytest.mark.parametrize(
    ("payee", "merchant"),
    [
        ("POS NETFLIX.COM 866-579", "netflix"),
        ("Netflix", "netflix"),
        ("SQ *Blue Bottle 0017", "blue bottle"),
        ("1234", "1234"),
    ],
)
def test_one_merchant_has_one_name(payee: str, merchant: str) -> None:
    """References, numbers and the bank's jargon do not make another merchant."""
    assert merchant_of(payee) == merchant


def test_a_transfer_says_so_in_whole_words(posting: Post) -> None:
    """The payee, the memo or the bank's category may say it; "Transferwise" does not."""
    assert says_transfer(posting("2025-03-01", "-1", "Online TRANSFER 991"))
    assert says_transfer(posting("2025-03-01", "-1", "X", category="Transfer"))
    assert not says_transfer(posting("2025-03-01", "-1", "Transferwise"))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("where did my money go", "spending"),
        ("how much do I pay for rent", "spending"),
        ("what was I paid in May", "income"),
        ("how much money do I have", "balance"),
        ("which bills are due", "recurring"),
        ("why did I spend more in March", "change"),
        ("hello", "overview"),
    ],
)
def test_the_kind_of_a_question(text: str, kind: str) -> None:
    """The words of a question tell what it asks for."""
    assert kind_of(text) == kind


def test_the_focus_is_what_the_data_hold(posting: Post) -> None:
    """Categories by their own or usual words come first, then merchants; nothing absent is found."""
    entries = classify(
        [
            posting("2025-03-01", "-1", payee)
            for payee in ("Aldi", "Pizza Uno", "Daycare Sun", "Blue Shop", "Amazon Mktpl")
        ]
    )

    dining = classify([posting("2025-03-01", "-1", "Uno", category="Dining")])

    assert focus_of("how much on food", entries).categories == {"groceries", "eating out"}
    assert focus_of("how much on food", dining).categories == {"Dining"}
    assert focus_of("spent at Amazon", entries).merchants == {"amazon mktpl"}
    assert not focus_of("how much for the car", entries)
    assert not focus_of("where did my money go in March", entries)
