"""Tokens and events of a handler's own graph reach the supervisor's stream, in the shape that was asked for."""

import asyncio
from typing import Any

import pytest
from langchain_openai import ChatOpenAI
from langgraph.config import get_stream_writer
from langgraph.graph import MessagesState

from bursar import Ledger, Report, Task, meter
from tests.support.graphs import QUESTION, App, build, one_node, session, specialist
from tests.support.provider import Provider


@pytest.fixture
def app(ledger: Ledger, provider: Provider) -> App:
    """A supervisor over an agent with its own graph, and one that is a function. Both ask a model."""
    model = meter(ChatOpenAI(model="gpt-4o-mini", api_key=lambda: "none", base_url=provider.url))

    async def think(state: MessagesState) -> Any:
        get_stream_writer()({"progress": "half"})
        return {"messages": [await model.ainvoke(state["messages"])]}

    async def function(task: Task) -> Report:
        return Report(answer=(await model.ainvoke(task.text)).text)

    return build(ledger, [specialist("agent", one_node(MessagesState, think)), specialist("function", function)])


def read(app: App, *, asynchronous: bool = True, **options: Any) -> list[Any]:
    """All chunks of a stream."""

    async def chunks() -> list[Any]:
        return [chunk async for chunk in app.astream(QUESTION, session(), **options)]

    return asyncio.run(chunks()) if asynchronous else [*app.stream(QUESTION, session(), **options)]


def words_by_agent(chunks: Any) -> dict[str, str]:
    """What each agent's model said, by the agent's name in the metadata."""
    said: dict[str, str] = {}
    for message, metadata in chunks:
        if message.type == "AIMessageChunk":
            said[metadata["bursar_agent"]] = said.get(metadata["bursar_agent"], "") + message.text
    return said


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_tokens_of_an_agents_graph_are_streamed(app: App, *, asynchronous: bool) -> None:
    """Tokens of a handler's own graph and of a function come with the agent's name; each once."""
    chunks = read(app, asynchronous=asynchronous, stream_mode="messages")
    assert words_by_agent(chunks) == {"agent": "all is well", "function": "all is well"}
    assert all(len(chunk) == 2 for chunk in chunks)


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_events_of_an_agents_graph_are_streamed(app: App, *, asynchronous: bool) -> None:
    """What a node or a tool inside writes comes through beside the events of the runs."""
    events = read(app, asynchronous=asynchronous, stream_mode="custom")
    assert {"progress": "half"} in events
    assert [e["specialist"] for e in events if e.get("bursar") == "terminal"]


def test_only_messages_and_events_come_from_inside(app: App) -> None:
    """Beside them, updates and values are the supervisor's own, and no chunk has a namespace."""
    chunks = read(app, stream_mode=["messages", "updates", "values"])
    assert {mode for mode, _ in chunks} == {"messages", "updates", "values"}
    assert "inside" not in {node for mode, update in chunks if mode == "updates" for node in update}
    assert all("request" in value or "messages" in value for mode, value in chunks if mode == "values")
    assert words_by_agent(chunk for mode, chunk in chunks if mode == "messages")["agent"] == "all is well"


def test_the_second_version_keeps_its_shape(app: App) -> None:
    """In LangGraph's second stream version a chunk has an empty namespace, as without inner graphs."""
    chunks = read(app, stream_mode=["custom", "updates"], version="v2")
    assert {chunk["ns"] for chunk in chunks} == {()}
    assert {"progress": "half"} in [chunk["data"] for chunk in chunks]
    assert "inside" not in {node for chunk in chunks if chunk["type"] == "updates" for node in chunk["data"]}


def test_who_asks_for_subgraphs_gets_namespaces(app: App) -> None:
    """`subgraphs=True` is LangGraph's own: every mode of every graph, with its namespace."""
    chunks = read(app, stream_mode=["custom", "updates"], subgraphs=True)
    assert {"inside"} == {node for place, mode, update in chunks if place and mode == "updates" for node in update}
