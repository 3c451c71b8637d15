"""Commands on pauses and breakers: pause and unpause agents, tenants or everything; list pauses and breakers."""

import getpass
from enum import StrEnum
from typing import Annotated

import typer

from bursar.cli.common.options import DEFAULT_DATABASE, DatabaseOption, JsonOption, NoteOption, open_ledger
from bursar.state.errors import ConfigurationError

commands = typer.Typer()


class What(StrEnum):
    """What can be paused: everything, an agent or a tenant."""

    ALL = "all"
    AGENT = "agent"
    TENANT = "tenant"


WhatArgument = Annotated[What, typer.Argument(help="An agent, a tenant, or everything.")]
NameArgument = Annotated[str | None, typer.Argument(metavar="[NAME]", help="Of the agent or the tenant.")]
ByOption = Annotated[str | None, typer.Option(help="Who does it, for the audit log; by default who is logged in.")]


@commands.command()
def pause(
    what: WhatArgument = What.ALL,
    name: NameArgument = None,
    *,
    by: ByOption = None,
    note: NoteOption = "",
    database: DatabaseOption = DEFAULT_DATABASE,
    json: JsonOption = False,
) -> None:
    """Stop new work at once, in every process, until `bursar unpause`; calls in flight finish."""
    scope = _scope(what, name)
    _tell(
        scope,
        open_ledger(database).pause(scope, by=by or _user(), note=note),
        "is paused",
        "was paused already",
        json=json,
    )


@commands.command()
def unpause(
    what: WhatArgument = What.ALL,
    name: NameArgument = None,
    *,
    by: ByOption = None,
    note: NoteOption = "",
    database: DatabaseOption = DEFAULT_DATABASE,
    json: JsonOption = False,
) -> None:
    """End a pause: the agent, the tenant or everything works again."""
    scope = _scope(what, name)
    done = open_ledger(database).unpause(scope, by=by or _user(), note=note)
    _tell(scope, done, "works again", "was not paused", json=json)


@commands.command()
def pauses(database: DatabaseOption = DEFAULT_DATABASE, json: JsonOption = False) -> None:
    """List what is paused, by whom and why."""
    from bursar.cli.common import render as show

    rows = open_ledger(database).pauses()
    if json:
        typer.echo(show.as_json(rows))
        return
    lines = [(_words(r.scope), f"{r.at:%Y-%m-%d %H:%M:%S}", r.by, r.note) for r in rows]
    show.console().print(show.rows(("paused", "since", "by", "why"), lines) if lines else "Nothing is paused.")


@commands.command()
def breakers(database: DatabaseOption = DEFAULT_DATABASE, json: JsonOption = False) -> None:
    """List the models and agents that failed lately, and whether calls to them are stopped."""
    from bursar.cli.common import render as show

    rows = open_ledger(database).breakers()
    if json:
        typer.echo(show.as_json(rows))
        return
    columns = ("breaker", "state", "sessions failing", "sessions calling", "open until", "probe", "sessions resting")
    lines = [
        (
            r.name,
            r.state.replace("_", " "),
            r.failing,
            r.calling,
            "" if r.until is None else f"{r.until:%Y-%m-%d %H:%M:%S}",
            "on its way" if r.probing else "",
            r.resting or "",
        )
        for r in rows
    ]
    show.console().print(show.rows(columns, lines) if lines else "Every breaker is closed.")


def _scope(what: What, name: str | None) -> str:
    if (what is What.ALL) != (name is None):
        wanted = "takes no name" if what is What.ALL else f"needs the {what.value}'s name"
        raise ConfigurationError(f"{what.value} {wanted}; write: all, agent NAME or tenant NAME")
    return what.value if name is None else f"{what.value}:{name}"


def _tell(scope: str, done: bool, now: str, before: str, *, json: bool) -> None:
    from bursar.cli.common import render as show

    told = f"{_words(scope)} {now if done else before}."
    typer.echo(show.as_json({"scope": scope, "changed": done}) if json else told)


def _words(scope: str) -> str:
    return "everything" if scope == "all" else scope.replace(":", " ", 1)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # the user has no name, as in some containers
        return ""
