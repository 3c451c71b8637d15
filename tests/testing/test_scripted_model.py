"""The scripted model: what users test their agents with must itself be right."""

import asyncio
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from pydantic import BaseModel

from bursar import Budget, Ledger, Specialist, build_supervisor, deterministic, meter
from bursar.state.run import Report, Task
from bursar.testing import ScriptedModel, ScriptError


def test_replies_come_in_order() -> None:
    """Texts, messages, functions and exceptions, sync and async; the calls are kept."""
    with ScriptedModel(
        ["one", AIMessage("two"), lambda messages: f"re {messages[-1].text}", ValueError("no")]
    ) as model:
        assert model.invoke("a").text == "one"
        assert asyncio.run(model.ainvoke("b")).text == "two"
        assert model.invoke("c").text == "re c"
        with pytest.raises(ValueError, match="no"):
            model.invoke("d")
    assert [call.messages[-1].text for call in model.calls] == ["a", "b", "c", "d"]
    assert model.calls[3].usage is None


def test_a_call_beyond_the_script_fails_twice() -> None:
    """At the call, and again at the end, where an agent swallowed it."""
    model = ScriptedModel(["one"])
    model.invoke("a")
    with pytest.raises(ScriptError, match="call 2 is beyond the script"):
        model.invoke("b")
    with pytest.raises(ScriptError, match="1 calls beyond the script's 1"), model:
        pass


def test_a_reply_too_many_fails() -> None:
    """What was not asked for is an error at the end, unless another is on its way."""
    with pytest.raises(ScriptError, match="1 replies of the script were not asked for"), ScriptedModel(["one"]):
        pass
    with pytest.raises(KeyError), ScriptedModel(["one"]):
        raise KeyError("other")


def test_usage_is_reported_and_the_cap_honoured() -> None:
    """A word is a token, four bytes of a prompt are one; an answer ends at its cap; usage of its own is kept."""
    own: Any = {"input_tokens": 7, "output_tokens": 9, "total_tokens": 16}
    model = ScriptedModel(["one two three", "one two three", AIMessage("x", usage_metadata=own)])
    assert model.invoke("12345678").usage_metadata == {"input_tokens": 2, "output_tokens": 3, "total_tokens": 5}
    assert model.invoke("12345678", max_tokens=2).text == "one two"
    assert model.invoke("x").usage_metadata == own
    assert [call.usage and call.usage["output_tokens"] for call in model.calls] == [3, 2, 9]


def test_it_streams_words_and_then_usage() -> None:
    """A stream's chunks add up to the answer, with its usage and its tool calls."""
    called = AIMessage("let me see", tool_calls=[{"name": "total", "args": {"category": "food"}, "id": "t1"}])
    model = ScriptedModel(["one two three", called])
    chunks = list(model.stream("a"))
    assert [chunk.text for chunk in chunks] == ["one", " two", " three", ""]
    assert chunks[-1].usage_metadata is not None

    async def collect() -> Any:
        whole: Any = None
        async for chunk in model.astream("b"):
            whole = chunk if whole is None else whole + chunk
        return whole

    whole = asyncio.run(collect())
    assert whole.text == "let me see"
    assert [(call["name"], call["args"]) for call in whole.tool_calls] == [("total", {"category": "food"})]


@tool
def total(category: str) -> str:
    """The total of a category."""
    return f"{category}: 12.50"


class Routing(BaseModel):
    """An answer with a shape."""

    name: str


def test_tools_and_structured_output_share_the_script() -> None:
    """A bound model answers from the same script, and its calls show the tools it was given."""
    shaped = AIMessage("", tool_calls=[{"name": "Routing", "args": {"name": "food"}, "id": "t1"}])
    with ScriptedModel(["plain", shaped]) as model:
        assert model.bind_tools([total]).invoke("a").text == "plain"
        assert model.with_structured_output(Routing).invoke("b") == Routing(name="food")
    assert model.calls[0].options["tools"][0]["function"]["name"] == "total"


@deterministic
def rules(task: Task) -> Report:
    """The last resort."""
    return Report(answer="by rule")


@pytest.mark.parametrize("streamed", [False, True])
def test_an_agent_is_tested_for_nothing(streamed: bool) -> None:
    """Behind the gateway it is priced as the model it stands for, and an agent's whole way can be checked."""
    ledger = Ledger("sqlite://")
    steps = [AIMessage("", tool_calls=[{"name": "total", "args": {"category": "food"}, "id": "t1"}]), "12.50 for food"]
    with ScriptedModel(steps) as model:
        chat = meter(model).bind_tools([total])

        async def handler(task: Task) -> str:
            asked: Any = [("user", task.text)]
            first = await chat.ainvoke(asked)
            found = [await total.ainvoke(call) for call in first.tool_calls]
            return (await chat.ainvoke([*asked, first, *found])).text

        app: Any = build_supervisor(
            [Specialist(name="a", description="a", handler=handler, fallbacks=[rules], examples=["how much for food"])],
            budget=Budget("0.03"),
            ledger=ledger,
        )
        entered: Any = {"messages": [("user", "how much for food?")]}
        config: Any = {"configurable": {"thread_id": f"s-{streamed}"}}
        parts: list[Any] = list(
            app.stream(entered, config, stream_mode=["messages", "values"] if streamed else ["values"])
        )
    result = parts[-1][1]
    assert result["messages"][-1].text == "12.50 for food"
    assert (result["spend"].calls, list(result["spend"].by_model)) == (2, ["gpt-4o-mini"])
    assert result["spend"].spent.nanos > 0
    assert model.calls[1].messages[-1].text == "food: 12.50"
