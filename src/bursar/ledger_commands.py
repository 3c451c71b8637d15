"""Commands on the ledger: costs, anchors, incidents, top-ups and erasure."""

from datetime import UTC, date, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bursar.state.errors import ConfigurationError

if TYPE_CHECKING:
    from bursar.checkpoints.books.anchors import Anchor
    from bursar.checkpoints.ledger import Ledger

DEFAULT_DATABASE = "sqlite:///genie.db"

DatabaseOption = Annotated[
    str, typer.Option("--database", envvar="BURSAR_DATABASE", help="Database URL; SQLite or PostgreSQL.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document, for machines.")]
SessionArgument = Annotated[str, typer.Argument(metavar="ID", help="The session's id, as `bursar sessions` lists it.")]
SomeSession = Annotated[str | None, typer.Argument(metavar="[ID]", help="One session; all of them otherwise.")]
Day = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="A day in UTC, such as 2026-11-23.")]
NoteOption = Annotated[str, typer.Option(help="Why, for the audit log.")]

commands = typer.Typer()


class Division(StrEnum):
    """What costs are divided into."""

    AGENT = "agent"
    MODEL = "model"
    DAY = "day"
    TENANT = "tenant"
    SESSION = "session"


@commands.command()
def costs(
    session: SomeSession = None,
    *,
    by: Annotated[Division, typer.Option(help="What to divide the costs into.")] = Division.AGENT,
    start: Day = None,
    end: Day = None,
    database: DatabaseOption = DEFAULT_DATABASE,
    json: JsonOption = False,
) -> None:
    """Show what was spent, by agent, model, day, tenant or session; from --start, before --end."""
    from bursar import show

    rows = _ledger(database).costs(by.value, session=session, start=_day(start), end=_day(end))
    if json:
        typer.echo(show.as_json([row.as_dict() for row in rows]))
        return
    columns = (by.value, "calls", "spent", "held", "unknown", "tokens in", "tokens out")
    lines = [(r.name, r.calls, r.spent, r.held, r.unknown, r.input_tokens, r.output_tokens) for r in rows]
    show.console().print(show.rows(columns, lines) if lines else "Nothing was spent.")


@commands.command()
def anchor(session: SomeSession = None, database: DatabaseOption = DEFAULT_DATABASE) -> None:
    """Print the head of the audit log; keep it elsewhere, for `bursar verify --anchor FILE`."""
    typer.echo(_ledger(database).anchor(session).model_dump_json(indent=2))


@commands.command()
def incidents(
    session: SomeSession = None, database: DatabaseOption = DEFAULT_DATABASE, json: JsonOption = False
) -> None:
    """List what must not happen and did, and the sessions that it keeps closed."""
    from bursar import show

    rows = _ledger(database).incidents(session)
    if json:
        typer.echo(show.as_json(rows))
        return
    columns = ("session", "#", "at", "call", "what", "state")
    lines = [
        (r.session_id, r.sequence, f"{r.at:%Y-%m-%d %H:%M:%S}", r.call_id or "", r.what, _state(r.closes, r.note))
        for r in rows
    ]
    show.console().print(show.rows(columns, lines) if lines else "No incidents.")


@commands.command()
def acknowledge(
    session: SessionArgument,
    note: Annotated[str, typer.Option(help="What was found; it goes into the audit log.")],
    database: DatabaseOption = DEFAULT_DATABASE,
) -> None:
    """Open a session again that an incident closed to paid calls."""
    incident = _ledger(database).acknowledge(session, note)
    typer.echo(f"{session} is open again; acknowledged: {incident}.")


@commands.command(name="top-up")
def top_up(
    account: Annotated[str, typer.Argument(help="A request's id, a session's, or an account such as agent:r-1:tax.")],
    amount: Annotated[str, typer.Argument(help="How much more it may spend, in US dollars.")],
    note: NoteOption = "",
    database: DatabaseOption = DEFAULT_DATABASE,
) -> None:
    """Grant a request, an agent or a session more than its budget, on purpose."""
    scope = _ledger(database).top_up(account, amount, note=note)
    typer.echo(f"{scope} may spend ${amount} more.")


@commands.command()
def erase(session: SessionArgument, note: NoteOption = "", database: DatabaseOption = DEFAULT_DATABASE) -> None:
    """Remove the answers that are kept for a session's calls; the audit log and the sums stay."""
    erased = _ledger(database).erase(session, note=note)
    typer.echo(f"{erased} answer{'' if erased == 1 else 's'} erased; made again, such a call is paid again.")


def read_anchor(file: Path) -> "Anchor":
    """The anchor in a file. Raises `ConfigurationError` if it holds none."""
    from pydantic import ValidationError

    from bursar.checkpoints.books.anchors import Anchor

    try:
        return Anchor.model_validate_json(file.read_bytes())
    except ValidationError:
        raise ConfigurationError(f"{file} is no anchor; `bursar anchor > FILE` makes one") from None


def _state(closes: bool, note: str | None) -> str:
    if closes:
        return "the session is closed; acknowledge it"
    return f"acknowledged: {note}" if note is not None else "noted"


def _day(at: datetime | None) -> date | None:
    return None if at is None else at.replace(tzinfo=UTC).date()


def _ledger(database: str) -> "Ledger":
    from bursar.checkpoints.ledger import Ledger

    return Ledger(database)
