"""Questions about the stored records are answered from them, with every number a fact."""

from collections.abc import Iterator
from datetime import UTC, date, datetime

import pytest
from sqlalchemy import create_engine

from bursar.genie.agents.database_connector.connector import Connector
from bursar.genie.agents.database_connector.listing import answer
from bursar.genie.household.sample import sample_files
from bursar.genie.household.source import Source
from bursar.genie.importing.importing import import_files
from bursar.genie.wording.grounding import ungrounded

TODAY = date(2026, 1, 5)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Source]:
    """The sample household."""
    engine = create_engine(f"sqlite:///{tmp_path_factory.mktemp('sample') / 'sample.db'}")
    import_files(engine, sample_files(), now=datetime(2026, 1, 5, tzinfo=UTC))
    yield Connector(engine)
    engine.dispose()


@pytest.mark.parametrize(
    ("question", "subject", "rows", "says"),
    [
        ("list my accounts", "accounts", 4, "4 accounts:"),
        ("what are the account numbers and currencies on file", "accounts", 4, "savings ending 0551 (savings, USD)"),
        ("show my last 10 transactions", "transactions", 10, "10 transactions, newest first"),
        ("show me my five newest payments", "transactions", 5, "5 transactions, newest first"),
        ("transactions at Netflix in March 2025", "transactions", 1, "4 March 2025: NETFLIX.COM, -$17.99"),
        ("show all Spotify and Netflix transactions in May 2025", "transactions", 2, "2 transactions in May 2025"),
        ("display every transaction above 5000 dollars", "transactions", 24, "24 transactions"),
        ("list purchases between 2400 and 2500 dollars in October 2025", "transactions", 2, "LUXE ELECTRONICS"),
        ("list transactions from 1 to 5 June", "transactions", 7, "from 1 June 2025 to 5 June 2025"),
        ("list everything between 3 March and 9 March", "transactions", 13, "from 3 March 2025 to 9 March 2025"),
        ("show the latest entries on my savings account", "transactions", 10, "of 48 found"),
        ("show deposits above 2000 dollars in December 2025", "transactions", 1, "NORTHWIND"),
        ("what data do you have", "coverage", 3, "from 1 January 2024 to 31 December 2025"),
        ("how many transactions are stored", "coverage", 3, "1,199 transactions on file"),
        ("which statements and files did I load", "imports", 7, "savings.ofx (statement) on 5 January 2026"),
        ("list my holdings", "holdings", 11, "AUGX Physical Gold Fund: 22 units at $168.41 each"),
    ],
)
def test_questions(source: Source, question: str, subject: str, rows: int, says: str) -> None:
    """Each question gets its records, in the text and as a table; no number in the text is without a fact."""
    analysis = answer(source, question, today=TODAY)
    assert says in analysis.text
    assert analysis.tables is not None
    assert {name: len(table) for name, table in analysis.tables.items()} == {subject: rows}
    assert ungrounded(analysis.text, analysis.facts) == ()


def test_a_name_that_is_not_there_is_said(source: Source) -> None:
    """A merchant without transactions is a gap, never a listing of others."""
    analysis = answer(source, "list all payments to Walmart", today=TODAY)
    assert analysis.text == "There is no transaction with Walmart."
    assert analysis.gaps == ()
    nothing = answer(source, "transactions at Netflix in March 2019", today=TODAY)
    assert nothing.tables is None
    assert nothing.gaps == ()


def test_a_long_listing_is_cut_in_the_text_alone(source: Source) -> None:
    """The text shows the newest lines and says how many are left; the table has them all."""
    analysis = answer(source, "list my transactions", today=TODAY)
    assert analysis.tables is not None
    assert len(analysis.tables["transactions"]) == 1199
    assert "- and 1,159 more in the table" in analysis.text
    assert ungrounded(analysis.text, analysis.facts) == ()


def test_an_empty_household_says_what_is_missing() -> None:
    """Before any import each question is answered with what is not there."""
    engine = create_engine("sqlite://")
    import_files(engine, [], now=datetime(2026, 1, 5, tzinfo=UTC))
    empty = Connector(engine)
    for question in ("list my accounts", "what data do you have", "list my holdings", "show my last 3 transactions"):
        analysis = answer(empty, question, today=TODAY)
        assert analysis.gaps
        assert analysis.tables is None
    engine.dispose()
