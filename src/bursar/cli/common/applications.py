"""Commands and graphs of installed applications, found by their entry points.

An entry point in the group `bursar.commands` names a `typer.Typer` with commands. An entry point in the group
`bursar.drills` names a function that builds a graph, as `bursar.drill` takes it. An entry point in the group
`bursar.models` names the metered models of an application: a model, several, or a function that returns them.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, TypeVar, cast

import typer

from bursar.nodes.isolation.captured import Captured
from bursar.state.errors import ConfigurationError

if TYPE_CHECKING:
    from bursar import DrillEnvironment, Supervisor
    from bursar.nodes.gateway.chat_model import MeteredChatModel

T = TypeVar("T")
COMMANDS, DRILLS, MODELS = "bursar.commands", "bursar.drills", "bursar.models"


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


def metered_models(app: str | None) -> "list[MeteredChatModel]":
    """Return the metered models that `app`, such as `module:models`, names; without it those of installed applications.

    Raises `ConfigurationError` if they cannot be loaded, or are not metered models.
    """
    given = () if app is None else (EntryPoint("app", app, MODELS),)
    if app is not None and "" not in sys.path and (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)  # as `python -m` does; an installed script does not find the modules of its folder
    return [model for entry in given or entry_points(group=MODELS) for model in _models_of(entry)]


def _models_of(entry: EntryPoint) -> "Iterator[MeteredChatModel]":
    from bursar.nodes.gateway.chat_model import MeteredChatModel

    named = _load(entry, object)
    if callable(named) and not isinstance(named, MeteredChatModel):
        with Captured[object]() as end:
            end.value = named()
        if isinstance(end.error, Exception):
            raise ConfigurationError(f"{entry.value} raised {end.error!r}") from end.error
        named = end.result()
    several = cast("Iterable[object]", named) if isinstance(named, list | tuple | set) else (named,)
    for model in several:
        if not isinstance(model, MeteredChatModel):
            raise ConfigurationError(f"{entry.value} names no metered models but a {type(model).__name__}")
        yield model


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
