"""An export of usage beside the unknown calls: matches are shown with their reasons, and booked if a person says so."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import typer

from bursar.checkpoints.ledger import postings
from bursar.checkpoints.ledger.ledger import Ledger
from bursar.checkpoints.ledger.reconciliation.charges import Charge, charges
from bursar.cli.books.usage_files import BadRow, read_usage
from bursar.cli.common import render as show
from bursar.cli.common.options import ANSWERED, GAPS
from bursar.nodes.gateway.prices import Price, price_of
from bursar.state.errors import ConfigurationError, UnknownPrice
from bursar.state.money import USD
from bursar.state.rules.pricing import Usage
from bursar.state.rules.usage_matching import MICROSECONDS, BookedCall, UsageLine, UsageProposal, match_usage


def match_export(ledger: Ledger, file: Path, *, by: str, json: bool) -> None:
    """Print which line of the file is proposed to be which unknown call. If `by` is given, book the proposals.

    Ends with exit code 1 if a call has no match or a row cannot be read. Raises `ConfigurationError` if the file cannot
    be read, and `LedgerError` if a call was reconciled by somebody else since.
    """
    lines, bad = read_usage(file)
    known = ledger.read(charges)
    unknown = {one.call_id: one for one in known if one.state == "unknown"}
    proposal = match_usage(
        [_booked(one) for one in unknown.values()],
        [_booked(one) for one in known if one.state != "unknown"],
        lines,
        lambda call, line: _cost(unknown[call.call_id], line),
    )
    if by:
        _book(ledger, proposal, {line.row: line for line in lines}, by)
    _print(proposal, bad, unknown, booked=bool(by), json=json)
    raise typer.Exit(GAPS if proposal.unmatched or bad else ANSWERED)


def _book(ledger: Ledger, proposal: UsageProposal, lines: dict[int, UsageLine], by: str) -> None:
    for match in proposal.matches:
        line = lines[match.row]
        sent, received = line.input_tokens, line.output_tokens
        usage = None if sent is None or received is None else Usage(sent, received)
        ledger.run(postings.reconcile, match.call_id, cost=match.cost, usage=usage, at=ledger.clock(), by=by)


def _booked(one: Charge) -> BookedCall:
    at = int((one.held_at - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()) * MICROSECONDS
    tokens = (None, None) if one.usage is None else (one.usage.input_tokens, one.usage.output_tokens)
    return BookedCall(one.call_id, at, one.model, one.amount, *tokens)


def _cost(call: Charge, line: UsageLine) -> int | None:
    """Return what the line says that the call cost; without a cost, that of its tokens at the price of the hold.

    A credit, which is below zero, is no cost of a call.
    """
    if line.cost is not None:
        return line.cost if line.cost >= 0 else None
    if line.input_tokens is None or line.output_tokens is None:
        return None
    kind, _, rest = call.price_version.partition(" ")
    try:
        if kind == "given":
            given = [Decimal(rate) for rate in rest.split("/")]
            price = price_of(call.model, None, Price(given[0], given[1]))
        else:
            _, model, *tier = rest.split()
            seller = model.partition("/")[0]
            price = price_of(call.model, seller, service_tier=tier[0] if tier else None, on=call.held_at.date())
    except (UnknownPrice, ConfigurationError, ArithmeticError, IndexError, ValueError):
        return None
    return price.cost(Usage(line.input_tokens, line.output_tokens))


def _print(proposal: UsageProposal, bad: list[BadRow], unknown: dict[str, Charge], *, booked: bool, json: bool) -> None:
    matches = [(one, USD.from_nanos(one.cost)) for one in proposal.matches]
    if json:
        found = [
            {"call": one.call_id, "row": one.row, "cost": show.decimal_text(one.cost), "why": one.why}
            for one in proposal.matches
        ]
        rows = [{"row": one.row, "why": one.reason} for one in bad]
        document = {"booked": booked, "matches": found, "unmatched": proposal.unmatched, "bad_rows": rows}
        typer.echo(show.as_json(document))
        return
    columns = ("call", "model", "hold", "row", "cost", "why")
    holds = {name: (one.model, USD.from_nanos(one.amount)) for name, one in unknown.items()}
    table: list[tuple[object, ...]] = [(m.call_id, *holds[m.call_id], m.row, cost, m.why) for m, cost in matches]
    table += [(name, *holds[name], "", "unknown", why) for name, why in proposal.unmatched.items()]
    show.console().print(show.rows(columns, table) if table else "No call is unknown.")
    for one in bad:
        typer.echo(f"row {one.row} is left out: {one.reason}", err=True)
    if matches:
        typer.echo(f"{len(matches)} booked." if booked else f"{len(matches)} proposed; book them with --by NAME.")
