"""Options, arguments and exit codes that several commands share, and the opening of a ledger that exists."""

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
    """Return the ledger of an existing database.

    Raises `ConfigurationError` if the URL names an SQLite file that does not exist.
    """
    from bursar.checkpoints.ledger.ledger import Ledger

    check_exists(database)
    return Ledger(database)


def check_exists(database: str) -> None:
    """Raise `ConfigurationError` if the URL names an SQLite file that does not exist.

    Without this check a command that only reads would create an empty file at a wrong path.
    """
    kind, _, file = database.partition("?")[0].partition(":///")
    if kind == "sqlite" and file and not file.startswith((":memory:", "file:")) and not Path(file).exists():
        raise ConfigurationError(f"there is no database {file}; name yours with --database URL or BURSAR_DATABASE")
