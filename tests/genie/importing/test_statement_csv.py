"""Statements of many banks: their columns, their signs, their dates."""

from collections.abc import Callable, Sequence
from decimal import Decimal
from random import Random

import pytest
from sqlalchemy import Engine

from bursar.genie.agents.database_connector.connector import Connector
from bursar.genie.importing.import_report import ImportReport

Importer = Callable[..., ImportReport]


def amounts(engine: Engine) -> list[str]:
    """The stored amounts, oldest first, as text."""
    return [str(row.amount) for row in Connector(engine).transactions()]


BANKS = [
    (
        "Chase5521_Activity.CSV",
        "Details,Posting Date,Description,Amount,Type,Balance,Check or Slip #\n"
        "DEBIT,03/14/2025,GROCER 12,-12.50,DEBIT_CARD,987.50,,\n"
        "CREDIT,03/13/2025,EMPLOYER INC,1000.00,ACH_CREDIT,1000.00,,\n",
        [("2025-03-13", "EMPLOYER INC", "1000.00"), ("2025-03-14", "GROCER 12", "-12.50")],
    ),
    (
        "natwest.csv",
        "Date, Type, Description, Value, Balance, Account Name, Account Number\n"
        '13 Mar 2025,D/D,"\'WATER CO",-20.10,79.90,"\'MR X","\'601234-12345678"\n',
        [("2025-03-13", "'WATER CO", "-20.10")],
    ),
    (
        "barclays.csv",
        "Date,Description,Paid out,Paid in,Balance\n13/03/2025,CAFE,£4.20,,£95.80\n14/03/2025,PAY,,£100.00,£195.80\n",
        [("2025-03-13", "CAFE", "-4.20"), ("2025-03-14", "PAY", "100.00")],
    ),
    (
        "sparkasse.csv",
        '"Auftragskonto";"Buchungstag";"Valutadatum";"Buchungstext";"Verwendungszweck";'
        '"Beguenstigter/Zahlungspflichtiger";'
        '"Betrag";"Waehrung";"Info"\n'
        '"DE12500105170648489890";"13.03.25";"13.03.25";"FOLGELASTSCHRIFT";"Strom März";'
        '"Stadtwerke";"-1.084,20";"EUR";"x"\n',
        [("2025-03-13", "Stadtwerke", "-1084.20")],
    ),
    (
        "umsaetze.csv",
        "Buchung;Empfänger;Zweck;Betrag;S/H\n13.03.2025;Markt;Einkauf;45,00;S\n14.03.2025;Firma;Lohn;2.000,00;H\n",
        [("2025-03-13", "Markt", "-45.00"), ("2025-03-14", "Firma", "2000.00")],
    ),
    (
        "credit-agricole.csv",
        "Date;Libellé;Débit euros;Crédit euros\n13/03/2025;Boulangerie;3,20;\n02/03/2025;Salaire;;1 950,00\n",
        [("2025-03-02", "Salaire", "1950.00"), ("2025-03-13", "Boulangerie", "-3.20")],
    ),
    (
        "bnp.csv",
        "Date operation\tLibelle operation\tMontant operation\tDevise\n01/04/2025\tTabac\t-9,90\tEUR\n",
        [("2025-04-01", "Tabac", "-9.90")],
    ),
    (
        "santander.csv",
        "Fecha operación;Fecha valor;Concepto;Importe;Saldo;Divisa\n02/04/2025;02/04/2025;Mercado;-15,60;84,40;EUR\n",
        [("2025-04-02", "Mercado", "-15.60")],
    ),
    (
        "bbva.csv",
        "Fecha|Concepto|Cargo|Abono\n13/04/2025|Luz|60,00|\n14/04/2025|Nómina||1.500,00\n",
        [("2025-04-13", "Luz", "-60.00"), ("2025-04-14", "Nómina", "1500.00")],
    ),
    (
        "ing_nl.csv",
        '"Datum","Naam / Omschrijving","Rekening","Tegenrekening","Code","Af Bij","Bedrag (EUR)","MutatieSoort",'
        '"Mededelingen"\n'
        '"20250413","Albert Heijn","NL91ABNA0417164300","","BA","Af","23,45","Betaalautomaat","pas 12"\n'
        '"20250414","Werkgever","NL91ABNA0417164300","","OV","Bij","1.900,00","Overschrijving","salaris"\n',
        [("2025-04-13", "Albert Heijn", "-23.45"), ("2025-04-14", "Werkgever", "1900.00")],
    ),
    (
        "somewhere.csv",
        "Posting Date (local);Narration Details;Amount in account currency;Card Number;Remaining Balance\n"
        "13.03.2025;Shop;-12,00;4111;88,00\n",
        [("2025-03-13", "Shop", "-12.00")],
    ),
    (
        "revolut.csv",
        "Type,Product,Started Date,Completed Date,Description,Amount,Fee,Currency,State,Balance\n"
        "CARD_PAYMENT,Current,2025-04-12 09:12:01,2025-04-13 10:00:00,Bolt,-7.30,0.00,EUR,COMPLETED,92.70\n"
        "TOPUP,Current,2025-04-14 09:12:01,,Top-up,50.00,0.00,EUR,PENDING,\n",
        [("2025-04-13", "Bolt", "-7.30")],
    ),
]


@pytest.mark.parametrize(("name", "content", "expected"), BANKS, ids=[bank[0] for bank in BANKS])
def test_banks(
    sqlite: Engine, imported: Importer, name: str, content: str, expected: list[tuple[str, str, str]]
) -> None:
    """Exports of banks in five languages are read without any setting: day, payee, signed amount."""
    report = imported(sqlite, name, content)
    assert report.error is None
    found = [(row.booked_on.isoformat(), row.payee, str(row.amount)) for row in Connector(sqlite).transactions()]
    assert found == expected


def test_a_pending_row_is_reported_not_booked(sqlite: Engine, imported: Importer) -> None:
    """A row whose state says that it is not final yet is rejected with that reason; times that are printed are kept."""
    report = imported(sqlite, BANKS[-1][0], BANKS[-1][1])
    assert [one.reason for one in report.rejected] == ["not booked: pending"]
    row = Connector(sqlite).transactions().items[0]
    assert row.at is not None
    assert row.at.isoformat() == "2025-04-13T10:00:00"


def shuffled(rows: Sequence[str]) -> str:
    """The rows under their header in another order."""
    return "\n".join((rows[0], *Random(3).sample(rows[1:], len(rows) - 1)))


CARD = [
    "Date,Description,Amount",
    "2025-03-01,Shop,20.00",
    "2025-03-02,Cafe,5.00",
    "2025-03-03,Refund Shop,-20.00",
    "2025-03-04,AUTOPAY PAYMENT - THANK YOU,-300.00",
]
OWED = [
    "Date,Description,Amount,Balance",
    "2025-03-01,Shop,20.00,120.00",
    "2025-03-02,Cafe,5.00,125.00",
    "2025-03-03,Something,-125.00,0.00",
]
FALLING = [
    "Date,Description,Amount,Balance",
    "2025-03-01,Shop,20.00,80.00",
    "2025-03-02,Cafe,5.00,75.00",
    "2025-03-03,Pay,-500.00,575.00",
]


@pytest.mark.parametrize(
    ("name", "rows", "expected", "rule"),
    [
        ("credit_card.csv", CARD, ["-20.00", "-5.00", "20.00", "300.00"], "payments received are negative"),
        ("statement.csv", CARD, ["-20.00", "-5.00", "20.00", "300.00"], "payments received are negative"),
        ("checking.csv", CARD, ["20.00", "5.00", "-20.00", "-300.00"], "as printed"),
        ("credit_card.csv", CARD[:4], ["20.00", "5.00", "-20.00"], "as printed"),
        ("visa.csv", OWED, ["-20.00", "-5.00", "125.00"], "what is owed on the card"),
        ("checking.csv", OWED, ["20.00", "5.00", "-125.00"], "the running balance agrees"),
        ("checking.csv", FALLING, ["-20.00", "-5.00", "500.00"], "the running balance falls"),
    ],
)
def test_a_sign_is_flipped_only_on_proof(
    sqlite: Engine, imported: Importer, name: str, rows: list[str], expected: list[str], rule: str
) -> None:
    """Purchases printed as positive become money out where payments or the running balance prove it, else nothing does.

    The order of the rows makes no difference.
    """
    report = imported(sqlite, name, "\n".join(rows))
    assert rule in report.inferred["sign rule"]
    assert amounts(sqlite) == expected
    assert imported(sqlite, name, shuffled(rows)).added == 0


def test_a_balance_that_is_owed_becomes_negative(sqlite: Engine, imported: Importer) -> None:
    """A card's debt is a negative balance, whether its amounts were printed signed or in two columns."""
    imported(sqlite, "visa.csv", "\n".join(OWED[:3]))
    imported(
        sqlite,
        "mastercard.csv",
        "Date,Description,Debit,Credit,Balance\n2025-03-01,Shop,20.00,,120.00\n2025-03-02,Cafe,5.00,,125.00\n",
    )
    assert [account.balance for account in Connector(sqlite).accounts()] == [Decimal(-125), Decimal(-125)]


def test_reversals_keep_their_sense_in_debit_and_credit_columns(sqlite: Engine, imported: Importer) -> None:
    """A negative debit among positive ones is money back; debits that are all printed negative are money out."""
    imported(
        sqlite,
        "one.csv",
        "Date,Payee,Debit,Credit\n2025-03-01,a,20.00,0.00\n2025-03-02,b,9.00,\n2025-03-03,a,-20.00,\n",
    )
    assert amounts(sqlite) == ["-20.00", "-9.00", "20.00"]
    report = imported(
        sqlite, "two.csv", "Date,Payee,Debit,Credit\n2025-04-01,a,-20.00,\n2025-04-02,b,,9.00\n2025-04-03,c,1.00,2.00\n"
    )
    assert amounts(sqlite)[3:] == ["-20.00", "9.00"]
    assert [one.reason for one in report.rejected] == ["has both a debit and a credit"]


def test_unmarked_rows_beside_credits_are_debits(sqlite: Engine, imported: Importer) -> None:
    """Where a statement marks credits alone with CR, the other rows are money out."""
    imported(sqlite, "card.csv", f"{CARD[0]}\n2025-03-01,Shop,20.00\n2025-03-02,Refund,5.00 CR\n")
    assert amounts(sqlite) == ["-20.00", "5.00"]


def test_an_unknown_direction_is_rejected(sqlite: Engine, imported: Importer) -> None:
    """A row that says neither debit nor credit is reported, not guessed."""
    report = imported(sqlite, "x.csv", "Date,Payee,Amount,Debit/Credit\n2025-03-01,a,1.00,DR\n2025-03-02,b,2.00,?\n")
    assert amounts(sqlite) == ["-1.00"]
    assert "neither debit nor credit" in report.rejected[0].reason


def test_what_was_inferred_is_reported(sqlite: Engine, imported: Importer) -> None:
    """The report names delimiter, decimal mark, date order, columns and sign rule, so that a user can check them."""
    report = imported(sqlite, BANKS[4][0], BANKS[4][1])
    assert report.inferred == {
        "encoding": "utf-8",
        "delimiter": "semicolon",
        "columns": "amount=Betrag, booked=Buchung, direction=S/H, memo=Zweck, payee=Empfänger",
        "decimal mark": "comma",
        "date order": "day first",
        "sign rule": "debit or credit as stated in each row",
        "currency": "EUR (assumed, as the file states none; say --currency if it is another)",
    }
