"""Agents of LangChain whose middleware has sync hooks alone, or async ones alone, run under `invoke` and `ainvoke`."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from langchain.agents import create_agent  # pyright: ignore[reportUnknownVariableType]
from langchain.agents.middleware import AgentMiddleware, TodoListMiddleware
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph

from bursar import Ledger, Task, meter
from bursar.nodes.runs.handlers import call_directly
from bursar.nodes.specialists.sync_graphs import runs_in_sync_code_alone
from tests.support.graphs import answer_of, ask, build, free, session
from tests.support.provider import MODEL, Provider, Reply

LOOK = Reply(tool="look", arguments={"q": "x"})


def look(q: str) -> str:
    """Look it up."""
    return f"found {q}"


class SyncModelHook(AgentMiddleware):
    """Wraps calls of the model in sync code."""

    def wrap_model_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        return handler(request)


class SyncToolHook(AgentMiddleware):
    """Wraps calls of tools in sync code."""

    def wrap_tool_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        return handler(request)


class AsyncHooks(AgentMiddleware):
    """Wraps calls of the model and of tools in async code."""

    async def awrap_model_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        return await handler(request)

    async def awrap_tool_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        return await handler(request)


class AsyncNode(AgentMiddleware):
    """Has a node of its own before the model, in async code."""

    async def abefore_model(self, state: Any, runtime: Any) -> None:
        return None


class BothKinds(SyncModelHook):
    """Wraps calls of the model in either code."""

    async def awrap_model_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        return await handler(request)


def agent(provider: Provider, *middleware: Any, timeout: float = 10) -> Any:
    chat = ChatOpenAI(model=MODEL, api_key="sk-test", base_url=provider.url, timeout=timeout)  # pyright: ignore[reportArgumentType]
    return create_agent(meter(chat), tools=[look], middleware=middleware)


def inside_another(graph: Any) -> Any:
    outer: Any = StateGraph(MessagesState)
    outer.add_node("agent", graph)
    outer.add_edge(START, "agent")
    return outer.compile()


def asked(app: Any, awaited: bool) -> Any:
    if not awaited:
        return ask(app)
    return asyncio.run(app.ainvoke({"messages": [("user", "how much?")]}, session()))


@pytest.mark.parametrize("awaited", [False, True], ids=["invoke", "ainvoke"])
@pytest.mark.parametrize("hooks", [SyncModelHook, SyncToolHook, AsyncHooks, BothKinds])
def test_either_kind_works_either_way(any_ledger: Ledger, provider: Provider, hooks: Any, awaited: bool) -> None:
    """The tool's call and the answer are paid for once each, and the ledger agrees with the provider's bills."""
    provider.will(LOOK, Reply(text="done"))
    result = asked(build(any_ledger, [free("a", agent(provider, hooks()))]), awaited)
    assert answer_of(result) == "done"
    assert len(provider.requests) == 2
    assert any_ledger.spend("s-1").spent.nanos == provider.billed
    assert any_ledger.verify()


def test_an_agent_inside_a_graph_and_called_directly(ledger: Ledger, provider: Provider) -> None:
    """Its hooks are found there, and a handler that calls it gets its answer."""
    inner = inside_another(agent(provider, SyncModelHook()))

    async def calls(task: Task) -> Any:
        return await call_directly(inner, task)

    for name, handler in (("s-1", inner), ("s-2", calls)):
        provider.will(Reply(text="done"))
        assert answer_of(ask(build(ledger, [free("a", handler)]), name=name)) == "done"
    assert len(provider.requests) == 2


def test_its_deadline_holds(ledger: Ledger, provider: Provider) -> None:
    """In sync code too the run ends in time, and its fallback answers."""
    ends = threading.Event()
    provider.will(Reply(waits_for=ends))
    result = ask(build(ledger, [free("a", agent(provider, SyncModelHook(), timeout=60), timeout=0.5)]))
    ends.set()
    assert result["runs"][0].limit == "deadline"
    assert answer_of(result).startswith("a by rule")


def test_what_is_looked_at_are_the_hooks(provider: Provider) -> None:
    """Only a lack of async hooks makes it sync; where each kind is lacking somewhere, nothing would help."""
    sync, both, todo = SyncModelHook(), BothKinds(), TodoListMiddleware()
    for middleware in ([sync], [both, sync], [todo, SyncToolHook()], [sync, SyncToolHook()]):
        assert runs_in_sync_code_alone(agent(provider, *middleware))
    for middleware in ([], [both], [todo], [AsyncHooks()], [AsyncNode()], [sync, AsyncHooks()], [sync, AsyncNode()]):
        assert not runs_in_sync_code_alone(agent(provider, *middleware))
    assert not runs_in_sync_code_alone(look)


def test_hooks_of_two_kinds_fail_before_anything_is_paid(ledger: Ledger, provider: Provider) -> None:
    """LangChain can run them neither way; the request ends with its fallback's answer."""
    result = ask(build(ledger, [free("a", agent(provider, SyncModelHook(), AsyncHooks()))]))
    assert answer_of(result).startswith("a by rule")
    assert (result["runs"][0].outcome, provider.requests) == ("failed", [])
