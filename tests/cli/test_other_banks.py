"""Statements of banks that nothing here was written for: month and category totals are pandas' own, to the cent."""

import json
import random
from collections.abc import Mapping
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.cli.conftest import Run

pytestmark = pytest.mark.slow


class Posting(NamedTuple):
    day: date
    payee: str
    category: str
    cents: int


SHOPS = {
    "Bäckerei Müller": "Lebensmittel",
    "REWE Köln": "Lebensmittel",
    "Stadtwerke": "Wohnen",
    "Kino Süd": "Freizeit",
    "Tankstelle Nord": "Mobilität",
}
QUESTION = "Where did my money go?"


def year_of(seed: int) -> list[Posting]:
    """A year of postings: a salary a month, and payments of every size; some are whole thousands."""
    rng = random.Random(seed)
    rows = [Posting(date(2025, month, 27), "Arbeitgeber GmbH", "Gehalt", 312_345) for month in range(1, 13)]
    for _ in range(400):
        payee = rng.choice(sorted(SHOPS))
        cents = rng.choice([rng.randrange(1, 9_999), rng.randrange(10_000, 199_999), 123_400])
        rows.append(Posting(date(2025, 1, 1) + timedelta(days=rng.randrange(365)), payee, SHOPS[payee], -cents))
    return sorted(rows)


def german(rows: list[Posting]) -> bytes:
    """Semicolons, decimal commas with thousands points, Soll and Haben apart, a preamble; in Windows-1252."""

    def amount(cents: int) -> str:
        return f"{cents // 100:,}".replace(",", ".") + f",{cents % 100:02}"

    lines = [
        "Kontoauszug;Girokonto",
        "Zeitraum:;01.01.2025 - 31.12.2025",
        "",
        "Buchungstag;Wertstellung;Auftraggeber / Empfänger;Verwendungszweck;Kategorie;Soll;Haben;Währung",
    ]
    for number, row in enumerate(rows):
        debit, credit = (amount(-row.cents), "") if row.cents < 0 else ("", amount(row.cents))
        lines.append(
            f"{row.day:%d.%m.%Y};{row.day:%d.%m.%Y};{row.payee};Beleg {number:05};{row.category};{debit};{credit};EUR"
        )
    return "\r\n".join(lines).encode("cp1252")


def english(rows: list[Posting]) -> bytes:
    """Commas, quoted amounts with thousands commas, paid out and paid in apart."""
    lines = ['"Date","Details","Reference","Category","Paid out","Paid in"']
    for number, row in enumerate(rows):
        size = f"{abs(row.cents) / 100:,.2f}"
        debit, credit = (size, "") if row.cents < 0 else ("", size)
        lines.append(f'"{row.day:%d %b %Y}","{row.payee}","R{number:05}","{row.category}","{debit}","{credit}"')
    return "\n".join(lines).encode()


def tables_of(document: Mapping[str, Any]) -> Mapping[str, list[dict[str, str]]]:
    return document["runs"][0]["report"]["data"]["tables"]


@pytest.mark.parametrize(("write", "currency"), [(german, "EUR"), (english, "USD")], ids=["german", "english"])
def test_totals_are_pandas_own_to_the_cent(run: Run, tmp_path: Path, write: Any, currency: str) -> None:
    """One command on an unseen statement gives every month's and every category's sums as pandas computes them."""
    import pandas as pd

    rows = year_of(11)
    (tmp_path / "auszug.csv").write_bytes(write(rows))
    frame = pd.DataFrame([{"month": f"{r.day:%Y-%m}", "category": r.category, "cents": r.cents} for r in rows])
    spent = frame[frame.cents < 0]

    ended = run("ask", QUESTION, "--data", "auszug.csv", "--as-of", "2025-12-31", "--json")
    assert ended.code == 0, ended.err or ended.out
    document = json.loads(ended.out)
    tables = tables_of(document)

    def cents(amount: str) -> int:
        return int(Decimal(amount) * 100)

    assert {row["currency"] for row in tables["months"]} == {currency}
    by_month = {row["month"]: cents(row["spending"]) for row in tables["months"]}
    assert by_month == (-spent.groupby("month")["cents"].sum()).to_dict()
    earned = {row["month"]: cents(row["income"]) for row in tables["months"]}
    assert earned == frame[frame.cents > 0].groupby("month")["cents"].sum().to_dict()
    by_both = {(r["month"], r["category"]): cents(r["spending"]) for r in tables["categories"] if cents(r["spending"])}
    assert by_both == (-spent.groupby(["month", "category"])["cents"].sum()).to_dict()
    total = -int(spent.cents.sum())
    assert f"{total // 100:,}.{total % 100:02}" in document["answer"]
