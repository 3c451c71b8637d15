"""Renders what Genie's commands print: answers, runs, spend, imported files; with Rich, or as JSON for `--json`."""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.progress import Progress as ProgressBars
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from bursar import Outcome, Run, SessionOutput, Spend
from bursar.genie.progress import Progress

if TYPE_CHECKING:
    from bursar.genie.importing.import_report import ImportReport

OUTCOME_STYLES = {Outcome.COMPLETED: "green", Outcome.EXHAUSTED: "yellow", Outcome.FAILED: "red"}
BAR_WIDTH = 40
WIDTH_OF_FILES = 140


def console(*, error: bool = False) -> Console:
    """Return a console on stdout, or on stderr if `error`.

    If the stream is no terminal, the console's lines are wide enough for tables.
    """
    plain = Console(stderr=error, highlight=False)
    return plain if plain.is_terminal else Console(stderr=error, highlight=False, width=WIDTH_OF_FILES)


@contextmanager
def status() -> Generator[Progress]:
    """Show a status line on stderr while the block runs; yield the progress that the line shows.

    If stderr is no terminal, nothing is shown.
    """
    screen, progress = console(error=True), Progress()
    if not screen.is_terminal:
        yield progress
        return
    with screen.status(progress):  # drawn anew several times a second, so that the seconds count
        yield progress


@contextmanager
def import_progress() -> Generator[Callable[[str], None]]:
    """Show a progress line on stderr while the block runs; yield a function that shows the name of an imported file.

    If stderr is no terminal, nothing is shown and the function does nothing.
    """
    screen = console(error=True)
    if not screen.is_terminal:
        yield lambda _: None
        return
    with ProgressBars(console=screen, transient=True) as bar:
        task = bar.add_task("importing", total=None)
        yield lambda file: bar.update(task, advance=1, description=f"imported {file}")


def as_json(value: object) -> str:
    """Return `value` as one indented JSON document, in which money is a decimal string."""
    return to_json(value, indent=2, fallback=str).decode()


def answer_json(result: SessionOutput, session_id: str) -> dict[str, Any]:
    """Return the document that `bursar ask --json` and `bursar resume --json` print."""
    return {
        "session": session_id,
        "answer": result["messages"][-1].text,
        "ending": result["ending"],
        "gaps": result["gaps"],
        "runs": result["runs"],
        "decisions": result["decisions"],
        "spend": result["spend"],
    }


def answer(result: SessionOutput, session_id: str, go_on: str) -> RenderableType:
    """Render the answer, each run with its outcome, latency and cost, the spend against the budget, and the session.

    `go_on` is the command for the next question; if `go_on` is empty, no command is shown.
    """
    return Group(
        Panel(Text(result["messages"][-1].text), title="Genie", title_align="left", border_style="cyan"),
        _agents(result["runs"]),
        spend_bar(result["spend"]),
        Text.assemble(("session ", "dim"), session_id, *((("   go on with: ", "dim"), go_on) if go_on else ())),
    )


def _agents(runs: Sequence[Run]) -> RenderableType:
    if not runs:
        return Text("No agent ran.", style="dim")
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("agent", no_wrap=True)
    table.add_column("outcome", no_wrap=True)
    table.add_column("latency", no_wrap=True, justify="right")
    table.add_column("cost", no_wrap=True, justify="right")
    table.add_column("why", overflow="fold")
    for run in runs:
        name = run.specialist if run.level == 0 else f"{run.specialist} → {run.handler}"
        outcome = Text(run.outcome.value, OUTCOME_STYLES[run.outcome])
        table.add_row(Text(name), outcome, f"{run.seconds * 1000:.0f} ms", str(run.cost), Text(run.reason))
    return table


def spend_bar(spend: Spend) -> RenderableType:
    """Render what the request spent of its budget, as a bar and in figures; without a budget, as a figure alone."""
    if spend.budget is None:
        return Text(f"spent {spend.spent}")
    share = spend.spent.nanos / spend.budget.nanos if spend.budget else 1.0
    style = "green" if share < 0.7 else "yellow" if share < 1 else "red"
    bar = ProgressBar(total=1.0, completed=min(share, 1.0), width=BAR_WIDTH, complete_style=style, finished_style=style)
    grid = Table.grid(padding=(0, 1))
    calls = f"{spend.calls} paid call{'' if spend.calls == 1 else 's'}"
    grid.add_row(Text("spend", "dim"), bar, f"{spend.spent} of {spend.budget}", Text(calls, "dim"))
    return grid


def imported(reports: Sequence["ImportReport"]) -> Table | None:
    """Return a table with a row for each file that was stored, or None if no file was stored."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("file", "kind", "added", "updated", "unchanged", "rejected", "from", "to"):
        table.add_column(column, overflow="fold")
    for r in reports:
        if r.error is None:
            counts = (r.added, r.updated, r.unchanged, len(r.rejected))
            days = (r.first_day or "", r.last_day or "")
            table.add_row(*(Text(str(cell)) for cell in (r.file.name, r.kind, *counts, *days)))
    return table if table.row_count else None
