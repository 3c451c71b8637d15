"""The command line: ask Genie, import statements, and look into sessions, spend and the audit log.

Exit codes: 0 answered, 1 answered with gaps, 2 wrong use, 3 refused (budget, policy, verification).
"""

import sys
import uuid
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bursar.state.errors import BursarError, ConfigurationError, Refused

if TYPE_CHECKING:
    from bursar.checkpoints.ledger import Ledger
    from bursar.graphs.genie import Genie
    from bursar.state.session import SessionOutput

ANSWERED, GAPS, WRONG_USE, REFUSED = 0, 1, 2, 3
DEFAULT_DATABASE = "sqlite:///genie.db"
DEMO_QUESTIONS = (
    "Where did my money go in November, and which subscriptions went up?",
    "Is there anything suspicious on my accounts?",
    "How safe are my finances, and can I save tax by selling losses before the year ends?",
)


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

DatabaseOption = Annotated[
    str, typer.Option("--database", envvar="BURSAR_DATABASE", help="Database URL; SQLite or PostgreSQL.")
]
BudgetOption = Annotated[str, typer.Option("--budget", help="What one request may spend, in US dollars.")]
AsOfOption = Annotated[str | None, typer.Option("--as-of", help="Judge as of this day; today by default.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document, for machines.")]
SessionArgument = Annotated[str, typer.Argument(metavar="ID", help="The session's id, as `bursar sessions` lists it.")]


def main() -> None:
    """Run the command line. Errors are one line that says what to do, never a traceback."""
    try:
        app()
    except Refused as error:
        _fail(str(error), REFUSED)
    except (BursarError, OSError) as error:
        _fail(str(error), WRONG_USE)


def _fail(message: str, code: int) -> None:
    typer.echo(f"bursar: {message}", err=True)
    sys.exit(code)


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="What you want to know.")],
    session: Annotated[str | None, typer.Option(help="Go on with this session; a new one otherwise.")] = None,
    budget: BudgetOption = "0.03",
    data: Annotated[list[Path] | None, typer.Option(help="Import this file first; may be given again.")] = None,
    database: DatabaseOption = DEFAULT_DATABASE,
    as_of: AsOfOption = None,
    json: JsonOption = False,
) -> None:
    """Ask Genie about your own accounts."""
    genie = _genie(database, budget, as_of)
    if data:
        _import(genie, data, quiet=json)
    session = session or f"s-{uuid.uuid4().hex[:8]}"
    _answer(genie, genie.ask(question, session), session, json=json)


@app.command()
def resume(
    session: SessionArgument,
    budget: BudgetOption = "0.03",
    database: DatabaseOption = DEFAULT_DATABASE,
    as_of: AsOfOption = None,
    json: JsonOption = False,
) -> None:
    """Go on with a request that was interrupted, under the budget it was opened with."""
    genie = _genie(database, budget, as_of)
    _answer(genie, genie.resume(session), session, json=json)


@app.command(name="import")
def import_(
    files: Annotated[list[Path], typer.Argument(help="Statements (CSV, OFX), holdings, prices (CSV), profile (TOML).")],
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
    options = {"account": account, "currency": currency}
    order = None if date_order is None else date_order.value
    mark = None if decimal_mark is None else {"comma": ",", "point": "."}[decimal_mark.value]
    _import(genie, files, json=json, **options, date_order=order, decimal_mark=mark)


@app.command()
def sessions(database: DatabaseOption = DEFAULT_DATABASE, json: JsonOption = False) -> None:
    """List sessions with their spend."""
    from bursar import show

    listed = _ledger(database).sessions()
    if json:
        typer.echo(show.as_json(listed))
        return
    columns = ("session", "tenant", "opened", "requests", "spent", "last outcome")
    lines = [
        (r.session_id, r.tenant, f"{r.opened:%Y-%m-%d %H:%M}", r.requests, r.spent, r.outcome or "unfinished")
        for r in listed
    ]
    show.console().print(show.rows(columns, lines) if lines else 'No sessions yet; start one with: bursar ask "…"')


@app.command()
def audit(session: SessionArgument, database: DatabaseOption = DEFAULT_DATABASE, json: JsonOption = False) -> None:
    """Show what a session did: every decision, hold, settlement, refusal and outcome, in order."""
    from bursar import show

    log = _ledger(database).audit(session)
    if json:
        typer.echo(show.as_json([row.as_dict() for row in log]))
        return
    lines = [
        (r.sequence, f"{r.at:%H:%M:%S.%f}"[:-3], r.kind, show.event_line(r.event.model_dump(mode="json"))) for r in log
    ]
    show.console().print(show.rows(("#", "at", "event", "facts"), lines))


@app.command()
def verify(
    session: Annotated[str | None, typer.Argument(metavar="[ID]", help="One session; all of them otherwise.")] = None,
    database: DatabaseOption = DEFAULT_DATABASE,
    json: JsonOption = False,
) -> None:
    """Check the audit log and the books: nothing edited, deleted, reordered or cut, and the sums agree."""
    from bursar import show

    verification = _ledger(database).verify(session)
    if json:
        typer.echo(show.as_json(verification))
    else:
        show.console().print(str(verification))
    raise typer.Exit(ANSWERED if verification else REFUSED)


@app.command()
def holds(database: DatabaseOption = DEFAULT_DATABASE, json: JsonOption = False) -> None:
    """List paid calls whose end nobody saw: they stay charged at their hold until reconciled."""
    from bursar import show

    open_holds = _ledger(database).open_holds()
    if json:
        typer.echo(show.as_json(open_holds))
        return
    columns = ("call", "session", "agent", "model", "held", "state", "since")
    lines = [
        (h.call_id, h.session_id, h.agent, h.model, h.amount, h.state, f"{h.at:%Y-%m-%d %H:%M:%S}") for h in open_holds
    ]
    show.console().print(show.rows(columns, lines) if lines else "No open holds.")


@app.command()
def reconcile(
    call: Annotated[str, typer.Argument(metavar="CALL", help="The call's id, as `bursar holds` lists it.")],
    amount: Annotated[str, typer.Argument(help="What the provider billed for it, in US dollars.")],
    database: DatabaseOption = DEFAULT_DATABASE,
) -> None:
    """Book what the provider really billed for a call of unknown end."""
    _ledger(database).reconcile(call, amount)
    typer.echo(f"{call} is settled at ${amount}.")


@app.command()
def graph(database: DatabaseOption = "sqlite://") -> None:
    """Print Genie's graph as Mermaid, drawn from the graph itself."""
    typer.echo(_genie(database).app.get_graph().draw_mermaid())


@app.command()
def demo() -> None:
    """Ask Genie three questions about a sample household, in a database of its own that is thrown away."""
    import tempfile

    from bursar import show
    from bursar.nodes.genie.data.sample import END, sample_files

    with tempfile.TemporaryDirectory(prefix="bursar-demo-") as folder:
        database = f"sqlite:///{folder}/genie.db"
        genie = _genie(database, as_of=END.isoformat())
        _import(genie, list(sample_files()))
        worst = ANSWERED
        for number, question in enumerate(DEMO_QUESTIONS, 1):
            show.console().rule(f"[bold]{number}. {question}", align="left")
            session = f"demo-{number}"
            result = genie.ask(question, session)
            worst = max(worst, _show(result, session, json=False, go_on=f'bursar ask --session {session} "…"'))
        show.console().print(str(genie.ledger.verify()))
        genie.close()
    raise typer.Exit(worst if worst == REFUSED else ANSWERED)


def _genie(database: str, budget: str = "0.03", as_of: str | None = None) -> "Genie":
    from bursar.graphs.genie import open_genie

    try:
        day = None if as_of is None else date.fromisoformat(as_of)
    except ValueError:
        raise ConfigurationError(f"--as-of is a day such as 2025-12-31, not {as_of!r}") from None
    return open_genie(database, budget=budget, as_of=day)


def _ledger(database: str) -> "Ledger":
    from bursar.checkpoints.ledger import Ledger

    return Ledger(database)


def _import(genie: "Genie", files: list[Path], *, quiet: bool = False, json: bool = False, **options: Any) -> None:
    from bursar import show

    reports = genie.import_files(files, **options)
    if json:
        typer.echo(show.as_json(reports))
    elif not quiet:
        columns = ("file", "kind", "added", "updated", "unchanged", "rejected", "from", "to")
        lines = [
            (r.file.name, r.kind, r.added, r.updated, r.unchanged, len(r.rejected), r.first_day or "", r.last_day or "")
            for r in reports
            if r.error is None
        ]
        show.console().print(show.rows(columns, lines))
    failed = [report for report in reports if report.error is not None]
    for report in reports:
        for rejected in report.rejected:
            typer.echo(f"bursar: {report.file.name} row {rejected.row}: {rejected.reason}", err=True)
    for report in failed:
        typer.echo(f"bursar: {report.file}: {report.error}", err=True)
    if failed:
        raise typer.Exit(WRONG_USE)


def _answer(genie: "Genie", result: "SessionOutput", session: str, *, json: bool) -> None:
    code = _show(result, session, json=json, go_on=f'bursar ask --session {session} "…"')
    genie.close()
    raise typer.Exit(code)


def _show(result: "SessionOutput", session: str, *, json: bool, go_on: str) -> int:
    from bursar import show

    if json:
        typer.echo(show.as_json(show.answer_json(result, session)))
    else:
        show.console().print(show.answer(result, session, go_on))
    return {"answered": ANSWERED, "answered_with_gaps": GAPS, "refused": REFUSED}[result["ending"]]
