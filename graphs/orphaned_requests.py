"""Requests whose next step is in no node of the graph any more, because its agent was renamed or removed meanwhile.

LangGraph ends such a run at once, without a word. The request goes on after its specialists instead: the report names
those that did not run, and closes it.
"""

from collections.abc import Mapping
from typing import Any, Protocol, cast

from langchain_core.runnables import RunnableConfig
from langgraph.types import StateSnapshot

from bursar.nodes.context.coordinator import answer_id

AFTER_SPECIALISTS = "supervisor"


class Resumable(Protocol):
    """The methods of a compiled graph that read and write the state of a session."""

    def get_state(self, config: RunnableConfig) -> StateSnapshot: ...
    def update_state(self, config: RunnableConfig, values: Any, as_node: str) -> RunnableConfig: ...
    async def aget_state(self, config: RunnableConfig) -> StateSnapshot: ...
    async def aupdate_state(self, config: RunnableConfig, values: Any, as_node: str) -> RunnableConfig: ...


def adopt(graph: Resumable, config: RunnableConfig) -> bool:
    """If the session's open request has no next step in the graph, let the report be next. Return whether it was so."""
    orphaned = _is_orphaned(graph.get_state(config))
    if orphaned:
        graph.update_state(config, {}, as_node=AFTER_SPECIALISTS)
    return orphaned


async def aadopt(graph: Resumable, config: RunnableConfig) -> bool:
    """As `adopt`, from an event loop."""
    orphaned = _is_orphaned(await graph.aget_state(config))
    if orphaned:
        await graph.aupdate_state(config, {}, as_node=AFTER_SPECIALISTS)
    return orphaned


def _is_orphaned(state: StateSnapshot) -> bool:
    values = cast("Mapping[str, Any]", state.values or {})
    request, messages = values.get("request"), values.get("messages")
    # A task that has ended is a task here, though it is not next: its writes wait for the others of its superstep.
    if state.tasks or request is None or not messages or not values.get("decisions"):
        return False
    return messages[-1].id != answer_id(request)
