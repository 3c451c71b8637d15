"""The sample household: generates its files from a seed, and finds the generated files that ship with the package.

Run `python -m bursar.genie.household.sample DIR --seed 7 --end 2025-12-31` to make the files again, byte for byte.
"""

import argparse
import csv
import io
from collections.abc import Iterable, Sequence
from datetime import date
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from random import Random
from typing import Final

from bursar.genie.household.sample_life import CARD_OPENS, CHECKING_OPENS, SAVINGS_OPENS, Booking, live
from bursar.genie.household.sample_market import closes, purchases

SEED: Final = 7
END: Final = date(2025, 12, 31)
NAMES: Final = (
    "checking.csv",
    "checking.ofx",
    "credit_card.csv",
    "holdings.csv",
    "prices.csv",
    "profile.toml",
    "savings.ofx",
)
_CHECKING_NUMBER: Final = "0044177820"
_SAVINGS_NUMBER: Final = "0099200551"


def sample_files() -> tuple[Path, ...]:
    """Return the paths of the sample household's files that ship with the package."""
    folder = files("bursar.genie.household.sample_household")
    return tuple(Path(str(folder / name)) for name in NAMES)


def make(*, seed: int = SEED, end: date = END) -> dict[str, bytes]:
    """Return the sample household's files by name. The same `seed` and `end` give the same bytes on every platform."""
    rng = Random(seed)
    life = live(rng, end)
    start = life.checking[0].day.replace(day=1)
    prices = closes(rng, start, end)
    texts = {
        "checking.csv": _checking_csv(life.checking),
        "checking.ofx": _ofx_sgml(life.checking, end),
        "credit_card.csv": _card_csv(life.card),
        "holdings.csv": _csv(
            ("Account", "Symbol", "Name", "Asset Class", "Quantity", "Unit Cost", "Acquired", "Currency"),
            (
                ("Brokerage", p.fund.symbol, p.fund.name, p.fund.asset_class, p.quantity, p.unit_cost, p.day, "USD")
                for p in purchases(prices, start, end)
            ),
        ),
        "prices.csv": _csv(("Date", "Symbol", "Close"), ((p.day, p.symbol, p.close) for p in prices)),
        "profile.toml": _profile(end, sum((b.amount for b in life.card), CARD_OPENS)),
        "savings.ofx": _ofx_xml(life.savings, end),
    }
    return {name: text.encode() for name, text in texts.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the files into a folder, which is created if missing."""
    parser = argparse.ArgumentParser(prog="python -m bursar.genie.household.sample", description=main.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--end", type=date.fromisoformat, default=END)
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    for name, content in make(seed=options.seed, end=options.end).items():
        (options.folder / name).write_bytes(content)


def _csv(header: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return out.getvalue()


def _checking_csv(bookings: Sequence[Booking]) -> str:
    """Return a CSV statement: two lines that name the account, then the newest booking first, with running balances."""
    balance = CHECKING_OPENS
    rows: list[tuple[object, ...]] = []
    for booking in bookings:
        balance += booking.amount
        rows.append((f"{booking.day:%m/%d/%Y}", booking.payee, _cents(booking.amount), _cents(balance)))
    table = _csv(("Date", "Description", "Amount", "Balance"), reversed(rows))
    return f"Harbor Community Bank\nAccount Number,{_CHECKING_NUMBER}\n\n{table}"


def _card_csv(bookings: Sequence[Booking]) -> str:
    """Return a CSV card statement with the signs of card companies: purchases are positive, payments negative."""
    return _csv(
        ("Transaction Date", "Post Date", "Description", "Category", "Amount"),
        (
            (f"{b.day:%m/%d/%Y}", f"{b.day:%m/%d/%Y}", b.payee, b.category, _cents(-b.amount))
            for b in reversed(bookings)
        ),
    )


def _profile(end: date, card_balance: Decimal) -> str:
    lines = (
        "# What the household says of itself.",
        'country = "US"',
        'currency = "USD"',
        f"tax_year = {end.year}",
        'filing_status = "married_filing_jointly"',
        "dependants = 1",
        'gross_annual_income = "148200.00"',
        "",
        "[suitability]",
        'risk_band = "balanced"',
        "horizon_years = 15",
        f"recorded_on = {end.replace(month=3, day=10)}",
        f"valid_until = {end.replace(year=end.year + 5, month=3, day=10)}",
        *_debt("Car loan", "14380.52", "0.0649", "389.42"),
        *_debt("Student loan", "21944.10", "0.0499", "241.17"),
        *_debt("Credit card", _cents(-card_balance), "0.2199", _cents(-card_balance)),
        "",
    )
    return "\n".join(lines)


def _debt(name: str, balance: str, rate: str, payment: str) -> Iterable[str]:
    yield from ("", "[[debts]]", f'name = "{name}"', f'balance = "{balance}"')
    yield from (f'annual_rate = "{rate}"', f'monthly_payment = "{payment}"')


def _ofx_sgml(bookings: Sequence[Booking], end: date) -> str:
    """Return the bookings as a statement in OFX 1.0.2, which is SGML; values have no closing tags."""
    head = (
        "OFXHEADER:100\nDATA:OFXSGML\nVERSION:102\nSECURITY:NONE\nENCODING:USASCII\nCHARSET:1252\nCOMPRESSION:NONE\n"
        "OLDFILEUID:NONE\nNEWFILEUID:NONE\n\n"
    )
    return head + "\n".join(_statement(bookings, end, _CHECKING_NUMBER, opening=CHECKING_OPENS, closed=False)) + "\n"


def _ofx_xml(bookings: Sequence[Booking], end: date) -> str:
    """Return the bookings as a statement in OFX 2.2, which is XML."""
    head = (
        '<?xml version="1.0" encoding="UTF-8" standalone="no"?>\n'
        '<?OFX OFXHEADER="200" VERSION="220" SECURITY="NONE" OLDFILEUID="NONE" NEWFILEUID="NONE"?>\n'
    )
    return head + "\n".join(_statement(bookings, end, _SAVINGS_NUMBER, opening=SAVINGS_OPENS, closed=True)) + "\n"


def _statement(bookings: Sequence[Booking], end: date, number: str, *, opening: Decimal, closed: bool) -> Iterable[str]:
    """Yield the lines of an OFX statement of the account `number`, from `<OFX>` to `</OFX>`.

    `opening` is the balance before the first booking. If `closed`, values get closing tags, which XML requires.
    """

    def leaf(tag: str, value: object) -> str:
        text = str(value).replace("&", "&amp;")
        return f"<{tag}>{text}</{tag}>" if closed else f"<{tag}>{text}"

    status = f"<STATUS>{leaf('CODE', 0)}{leaf('SEVERITY', 'INFO')}</STATUS>"
    yield f"<OFX>\n<SIGNONMSGSRSV1><SONRS>{status}{leaf('DTSERVER', f'{end:%Y%m%d}')}{leaf('LANGUAGE', 'ENG')}"
    yield f"</SONRS></SIGNONMSGSRSV1>\n<BANKMSGSRSV1><STMTTRNRS>{leaf('TRNUID', 1)}{status}"
    kind = "CHECKING" if number == _CHECKING_NUMBER else "SAVINGS"
    account = f"{leaf('BANKID', '021000089')}{leaf('ACCTID', number)}{leaf('ACCTTYPE', kind)}"
    yield f"<STMTRS>{leaf('CURDEF', 'USD')}<BANKACCTFROM>{account}</BANKACCTFROM>"
    span = f"{leaf('DTSTART', f'{bookings[0].day:%Y%m}01')}{leaf('DTEND', f'{end:%Y%m%d}')}"
    yield f"<BANKTRANLIST>{span}"
    balance = opening
    for index, booking in enumerate(bookings, start=1):
        balance += booking.amount
        kind = "CREDIT" if booking.amount > 0 else "DEBIT"
        yield (
            f"<STMTTRN>{leaf('TRNTYPE', kind)}{leaf('DTPOSTED', f'{booking.day:%Y%m%d}')}"
            f"{leaf('TRNAMT', _cents(booking.amount))}{leaf('FITID', f'{booking.day:%Y%m%d}{index:05}')}"
            f"{leaf('NAME', booking.payee)}</STMTTRN>"
        )
    stated = f"{leaf('BALAMT', _cents(balance))}{leaf('DTASOF', f'{end:%Y%m%d}')}"
    yield f"</BANKTRANLIST>\n<LEDGERBAL>{stated}</LEDGERBAL></STMTRS></STMTTRNRS></BANKMSGSRSV1>\n</OFX>"


def _cents(amount: Decimal) -> str:
    return format(amount.quantize(Decimal("0.01")), "f")


if __name__ == "__main__":
    main()
