"""The profile: exact amounts, nothing guessed, and errors that name the key."""

from collections.abc import Callable
from datetime import date
from decimal import Decimal

import pytest
from sqlalchemy import Engine

from bursar.genie.agents.database_connector.connector import Connector
from bursar.genie.household.records import Debt, Profile, Suitability
from bursar.genie.importing.import_report import ImportReport

Importer = Callable[..., ImportReport]
TEXT = """
country = "US"
tax_year = 2025
gross_annual_income = 100000.10
[suitability]
risk_band = "growth"
horizon_years = 10
recorded_on = 2025-01-01
valid_until = 2026-01-01
[[debts]]
name = "Car"
balance = "9000.50"
annual_rate = 0.065
monthly_payment = 250
"""


def test_a_profile_comes_back_exactly(engine: Engine, imported: Importer) -> None:
    """What the file says is what the connector returns; what it does not say stays unknown; again changes nothing."""
    expected = Profile(
        country="US",
        tax_year=2025,
        gross_annual_income=Decimal("100000.10"),
        suitability=Suitability("growth", 10, date(2025, 1, 1), date(2026, 1, 1)),
        debts=(Debt("Car", Decimal("9000.50"), Decimal("0.065"), Decimal(250), "USD"),),
    )
    assert imported(engine, "profile.toml", TEXT).added == 1
    assert Connector(engine).profile() == expected
    assert imported(engine, "profile.toml", TEXT).unchanged == 1
    assert imported(engine, "profile.toml", 'country = "DE"\ncurrency = "EUR"').updated == 1
    assert Connector(engine).profile() == Profile(country="DE", currency="EUR")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("country = 5", "country must be text in quotes"),
        ("tax_year = '2025'", "tax_year must be a whole number"),
        ("gross_annual_income = nan", "gross_annual_income must be a number of zero or more"),
        ("[suitability]\nrisk_band = 'wild'", "risk_band must be one of cautious, balanced, growth"),
        (TEXT.replace("0.065", "6.5"), "is a fraction: write 0.065 for 6.5 %"),
        (TEXT.replace("2026-01-01", "'soon'"), "valid_until must be a date"),
        ("country = ", "is no TOML"),
    ],
)
def test_a_wrong_profile_names_the_key(sqlite: Engine, imported: Importer, text: str, says: str) -> None:
    """The error says which key is wrong and what it should be; the stored profile stays."""
    imported(sqlite, "profile.toml", 'country = "DE"')
    report = imported(sqlite, "profile.toml", text)
    assert says in str(report.error)
    assert Connector(sqlite).profile() == Profile(country="DE")
