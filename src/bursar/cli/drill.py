"""The command that drills an application: makes every agent fail in every way, and checks that there is an answer."""

from typing import TYPE_CHECKING, Annotated, cast

import typer

from bursar.cli.common.options import ANSWERED, GAPS, JsonOption

if TYPE_CHECKING:
    from bursar.testing.drill_runner import DrillResult, Way

commands = typer.Typer()


@commands.command()
def drill(
    *,
    agent: Annotated[list[str] | None, typer.Option(help="Drill this agent alone; may be given again.")] = None,
    fault: Annotated[list[str] | None, typer.Option(help="Force this fault alone; may be given again.")] = None,
    deadline: Annotated[float, typer.Option(help="Seconds that each request has.")] = 1.0,
    way: Annotated[str, typer.Option(help="How requests are made: sync, async, or apart.")] = "sync",
    graph: Annotated[
        str | None, typer.Option(help="The application to drill, where several that can be drilled are installed.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Make every agent fail in every way, on temporary sample data, and print what passed and what failed."""
    from bursar.cli.common import render as show
    from bursar.cli.common.applications import graph_to_drill
    from bursar.testing import drill as run

    with show.status() as line:

        def hear(cell: "DrillResult") -> None:
            line(f"{cell.agent} {cell.fault}")

        found = run(
            graph_to_drill(graph),
            agents=agent or (),
            faults=fault or (),
            deadline=deadline,
            way=cast("Way", way),
            on_cell=hear,
        )
    if json:
        typer.echo(show.as_json({"passed": bool(found), **show.drill_json(found)}))
    else:
        show.console().print(show.drill(found))
    raise typer.Exit(ANSWERED if found else GAPS)
