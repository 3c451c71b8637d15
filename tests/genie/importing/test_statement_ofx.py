"""OFX 1 and 2: bank, card and investment statements; a FITID is one posting for ever."""

from collections.abc import Callable
from datetime import date
from decimal import Decimal

from sqlalchemy import Engine

from bursar.genie.agents.database_connector.connector import Connector
from bursar.genie.importing.import_report import ImportReport

Importer = Callable[..., ImportReport]
SGML = (
    "OFXHEADER:100\nDATA:OFXSGML\nVERSION:102\nSECURITY:NONE\nENCODING:USASCII\nCHARSET:1252\nCOMPRESSION:NONE\n"
    "OLDFILEUID:NONE\nNEWFILEUID:NONE\n\n"
)
XML = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<?OFX OFXHEADER="200" VERSION="211" SECURITY="NONE" OLDFILEUID="NONE" NEWFILEUID="NONE"?>\n'
)


def posting(fitid: str, day: str, amount: str, name: str, memo: str = "") -> str:
    """One STMTTRN, SGML style; a missing memo stands as an empty leaf."""
    return f"<STMTTRN><TRNTYPE>DEBIT<DTPOSTED>{day}<TRNAMT>{amount}<FITID>{fitid}<NAME>{name}<MEMO>{memo}</STMTTRN>\n"


def bank(*postings: str, balance: str = "100.00") -> str:
    """A current account's statement in SGML."""
    return (
        f"{SGML}<OFX><BANKMSGSRSV1><STMTTRNRS><STMTRS><CURDEF>EUR<BANKACCTFROM><BANKID>1<ACCTID>0012345678"
        f"<ACCTTYPE>CHECKING</BANKACCTFROM><BANKTRANLIST><DTSTART>20250301<DTEND>20250331\n{''.join(postings)}"
        f"</BANKTRANLIST><LEDGERBAL><BALAMT>{balance}<DTASOF>20250331</LEDGERBAL></STMTRS></STMTTRNRS></BANKMSGSRSV1></OFX>"
    )


def test_a_bank_statement_in_sgml(engine: Engine, imported: Importer) -> None:
    """Days are the bank's own whatever the offset, entities are resolved, the stated balance is kept."""
    content = bank(
        posting("1", "20250301233000[-5:EST]", "-12.50", "Fish &amp; Chips", "Pier 4"),
        posting("2", "20250302", "-3.00", "Cafe"),
        posting("3", "20250302", "-3.00", "Cafe"),
    )
    report = imported(engine, "x.ofx", content)
    rows = Connector(engine).transactions().items
    assert (report.added, report.rejected, report.currency) == (3, (), "EUR")
    assert [(row.booked_on.day, str(row.amount), row.payee, row.memo) for row in rows] == [
        (1, "-12.50", "Fish & Chips", "Pier 4"),
        (2, "-3.00", "Cafe", ""),
        (2, "-3.00", "Cafe", ""),
    ]
    account = Connector(engine).accounts().items[0]
    assert (account.kind, account.balance, account.balance_on) == ("current", Decimal(100), date(2025, 3, 31))
    assert imported(engine, "again.ofx", content).added == 0


def test_midnights_are_no_times(sqlite: Engine, imported: Importer) -> None:
    """A bank that prints one and the same hour for every posting prints no times; one that varies them does."""
    imported(
        sqlite, "x.ofx", bank(posting("1", "20250301120000", "-1", "a"), posting("2", "20250302120000", "-1", "b"))
    )
    assert {row.at for row in Connector(sqlite).transactions()} == {None}
    imported(
        sqlite, "y.ofx", bank(posting("3", "20250303091500", "-1", "c"), posting("4", "20250304174500", "-1", "d"))
    )
    times = [row.at.isoformat() for row in Connector(sqlite).transactions() if row.at is not None]
    assert times == ["2025-03-03T09:15:00", "2025-03-04T17:45:00"]


def test_bad_entries_are_rejected_and_the_others_kept(sqlite: Engine, imported: Importer) -> None:
    """An entry without a readable amount, day or FITID is named by its number; one FITID used twice stays two."""
    content = bank(
        posting("1", "20250301", "-1.00", "good"),
        posting("2", "20250301", "NaN", "no amount"),
        posting("3", "2025", "-1.00", "no day"),
        posting("", "20250301", "-1.00", "no id"),
        posting("1", "20250302", "-9.00", "same id, other posting"),
    )
    report = imported(sqlite, "x.ofx", content)
    assert [one.row for one in report.rejected] == [2, 3, 4]
    assert [row.payee for row in Connector(sqlite).transactions()] == ["good", "same id, other posting"]


def test_card_and_savings_statements_in_xml(sqlite: Engine, imported: Importer) -> None:
    """OFX 2 is read alike; the kind of account comes from the statement."""
    entry = (
        "<STMTTRN><TRNTYPE>DEBIT</TRNTYPE><DTPOSTED>20250301</DTPOSTED><TRNAMT>-4.20</TRNAMT><FITID>9</FITID>"
        "<NAME>Kiosk</NAME></STMTTRN>"
    )
    card = (
        "<CREDITCARDMSGSRSV1><CCSTMTTRNRS><CCSTMTRS><CURDEF>USD</CURDEF><CCACCTFROM><ACCTID>4111111111111111</ACCTID>"
        f"</CCACCTFROM><BANKTRANLIST>{entry}</BANKTRANLIST></CCSTMTRS></CCSTMTTRNRS></CREDITCARDMSGSRSV1>"
    )
    savings = (
        "<BANKMSGSRSV1><STMTTRNRS><STMTRS><CURDEF>USD</CURDEF><BANKACCTFROM><ACCTID>77</ACCTID>"
        f"<ACCTTYPE>SAVINGS</ACCTTYPE></BANKACCTFROM><BANKTRANLIST>{entry}</BANKTRANLIST></STMTRS></STMTTRNRS></BANKMSGSRSV1>"
    )
    report = imported(sqlite, "x.qfx", f"{XML}<OFX>{savings}{card}</OFX>")
    assert report.added == 2
    accounts = Connector(sqlite).accounts().items
    assert sorted(account.kind for account in accounts) == ["card", "savings"]
    assert not any("4111111111111111" in f"{account.id} {account.name}" for account in accounts)


def test_an_investment_statement_gives_lots_and_prices(sqlite: Engine, imported: Importer) -> None:
    """Purchases less sales, first in first out, are the lots, if they explain the position; else that is said."""

    def trade(tag: str, kind: str, uid: str, day: str, numbers: tuple[str, str]) -> str:
        return (
            f"<{kind}><{tag}><INVTRAN><FITID>{day}{uid}</FITID><DTTRADE>{day}</DTTRADE></INVTRAN>"
            f"<SECID><UNIQUEID>{uid}</UNIQUEID></SECID><UNITS>{numbers[0]}</UNITS><TOTAL>{numbers[1]}</TOTAL></{tag}></{kind}>"
        )

    def position(uid: str, units: str) -> str:
        return (
            f"<POSSTOCK><INVPOS><SECID><UNIQUEID>{uid}</UNIQUEID></SECID><UNITS>{units}</UNITS>"
            "<UNITPRICE>11.25</UNITPRICE><DTPRICEASOF>20250331</DTPRICEASOF></INVPOS></POSSTOCK>"
        )

    security = (
        "<SECINFO><SECID><UNIQUEID>U1</UNIQUEID></SECID><SECNAME>Stock One</SECNAME><TICKER>ONE</TICKER></SECINFO>"
    )
    trades = trade("INVBUY", "BUYSTOCK", "U1", "20240105", ("10", "-100.00")) + trade(
        "INVBUY", "BUYSTOCK", "U1", "20240301", ("4", "-50.00")
    )
    trades += trade("INVSELL", "SELLSTOCK", "U1", "20240401", ("-6", "66.00"))
    content = (
        f"{XML}<OFX><INVSTMTMSGSRSV1><INVSTMTTRNRS><INVSTMTRS><CURDEF>USD</CURDEF><INVACCTFROM><ACCTID>9988776655</ACCTID>"
        f"</INVACCTFROM><INVTRANLIST>{trades}</INVTRANLIST>"
        f"<INVPOSLIST>{position('U1', '8')}{position('U2', '3')}</INVPOSLIST>"
        f"</INVSTMTRS></INVSTMTTRNRS></INVSTMTMSGSRSV1><SECLISTMSGSRSV1><SECLIST><STOCKINFO>{security}</STOCKINFO></SECLIST>"
        "</SECLISTMSGSRSV1></OFX>"
    )
    report = imported(sqlite, "broker.ofx", content)
    lots = [(lot.symbol, lot.name, lot.quantity, lot.unit_cost) for lot in Connector(sqlite).lots()]
    assert lots == [
        ("ONE", "Stock One", Decimal(4), Decimal(10)),
        ("ONE", "Stock One", Decimal(4), Decimal("12.5")),
    ]
    assert [(price.symbol, price.close) for price in Connector(sqlite).prices()] == [
        ("ONE", Decimal("11.25")),
        ("U2", Decimal("11.25")),
    ]
    assert [one.text for one in report.rejected] == ["U2"]
    assert "import a holdings CSV" in report.rejected[0].reason


def test_csv_and_ofx_of_one_account_converge(engine: Engine, imported: Importer) -> None:
    """A posting that both formats describe is stored once, whichever comes first; what only one has is added."""
    csv = (
        "Account Number,0012345678\nDate,Payee,Amount\n2025-03-01,Cafe Luna,-3.00\n2025-03-01,Cafe Luna,-3.00\n"
        "2025-03-01,Kiosk,-3.00\n2025-03-02,Only in CSV,-7.00\n"
    )
    ofx = bank(
        posting("1", "20250301", "-3.00", "CAFE LUNA BERLIN"),
        posting("2", "20250301", "-3.00", "CAFE LUNA BERLIN"),
        posting("3", "20250303", "-8.00", "Only in OFX"),
    )
    imported(engine, "a.csv", csv, currency="EUR")
    assert imported(engine, "b.ofx", ofx).added == 1
    assert [str(row.amount) for row in Connector(engine).transactions()] == [
        "-3.00",
        "-3.00",
        "-3.00",
        "-7.00",
        "-8.00",
    ]
    assert imported(engine, "a.csv", csv, currency="EUR").added == 0
    assert imported(engine, "b.ofx", ofx).added == 0
    assert len(Connector(engine).accounts()) == 1


def test_the_order_of_formats_makes_no_difference(sqlite: Engine, imported: Importer) -> None:
    """The same two files the other way round leave as many postings."""
    ofx = bank(posting("1", "20250301", "-3.00", "CAFE LUNA"), posting("2", "20250301", "-3.00", "CAFE LUNA"))
    csv = "Account Number,0012345678\nDate,Payee,Amount\n2025-03-01,Cafe Luna,-3.00\n2025-03-01,Other,-3.00\n"
    imported(sqlite, "b.ofx", ofx)
    assert imported(sqlite, "a.csv", csv, currency="EUR").added == 1
    assert imported(sqlite, "a.csv", csv, currency="EUR").added == 0
    assert len(Connector(sqlite).transactions()) == 3
