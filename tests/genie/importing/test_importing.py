"""Files become rows once: a second import, an overlap or a shuffle changes nothing, and bad rows lose no good ones."""

import io
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from random import Random

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, create_engine, select

from bursar.genie.agents.database_connector.connector import Connector
from bursar.genie.household import schema
from bursar.genie.household.records import Transaction
from bursar.genie.household.sample import sample_files
from bursar.genie.importing.import_report import ImportFailed, ImportReport
from bursar.genie.importing.importing import import_files

NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
Importer = Callable[..., ImportReport]
HEADER = "Date,Description,Amount"


def stored(engine: Engine) -> Counter[tuple[date, Decimal, str]]:
    """What the household holds, as a multiset."""
    return Counter((row.booked_on, row.amount, row.payee) for row in Connector(engine).transactions())


def rows_of(engine: Engine) -> tuple[Transaction, ...]:
    """The stored transactions."""
    return Connector(engine).transactions().items


def unseen_statement(seed: int) -> str:
    """A bank nobody has met: semicolons, decimal commas, debit and credit columns, lines above the header."""
    rng = Random(seed)
    lines = ["Kontoauszug Nordlichtbank eG;;;;;;", "IBAN:;DE12 5001 0517 0648 4898 90;;;;;", ""]
    lines.append("Buchungstag;Wertstellung;Auftraggeber/Empfänger;Verwendungszweck;Soll;Haben;Saldo (EUR)")
    balance = 312_745
    for month in range(1, 13):
        for _ in range(rng.randrange(8, 15)):
            day = f"{rng.randrange(1, 29):02}.{month:02}.2024"
            cents = rng.randrange(1, 250_000)
            outgoing = rng.random() < 0.8
            balance += -cents if outgoing else cents
            text = f"{Decimal(cents).scaleb(-2):,.2f}".translate(str.maketrans(",.", ".,"))
            total = f"{Decimal(balance).scaleb(-2):,.2f}".translate(str.maketrans(",.", ".,"))
            cells = (day, day, rng.choice(("REWE Markt", "Müller & Söhne", "Stadtwerke")), "Zahlung; Ref 12")
            quoted = ";".join(f'"{cell}"' for cell in cells)
            lines.append(f"{quoted};{text if outgoing else ''};{'' if outgoing else text};{total}")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252"])
def test_month_totals_of_an_unseen_bank_equal_pandas(engine: Engine, imported: Importer, encoding: str) -> None:
    """Totals by month of a statement with foreign columns agree with pandas to the cent, on both databases."""
    content = unseen_statement(11)
    report = imported(engine, "auszug_2024.csv", content.encode(encoding))
    frame = pd.read_csv(io.StringIO(content), sep=";", skiprows=3, dtype=str, keep_default_na=False)

    def exact(cell: str) -> Decimal:
        return Decimal(cell.replace(".", "").replace(",", ".") or "0")

    net = pd.Series([exact(c) - exact(d) for c, d in zip(frame["Haben"], frame["Soll"], strict=True)], dtype=object)
    expected = net.groupby(frame["Buchungstag"].str[3:5].astype(int)).sum().to_dict()
    totals: dict[int, Decimal] = {}
    for row in rows_of(engine):
        totals[row.booked_on.month] = totals.get(row.booked_on.month, Decimal(0)) + row.amount
    assert report.rejected == ()
    assert report.currency == "EUR"
    assert report.added == len(frame)
    assert totals == expected
    assert rows_of(engine)[0].memo == "Zahlung; Ref 12"
    assert {row.payee for row in rows_of(engine)} == {"REWE Markt", "Müller & Söhne", "Stadtwerke"}


def test_importing_again_changes_nothing(engine: Engine, imported: Importer) -> None:
    """A second import of the same file adds no row and changes no row, on both databases."""
    content = f"{HEADER}\n2025-03-01,Cafe,-3.50\n2025-03-01,Cafe,-3.50\n2025-03-02,Pay,19.99\n"
    first = imported(engine, "checking.csv", content)
    before = rows_of(engine)
    second = imported(engine, "checking.csv", content)
    assert (first.added, first.unchanged) == (3, 0)
    assert (second.added, second.unchanged) == (0, 3)
    assert rows_of(engine) == before
    assert [str(row.amount) for row in before] == ["-3.50", "-3.50", "19.99"]


DAYS = st.dates(date(2025, 1, 1), date(2025, 1, 9))
POSTINGS = st.lists(
    st.tuples(DAYS, st.integers(-300, 300), st.sampled_from(["Cafe", "Kiosk", "Müller"])), min_size=1, max_size=25
)


def csv_of(postings: Sequence[tuple[date, int, str]]) -> str:
    """The postings as a file with amounts to the cent."""
    lines = (f"{day.isoformat()},{payee},{Decimal(cents).scaleb(-2)}" for day, cents, payee in postings)
    return "\n".join((HEADER, *lines)) + "\n"


@pytest.mark.slow
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(POSTINGS, st.integers(1, 8), st.integers(0, 8), st.randoms(use_true_random=False))
def test_overlapping_and_shuffled_files_converge(
    tmp_path: Path, postings: list[tuple[date, int, str]], last: int, first: int, rng: Random
) -> None:
    """Exports that overlap by whole days, in any order of files and of rows, leave exactly the bank's postings."""
    early = [one for one in postings if one[0].day <= max(last, first)]
    late = [one for one in postings if one[0].day > min(last, first)]
    engine = create_engine("sqlite://")
    for number, part in enumerate(rng.sample([early, late, postings], 3)):
        file = tmp_path / f"giro_2025_{number}.csv"
        file.write_text(csv_of(rng.sample(part, len(part))))
        if part:
            assert import_files(engine, [file], now=NOW)[0].error is None
    expected = Counter((day, Decimal(cents).scaleb(-2), payee) for day, cents, payee in postings)
    assert stored(engine) == expected
    engine.dispose()


@pytest.mark.slow
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.integers(-(10**12), 10**12), min_size=1, max_size=10), st.booleans())
def test_amounts_survive_files_and_tables_exactly(tmp_path: Path, cents: list[int], comma: bool) -> None:
    """What a file prints is what the connector returns, digit for digit, in both locales."""
    texts = [f"{Decimal(value).scaleb(-2):,.2f}" for value in cents]
    if comma:
        texts = [text.translate(str.maketrans(",.", ".,")) for text in texts]
    lines = (f'2025-01-01;"Payee {number}";"{text}"' for number, text in enumerate(texts))
    file = tmp_path / "amounts.csv"
    file.write_text("\n".join(("Datum;Empfänger;Betrag", *lines)))
    engine = create_engine("sqlite://")
    assert import_files(engine, [file], now=NOW)[0].rejected == ()
    found = {row.payee: row.amount for row in rows_of(engine)}
    assert found == {f"Payee {number}": Decimal(value).scaleb(-2) for number, value in enumerate(cents)}
    engine.dispose()


def test_bad_rows_are_named_and_the_others_kept(sqlite: Engine, imported: Importer) -> None:
    """Each bad row is rejected with its line in the file, its reason and its text; nothing else is lost."""
    content = (
        "My bank\n\nDate,Description,Amount,Currency\n"
        "2025-03-01,Good,-1.00,USD\n"
        "2025-02-30,Bad day,-1.00,USD\n"
        "2025-03-02,Not a number,NaN,USD\n"
        "2025-03-03,Endless,Infinity,USD\n"
        "2025-03-04,Exponent,1e30,USD\n"
        "2025-03-05,Nothing,,USD\n"
        ",No day,-1.00,USD\n"
        "2025-03-06,Odd money,-1.00,dollars\n"
        "2025-03-07,Cafe, Berlin,-4.00,USD\n"
        "\n"
        '2025-03-08,"Two\nlines",-5.00,USD\n'
        "2025-03-09,After,-6.00,EUR\n"
    )
    report = imported(sqlite, "checking.csv", content)
    assert [(one.row, one.reason.split(";")[0]) for one in report.rejected] == [
        (5, "'2025-02-30' is no date"),
        (6, "'NaN' is no amount"),
        (7, "'Infinity' is no amount"),
        (8, "'1e30' is no amount"),
        (9, "no amount"),
        (10, "no date"),
        (11, "'DOLLARS' is no currency code"),
        (12, "has 5 cells under 4 columns"),
    ]
    assert report.rejected[1].text == "2025-03-02,Not a number,NaN,USD"
    assert [(row.payee, row.currency) for row in rows_of(sqlite)] == [
        ("Good", "USD"),
        ("Two lines", "USD"),
        ("After", "EUR"),
    ]
    assert report.currency is None


def test_a_quote_that_is_never_closed_swallows_no_row(sqlite: Engine, imported: Importer) -> None:
    """A stray quote harms at most its own row, wherever it stands and whether or not another quote follows."""
    content = (
        'Date,Amount,Description\n2025-03-01,-1.00,"Open\n2025-03-02,-2.00,"Quoted, well"\n'
        '2025-03-03,-3.00,5" pipe\n2025-03-04,-4.00,Last\n2025-03-05,-5.00,"Open again\n'
    )
    report = imported(sqlite, "checking.csv", content)
    assert report.rejected == ()
    assert [(row.booked_on.day, row.payee) for row in rows_of(sqlite)] == [
        (1, "Open"),
        (2, "Quoted, well"),
        (3, '5" pipe'),
        (4, "Last"),
        (5, "Open again"),
    ]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("empty.csv", b"", "is empty"),
        ("photo.csv", b"\x89PNG\r\n\x1a\n\x00\x00\x00", "is no text file; export"),
        ("notes.csv", b"hello\nworld\n", "no header that was understood; make its first line"),
        ("header.csv", b"Date,Description,Amount\n", "a header but no rows"),
        ("bad.csv", b"Date,Description,Amount\nx,y,z\n", "no readable row; the first problem is in line 2"),
        ("us_or_uk.csv", b"Date,Description,Amount\n01/02/2025,a,1.00\n", "say --date-order dmy or mdy"),
        ("thousands.csv", b"Date,Description,Amount\n2025-01-01,a,1.234\n", "say --decimal-mark . or ,"),
        ("broken.ofx", b"OFXHEADER:100\nnonsense", "is no OFX that can be read"),
        ("profile.toml", b"contry = 'US'", "has no 'contry'; it has"),
        ("missing.csv", None, "cannot be read: No such file"),
    ],
)
def test_a_file_that_fails_says_what_to_do_and_stops_no_other(
    sqlite: Engine, tmp_path: Path, name: str, content: bytes | None, says: str
) -> None:
    """A whole file's error is one line with the file's name; the files beside it are imported."""
    good = tmp_path / "good.csv"
    good.write_text(f"{HEADER}\n2025-03-01,Cafe,-3.50\n")
    bad = tmp_path / name
    if content is not None:
        bad.write_bytes(content)
    failed, fine = import_files(sqlite, [bad, good], now=NOW)
    assert isinstance(failed.error, ImportFailed)
    assert str(failed.error).startswith(name)
    assert says in str(failed.error)
    assert "\n" not in str(failed.error)
    assert fine.added == 1
    assert len(rows_of(sqlite)) == 1


SEEDS = tuple(file.read_bytes()[:3000] for file in sample_files())


@pytest.mark.slow
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.sampled_from(SEEDS),
    st.integers(0, 2999),
    st.binary(max_size=20),
    st.integers(0, 40),
    st.sampled_from(["csv", "toml"]),
)
def test_no_file_breaks_the_importer(tmp_path: Path, seed: bytes, at: int, put: bytes, cut: int, suffix: str) -> None:
    """Whatever bytes a file holds, the outcome is a report: rows, rejections or one line of error."""
    file = tmp_path / f"statement.{suffix}"
    file.write_bytes(seed[:at] + put + seed[at + cut :])
    engine = create_engine("sqlite://")
    report = import_files(engine, [file], now=NOW)[0]
    if report.error is None:
        assert report.added + report.unchanged + len(report.rejected) > 0
    else:
        assert "\n" not in str(report.error)
    engine.dispose()


def test_a_stated_order_or_mark_settles_what_is_ambiguous(sqlite: Engine, imported: Importer) -> None:
    """date_order and decimal_mark decide files that do not decide themselves."""
    imported(sqlite, "uk.csv", f"{HEADER}\n01/02/2025,a,1.00\n", date_order="dmy")
    imported(sqlite, "de.csv", f"{HEADER}\n2025-01-01,b,1.234\n", decimal_mark=",")
    assert stored(sqlite) == Counter(
        {(date(2025, 2, 1), Decimal(1), "a"): 1, (date(2025, 1, 1), Decimal(1234), "b"): 1}
    )


def test_a_failing_file_leaves_nothing_behind(sqlite: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All rows of a file are one transaction: an error in the middle takes back the beginning."""
    file = tmp_path / "checking.csv"
    file.write_text(f"{HEADER}\n2025-03-01,Cafe,-3.50\n")

    def broken(*_: object) -> None:
        raise RuntimeError("disk full")

    monkeypatch.setattr("bursar.genie.importing.store._store_balance", broken)
    with pytest.raises(RuntimeError, match="disk full"):
        import_files(sqlite, [file], now=NOW)
    with sqlite.connect() as connection:
        assert connection.execute(select(schema.transactions)).all() == []
        assert connection.execute(select(schema.accounts)).all() == []


def test_the_currency_is_kept_or_said_to_be_assumed(sqlite: Engine, imported: Importer) -> None:
    """A currency comes from the row, the header, the user, the profile, in that order; else it is named as assumed."""
    header = imported(sqlite, "one.csv", "Date,Payee,Amount (GBP)\n2025-01-01,a,1.00\n")
    stated = imported(sqlite, "two.csv", f"{HEADER}\n2025-01-01,a,1.00\n", currency="CHF")
    assumed = imported(sqlite, "three.csv", f"{HEADER}\n2025-01-01,a,1.00\n")
    imported(sqlite, "profile.toml", 'currency = "CAD"\n')
    household = imported(sqlite, "four.csv", f"{HEADER}\n2025-01-01,a,1.00\n")
    assert [report.currency for report in (header, stated, assumed, household)] == ["GBP", "CHF", "USD", "CAD"]
    assert "assumed" in assumed.inferred["currency"]


def test_accounts_are_told_apart_and_found_again(sqlite: Engine, imported: Importer) -> None:
    """An account column, a number above the header or the file's name without its dates is the account's identity."""
    imported(sqlite, "export.csv", "Account,Date,Payee,Amount\n123456789,2025-01-01,a,1.00\nPot,2025-01-01,a,2.00\n")
    one = imported(sqlite, "Savings_2025-01.csv", f"{HEADER}\n2025-01-01,a,1.00\n")
    two = imported(sqlite, "savings 2025-02 (1).csv", f"{HEADER}\n2025-02-01,a,1.00\n")
    three = imported(sqlite, "x.csv", f"IBAN,1234 56789\n{HEADER}\n2025-01-02,b,1.00\n")
    named = imported(sqlite, "y.csv", f"{HEADER}\n2025-01-02,b,1.00\n", account="Pot")
    assert one.account_ids == two.account_ids == ("savings",)
    assert named.account_ids == ("pot",)
    accounts = {account.id: account for account in Connector(sqlite).accounts()}
    assert accounts["savings"].kind == "savings"
    assert set(accounts) == {"savings", "pot", *three.account_ids}
    assert accounts[three.account_ids[0]].name == "account ending 6789"


def test_the_newest_balance_wins_whatever_the_order(sqlite: Engine, imported: Importer) -> None:
    """The account's balance is where its newest day ends, for rows in any order and files in any order."""
    rows = ["2025-03-02,a,-5.00,95.00", "2025-03-02,b,-5.00,90.00", "2025-03-01,c,100.00,100.00"]
    for content in (rows, rows[::-1], rows[2:]):
        imported(sqlite, "checking.csv", "Date,Payee,Amount,Balance\n" + "\n".join(content))
        account = Connector(sqlite).accounts().items[0]
        assert (account.balance, account.balance_on) == (Decimal("90.00"), date(2025, 3, 2))
