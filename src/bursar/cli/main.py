"""The command line: look into sessions, spend and the audit log, stop work, and run what applications add.

Exit codes: 0 answered, 1 answered with gaps, 2 wrong use, 3 refused (budget, lease, policy, verification). Genie's
commands have two more: see `bursar.genie.cli`.
"""

import os
import sys
from typing import Annotated, NoReturn

import typer

from bursar.cli import administration, approvals, breakers, drill, init, inspect
from bursar.cli.books import close, reconcile
from bursar.cli.common.applications import application_commands
from bursar.cli.common.options import REFUSED, WRONG_USE
from bursar.state.errors import BursarError
from bursar.state.text import one_line

ABOUT = "A supervisor for LangGraph agents that cannot overspend, and Genie, the financial assistant that proves it."

FLUSH_SECONDS = 1.5  # that a command waits at its end for LangSmith


def main() -> None:
    """Run the command line. If a command raises an error, print it as one line without a traceback, and exit."""
    os.environ.setdefault("LANGSMITH_USE_DAEMON", "true")  # its SDK would wait at the exit for a server that is down
    try:
        make_app()()
    except SystemExit as end:  # first: the clauses below import the errors that they name, which `--help` does not need
        _finish_tracing(end)
        raise
    except _refusals() as error:
        _fail(error, REFUSED)
    except (BursarError, OSError) as error:
        _fail(error, WRONG_USE)
    except _database_errors() as error:
        _fail(error, WRONG_USE)


def make_app() -> typer.Typer:
    """Return the app with all commands.

    If a command of an application has the name of one of Bursar's commands, the application's command is left out.
    """
    app = typer.Typer(help=ABOUT, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
    app.callback(help=ABOUT)(_options)
    for commands in application_commands():
        app.add_typer(commands)
    for module in (init, inspect, reconcile, close, administration, breakers, drill, approvals):
        app.add_typer(module.commands)
    return app


def _finish_tracing(end: SystemExit) -> None:
    """Send what waits for LangSmith, if anything was traced. If its server is down, do not wait for it: exit."""
    feedback = sys.modules.get("bursar.nodes.observers.langsmith_feedback")
    if feedback is None or feedback.finish(FLUSH_SECONDS):
        return
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(end.code if isinstance(end.code, int) else int(end.code is not None))


def _version(wanted: bool) -> None:
    if wanted:
        from bursar import __version__

        typer.echo(f"bursar {__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Declare the options of `bursar` itself. Typer calls this before a command; it does nothing."""


def _refusals() -> tuple[type[Exception], ...]:
    from bursar.state.errors import SessionBusy
    from bursar.state.refusals import Refused

    return Refused, SessionBusy


def _database_errors() -> type[Exception]:
    from sqlalchemy.exc import SQLAlchemyError

    return SQLAlchemyError


def _fail(error: Exception, code: int) -> NoReturn:
    cause = getattr(error, "orig", None) or error  # the driver's own message, without SQLAlchemy's additions
    line = one_line(str(cause)) or type(error).__name__
    typer.echo(f"bursar: {line}", err=True)
    sys.exit(code)
