"""Commands for what waits for a person: approve or deny runs, actions and raises of a budget, settle actions."""

from typing import TYPE_CHECKING, Annotated

import typer

from bursar.cli.common.options import DEFAULT_DATABASE, DatabaseOption, JsonOption, SomeSession, open_ledger

if TYPE_CHECKING:
    from bursar.checkpoints.ledger.approvals import ApprovalRecord

commands = typer.Typer()

ApprovalArgument = Annotated[str, typer.Argument(metavar="ID", help="Its id, as `bursar approvals` lists it.")]
ByOption = Annotated[str, typer.Option("--by", help="Who says so; it goes into the audit log.")]


@commands.command()
def approvals(
    session: SomeSession = None, database: DatabaseOption = DEFAULT_DATABASE, json: JsonOption = False
) -> None:
    """List what waits for a person's approval, and until when."""
    from bursar.cli.common import render as show

    listed = open_ledger(database).approvals(session)
    if json:
        typer.echo(show.as_json([_plain(asked) for asked in listed]))
        return
    columns = ("approval", "session", "specialist", "what", "at most", "until")
    lines = [
        (
            asked.approval_id,
            asked.session_id,
            asked.specialist,
            "" if asked.shown is None else f"{asked.shown.what} {show.as_line(asked.shown.arguments)}".strip(),
            "" if asked.shown is None else asked.shown.ceiling,
            f"{asked.expires_at:%Y-%m-%d %H:%M:%S}",
        )
        for asked in listed
    ]
    show.console().print(show.rows(columns, lines) if lines else "Nothing waits for approval.")


@commands.command()
def approve(
    approval: ApprovalArgument, by: ByOption, database: DatabaseOption = DEFAULT_DATABASE, json: JsonOption = False
) -> None:
    """Approve a waiting run, action or raise of a budget; it counts when its session is resumed, if they may."""
    from bursar.cli.common import render as show

    asked = open_ledger(database).approve(approval, by=by)
    typer.echo(show.as_json(_plain(asked)) if json else f"{approval} is approved by {by}; resume {asked.session_id}.")


@commands.command()
def deny(
    approval: ApprovalArgument,
    by: ByOption,
    reason: Annotated[str, typer.Option(help="Why; the answer will say so.")] = "",
    database: DatabaseOption = DEFAULT_DATABASE,
    json: JsonOption = False,
) -> None:
    """Deny a waiting run, action or raise of a budget; its session, when resumed, goes on without it."""
    from bursar.cli.common import render as show

    asked = open_ledger(database).deny(approval, by=by, reason=reason)
    typer.echo(show.as_json(_plain(asked)) if json else f"{approval} is denied by {by}; resume {asked.session_id}.")


@commands.command()
def actions(session: SomeSession = None, database: DatabaseOption = DEFAULT_DATABASE, json: JsonOption = False) -> None:
    """List actions that have not ended: in flight, in doubt, or being undone."""
    from bursar.cli.common import render as show

    listed = open_ledger(database).open_actions(session)
    if json:
        names = ("key", "session_id", "agent", "name", "state", "reason", "at")
        typer.echo(show.as_json([{name: getattr(deed, name) for name in names} for deed in listed]))
        return
    columns = ("action", "session", "agent", "name", "state", "since", "why")
    lines = [
        (d.key, d.session_id, d.agent, d.name, d.state.replace("_", " "), f"{d.at:%Y-%m-%d %H:%M:%S}", d.reason)
        for d in listed
    ]
    show.console().print(show.rows(columns, lines) if lines else "Every action has ended.")


@commands.command(name="settle-action")
def settle_action(
    key: Annotated[str, typer.Argument(metavar="ACTION", help="Its key, as `bursar actions` lists it.")],
    *,
    by: ByOption,
    note: Annotated[str, typer.Option(help="What was found; it goes into the audit log.")],
    done: Annotated[bool, typer.Option("--done/--not-done", help="Whether it is done in the world outside.")],
    database: DatabaseOption = DEFAULT_DATABASE,
    json: JsonOption = False,
) -> None:
    """Settle an action that is in doubt, or that could not be undone, as done or as not done."""
    from bursar.cli.common import render as show

    state = open_ledger(database).settle_action(key, done=done, by=by, note=note)
    typer.echo(show.as_json({"action": key, "state": state}) if json else f"{key} is settled: {state}.")


def _plain(asked: "ApprovalRecord") -> dict[str, object]:
    names = ("approval_id", "session_id", "specialist", "action", "state", "subject_hash", "expires_at", "by")
    return {**{name: getattr(asked, name) for name in names}, "shown": asked.shown}
