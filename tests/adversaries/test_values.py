"""Values that are longer, dearer or later than they look: none of them is sent under a hold that does not cover it."""

import json
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGenerationChunk
from pydantic import BaseModel

from bursar import Price, meter
from bursar.nodes.gateway.bounds import write_request
from bursar.nodes.gateway.paid_calls.journal import Received
from bursar.nodes.gateway.providers.generic import GenericProvider
from bursar.state.refusals import Refused
from tests.support.bench import Bench

TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "total", "parameters": {"type": "object", "properties": {}}},
}


def _values(tools: list[Any]) -> Any:
    return {"only": tools[0]}.values()


def _mapped(tools: list[Any]) -> Any:
    return map(dict, tools)


class WebSearch(BaseModel):
    """A tool that runs at the provider, as an SDK's own class says it."""

    type: str = "web_search_20250305"


@pytest.mark.parametrize("kind", [iter, deque, _values, _mapped])
def test_a_value_whose_size_nobody_has_seen_is_refused(bench: Bench, kind: Callable[[Any], Any]) -> None:
    """Tools in a generator are not counted, and one that runs at the provider could hide there; in a list they are."""
    model = meter(bench.chat())
    with bench.scope().enter(), pytest.raises(Refused, match="whose size is not known; give it as a list"):
        model.invoke("hello", tools=kind([TOOL] * 50))
    assert not bench.provider.requests
    with bench.scope(request="r-2", checkpoint_ns="r-2").enter():
        model.invoke("hello", tools=[TOOL])
    assert bench.provider.requests[0]["tools"] == [TOOL]


def test_a_providers_tool_is_known_in_any_form(bench: Bench) -> None:
    """Also as an object of an SDK's class."""
    with bench.scope().enter(), pytest.raises(Refused, match="runs at the provider"):
        meter(bench.chat()).invoke("hello", tools=[WebSearch()])
    assert not bench.provider.requests


def test_arguments_of_tool_calls_are_counted_as_they_are_sent() -> None:
    """A client writes them with spaces, each of which may be a token."""
    arguments = {"weights": [0.1] * 4_000}
    call: Any = {"name": "total", "args": arguments, "id": "c-1", "type": "tool_call"}
    said = [HumanMessage("add"), AIMessage("", tool_calls=[call]), ToolMessage("400", tool_call_id="c-1")]
    assert write_request(b"", said, {}, provider=GenericProvider()).input_tokens > len(json.dumps(arguments))
    late = AIMessage("")
    late.additional_kwargs["tool_calls"] = [{"function": {"name": "total", "arguments": json.dumps(arguments)}}]
    bound = write_request(b"", [HumanMessage("add"), late], {}, provider=GenericProvider()).input_tokens
    assert bound > len(json.dumps(arguments))


def test_what_the_caller_changes_after_metering_is_not_sent(bench: Bench) -> None:
    """The model's own dicts are copied when it is metered; a harmless field in them is sent as it was then."""
    chat = bench.chat(extra_body={"user": "ann"})
    model, own = meter(chat), cast("dict[str, Any]", chat.extra_body)
    own.update(n=7, max_completion_tokens=9_000)
    with bench.scope().enter():
        model.invoke("hello")
    (sent,) = bench.provider.requests
    assert (sent["user"], "n" in sent) == ("ann", False)
    assert sent["max_completion_tokens"] != 9_000


def test_a_price_by_hand_is_for_the_tier_of_the_model(bench: Bench) -> None:
    """A call in another tier is refused; the tier that the model was made with is what the price is for."""
    price = Price("1", "2")
    with bench.scope().enter(), pytest.raises(Refused, match="not for service_tier='priority'"):
        meter(bench.chat(), price=price).invoke("hello", service_tier="priority")
    assert not bench.provider.requests
    with bench.scope(request="r-2", checkpoint_ns="r-2").enter():
        meter(bench.chat(service_tier="priority"), price=price).invoke("hello")
    assert bench.provider.requests[0]["service_tier"] == "priority"


@pytest.mark.parametrize("is_last", [True, False])
def test_usage_that_does_not_cover_the_answer_is_no_usage(is_last: bool) -> None:
    """A stream that goes on after its last report was not counted to its end: it is charged at its hold."""
    report: Any = {"input_tokens": 10, "output_tokens": 1, "total_tokens": 11}
    text = ChatGenerationChunk(message=AIMessageChunk(content="many words"))
    counted = ChatGenerationChunk(message=AIMessageChunk(content="", usage_metadata=report))
    received = Received()
    for chunk in (text, counted) if is_last else (counted, text):
        received.add(chunk)
    result = received.result()
    assert result is not None
    message = result.generations[0].message
    assert isinstance(message, AIMessage)
    assert (message.usage_metadata is not None) is is_last
