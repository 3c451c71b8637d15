"""Genie's commands: ask, resume, import, graph, demo. `bursar` finds them by the entry point `bursar.commands`.

Exit codes: 0 answered, 1 answered with gaps (of an import: rows were rejected), 2 wrong use or a file that cannot be
read, 3 refused, 130 interrupted (Ctrl-C), 143 drained (SIGTERM). Slow modules are imported when a command runs.
"""

import os
import shlex
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from bursar import ConfigurationError
from bursar.genie import DEFAULT_DATABASE, REQUEST_BUDGET

if TYPE_CHECKING:
    from bursar import SessionOutput
    from bursar.genie.app import Genie
    from bursar.genie.importing.import_report import ImportReport
    from bursar.genie.progress import Progress

ANSWERED, GAPS, WRONG_USE, REFUSED, INTERRUPTED, DRAINED = 0, 1, 2, 3, 130, 143
DEMO_QUESTIONS = (
    "Where did my money go in November, and which subscriptions went up?",
    "Is there anything suspicious on my accounts?",
    "How safe are my finances, and can I save tax by selling losses before the year ends?",
)
DEMO_END = 'Now with your own accounts: bursar import FILE…, then: bursar ask "Where did my money go last month?"'


class DateOrder(StrEnum):
    """Whether 03/04/2025 is 3 April (`dmy`) or 4 March (`mdy`)."""

    DMY = "dmy"
    MDY = "mdy"


class DecimalMark(StrEnum):
    """The mark before the cents."""

    COMMA = "comma"
    POINT = "point"


commands = typer.Typer()

DatabaseOption = Annotated[
    str, typer.Option("--database", envvar="BURSAR_DATABASE", help="Database URL; SQLite or PostgreSQL.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document, for machines.")]
SessionArgument = Annotated[str, typer.Argument(metavar="ID", help="The session's id, as `bursar sessions` lists it.")]
BudgetOption = Annotated[str, typer.Option("--budget", help="What one request may spend, in US dollars.")]
AsOfOption = Annotated[str | None, typer.Option("--as-of", help="Judge as of this day; today by default.")]


@commands.command()
def ask(
    question: Annotated[str, typer.Argument(help="What you want to know.")],
    *,
    session: Annotated[str | None, typer.Option(help="Go on with this session; a new one otherwise.")] = None,
    budget: BudgetOption = REQUEST_BUDGET,
    data: Annotated[list[Path] | None, typer.Option(help="Import this file first; may be given again.")] = None,
    database: DatabaseOption = DEFAULT_DATABASE,
    as_of: AsOfOption = None,
    quote: Annotated[
        bool, typer.Option("--quote", help="Only show the plan, and what it would cost; no agent runs.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Genie: ask about your own accounts."""
    genie = _genie(database, budget, as_of)
    if data and _import(genie, data, quiet=json) == WRONG_USE:
        raise typer.Exit(WRONG_USE)
    if quote:
        told = genie.quote(question, session)
        typer.echo(told.model_dump_json(indent=2) if json else str(told))
        genie.close()
        return
    session = session or f"s-{uuid.uuid4().hex[:8]}"
    with _working(session, database) as progress:
        result = genie.ask(question, session, progress=progress)
    _answer(genie, result, session, database, json=json)


@commands.command()
def resume(
    session: SessionArgument,
    *,
    take_over: Annotated[
        bool,
        typer.Option("--take-over", help="Take it from a process that still runs it, or may."),
    ] = False,
    budget: BudgetOption = REQUEST_BUDGET,
    database: DatabaseOption = DEFAULT_DATABASE,
    as_of: AsOfOption = None,
    json: JsonOption = False,
) -> None:
    """Genie: resume a session's interrupted request, under the budget that the request was opened with."""
    _check_exists(database)
    genie = _genie(database, budget, as_of)
    with _working(session, database) as progress:
        result = genie.resume(session, progress=progress, take_over=take_over)
    _answer(genie, result, session, database, json=json)


@commands.command(name="import")
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
    """Genie: read bank statements and holdings into the database. Importing a file again changes nothing."""
    genie = _genie(database)
    order = None if date_order is None else date_order.value
    mark = None if decimal_mark is None else {"comma": ",", "point": "."}[decimal_mark.value]
    code = _import(genie, files, json=json, account=account, currency=currency, date_order=order, decimal_mark=mark)
    genie.close()
    raise typer.Exit(code)


@commands.command()
def graph(database: DatabaseOption = "sqlite://") -> None:
    """Genie: print the graph as Mermaid, drawn from the graph itself."""
    typer.echo(_genie(database).app.get_graph().draw_mermaid())


@commands.command()
def demo() -> None:
    """Genie: ask three questions about a sample household, in a new database that is deleted at the end."""
    import tempfile

    from bursar import drain_on_sigterm
    from bursar.genie import render as show
    from bursar.genie.household.sample import END, sample_files

    with tempfile.TemporaryDirectory(prefix="bursar-demo-") as folder, drain_on_sigterm():
        database = f"sqlite:///{folder}/genie.db"
        genie = _genie(database, as_of=END.isoformat())
        _import(genie, list(sample_files()))
        worst = ANSWERED
        for number, question in enumerate(DEMO_QUESTIONS, 1):
            show.console().rule(f"[bold]{number}. {question}", align="left")
            with _working("", database) as progress:
                result = genie.ask(question, f"demo-{number}", progress=progress)
            worst = max(worst, _show(result, f"demo-{number}", json=False))
        show.console().print(str(genie.ledger.verify()))
        show.console().print(DEMO_END)
        genie.close()
    raise typer.Exit(worst)


def _check_extra() -> None:
    """Raise `ConfigurationError` if the packages are missing that Genie needs beyond a plain install of Bursar."""
    from importlib.util import find_spec

    if missing := [name for name in ("sklearn", "pypfopt", "stdnum") if find_spec(name) is None]:
        raise ConfigurationError(
            f"this command is Genie's, which needs more than a plain install ({missing[0]} is missing); run: "
            "pip install 'bursar[genie]'"
        )


def _genie(database: str, budget: str = REQUEST_BUDGET, as_of: str | None = None) -> "Genie":
    _check_extra()
    from bursar.genie.app import open_genie

    try:
        day = None if as_of is None else date.fromisoformat(as_of)
    except ValueError:
        raise ConfigurationError(f"--as-of is a day such as 2025-12-31, not {as_of!r}") from None
    _check_budget(budget)
    return open_genie(database, budget=budget, as_of=day)


def _check_budget(budget: str) -> None:
    from bursar import USD

    try:
        fits = USD(budget) >= USD(0)
    except ValueError:
        fits = False
    if not fits:
        raise ConfigurationError(f"--budget is an amount of US dollars such as 0.03, not {budget!r}")


def _check_exists(database: str) -> None:
    """Raise `ConfigurationError` if `database` is an SQLite file that does not exist.

    Otherwise `bursar resume` would create that file, empty.
    """
    kind, _, file = database.partition("?")[0].partition(":///")
    if kind == "sqlite" and file and not file.startswith((":memory:", "file:")) and not Path(file).exists():
        raise ConfigurationError(f"there is no database {file}; name yours with --database URL or BURSAR_DATABASE")


def _stop(text: str, code: int) -> NoReturn:
    """Print `text` on stderr and end the command with the exit code `code`."""
    typer.echo(f"bursar: {text}", err=True)
    raise typer.Exit(code)


@contextmanager
def _working(session: str, database: str) -> "Generator[Progress]":
    """Show a status line on a terminal while the block runs; yield the progress that the line shows.

    Ctrl-C and SIGTERM end the command with one line that says how to resume the session, or to start again if `session`
    is empty. A `DataError` becomes a `ConfigurationError`.
    """
    from langgraph.errors import GraphDrained

    from bursar import drain_on_sigterm
    from bursar.genie import render as show
    from bursar.genie.agents.database_connector.connector import DataError

    go_on = f"go on with: bursar resume {session}{_where(database)}" if session else "start again"
    try:
        with drain_on_sigterm(), show.status() as progress:
            yield progress
    except KeyboardInterrupt:
        _stop(f"interrupted; what was paid for is kept; {go_on}", INTERRUPTED)
    except GraphDrained:
        _stop(f"told to end; the step it was in is finished and kept; {go_on}", DRAINED)
    except DataError as error:
        raise ConfigurationError(str(error)) from error


def _where(database: str) -> str:
    """Return ` --database URL` for a command that is shown to the user, with the password masked.

    Return an empty text if `database` is the default, because the command then needs no such option.
    """
    if database == os.environ.get("BURSAR_DATABASE", DEFAULT_DATABASE):
        return ""
    from sqlalchemy.engine import make_url

    return f" --database {shlex.quote(make_url(database).render_as_string(hide_password=True))}"


def _import(genie: "Genie", files: list[Path], *, quiet: bool = False, json: bool = False, **options: Any) -> int:
    """Import the files, print what was stored and what was rejected, and return the exit code.

    Ctrl-C ends the command; each file is then stored whole or not at all. With `quiet`, only errors are printed.
    """
    from bursar.genie import render as show

    def told(report: "ImportReport") -> None:
        hear(report.file.name)

    try:
        with show.import_progress() as hear:
            reports = genie.import_files(files, progress=told, **options)
    except KeyboardInterrupt:
        _stop("interrupted; finished files are stored; import again, nothing is stored twice", INTERRUPTED)
    if not reports:
        raise ConfigurationError(f"there is no file to import in {', '.join(map(str, files))}")
    if json:
        typer.echo(show.as_json(reports))
    elif not quiet and (table := show.imported(reports)):
        show.console().print(table)
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
    from bursar.genie import render as show

    if json:
        typer.echo(show.as_json(show.answer_json(result, session)))
    else:
        show.console().print(show.answer(result, session, go_on))
    return {"answered": ANSWERED, "answered_with_gaps": GAPS, "refused": REFUSED}[result["ending"]]
