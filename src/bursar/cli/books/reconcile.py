"""`bursar reconcile`: what became of a call whose end nobody saw, by a person, its provider, or an export of usage."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bursar.cli.common.options import ANSWERED, DEFAULT_DATABASE, GAPS, DatabaseOption, JsonOption, open_ledger
from bursar.state.errors import ConfigurationError
from bursar.state.money import USD

if TYPE_CHECKING:
    from bursar.checkpoints.ledger.ledger import Ledger
    from bursar.nodes.gateway.look_up_in_the_books import LookedUpCall

commands = typer.Typer()

USE = "name a call and what the provider billed for it, or give --look-up or --from FILE"


@commands.command()
def reconcile(
    call: Annotated[
        str | None,
        typer.Argument(metavar="[CALL]", help="The call's id, as `bursar holds` lists it; with --look-up a session."),
    ] = None,
    amount: Annotated[str | None, typer.Argument(help="What the provider billed for it, in US dollars.")] = None,
    *,
    look_up: Annotated[bool, typer.Option("--look-up", help="Ask the providers of all unknown calls.")] = False,
    app: Annotated[
        str | None,
        typer.Option(
            help="The metered models to ask, as module:name; Genie's and those of other applications if none."
        ),
    ] = None,
    usage: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="Match an export of usage (CSV, JSON lines) with them."),
    ] = None,
    by: Annotated[str, typer.Option(help="Who found it out, for the log; with --from this books the matches.")] = "",
    database: DatabaseOption = DEFAULT_DATABASE,
    json: JsonOption = False,
) -> None:
    """Book what the provider really billed for a call whose end nobody saw.

    Exit code 1 says that some calls are still unknown.
    """
    chosen = [(call is not None or amount is not None) and not look_up, look_up, usage is not None]
    if sum(chosen) != 1 or (app is not None and not look_up) or (look_up and amount is not None):
        raise ConfigurationError(USE)
    if look_up:
        _look_up(database, call, app, json=json)
    elif usage is not None:
        from bursar.cli.books.usage_export import match_export

        match_export(open_ledger(database), usage, by=by, json=json)
    else:
        if call is None or amount is None:
            raise ConfigurationError(USE)
        _book(database, call, amount, by=by, json=json)


def _book(database: str, call: str, amount: str, *, by: str, json: bool) -> None:
    from bursar.cli.common import render as show

    billed = USD(amount)
    open_ledger(database).reconcile(call, billed, by=by)
    typer.echo(show.as_json({"call": call, "amount": billed}) if json else f"{call} is settled at {billed}.")


def _look_up(database: str, session: str | None, app: str | None, *, json: bool) -> None:
    from bursar.cli.common import render as show

    ended = _asked(open_ledger(database), session, app)
    if json:
        typer.echo(show.as_json([_as_dict(one) for one in ended]))
    elif ended:
        columns = ("call", "model", "hold", "cost", "answer kept", "")
        lines = [(r.call_id, r.model, r.hold, r.cost or "unknown", "yes" if r.kept else "no", r.why) for r in ended]
        show.console().print(show.rows(columns, lines))
    else:
        typer.echo("No call is unknown.")
    raise typer.Exit(GAPS if any(one.cost is None for one in ended) else ANSWERED)


def _asked(ledger: "Ledger", session: str | None, app: str | None) -> "list[LookedUpCall]":
    from bursar.checkpoints.ledger.reconciliation.unknown_calls import lost_calls
    from bursar.cli.common import render as show
    from bursar.cli.common.applications import metered_models
    from bursar.nodes.gateway.look_up_in_the_books import look_up_in_books

    lost = ledger.read(lost_calls, session)
    models = metered_models(app) if lost else []
    ended: list[LookedUpCall] = []
    with show.status() as line:
        for one in look_up_in_books(ledger, lost, models):
            ended.append(one)
            line(f"{len(ended)} of {len(lost)} calls looked up")
    return ended


def _as_dict(one: "LookedUpCall") -> dict[str, object]:
    from bursar.cli.common.render import decimal_text

    return {
        "call": one.call_id,
        "session": one.session_id,
        "model": one.model,
        "hold": decimal_text(one.hold.nanos),
        "cost": decimal_text(None if one.cost is None else one.cost.nanos),
        "answer_kept": one.kept,
        "why": one.why,
    }
