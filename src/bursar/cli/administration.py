"""Commands that change the ledger on purpose: acknowledge, top up, erase."""

from typing import Annotated

import typer

from bursar.cli.common.options import (
    DEFAULT_DATABASE,
    DatabaseOption,
    NoteOption,
    SessionArgument,
    open_ledger,
)

commands = typer.Typer()


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
