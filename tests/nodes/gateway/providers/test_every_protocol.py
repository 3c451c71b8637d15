"""What holds for a model of OpenAI, Azure, Anthropic and Ollama alike, against a seller of its protocol on loopback."""

import asyncio
from typing import Any

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessageChunk
from langchain_core.runnables import Runnable
from langchain_core.tools import tool
from pydantic import BaseModel

from bursar.state.errors import ConfigurationError
from bursar.state.money import USD
from bursar.state.refusals import BudgetExceeded, Refused
from tests.nodes.gateway.providers.sellers import PROTOCOLS, Seller
from tests.support.provider import Reply

WAYS = ("invoke", "ainvoke", "stream", "astream")
LONG = "word " * 3_000
PROMPT = "hello " * 100
BUSY = Reply(status=429, headers={"retry-after": "0"})


class City(BaseModel):
    """A city."""

    name: str


@tool
def total(category: str) -> str:
    """The total of a category."""
    return f"{category}: 12.50"


def ask(model: Runnable[Any, AIMessage], way: str, prompt: str = PROMPT, **options: Any) -> AIMessage:
    """The answer by one of the four ways; that of a stream is joined."""

    async def streamed() -> list[AIMessageChunk]:
        return [chunk async for chunk in model.astream(prompt, **options)]  # pyright: ignore[reportReturnType]

    async def whole() -> AIMessage:
        return await model.ainvoke(prompt, **options)

    match way:
        case "invoke":
            return model.invoke(prompt, **options)
        case "ainvoke":
            return asyncio.run(whole())
        case "stream":
            chunks: list[Any] = list(model.stream(prompt, **options))
        case _:
            chunks = list(asyncio.run(streamed()))
    joined: BaseMessageChunk = chunks[0]
    for chunk in chunks[1:]:
        joined += chunk
    assert isinstance(joined, AIMessageChunk)
    return joined


def ask_often(model: Runnable[Any, AIMessage], way: str) -> None:
    """Ask more often than any budget here can pay."""
    for number in range(40):
        ask(model, way, f"{PROMPT} {number}")


@pytest.mark.parametrize("way", WAYS)
def test_an_answer_costs_what_was_billed(seller: Seller, way: str) -> None:
    """Whole or streamed, sync or async: the books agree with the seller's to the nano-dollar, reasoning included."""
    seller.provider.will(Reply(text="all is well", reasoning_tokens=7))
    with seller.bench.scope().enter():
        assert ask(seller.model(), way).text == "all is well"
    assert seller.bench.kinds() == ["call_held", "call_settled"]
    assert seller.bench.charged == seller.provider.billed < seller.bench.holds()[0]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("seller", ["openai", "azure", "anthropic"], indirect=True)
def test_what_the_cache_had_costs_less(seller: Seller, way: str) -> None:
    """Cached input is charged at its own rate, as it was billed. Ollama's protocol does not report any."""
    seller.provider.will(Reply(cached_tokens=100))
    with seller.bench.scope().enter():
        ask(seller.model(), way)
    assert seller.provider.bills[0].cached_tokens == 100
    assert seller.bench.charged == seller.provider.billed


@pytest.mark.parametrize("way", WAYS)
def test_bound_tools_are_sent_and_called(seller: Seller, way: str) -> None:
    """The tool's schema reaches the seller, its call reaches the caller, and both are paid for."""
    seller.provider.will(Reply(tool="total", arguments={"category": "food"}))
    with seller.bench.scope().enter():
        answer = ask(seller.model().bind_tools([total]), way)
    assert [(call["name"], call["args"]) for call in answer.tool_calls] == [("total", {"category": "food"})]
    assert "total" in str(seller.fields()["tools"])
    assert seller.bench.charged == seller.provider.billed


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
def test_a_structured_answer_is_paid_for(seller: Seller, way: str) -> None:
    """`with_structured_output` returns the object, by whichever way the protocol has for it."""
    written: dict[str, Any] = {"tool": "City"} if seller.protocol == "anthropic" else {"text": '{"name":"Paris"}'}
    seller.provider.will(Reply(**written, arguments={"name": "Paris"}))
    structured: Any = seller.model().with_structured_output(City)
    with seller.bench.scope().enter():
        assert ask(structured, way) == City(name="Paris")
    assert seller.bench.charged == seller.provider.billed


@pytest.mark.parametrize("way", WAYS)
def test_the_cap_that_the_money_allows_is_sent(seller: Seller, way: str) -> None:
    """The seller writes as much as it may, and its bill for the bodies that it received is within the budget."""
    seller.provider.default = Reply(text=LONG)
    budget = "0.009" if seller.protocol == "anthropic" else "0.001"
    with seller.bench.scope(budget).enter(), pytest.raises(BudgetExceeded):
        ask_often(seller.model(), way)
    assert seller.caps()
    assert max(seller.caps()) < 3_000
    assert seller.bench.charged == seller.provider.billed <= USD(budget).nanos


@pytest.mark.parametrize("way", WAYS)
def test_a_cap_of_the_callers_is_sent(seller: Seller, way: str) -> None:
    """Set on the model or on the call, the lower one reaches the seller, and no other cap beside it."""
    option = "num_predict" if seller.protocol == "ollama" else "max_tokens"
    seller.provider.default = Reply(text=LONG)
    with seller.bench.scope().enter():
        for own, asked in ((90, 70), (80, 100)):
            settings: dict[str, Any] = {option: own}
            options: dict[str, Any] = {option: asked}
            ask(seller.model(**settings), way, **options)
    assert seller.caps() == [70, 80]
    assert [bill.output_tokens for bill in seller.provider.bills] == [70, 80]
    caps = {"max_tokens", "max_completion_tokens", "num_predict"} & seller.fields().keys()
    assert len(caps) == 1


@pytest.mark.parametrize("way", WAYS)
def test_a_busy_seller_is_asked_again(seller: Seller, way: str) -> None:
    """After 429 the gateway asks again, each time with a hold of its own; the SDK's own retries are off."""
    seller.provider.will(BUSY, Reply(status=503, headers={"retry-after": "0"}), Reply())
    with seller.bench.scope().enter():
        assert ask(seller.model(), way).text == "all is well"
    assert len(seller.provider.requests) == 3
    assert seller.bench.kinds() == ["call_held", "call_voided"] * 2 + ["call_held", "call_settled"]
    assert seller.bench.charged == seller.provider.billed


@pytest.mark.parametrize("way", ["stream", "astream"])
def test_a_stream_that_is_cut_stays_charged(seller: Seller, way: str) -> None:
    """What was billed for it is not known, so the hold stays, and the caller gets the error."""
    seller.provider.will(Reply(text="one two three four", cut_after=4))
    with seller.bench.scope().enter(), pytest.raises(Exception, match=r"incomplete|peer closed|Connection"):
        ask(seller.model(), way)
    assert seller.bench.kinds() == ["call_held", "call_unknown"]
    assert seller.bench.charged == seller.bench.holds()[0] >= seller.provider.billed


@pytest.mark.parametrize(
    ("seller", "way"),
    [(protocol, way) for protocol in PROTOCOLS for way in WAYS if protocol != "anthropic" or "stream" in way],
    indirect=["seller"],
)
def test_an_answer_without_usage_costs_its_hold(seller: Seller, way: str) -> None:
    """A seller that does not say what it billed costs the worst case. Anthropic's whole answers always say it."""
    seller.provider.will(Reply(usage=False))
    with seller.bench.scope().enter():
        ask(seller.model(), way)
    assert seller.bench.charged == seller.bench.holds()[0] >= seller.provider.billed


DEAR: dict[str, dict[str, Any]] = {  # each multiplies or re-prices, or nobody has judged it
    "openai": {"best_of": 4, "web_search_options": {}, "never_heard_of": 1},
    "azure": {"best_of": 4, "web_search_options": {}, "never_heard_of": 1},
    "anthropic": {"speed": "fast", "inference_geo": "us", "betas": ["b"], "mcp_servers": [{"url": "http://x"}]},
    "ollama": {"draft_num_predict": 4, "never_heard_of": 1},
}
HIDDEN: dict[str, dict[str, Any]] = {  # they win over what the gateway priced
    "openai": {"max_tokens": 9_000, "n": 4, "model": "gpt-4o"},
    "azure": {"max_tokens": 9_000, "n": 4, "model": "gpt-4o"},
    "anthropic": {"max_tokens": 9_000, "model": "claude-opus-4-1", "service_tier": "auto"},
    "ollama": {"num_predict": -1},
}
PLACES = {  # in which the client of each protocol takes fields that it does not know
    "openai": ("call", "bind", "model_kwargs", "extra_body"),
    "azure": ("call", "bind", "model_kwargs", "extra_body"),
    "anthropic": ("call", "bind", "model_kwargs", "extra_body"),
    "ollama": ("call", "bind", "options"),
}
PLACED = [(protocol, place) for protocol, places in PLACES.items() for place in places]


def refusal(seller: Seller, name: str, value: Any, place: str) -> Exception | None:
    """What a call raises with the field at this place, None if it was sent."""
    own: dict[str, Any] = {}
    options: dict[str, Any] = {}
    if place in {"call", "bind"}:
        options = {name: value}
    elif place == "model_kwargs":
        own = {"model_kwargs": {name: value}}
    else:
        options = {place: {name: value}}
    try:
        model = seller.model(**own)
        with seller.bench.scope(request=f"r-{name}-{place}").enter():
            model.bind(**options).invoke(PROMPT) if place == "bind" else model.invoke(PROMPT, **options)
    except (Refused, ConfigurationError, ValueError) as raised:  # the last is the client's own
        return raised
    return None


@pytest.mark.filterwarnings("ignore:Parameters:UserWarning")  # the client's word on model_kwargs
@pytest.mark.parametrize(("seller", "place"), PLACED, indirect=["seller"])
def test_a_field_that_raises_the_bill_is_refused_by_its_name(seller: Seller, place: str) -> None:
    """Wherever the protocol's client takes fields: nothing is sent."""
    fields = DEAR[seller.protocol]
    if place in {"extra_body", "options"}:
        fields = {**fields, **HIDDEN[seller.protocol]}
    for name, value in fields.items():
        raised = refusal(seller, name, value, place)
        assert raised is not None, name
        assert name in str(raised)
    assert not seller.provider.requests


FREE: dict[str, dict[str, Any]] = {  # they cost nothing more: each must really be sent
    "openai": {"temperature": 0.25, "seed": 7, "user": "u-1", "store": True},
    "azure": {"temperature": 0.25, "seed": 7, "user": "u-1", "store": True},
    "anthropic": {"temperature": 0.25, "top_k": 3, "stop_sequences": ["END"]},
    "ollama": {"temperature": 0.25, "seed": 7, "num_ctx": 8_192, "mirostat": 1, "num_keep": 5},
}


@pytest.mark.filterwarnings("ignore:Parameters:UserWarning")
@pytest.mark.parametrize(
    ("seller", "place"),
    [
        (protocol, place)
        for protocol, place in PLACED
        if place != "model_kwargs" and (protocol != "ollama" or place == "options")
    ],
    indirect=["seller"],
)
def test_a_field_that_costs_nothing_is_sent(seller: Seller, place: str) -> None:
    """From the same places. Ollama's client takes such fields in `options` alone."""
    for name, value in FREE[seller.protocol].items():
        assert refusal(seller, name, value, place) is None
        assert seller.fields()[name] == value
    assert 0 < seller.provider.billed <= sum(row.spent.nanos for row in seller.bench.ledger.costs("session"))
