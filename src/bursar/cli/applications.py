"""Commands and graphs of installed applications, found by their entry points.

An entry point in the group `bursar.commands` names a `typer.Typer` with commands. An entry point in the group
`bursar.drills` names a function that builds a graph, as `bursar.drill` takes it.
"""

from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, TypeVar, cast

import typer

from bursar.nodes.isolation.captured import Captured
from bursar.state.errors import ConfigurationError

if TYPE_CHECKING:
    from bursar import DrillEnvironment, Supervisor

T = TypeVar("T")
COMMANDS, DRILLS = "bursar.commands", "bursar.drills"


def application_commands() -> Iterator[typer.Typer]:
    """Yield the commands of every installed application.

    If an application cannot be loaded, print one line on stderr and leave its commands out.
    """
    for entry in entry_points(group=COMMANDS):
        try:
            yield _load(entry, typer.Typer)
        except ConfigurationError as error:
            typer.echo(f"bursar: {error}; going on without its commands", err=True)


def graph_to_drill(name: str | None) -> "Callable[[DrillEnvironment], Supervisor]":
    """Return the function that builds the graph to drill: the graph called `name`, or the only graph.

    Raises `ConfigurationError` if there is no such graph, if there are several and no name, or if it cannot be loaded.
    """
    found = {entry.name: entry for entry in entry_points(group=DRILLS)}
    entry = next(iter(found.values())) if name is None and len(found) == 1 else found.get(name or "")
    if entry is None:
        known = ", ".join(sorted(found)) or f"none; an application names its own by the entry point {DRILLS}"
        raise ConfigurationError(f"say by --graph which graph to drill; there are: {known}")
    return cast("Callable[[DrillEnvironment], Supervisor]", _load(entry, object))


def _load(entry: EntryPoint, kind: type[T]) -> T:
    """Import and return what `entry` names.

    Raises `ConfigurationError` if the import raises an error, or if what was imported is no instance of `kind`.
    """
    with Captured[object]() as end:
        end.value = entry.load()
    if isinstance(end.error, Exception):
        raise ConfigurationError(f"{entry.value} cannot be loaded: {end.error!r}") from end.error
    found = end.result()
    if not isinstance(found, kind):
        raise ConfigurationError(f"{entry.value} is no {kind.__name__} but a {type(found).__name__}")
    return found
