"""Commands that change the ledger on purpose: reconcile, acknowledge, top up, erase."""

from typing import Annotated

import typer

from bursar.cli.options import (
    DEFAULT_DATABASE,
    DatabaseOption,
    JsonOption,
    NoteOption,
    SessionArgument,
    open_ledger,
)
from bursar.state.money import USD

commands = typer.Typer()


@commands.command()
def reconcile(
    call: Annotated[str, typer.Argument(metavar="CALL", help="The call's id, as `bursar holds` lists it.")],
    amount: Annotated[str, typer.Argument(help="What the provider billed for it, in US dollars.")],
    database: DatabaseOption = DEFAULT_DATABASE,
    json: JsonOption = False,
) -> None:
    """Book what the provider really billed for a call whose end nobody saw."""
    from bursar.cli import render as show

    billed = USD(amount)
    open_ledger(database).reconcile(call, billed)
    typer.echo(show.as_json({"call": call, "amount": billed}) if json else f"{call} is settled at {billed}.")


@commands.command()
def acknowledge(
    session: SessionArgument,
    note: Annotated[str, typer.Option(help="What was found; it goes into the audit log.")],
    database: DatabaseOption = DEFAULT_DATABASE,
) -> None:
    """Reopen a session that an incident closed to paid calls."""
    incident = open_ledger(database).acknowledge(session, note)
    typer.echo(f"{session} is open again; acknowledged: {incident}.")


@commands.command(name="top-up")
def top_up(
    account: Annotated[str, typer.Argument(help="A request's id, a session's, or an account such as agent:r-1:tax.")],
    amount: Annotated[str, typer.Argument(help="How much more it may spend, in US dollars.")],
    note: NoteOption = "",
    database: DatabaseOption = DEFAULT_DATABASE,
) -> None:
    """Grant a request, an agent or a session more than its budget, on purpose."""
    scope = open_ledger(database).top_up(account, amount, note=note)
    typer.echo(f"{scope} may spend ${amount} more.")


@commands.command()
def erase(session: SessionArgument, note: NoteOption = "", database: DatabaseOption = DEFAULT_DATABASE) -> None:
    """Remove the answers that are kept for a session's calls; the audit log and the sums stay."""
    erased = open_ledger(database).erase(session, note=note)
    typer.echo(f"{erased} answer{'' if erased == 1 else 's'} erased; made again, such a call is paid again.")
