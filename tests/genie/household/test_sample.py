"""The sample household is what its generator makes, and its books balance."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine

from bursar.genie.agents.database_connector.connector import Connector
from bursar.genie.household import sample
from bursar.genie.household.sample_life import CARD_OPENS, CHECKING_OPENS, SAVINGS_OPENS
from bursar.genie.importing.import_report import ImportReport
from bursar.genie.importing.importing import import_files

pytestmark = pytest.mark.slow

Household = tuple[Engine, tuple[ImportReport, ...]]


@pytest.fixture(scope="module")
def household(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Household]:
    """The sample household in a database."""
    engine = create_engine(f"sqlite:///{tmp_path_factory.mktemp('sample') / 'sample.db'}")
    yield engine, import_files(engine, sample.sample_files(), now=datetime(2026, 1, 5, tzinfo=UTC))
    engine.dispose()


def test_the_shipped_files_are_what_the_generator_makes(tmp_path: Path) -> None:
    """Run as a command, the generator writes the committed files byte for byte, and no others."""
    sample.main([str(tmp_path), "--seed", "7", "--end", "2025-12-31"])
    made = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert made == {file.name: file.read_bytes() for file in sample.sample_files()}
    assert sum(map(len, made.values())) < 600_000


def test_another_seed_or_end_makes_another_household() -> None:
    """The generator follows its arguments: no day lies after the end."""
    made = sample.make(seed=8, end=date(2024, 6, 15))
    assert made["credit_card.csv"] != sample.make()["credit_card.csv"]
    assert b"2024-06-14" in made["prices.csv"]
    assert b"2024-06-16" not in made["prices.csv"]


def test_every_row_of_the_sample_is_imported(household: Household) -> None:
    """No row is rejected, and the current account's two files are one set of postings."""
    _, reports = household
    assert [(report.file.name, report.error, report.rejected) for report in reports] == [
        (name, None, ()) for name in sample.NAMES
    ]
    added = {report.file.name: report.added for report in reports}
    assert added["checking.ofx"] == 0
    assert added["checking.csv"] > 300
    assert reports[0].account_ids == reports[1].account_ids


def test_opening_and_postings_make_the_stated_balances(household: Household) -> None:
    """For the current account and savings, opening balance plus all amounts is the balance that the bank states."""
    source = Connector(household[0])
    opens = {"current": CHECKING_OPENS, "savings": SAVINGS_OPENS}
    for account in source.accounts():
        if account.kind in opens:
            total = sum((row.amount for row in source.transactions(account_id=account.id)), Decimal(0))
            assert opens[account.kind] + total == account.balance
    card = sum((row.amount for row in source.transactions(account_id="credit-card")), CARD_OPENS)
    stated = {debt.name: debt.balance for debt in source.profile().debts}
    assert -card == stated["Credit card"]


def test_what_was_planted_is_there(household: Household) -> None:
    """A price rise, a duplicate charge, a fraud, transfers between own accounts, and lots at a loss and a gain."""
    source = Connector(household[0])
    assert {row.amount for row in source.transactions(payee="netflix")} == {Decimal("-15.49"), Decimal("-17.99")}
    twice = source.transactions(payee="bright home").items
    assert [(row.booked_on, row.amount) for row in twice] == [(date(2025, 8, 13), Decimal("-184.37"))] * 2
    assert [row.amount for row in source.transactions(payee="luxe electronics")] == [Decimal("-2489.00")]
    paid = {(row.booked_on, -row.amount) for row in source.transactions(payee="card autopay")}
    assert paid == {(row.booked_on, row.amount) for row in source.transactions(payee="thank you")}
    assert len(source.transactions(payee="payroll")) > 24 * 3
    last = {price.symbol: price.close for price in source.prices()}
    gains = {lot.symbol for lot in source.lots() if last[lot.symbol] > lot.unit_cost}
    losses = {lot.symbol for lot in source.lots() if last[lot.symbol] < lot.unit_cost}
    assert gains
    assert losses
    assert len(last) == 6
    profile = source.profile()
    assert (profile.filing_status, profile.tax_year, profile.country) == ("married_filing_jointly", 2025, "US")
