"""Graphs that can run in sync code alone, such as an agent of LangChain with middleware that has no async hooks.

Bursar awaits the graphs of handlers. An agent of LangChain's `create_agent` calls the async hooks of its middleware
then, and a hook such as `awrap_tool_call` that a middleware lacks raises `NotImplementedError`, possibly after a model
was paid. So the hooks are looked at before anything runs.
"""

import sys
from collections.abc import Iterator
from typing import Any, cast

from langgraph.pregel import Pregel

MIDDLEWARE = "langchain.agents.middleware.types"  # the module of LangChain's `AgentMiddleware`
WRAPPING = ("wrap_model_call", "wrap_tool_call")  # hooks of which both kinds are called, even if one of them is missing
MAX_DEPTH = 12  # a function inside closures inside a graph inside a graph


def runs_in_sync_code_alone(handler: object) -> bool:
    """Whether the handler is a graph that would fail if it were awaited, and does not if it is run by `stream`.

    A graph that fails either way, because one middleware lacks sync hooks and another lacks async ones, is awaited.
    """
    module = sys.modules.get(MIDDLEWARE)
    if module is None or not isinstance(handler, Pregel):
        return False  # without LangChain there is no middleware
    base = cast("type[object]", module.AgentMiddleware)
    found = [type(one) for one in _reachable(cast("object", handler)) if isinstance(one, base)]
    lacks_async = any(_has(one, base, hook) and not _has(one, base, f"a{hook}") for one in found for hook in WRAPPING)
    return lacks_async and not any(_has_only_async(one, base) for one in found)


def _has_only_async(kind: type[object], base: type[object]) -> bool:
    hooks = [name[1:] for name in vars(base) if name.startswith("a") and hasattr(base, name[1:])]
    return any(_has(kind, base, f"a{hook}") and not _has(kind, base, hook) for hook in hooks)


def _has(kind: type[object], base: type[object], hook: str) -> bool:
    """Whether a class of middleware has its own method `hook`."""
    return getattr(kind, hook, None) is not getattr(base, hook, None)


def _reachable(graph: object) -> Iterator[object]:
    """Yield what the graph's nodes call: functions, what they close over, and the objects whose methods they are."""
    seen, level = set[int](), [graph]
    for _ in range(MAX_DEPTH):
        level = [one for one in level if id(one) not in seen]
        seen.update(map(id, level))
        yield from level
        level = [inside for one in level for inside in _inside(one)]


def _inside(one: Any) -> Iterator[Any]:
    if isinstance(one, Pregel):
        yield from (node.bound for node in cast("Any", one).nodes.values())
        return
    # Of a `Runnable` of LangGraph: its two functions; of LangGraph's `ToolNode`: its two wrappers of tools.
    names = ("func", "afunc", "_wrap_tool_call", "_awrap_tool_call", "steps", "bound", "__wrapped__", "__self__")
    own: dict[str, Any] = getattr(one, "__dict__", {})
    for name in names:
        value = getattr(one, name, None) if name == "__self__" else own.get(name)
        yield from value if isinstance(value, (list, tuple)) else (value,) if value is not None else ()
    for cell in getattr(one, "__closure__", None) or ():
        try:
            inside = cell.cell_contents
        except ValueError:  # the name has no value yet
            continue
        yield from inside if isinstance(inside, (list, tuple)) else (inside,)
