"""Commands that read the ledger: sessions, the audit log, holds, costs, incidents, and whether all of it agrees."""

import sys
from datetime import UTC, date, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bursar.cli.common.options import (
    ANSWERED,
    DEFAULT_DATABASE,
    REFUSED,
    DatabaseOption,
    Day,
    JsonOption,
    SessionArgument,
    SomeSession,
    open_ledger,
)
from bursar.state.errors import ConfigurationError

if TYPE_CHECKING:
    from bursar.checkpoints.ledger.anchors import Anchor
    from bursar.checkpoints.ledger.costs import CostRow, ExpectedCostRow

commands = typer.Typer()


class Division(StrEnum):
    """The keys by which costs are divided."""

    AGENT = "agent"
    MODEL = "model"
    DAY = "day"
    TENANT = "tenant"
    SESSION = "session"


class CostFormat(StrEnum):
    """The forms in which costs are shown."""

    TABLE = "table"
    FOCUS = "focus"


@commands.command()
def sessions(database: DatabaseOption = DEFAULT_DATABASE, json: JsonOption = False) -> None:
    """List sessions with their spend."""
    from bursar.cli.common import render as show

    listed = open_ledger(database).sessions()
    if json:
        typer.echo(show.as_json(listed))
        return
    columns = ("session", "tenant", "opened", "requests", "spent", "last outcome")
    lines = [
        (r.session_id, r.tenant, f"{r.opened:%Y-%m-%d %H:%M}", r.requests, r.spent, r.outcome or "unfinished")
        for r in listed
    ]
    show.console().print(show.rows(columns, lines) if lines else 'No sessions yet; start one with: bursar ask "…"')


@commands.command()
def audit(session: SessionArgument, database: DatabaseOption = DEFAULT_DATABASE, json: JsonOption = False) -> None:
    """Show what a session did: every decision, hold, settlement, refusal and outcome, in order."""
    from bursar.cli.common import render as show

    log = open_ledger(database).audit(session)
    if json:
        typer.echo(show.as_json([row.as_dict() for row in log]))
        return
    lines = [
        (r.sequence, f"{r.at:%H:%M:%S.%f}"[:-3], r.kind, show.event_line(r.event.model_dump(mode="json"))) for r in log
    ]
    show.console().print(show.rows(("#", "at", "event", "facts"), lines))


@commands.command()
def verify(
    session: Annotated[str | None, typer.Argument(metavar="[ID]", help="One session; all of them otherwise.")] = None,
    anchor: Annotated[Path | None, typer.Option(help="Hold it against this file, which `bursar anchor` made.")] = None,
    database: DatabaseOption = DEFAULT_DATABASE,
    json: JsonOption = False,
) -> None:
    """Check the audit log and the books: nothing edited, deleted, reordered or cut, and the sums agree."""
    from bursar.cli.common import render as show

    kept = None if anchor is None else _read_anchor(anchor)
    verification = open_ledger(database).verify(session, anchor=kept)
    if json:
        typer.echo(show.as_json(verification))
    else:
        show.console().print(str(verification))
    raise typer.Exit(ANSWERED if verification else REFUSED)


@commands.command()
def holds(database: DatabaseOption = DEFAULT_DATABASE, json: JsonOption = False) -> None:
    """List paid calls that are not settled: in flight, or with an end that nobody saw (charged until reconciled)."""
    from bursar.cli.common import render as show

    open_holds = open_ledger(database).open_holds()
    if json:
        typer.echo(show.as_json(open_holds))
        return
    columns = ("call", "session", "agent", "model", "held", "state", "since")
    lines = [
        (h.call_id, h.session_id, h.agent, h.model, h.amount, h.state, f"{h.at:%Y-%m-%d %H:%M:%S}") for h in open_holds
    ]
    show.console().print(show.rows(columns, lines) if lines else "No open holds.")


@commands.command()
def costs(
    session: SomeSession = None,
    *,
    by: Annotated[Division, typer.Option(help="What to divide the costs into.")] = Division.AGENT,
    quoted: Annotated[
        bool, typer.Option("--quoted", help="Show what each agent's runs were expected to cost.")
    ] = False,
    gain: Annotated[
        bool, typer.Option("--gain", help="Show how often the answers of cascades' rungs were accepted.")
    ] = False,
    expected: Annotated[
        bool, typer.Option("--expected", help="Show what each agent is expected to take by its last runs and answers.")
    ] = False,
    start: Day = None,
    end: Day = None,
    form: Annotated[
        CostFormat, typer.Option("--format", help="A table, or one CSV row for each call by the columns of FOCUS 1.2.")
    ] = CostFormat.TABLE,
    database: DatabaseOption = DEFAULT_DATABASE,
    json: JsonOption = False,
) -> None:
    """Show what was spent, by agent, model, day, tenant or session; from --start, before --end."""
    from bursar.cli.common import render as show

    if gain:
        _show_gains(database, json=json)
        return
    if form is CostFormat.FOCUS:
        from bursar.checkpoints.ledger.reconciliation.charges import charges
        from bursar.cli.books.focus import write_focus

        write_focus(
            open_ledger(database).read(charges, session_id=session, start=_day(start), end=_day(end)), sys.stdout
        )
        return
    if quoted:
        compared = open_ledger(database).quoted_costs(session=session, start=_day(start), end=_day(end))
        if json:
            typer.echo(show.as_json([row.as_dict() for row in compared]))
        else:
            shown = [(r.agent, r.runs, r.expected, r.real) for r in compared]
            table = show.rows(("agent", "runs", "expected", "real"), shown)
            show.console().print(table if compared else "No run was planned.")
        return
    if expected:
        _show_expected(open_ledger(database).expected_costs(), json=json)
        return
    rows = open_ledger(database).costs(by.value, session=session, start=_day(start), end=_day(end))
    if json:
        typer.echo(show.as_json([row.as_dict() for row in rows]))
        return
    columns = (by.value, "calls", "spent", "held", "unknown", "tokens in", "tokens out", "cached", "cache saved")
    lines = [(r.name, r.calls, r.spent, r.held, r.unknown, r.input_tokens, r.output_tokens, *_cached(r)) for r in rows]
    show.console().print(show.rows(columns, lines) if lines else "Nothing was spent.")


def _show_gains(database: str, *, json: bool) -> None:
    from bursar.cli.common import render as show

    rows = open_ledger(database).gains()
    if json:
        typer.echo(show.as_json([row.as_dict() for row in rows]))
        return
    columns = ("specialist", "segment", "rung", "asked", "accepted", "gain", "mean cost", "saved")
    lines = [
        (r.specialist, r.segment, r.rung, r.asked, r.accepted, f"{r.gain:.3f}", r.mean_cost, r.saved) for r in rows
    ]
    show.console().print(show.rows(columns, lines) if lines else "No cascade has asked a rung.")


def _show_expected(rows: "list[ExpectedCostRow]", *, json: bool) -> None:
    from bursar.cli.common import render as show

    if json:
        typer.echo(show.as_json([row.as_dict() for row in rows]))
        return
    columns = ("agent", "model", "runs", "cost", "turns", "answers", "output p50", "output p99.5")
    lines = [(r.agent, r.model, r.runs, r.cost, r.turns, r.answers, r.output, r.output_most) for r in rows]
    shown = [tuple("" if one is None else one for one in line) for line in lines]
    show.console().print(show.rows(columns, shown) if rows else "No agent has completed anything.")


@commands.command()
def anchor(session: SomeSession = None, database: DatabaseOption = DEFAULT_DATABASE) -> None:
    """Print the head of the audit log; keep it elsewhere, for `bursar verify --anchor FILE`."""
    typer.echo(open_ledger(database).anchor(session).model_dump_json(indent=2))


@commands.command()
def incidents(
    session: SomeSession = None, database: DatabaseOption = DEFAULT_DATABASE, json: JsonOption = False
) -> None:
    """List incidents, and the sessions that they keep closed to paid calls."""
    from bursar.cli.common import render as show

    rows = open_ledger(database).incidents(session)
    if json:
        typer.echo(show.as_json(rows))
        return
    columns = ("session", "#", "at", "call", "what", "state")
    lines = [
        (r.session_id, r.sequence, f"{r.at:%Y-%m-%d %H:%M:%S}", r.call_id or "", r.what, _state(r.closes, r.note))
        for r in rows
    ]
    show.console().print(show.rows(columns, lines) if lines else "No incidents.")


def _cached(row: "CostRow") -> tuple[str, str]:
    """Return the row's cache hit rate in percent, and what the hits saved."""
    return f"{row.cache_hit_rate:.1%}", str(row.cache_saved)


def _read_anchor(file: Path) -> "Anchor":
    """Return the anchor that is in a file. Raises `ConfigurationError` if the file is no anchor."""
    from pydantic import ValidationError

    from bursar.checkpoints.ledger.anchors import Anchor

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
