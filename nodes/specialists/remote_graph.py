"""RemoteGraphs in handlers: LangGraph's `RemoteGraph` runs a graph on another server, whose spending no ledger sees.

They are found by the name of their class: importing the class would import LangGraph's SDK.
"""

from collections.abc import Iterator, Mapping
from typing import cast

from langchain_core.runnables import Runnable

MAX_PARTS = 10_000  # of one handler; a handler with more is not searched further


def is_remote_graph(value: object) -> bool:
    """Whether the value is a `RemoteGraph`, or of a class that is derived from it."""
    return any(kind.__name__ == "RemoteGraph" for kind in type(value).__mro__)


def starts_with_remote_graph(runnable: object) -> bool:
    """Whether the input of the Runnable goes to a `RemoteGraph` first."""
    if is_remote_graph(runnable):
        return True
    inside: object = getattr(runnable, "bound", None) or getattr(runnable, "first", None)
    return inside is not None and starts_with_remote_graph(inside)


def has_remote_graph(handler: object) -> bool:
    """Whether a `RemoteGraph` is the handler or a part of it, such as a step of a sequence or a node of a graph.

    The code of a function is not searched.
    """
    return any(map(is_remote_graph, _parts(handler)))


def retries_remote_graph(handler: object) -> bool:
    """Whether a part of the handler runs a `RemoteGraph` again after an error."""
    return any(_retries(part) and has_remote_graph(part) for part in _parts(handler))


def _retries(part: object) -> bool:
    return type(part).__name__ == "RunnableRetry" or bool(getattr(part, "retry_policy", None))


def _parts(handler: object) -> Iterator[object]:
    """Yield the handler and all parts of it."""
    waiting, seen = [handler], set[int]()
    while waiting and len(seen) < MAX_PARTS:
        part = waiting.pop()
        if id(part) not in seen:
            seen.add(id(part))
            yield part
            waiting += _parts_inside(part)


def _parts_inside(value: object) -> list[object]:
    if isinstance(value, Mapping):
        return [*cast("Mapping[object, object]", value).values()]
    if isinstance(value, list | tuple):
        return [*cast("list[object]", value)]
    if is_remote_graph(value):
        return []
    if isinstance(value, Runnable) or hasattr(value, "bound"):  # LangGraph's node of a compiled graph has a `bound`
        return [*vars(value).values()]
    owner: object = getattr(value, "__self__", None)  # of a bound method, such as `remote.ainvoke`
    return [] if owner is None else [owner]
