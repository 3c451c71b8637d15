"""The gateway where models are really used: in prebuilt agents, tools, subgraphs, streams of a graph; and the veto."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from langchain_core.language_models import BaseChatModel, FakeListLLM
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable, RunnableLambda, RunnableParallel
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode

from bursar.nodes.gateway.meter import meter
from bursar.nodes.gateway.prices import Price
from bursar.nodes.gateway.rebinding import rebind
from bursar.nodes.gateway.unmetered_guard import forbid_unmetered
from bursar.state.errors import ConfigurationError
from bursar.state.refusals import BudgetExceeded, Unmetered
from tests.support.bench import Bench
from tests.support.provider import Reply

pytestmark = pytest.mark.filterwarnings("ignore:create_react_agent has been moved")


def _agent(model: BaseChatModel, tools: list[Any]) -> Any:
    from langgraph.prebuilt import create_react_agent  # pyright: ignore[reportUnknownVariableType, reportDeprecated]

    return create_react_agent(model, tools)  # pyright: ignore[reportUnknownVariableType, reportDeprecated]


def _ask(agent: Any) -> str:
    return str(agent.invoke({"messages": [("user", "how much for food?")]})["messages"][-1].text)


@tool
def total(category: str) -> str:
    """The total of a category."""
    return f"{category}: 12.50"


def test_a_prebuilt_agent_is_metered_turn_by_turn(bench: Bench) -> None:
    """An agent's calls and their tools work, each turn held and settled, and a repeated run is replayed whole."""
    bench.provider.will(Reply(tool="total", arguments={"category": "food"}), Reply(text="12.50 for food"))
    for _ in range(2):
        with bench.scope().enter():
            assert _ask(_agent(bench.model(), [total])) == "12.50 for food"
    assert len(bench.provider.requests) == 2
    assert bench.charged == bench.provider.billed


def test_a_refusal_in_a_tool_ends_the_agent(bench: Bench) -> None:
    """A paid call inside a tool is refused through `ToolNode`, which hands other errors to the model."""

    @tool
    def expensive(question: str) -> str:
        """Ask another model."""
        return bench.model().invoke(question * 1_000).text

    call = {"name": "expensive", "args": {"question": "why? "}, "id": "c1", "type": "tool_call"}
    graph = StateGraph(MessagesState)
    graph.add_node("tools", ToolNode([expensive], handle_tool_errors=True))  # pyright: ignore[reportUnknownMemberType]
    graph.add_edge(START, "tools")
    compiled = graph.compile()  # pyright: ignore[reportUnknownMemberType]
    scope = bench.scope("0.0001")
    with scope.enter(), pytest.raises(BudgetExceeded):
        compiled.invoke({"messages": [AIMessage("", tool_calls=[call])]})  # pyright: ignore[reportUnknownMemberType, reportArgumentType]
    assert isinstance(scope.refusal, BudgetExceeded)
    assert bench.provider.requests == []


def test_tokens_of_a_subgraph_reach_the_caller(bench: Bench) -> None:
    """`stream_mode="messages"` turns an invoke into a stream; its pieces arrive, and its usage is billed."""
    model = bench.model()

    async def ask(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    inner = StateGraph(MessagesState)
    inner.add_node("ask", ask)  # pyright: ignore[reportUnknownMemberType]
    inner.add_edge(START, "ask")
    outer = StateGraph(MessagesState)
    outer.add_node("inner", inner.compile())  # pyright: ignore[reportUnknownMemberType]
    outer.add_edge(START, "inner")
    compiled = outer.compile()  # pyright: ignore[reportUnknownMemberType]

    async def main() -> list[str]:
        stream = compiled.astream({"messages": [("user", "hello")]}, stream_mode="messages", subgraphs=True)  # pyright: ignore[reportUnknownMemberType, reportArgumentType, reportUnknownVariableType]
        return [part[1][0].text async for part in cast("AsyncIterator[Any]", stream)]

    with bench.scope().enter():
        pieces = asyncio.run(main())
    assert [piece for piece in pieces if piece] == ["all", " is", " well"]
    assert bench.provider.requests[0]["stream"] is True
    assert bench.charged == bench.provider.billed


def test_the_veto_stops_a_model_that_was_not_metered(bench: Bench) -> None:
    """In a guarded block a bare model is vetoed before anything is sent, nested and async too; a metered one works."""
    bare, metered = bench.chat(), bench.model()

    async def main() -> None:
        with pytest.raises(Unmetered):
            await bare.ainvoke("hello")
        with pytest.raises(Unmetered):
            await cast("Runnable[str, AIMessage]", RunnableLambda(str) | bare).ainvoke("hello")
        assert (await metered.ainvoke("hello")).text == "all is well"

    with bench.scope().enter(), forbid_unmetered({}):
        with pytest.raises(Unmetered, match=r"meter\(model\)"):
            bare.invoke("hello")
        with pytest.raises(Unmetered):
            list(bare.stream("hello"))
        with pytest.raises(Unmetered):
            _ask(_agent(bare, [total]))
        with pytest.raises(Unmetered):
            FakeListLLM(responses=["hello"]).invoke("hello")
        asyncio.run(main())
    assert len(bench.provider.requests) == 1
    assert bare.invoke("hello").text == "all is well"


class Scripted(GenericFakeChatModel):
    """A doubled model with the one setting that a model must have: an output cap."""

    max_tokens: int | None = None

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        if kwargs.get("tool_choice") == "hidden":
            return RunnableLambda(self.invoke)
        return self.bind(tools=list(tools), **kwargs)


def _scripted(*texts: str) -> Scripted:
    return Scripted(messages=iter([AIMessage(text) for text in texts]))


def test_any_chat_model_with_an_output_cap_can_be_metered(bench: Bench) -> None:
    """A model without usage is charged at its hold, plain and streamed; the inner model's stream is used."""
    model = meter(_scripted("one two", "three four"), price=Price("1", "2"))
    with bench.scope().enter():
        assert model.invoke("hello", max_tokens=100).text == "one two"
        assert [chunk.text for chunk in model.stream("hello", max_tokens=100) if chunk.text] == ["three", " ", "four"]
    assert bench.charged == sum(bench.holds())
    assert len(bench.holds()) == 2


def test_a_model_that_hides_itself_fails_closed() -> None:
    """Where the inner model would still be reachable in what it returns, binding is refused."""
    with pytest.raises(ConfigurationError, match="hides itself"):
        meter(_scripted(), price=Price("1", "2")).bind_tools([], tool_choice="hidden")


def test_rebinding_finds_the_model_in_closures_and_containers() -> None:
    """Sequences, parallels and bindings are rebound; a closure over the model is found."""
    inner, outer = _scripted("inner"), _scripted("outer", "outer")

    def text_of(said: dict[str, AIMessage]) -> str:
        return said["a"].text

    def ask(text: str) -> AIMessage:
        return inner.invoke(text)

    chain: Runnable[Any, Any] = RunnableParallel({"a": inner.bind(stop=["x"])}) | RunnableLambda(text_of)
    assert rebind(chain, inner, outer).invoke("hello") == "outer"
    hidden: Runnable[Any, Any] = RunnableLambda(ask)
    with pytest.raises(ConfigurationError):
        rebind(hidden, inner, outer)
