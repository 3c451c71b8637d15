"""`bursar close` and `bursar costs --format focus`: the books beside an invoice, and as FOCUS has them."""

import csv
import io
import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from bursar.checkpoints.ledger import postings, requests
from bursar.checkpoints.ledger.accounts import Account
from bursar.checkpoints.ledger.calls import Hold
from bursar.checkpoints.ledger.ledger import Ledger
from bursar.cli.main import make_app
from bursar.state.errors import ConfigurationError
from bursar.state.rules.pricing import Usage

SCOPES = ("session:s-1", "request:r-1")
CENT = 10_000_000
VERSION = "genai-prices 0.1 openai/gpt-4o-mini"
# FOCUS 1.2, the columns whose feature level is mandatory
MANDATORY = {
    *("BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd"),
    *("BillingPeriodStart", "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargePeriodEnd"),
    *("ChargePeriodStart", "ContractedCost", "EffectiveCost", "InvoiceIssuerName", "ListCost", "PricingQuantity"),
    *("PricingUnit", "ProviderName", "PublisherName", "ServiceCategory", "ServiceName"),
}


@pytest.fixture
def books(tmp_path: Path, migrated_file: Path) -> Iterator[Ledger]:
    """A ledger with a call in October, two settled ones and a void one in November, and an odd nano-dollar."""
    at = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
    ledger = Ledger(f"sqlite:///{shutil.copy(migrated_file, tmp_path)}", clock=lambda: at)
    ledger.run(requests.open_session, "s-1", "acme", at=at)
    accounts = [Account(scope, 30 * CENT) for scope in SCOPES]
    ledger.run(requests.open_request, "s-1", "r-1", accounts=accounts, text_hash="t", at=at)
    days = [datetime(2026, 10, 31, 23, 59, tzinfo=UTC), at, at, at]
    for number, day in enumerate(days):
        name = f"c-{number}"
        hold = Hold(name, "s-1", "r-1", "tax", "ns", name, 0, "gpt-4o-mini", VERSION, CENT, SCOPES, day)
        ledger.run(postings.hold, hold)
        if number < 3:
            ledger.run(postings.settle, name, cost=CENT - 1, usage=Usage(10, 2), response=None, at=day)
        else:
            ledger.run(postings.void, name, reason="refused", at=day)
    yield ledger
    ledger.database.close()


def bursar(ledger: Ledger, *arguments: str) -> Result:
    """Run a command on the ledger's database."""
    return CliRunner().invoke(make_app(), [*arguments, "--database", str(ledger.database.url)])


def lose(ledger: Ledger) -> None:
    """Have an unknown call in November."""
    at = datetime(2026, 11, 30, 23, 59, tzinfo=UTC)
    ledger.run(postings.hold, Hold("c-9", "s-1", "r-1", "tax", "ns", "h", 0, "gpt-4o-mini", VERSION, CENT, SCOPES, at))
    ledger.run(postings.mark_unknown, "c-9", reason="lost", at=at)


def test_a_month_that_equals_the_invoice_is_closed_with_zero(books: Ledger, tmp_path: Path) -> None:
    """OpenAI's export of costs has lines for input and output of a snapshot, and lines of another month."""
    file = tmp_path / "costs.csv"
    file.write_text(
        "start_time,end_time,amount_value,amount_currency,line_item\n"
        '1795392000,1795478400,0.015,usd,"gpt-4o-mini-2024-07-18, input"\n'
        '1795392000,1795478400,0.004999998,usd,"gpt-4o-mini-2024-07-18, output"\n'
        '1793404800,1793491200,0.009999999,usd,"gpt-4o-mini-2024-07-18, input"\n'
    )
    ended = bursar(books, "close", "2026-11", "--invoice", str(file))
    assert ended.exit_code == 0, ended.output
    assert ended.stdout.splitlines()[-1].startswith("2026-11: the books have $0.019999998, the invoice $0.019999998")


def test_differences_and_unknown_calls_are_listed(books: Ledger, tmp_path: Path) -> None:
    """Each day and model that differs, what only one side has, and each call whose end nobody saw."""
    lose(books)
    file = tmp_path / "invoice.jsonl"
    lines = [
        {"day": "2026-11-23", "model": "gpt-4o-mini", "cost": "0.03"},
        {"day": "2026-11-24", "model": "gpt-4o", "cost": "1"},
        {"day": "2026-11-25", "model": "gpt-4o"},
    ]
    file.write_text("\n".join(map(json.dumps, lines)))
    ended = bursar(books, "close", "2026-11", "--invoice", str(file), "--json")
    assert ended.exit_code == 1
    found = json.loads(ended.stdout)
    assert [(row["day"], row["model"], row["booked"], row["invoiced"]) for row in found["differences"]] == [
        ("2026-11-23", "gpt-4o-mini", "0.019999998", "0.030000000"),
        ("2026-11-24", "gpt-4o", "0.000000000", "1.000000000"),
        ("2026-11-30", "gpt-4o-mini", "0.010000000", "0.000000000"),
    ]
    assert found["unknown"] == [{"call": "c-9", "hold": "0.010000000"}]
    assert [row["row"] for row in found["bad_rows"]] == [3]
    shown = bursar(books, "close", "2026-11", "--invoice", str(file))
    assert "c-9" in shown.stdout
    assert "3 differences; 1 call is unknown." in shown.stdout


def test_a_tolerance_allows_rounding(books: Ledger, tmp_path: Path) -> None:
    """An invoice in cents is equal within a cent, and not within less."""
    file = tmp_path / "invoice.csv"
    file.write_text("day,model,cost\n2026-11-23,gpt-4o-mini,0.02\n")
    arguments = ["close", "2026-11", "--invoice", str(file)]
    assert bursar(books, *arguments).exit_code == 1
    assert bursar(books, *arguments, "--tolerance", "0.01").exit_code == 0


@pytest.mark.parametrize("tolerance", ["x", "-1", ""])
def test_a_tolerance_that_is_no_amount_is_told(books: Ledger, tolerance: str) -> None:
    """The message names the option and what it takes."""
    ended = bursar(books, "close", "2026-11", "--tolerance", tolerance)
    assert "--tolerance is an amount of US dollars from 0 on" in str(ended.exception)


@pytest.mark.parametrize(
    "options",
    [
        ["--gain", "--expected"],
        ["--quoted", "--gain"],
        ["--gain", "--format", "focus"],
        ["--format", "focus", "--json"],
    ],
)
def test_views_of_costs_that_exclude_each_other_are_told(books: Ledger, options: list[str]) -> None:
    """No option is dropped without a word; each alone is shown."""
    assert "give one of --quoted, --gain, --expected" in str(bursar(books, "costs", *options).exception)
    assert bursar(books, "costs", options[0], *(["focus"] if options[0] == "--format" else [])).exit_code == 0


def test_without_an_invoice_the_month_is_shown(books: Ledger) -> None:
    """Exit code 0 while no call is unknown, 1 afterwards; December is empty, and the year ends."""
    assert "2026-11-23" in bursar(books, "close", "2026-11").stdout
    assert bursar(books, "close", "2026-11").exit_code == 0
    assert json.loads(bursar(books, "close", "2026-12", "--json").stdout)["booked"] == "0.000000000"
    lose(books)
    assert bursar(books, "close", "2026-11").exit_code == 1


@pytest.mark.parametrize("month", ["2026", "2026-13", "2026-00", "november", "9999-12"])
def test_no_month_is_told(books: Ledger, month: str) -> None:
    """A month is a year and a month."""
    assert isinstance(bursar(books, "close", month).exception, ConfigurationError)


def test_focus_has_every_mandatory_column_and_the_ledgers_sum(books: Ledger) -> None:
    """One row for each charged call; the sum of `BilledCost` is what the ledger spent, to the nano-dollar."""
    lose(books)
    rows = list(csv.DictReader(io.StringIO(bursar(books, "costs", "--format", "focus").stdout)))
    assert len(rows) == 4
    assert rows[0].keys() >= MANDATORY
    spent = books.spend("s-1").spent
    assert sum(Decimal(row["BilledCost"]) for row in rows) == spent.dollars
    assert {row["x_CallState"] for row in rows} == {"settled", "unknown"}
    first = rows[0]
    assert (first["ProviderName"], first["ServiceName"], first["SubAccountId"]) == ("openai", "gpt-4o-mini", "acme")
    assert (first["BillingPeriodStart"], first["BillingPeriodEnd"]) == ("2026-10-01T00:00:00Z", "2026-11-01T00:00:00Z")
    assert (first["ChargePeriodStart"], first["ChargePeriodEnd"]) == ("2026-10-31T23:59:00Z", "2026-10-31T23:59:01Z")
    assert (first["ConsumedQuantity"], first["ConsumedUnit"]) == ("12", "Tokens")
    assert json.loads(first["Tags"]) == {"agent": "tax", "request": "r-1", "session": "s-1"}
    assert (rows[3]["ConsumedQuantity"], rows[3]["ConsumedUnit"]) == ("", "")


def test_focus_of_some_days_and_one_session(books: Ledger) -> None:
    """From --start and before --end, and of one session, as other costs."""
    some = bursar(books, "costs", "s-1", "--format", "focus", "--start", "2026-11-01", "--end", "2026-12-01").stdout
    assert len(some.splitlines()) == 3
    assert len(bursar(books, "costs", "s-2", "--format", "focus").stdout.splitlines()) == 1
