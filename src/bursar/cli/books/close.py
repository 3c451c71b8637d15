"""`bursar close`: a month in the books beside the provider's invoice."""

import re
from collections import defaultdict
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bursar.cli.common.options import ANSWERED, DEFAULT_DATABASE, GAPS, DatabaseOption, JsonOption, open_ledger
from bursar.state.errors import ConfigurationError
from bursar.state.money import USD

if TYPE_CHECKING:
    from bursar.checkpoints.ledger.reconciliation.charges import Charge
    from bursar.cli.books.usage_files import BadRow
    from bursar.state.rules.month_close import InvoiceDifference

commands = typer.Typer()

AMOUNTS = ("booked", "invoiced")


@commands.command()
def close(
    month: Annotated[str, typer.Argument(metavar="MONTH", help="A month in UTC, such as 2026-11.")],
    *,
    invoice: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The provider's costs by day and model: CSV or JSON lines.")
    ] = None,
    tolerance: Annotated[str, typer.Option(help="US dollars that a day and model may differ by.")] = "0",
    database: DatabaseOption = DEFAULT_DATABASE,
    json: JsonOption = False,
) -> None:
    """Compare a month in the books with an invoice: differences by day and model, calls still unknown, and the total.

    Exit code 0 says that they are equal and no call is unknown; 1 that there is something to look at.
    """
    from bursar.checkpoints.ledger.reconciliation.charges import charges
    from bursar.cli.books.usage_files import read_invoice
    from bursar.state.rules.month_close import compare_invoice
    from bursar.state.rules.usage_matching import plain_model

    start, end = _days(month)
    known = open_ledger(database).read(charges, start=start, end=end)
    booked: dict[tuple[str, str], int] = defaultdict(int)
    for one in known:
        booked[one.held_at.date().isoformat(), plain_model(one.model)] += one.nanos
    invoiced, bad = ({}, []) if invoice is None else read_invoice(invoice)
    inside = {key: nanos for key, nanos in invoiced.items() if start.isoformat() <= key[0] < end.isoformat()}
    few = USD(tolerance).nanos
    differences = [] if invoice is None else compare_invoice(booked, inside, tolerance=few)
    unknown = [one for one in known if one.state == "unknown"]
    total = None if invoice is None else sum(inside.values())
    _print(month, booked, (total, differences, bad), unknown, json=json)
    raise typer.Exit(GAPS if differences or unknown or bad else ANSWERED)


def _days(month: str) -> tuple[date, date]:
    if not re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", month) or month < "0001" or month > "9999-11":
        raise ConfigurationError(f"a month is written as 2026-11, not {month!r}")
    year, number = int(month[:4]), int(month[5:])
    return date(year, number, 1), date(year + number // 12, number % 12 + 1, 1)


def _print(
    month: str,
    booked: dict[tuple[str, str], int],
    invoice: "tuple[int | None, list[InvoiceDifference], list[BadRow]]",
    unknown: "list[Charge]",
    *,
    json: bool,
) -> None:
    from bursar.cli.common import render as show

    total, differences, bad = invoice
    ours = USD.from_nanos(sum(booked.values()))
    theirs = None if total is None else USD.from_nanos(total)
    if json:
        document = {
            "month": month,
            "booked": show.decimal_text(ours.nanos),
            "invoiced": show.decimal_text(total),
            "by_day_and_model": [
                {"day": day, "model": model, "booked": show.decimal_text(nanos)}
                for (day, model), nanos in sorted(booked.items())
            ],
            "differences": [
                {**asdict(one), **{name: show.decimal_text(getattr(one, name)) for name in AMOUNTS}}
                for one in differences
            ],
            "unknown": [{"call": one.call_id, "hold": show.decimal_text(one.amount)} for one in unknown],
            "bad_rows": [{"row": one.row, "why": one.reason} for one in bad],
        }
        typer.echo(show.as_json(document))
        return
    if total is None:
        lines = [(day, model, USD.from_nanos(nanos)) for (day, model), nanos in sorted(booked.items())]
        show.console().print(show.rows(("day", "model", "booked"), lines))
    elif differences:
        rows = [(d.day, d.model, USD.from_nanos(d.booked), USD.from_nanos(d.invoiced)) for d in differences]
        show.console().print(show.rows(("day", "model", *AMOUNTS), rows))
    if unknown:
        held = [(one.call_id, one.model, USD.from_nanos(one.amount), one.session_id) for one in unknown]
        show.console().print(show.rows(("unknown call", "model", "hold", "session"), held))
    for one in bad:
        typer.echo(f"row {one.row} is left out: {one.reason}", err=True)
    beside = "" if theirs is None else f", the invoice {theirs}, {len(differences)} differences"
    typer.echo(f"{month}: the books have {ours}{beside}; {len(unknown)} calls are unknown.")
