"""Holdings and prices: lots with their cost, and closes that a later file may correct."""

from collections.abc import Callable
from datetime import date
from decimal import Decimal

from sqlalchemy import Engine

from bursar.genie.agents.database_connector.connector import Connector
from bursar.genie.importing.import_report import ImportReport

Importer = Callable[..., ImportReport]
HEADER = "Symbol,Name,Asset Class,Quantity,Unit Cost,Acquired,Currency\n"
ONE = "VTX,World Fund,Stocks,10.125,99.5,2023-04-05,USD\n"
TWO = "BDX,Bond Fund,Fixed income,5,20.0000,2024-01-02,USD\n"


def test_lots_are_read_and_kept_once(engine: Engine, imported: Importer) -> None:
    """Quantities and costs are exact, a second import changes nothing, equal purchases stay as many as listed."""
    report = imported(engine, "depot.csv", HEADER + ONE + TWO + TWO)
    lots = Connector(engine).lots().items
    assert (report.kind, report.added) == ("holdings", 3)
    assert [(lot.symbol, str(lot.quantity), lot.unit_cost, lot.asset_class) for lot in lots] == [
        ("BDX", "5", Decimal(20), "bond"),
        ("BDX", "5", Decimal(20), "bond"),
        ("VTX", "10.125", Decimal("99.5"), "equity"),
    ]
    again = imported(engine, "depot.csv", HEADER + TWO + ONE + TWO)
    assert (again.added, again.unchanged, again.removed) == (0, 3, 0)


def test_a_holdings_file_is_the_whole_position(sqlite: Engine, imported: Importer) -> None:
    """A lot that a later file no longer lists was sold; a file with bad rows removes nothing."""
    imported(sqlite, "depot.csv", HEADER + ONE + TWO)
    broken = imported(sqlite, "depot.csv", HEADER + ONE + TWO.replace(",5,", ",-5,"))
    assert (broken.removed, [one.row for one in broken.rejected]) == (0, [3])
    assert len(Connector(sqlite).lots()) == 2
    assert imported(sqlite, "depot.csv", HEADER + ONE).removed == 1
    assert [lot.symbol for lot in Connector(sqlite).lots()] == ["VTX"]


def test_the_unit_cost_comes_from_a_total_where_only_that_is_given(sqlite: Engine, imported: Importer) -> None:
    """A cost basis is divided by the quantity, to eight decimals; decimal commas are understood."""
    imported(sqlite, "depot.csv", "ISIN;Bezeichnung;Stück;Einstandswert;Kaufdatum\nDE01;Fonds;3;100,00;05.04.2023\n")
    lot = Connector(sqlite).lots().items[0]
    assert (lot.unit_cost, lot.acquired_on, lot.currency) == (Decimal("33.33333333"), date(2023, 4, 5), "EUR")


def test_prices_are_added_and_corrected(engine: Engine, imported: Importer) -> None:
    """A close of a day that is known is corrected by a later file; a price of zero is rejected."""
    first = imported(
        engine, "p.csv", "Date,Symbol,Close\n2025-01-02,VTX,100.1234\n2025-01-03,VTX,101\n2025-01-03,BDX,0\n"
    )
    second = imported(engine, "q.csv", "Date,Symbol,Close\n2025-01-03,VTX,102\n2025-01-02,VTX,100.1234\n")
    assert (first.added, len(first.rejected)) == (2, 1)
    assert (second.added, second.updated, second.unchanged) == (0, 1, 1)
    prices = Connector(engine).prices()
    assert [price.close for price in prices] == [Decimal("100.1234"), Decimal(102)]
    assert prices.as_of == date(2025, 1, 3)
