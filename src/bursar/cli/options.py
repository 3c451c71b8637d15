"""What several commands share: options, arguments, exit codes, and the way to a ledger that is there already."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bursar.state.errors import ConfigurationError

if TYPE_CHECKING:
    from bursar.checkpoints.ledger.ledger import Ledger

ANSWERED, GAPS, WRONG_USE, REFUSED = 0, 1, 2, 3
DEFAULT_DATABASE = "sqlite:///genie.db"

DatabaseOption = Annotated[
    str, typer.Option("--database", envvar="BURSAR_DATABASE", help="Database URL; SQLite or PostgreSQL.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document, for machines.")]
SessionArgument = Annotated[str, typer.Argument(metavar="ID", help="The session's id, as `bursar sessions` lists it.")]
SomeSession = Annotated[str | None, typer.Argument(metavar="[ID]", help="One session; all of them otherwise.")]
Day = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="A day in UTC, such as 2026-11-23.")]
NoteOption = Annotated[str, typer.Option(help="Why, for the audit log.")]


def open_ledger(database: str) -> "Ledger":
    """The ledger of a database that exists. Raises `ConfigurationError` where there is none."""
    from bursar.checkpoints.ledger.ledger import Ledger

    check_exists(database)
    return Ledger(database)


def check_exists(database: str) -> None:
    """To look into a database is not to make one: a wrong path is told, and leaves no empty file behind."""
    kind, _, file = database.partition("?")[0].partition(":///")
    if kind == "sqlite" and file and not file.startswith((":memory:", "file:")) and not Path(file).exists():
        raise ConfigurationError(f"there is no database {file} yet; make one with: bursar import FILE…")
