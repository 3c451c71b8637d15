"""The command line: ask Genie, import statements, and look into sessions, spend and the audit log.

Exit codes: 0 answered, 1 answered with gaps (of an import: rows were rejected), 2 wrong use or a file that cannot be
read, 3 refused (budget, lease, policy, verification), 130 interrupted, 143 told to end (SIGTERM).
"""

import os
import shlex
import sys
import uuid
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from bursar.cli import administration as upkeep
from bursar.cli import approvals as people
from bursar.cli import breakers as switches
from bursar.cli import drill as drilling
from bursar.cli import inspect as reading
from bursar.cli.options import (
    ANSWERED,
    DEFAULT_DATABASE,
    DRAINED,
    GAPS,
    INTERRUPTED,
    REFUSED,
    WRONG_USE,
    DatabaseOption,
    JsonOption,
    SessionArgument,
    check_exists,
)
from bursar.state.errors import AmountError, BursarError, ConfigurationError
from bursar.state.text import one_line

if TYPE_CHECKING:
    from bursar.genie.app import Genie
    from bursar.genie.importing.import_report import ImportReport
    from bursar.state.session import SessionOutput

DEMO_QUESTIONS = (
    "Where did my money go in November, and which subscriptions went up?",
    "Is there anything suspicious on my accounts?",
    "How safe are my finances, and can I save tax by selling losses before the year ends?",
)
DEMO_END = 'Now with your own accounts: bursar import FILE…, then: bursar ask "Where did my money go last month?"'


class DateOrder(StrEnum):
    """Which comes first in 03/04/2025."""

    DMY = "dmy"
    MDY = "mdy"


class DecimalMark(StrEnum):
    """What stands before the cents."""

    COMMA = "comma"
    POINT = "point"


app = typer.Typer(
    help="A supervisor for LangGraph agents that cannot overspend, and Genie, the financial assistant that proves it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(reading.commands)
app.add_typer(upkeep.commands)
app.add_typer(switches.commands)
app.add_typer(drilling.commands)
app.add_typer(people.commands)

BudgetOption = Annotated[str, typer.Option("--budget", help="What one request may spend, in US dollars.")]
AsOfOption = Annotated[str | None, typer.Option("--as-of", help="Judge as of this day; today by default.")]


class Interrupted(Exception):
    """The user pressed Ctrl-C, or the process was told to end; the text says how to go on."""

    def __init__(self, text: str, code: int = INTERRUPTED) -> None:
        super().__init__(text)
        self.code = code


def main() -> None:
    """Run the command line. Errors are one line that says what to do, never a traceback."""
    try:
        app()
    except SystemExit:  # first, for the others load what they name: help needs nothing of it
        raise
    except _refusals() as error:
        _fail(error, REFUSED)
    except Interrupted as error:
        _fail(error, error.code)
    except (BursarError, OSError) as error:
        _fail(error, WRONG_USE)
    except _data_errors() as error:
        _fail(error, WRONG_USE)


def _refusals() -> tuple[type[Exception], ...]:
    from bursar.state.errors import SessionBusy
    from bursar.state.refusals import Refused

    return Refused, SessionBusy


def _data_errors() -> tuple[type[Exception], ...]:
    from sqlalchemy.exc import SQLAlchemyError

    from bursar.genie.agents.database_connector.connector import DataError
    from bursar.genie.importing.import_report import ImportFailed

    return DataError, ImportFailed, SQLAlchemyError


def _fail(error: Exception, code: int) -> NoReturn:
    cause = getattr(error, "orig", None) or error  # the driver's own words, without SQLAlchemy's around them
    line = one_line(str(cause)) or type(error).__name__
    typer.echo(f"bursar: {line}", err=True)
    sys.exit(code)


def _version(wanted: bool) -> None:
    if wanted:
        from bursar import __version__

        typer.echo(f"bursar {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """A supervisor for LangGraph agents that cannot overspend, and Genie, the financial assistant that proves it."""


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="What you want to know.")],
    *,
    session: Annotated[str | None, typer.Option(help="Go on with this session; a new one otherwise.")] = None,
    budget: BudgetOption = "0.03",
    data: Annotated[list[Path] | None, typer.Option(help="Import this file first; may be given again.")] = None,
    database: DatabaseOption = DEFAULT_DATABASE,
    as_of: AsOfOption = None,
    json: JsonOption = False,
) -> None:
    """Ask Genie about your own accounts."""
    genie = _genie(database, budget, as_of)
    if data and _import(genie, data, quiet=json) == WRONG_USE:
        raise typer.Exit(WRONG_USE)
    session = session or f"s-{uuid.uuid4().hex[:8]}"
    with _working(session, database) as hear:
        result = genie.ask(question, session, on_node=hear)
    _answer(genie, result, session, database, json=json)


@app.command()
def resume(
    session: SessionArgument,
    *,
    take_over: Annotated[
        bool,
        typer.Option("--take-over", help="Take it from a process that still runs it, or may."),
    ] = False,
    budget: BudgetOption = "0.03",
    database: DatabaseOption = DEFAULT_DATABASE,
    as_of: AsOfOption = None,
    json: JsonOption = False,
) -> None:
    """Go on with a request that was interrupted, under the budget it was opened with."""
    check_exists(database)
    genie = _genie(database, budget, as_of)
    with _working(session, database) as hear:
        result = genie.resume(session, on_node=hear, take_over=take_over)
    _answer(genie, result, session, database, json=json)


@app.command(name="import")
def import_(
    files: Annotated[list[Path], typer.Argument(help="Statements (CSV, OFX), holdings, prices (CSV), profile (TOML).")],
    *,
    account: Annotated[
        str | None, typer.Option(help="The account these rows belong to, where the file names none.")
    ] = None,
    currency: Annotated[str | None, typer.Option(help="Currency of amounts where the file names none.")] = None,
    date_order: Annotated[DateOrder | None, typer.Option(help="Where a file's dates could be read either way.")] = None,
    decimal_mark: Annotated[DecimalMark | None, typer.Option(help="Where a file's amounts could be either.")] = None,
    database: DatabaseOption = DEFAULT_DATABASE,
    json: JsonOption = False,
) -> None:
    """Read bank statements and holdings into the database. Importing a file again changes nothing."""
    genie = _genie(database)
    order = None if date_order is None else date_order.value
    mark = None if decimal_mark is None else {"comma": ",", "point": "."}[decimal_mark.value]
    code = _import(genie, files, json=json, account=account, currency=currency, date_order=order, decimal_mark=mark)
    genie.close()
    raise typer.Exit(code)


@app.command()
def graph(database: DatabaseOption = "sqlite://") -> None:
    """Print Genie's graph as Mermaid, drawn from the graph itself."""
    typer.echo(_genie(database).app.get_graph().draw_mermaid())


@app.command()
def demo() -> None:
    """Ask Genie three questions about a sample household, in a database of its own that is thrown away."""
    import tempfile

    from bursar.cli import render as show
    from bursar.genie.household.sample import END, sample_files
    from bursar.graphs.graceful_shutdown import drain_on_sigterm

    with tempfile.TemporaryDirectory(prefix="bursar-demo-") as folder, drain_on_sigterm():
        database = f"sqlite:///{folder}/genie.db"
        genie = _genie(database, as_of=END.isoformat())
        _import(genie, list(sample_files()))
        worst = ANSWERED
        for number, question in enumerate(DEMO_QUESTIONS, 1):
            show.console().rule(f"[bold]{number}. {question}", align="left")
            with _working("", database) as hear:
                result = genie.ask(question, f"demo-{number}", on_node=hear)
            worst = max(worst, _show(result, f"demo-{number}", json=False))
        show.console().print(str(genie.ledger.verify()))
        show.console().print(DEMO_END)
        genie.close()
    raise typer.Exit(worst)


def _genie(database: str, budget: str = "0.03", as_of: str | None = None) -> "Genie":
    from bursar.genie.app import open_genie

    try:
        day = None if as_of is None else date.fromisoformat(as_of)
    except ValueError:
        raise ConfigurationError(f"--as-of is a day such as 2025-12-31, not {as_of!r}") from None
    _check_budget(budget)
    return open_genie(database, budget=budget, as_of=day)


def _check_budget(budget: str) -> None:
    from bursar.state.money import USD, ZERO

    try:
        fits = USD(budget) >= ZERO
    except AmountError:
        fits = False
    if not fits:
        raise ConfigurationError(f"--budget is an amount of US dollars such as 0.03, not {budget!r}")


@contextmanager
def _working(session: str, database: str) -> Generator[Callable[[str], None]]:
    """While Genie works: a status line on a terminal; Ctrl-C and SIGTERM become one line that says how to go on."""
    from langgraph.errors import GraphDrained

    from bursar.cli import render as show
    from bursar.graphs.graceful_shutdown import drain_on_sigterm

    go_on = f"go on with: bursar resume {session}{_where(database)}" if session else "start again"
    try:
        with drain_on_sigterm(), show.status() as hear:
            yield hear
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; what was paid for is kept; {go_on}") from None
    except GraphDrained:
        raise Interrupted(f"told to end; the step it was in is finished and kept; {go_on}", DRAINED) from None


def _where(database: str) -> str:
    """The option that names the database again, where it is not found without it. Passwords are masked."""
    if database == os.environ.get("BURSAR_DATABASE", DEFAULT_DATABASE):
        return ""
    from sqlalchemy.engine import make_url

    return f" --database {shlex.quote(make_url(database).render_as_string(hide_password=True))}"


def _import(genie: "Genie", files: list[Path], *, quiet: bool = False, json: bool = False, **options: Any) -> int:
    """Import and tell what became of each file; the exit code. Ctrl-C leaves whole files behind, never half of one."""
    from bursar.cli import render as show

    def told(report: "ImportReport") -> None:
        hear(report.file.name)

    try:
        with show.import_progress() as hear:
            reports = genie.import_files(files, progress=told, **options)
    except KeyboardInterrupt:
        raise Interrupted("interrupted; finished files are stored; import again, nothing is stored twice") from None
    if not reports:
        raise ConfigurationError(f"there is no file to import in {', '.join(map(str, files))}")
    if json:
        typer.echo(show.as_json(reports))
    elif not quiet:
        columns = ("file", "kind", "added", "updated", "unchanged", "rejected", "from", "to")
        lines = [
            (r.file.name, r.kind, r.added, r.updated, r.unchanged, len(r.rejected), r.first_day or "", r.last_day or "")
            for r in reports
            if r.error is None
        ]
        if lines:
            show.console().print(show.rows(columns, lines))
    failed = [report for report in reports if report.error is not None]
    for report in reports:
        for rejected in report.rejected:
            typer.echo(f"bursar: {report.file.name} row {rejected.row}: {rejected.reason}", err=True)
    for report in failed:
        typer.echo(f"bursar: {report.error}", err=True)
    if failed:
        return WRONG_USE
    return GAPS if any(report.rejected for report in reports) else ANSWERED


def _answer(genie: "Genie", result: "SessionOutput", session: str, database: str, *, json: bool) -> None:
    code = _show(result, session, json=json, go_on=f'bursar ask --session {session}{_where(database)} "…"')
    genie.close()
    raise typer.Exit(code)


def _show(result: "SessionOutput", session: str, *, json: bool, go_on: str = "") -> int:
    from bursar.cli import render as show

    if json:
        typer.echo(show.as_json(show.answer_json(result, session)))
    else:
        show.console().print(show.answer(result, session, go_on))
    return {"answered": ANSWERED, "answered_with_gaps": GAPS, "refused": REFUSED}[result["ending"]]
