"""What the gateway adds to a call for the provider's cache, and what it leaves alone."""

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage
from langchain_core.tools import tool
from langchain_openai import AzureChatOpenAI, ChatOpenAI

from bursar.nodes.gateway.meter import meter
from bursar.nodes.gateway.prices import Price
from bursar.nodes.gateway.providers.anthropic import AnthropicProvider
from bursar.nodes.gateway.providers.anthropic_marks import EPHEMERAL, least_cached_tokens
from bursar.nodes.gateway.providers.base import CacheAdvice
from bursar.nodes.gateway.providers.openai import CACHE_KEY, OpenAIProvider
from tests.nodes.gateway.providers.protocols import CLAUDE
from tests.support.bench import NOW, SECRET, Bench, make_bench
from tests.support.prompt_caches.anthropic import CachingAnthropic
from tests.support.provider import MODEL, Provider

LONG = "Name the source of each figure. " * 600
WRITES = CacheAdvice("bursar-key", None, 20_000, 21_000, static_pays=True, whole_pays=True)


@pytest.fixture
def claude(tmp_path: Path) -> Iterator[Bench]:
    """A bench whose provider has Anthropic's cache."""
    provider = CachingAnthropic(lambda: NOW)
    yield from make_bench(provider, f"sqlite:///{tmp_path}/books.db")
    provider.close()


def _chat(bench: Bench, **settings: Any) -> ChatAnthropic:
    given: dict[str, Any] = {"model": CLAUDE, "base_url": bench.provider.root, "api_key": SECRET, **settings}
    return ChatAnthropic(**given)


def _marked(body: dict[str, Any]) -> list[str]:
    """Return where a request has a mark: "tools", "system", "messages" or "end"."""
    blocks = [(part, block) for part in ("tools", "system") for block in body.get(part) or () if block]
    blocks += [
        ("messages", block) for m in body["messages"] if isinstance(m["content"], list) for block in m["content"]
    ]
    places = [part for part, block in blocks if isinstance(block, dict) and "cache_control" in block]
    return places + (["end"] if "cache_control" in body else [])


@tool
def look_up(month: int) -> str:
    """Return what was spent in a month."""
    return str(month)


@pytest.mark.parametrize(
    ("settings", "asked", "is_sent"),
    [
        ({}, None, True),
        ({"base_url": "https://eu.api.openai.com/v1"}, None, True),
        ({"base_url": "https://proxy.example/v1"}, None, False),
        ({"base_url": "https://api.openai.com.example/v1"}, None, False),
        ({"base_url": "https://proxy.example/v1"}, True, True),
        ({"model_kwargs": {CACHE_KEY: "own"}}, None, False),
        ({"extra_body": {CACHE_KEY: "own"}}, True, False),
    ],
    ids=["OpenAI", "a region of it", "another server", "a lookalike", "asked for", "own key", "own key inside"],
)
def test_openai_gets_a_key_and_other_servers_if_asked(
    settings: dict[str, Any], asked: bool | None, is_sent: bool
) -> None:
    """A server that may refuse the field gets it only if the user says so; a key of the user's stays."""
    provider = OpenAIProvider()
    client = provider.prepare(ChatOpenAI(model=MODEL, api_key=SECRET, **settings))  # type: ignore[arg-type]
    advice = CacheAdvice("bursar-key", asked, 1, 1, static_pays=False, whole_pays=False)
    messages, options = provider.use_cache(client, [HumanMessage("hi")], {"temperature": 0}, advice)
    assert messages == [HumanMessage("hi")]
    assert options == {"temperature": 0, **({CACHE_KEY: "bursar-key"} if is_sent else {})}


def test_azure_gets_no_key_unless_asked() -> None:
    """An older API version of Azure refuses a field that it does not know."""
    settings: dict[str, Any] = {"azure_endpoint": "https://x.example", "api_version": "2024-10-21", "api_key": SECRET}
    client = OpenAIProvider().prepare(AzureChatOpenAI(azure_deployment="d", model=MODEL, **settings))
    advice = CacheAdvice("bursar-key", None, 1, 1, static_pays=False, whole_pays=False)
    assert OpenAIProvider().use_cache(client, [], {}, advice) == ([], {})


def test_the_key_tells_agents_apart_and_changes_no_hash(bench: Bench) -> None:
    """Two runs of one agent have one key, another agent has another, and a repeated run pays nothing."""
    model = meter(bench.chat(), prompt_cache=True)
    for agent, run in (("spending", "1"), ("spending", "2"), ("tax", "1")):
        with bench.scope(agent=agent, checkpoint_ns=f"{agent}:{run}").enter():
            model.invoke("hi")
    keys = [body[CACHE_KEY] for body in bench.provider.requests]
    assert keys[0] == keys[1] != keys[2]
    assert all(len(key) <= 64 and "spending" not in key for key in keys)
    with bench.scope(checkpoint_ns="spending:1").enter():
        assert meter(bench.chat()).invoke("hi").text == "all is well"
    assert len(bench.provider.requests) == 3


def test_a_call_can_bring_its_own_key(bench: Bench) -> None:
    """The caller's key is sent, and no other."""
    with bench.scope().enter():
        meter(bench.chat(), prompt_cache=True).invoke("hi", prompt_cache_key="mine")
    assert bench.provider.requests[0][CACHE_KEY] == "mine"


def test_system_and_end_are_marked_and_the_messages_stay_as_they_were(claude: Bench) -> None:
    """Two marks are sent; what the caller holds has none; the write is billed, held and charged."""
    messages: list[BaseMessage] = [SystemMessage(LONG), HumanMessage("hi")]
    before = deepcopy(messages)
    with claude.scope("1").enter():
        meter(_chat(claude)).invoke(messages)
    assert _marked(claude.provider.requests[0]) == ["system", "end"]
    assert messages == before
    assert claude.charged == claude.provider.billed <= claude.holds()[0]
    [row] = claude.ledger.costs()
    assert row.cache_write_tokens > 4_096
    assert row.cache_saved.nanos == -250 * row.cache_write_tokens


def test_without_a_system_message_the_last_tool_is_marked(claude: Bench) -> None:
    """Tools are the first part of the prompt; the caller's tools are not changed."""
    model = meter(_chat(claude)).bind_tools([look_up])
    with claude.scope("1").enter():
        model.invoke([HumanMessage(LONG)])
    assert _marked(claude.provider.requests[0]) == ["end"]  # the tools alone are too short
    client = AnthropicProvider().prepare(_chat(claude))
    tools: list[object] = [{"name": "a"}, {"name": "b"}]
    _, options = AnthropicProvider().use_cache(client, [HumanMessage("hi")], {"tools": tools}, WRITES)
    assert options["tools"] == [{"name": "a"}, {"name": "b", "cache_control": dict(EPHEMERAL)}]
    assert tools == [{"name": "a"}, {"name": "b"}]


@pytest.mark.parametrize("where", ["option", "system", "message", "tool"])
def test_a_mark_of_the_callers_is_the_only_one(where: str, claude: Bench) -> None:
    """Who places marks places all of them: at most four are allowed, and theirs are kept."""
    mark: dict[str, Any] = {"cache_control": {"type": "ephemeral"}}
    block: dict[str, Any] = {"type": "text", "text": LONG}
    own: list[BaseMessage] = [
        SystemMessage([{**block, **(mark if where == "system" else {})}]),
        HumanMessage([{**block, **(mark if where == "message" else {})}]),
    ]
    tools = [{"name": "look_up", "input_schema": {"type": "object"}, **(mark if where == "tool" else {})}]
    with claude.scope("2").enter():
        meter(_chat(claude)).invoke(own, tools=tools, **(mark if where == "option" else {}))
    expected = {"option": "end", "system": "system", "message": "messages", "tool": "tools"}[where]
    assert _marked(claude.provider.requests[0]) == [expected]


@pytest.mark.parametrize("why", ["off", "no price of a write", "too short"])
def test_nothing_is_marked_where_it_cannot_pay(why: str, claude: Bench) -> None:
    """Off, a price by hand that does not say what a write costs, and a prompt that is shorter than the minimum."""
    settings: dict[str, Any] = {
        "off": {"prompt_cache": False},
        "no price of a write": {"price": Price(input="1", output="5", cache_read="0.1")},
        "too short": {},
    }[why]
    text = "Be short." if why == "too short" else LONG
    with claude.scope("1").enter():
        meter(_chat(claude), **settings).invoke([SystemMessage(text), HumanMessage("hi")])
    assert _marked(claude.provider.requests[0]) == []


def test_an_agent_whose_prompts_nobody_reads_again_stops_writing(claude: Bench) -> None:
    """Each call has another system message: after two writes that nobody read, no more are paid for."""
    model = meter(_chat(claude))
    with claude.scope("5", max_turns=None).enter():
        for number in range(6):
            model.invoke([SystemMessage(f"{number} {LONG}"), HumanMessage("hi")])
    marks = [len(_marked(body)) for body in claude.provider.requests]
    assert marks == [2, 2, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("model", "least"),
    [
        ("claude-sonnet-4-5", 1_024),
        ("claude-opus-4-1", 1_024),
        ("claude-haiku-4-5-20251001", 4_096),
        ("claude-opus-4.6", 4_096),
        ("claude-3-5-haiku-latest", 2_048),
    ],
)
def test_each_model_has_its_minimum(model: str, least: int) -> None:
    """The fewest tokens of a cached prefix, as Anthropic's documentation lists them."""
    assert least_cached_tokens(model) == least


def test_a_provider_of_ones_own_needs_no_cache(bench: Bench) -> None:
    """A provider without `use_cache` sends what it sent before."""
    assert isinstance(bench.provider, Provider)
    with bench.scope().enter():
        bench.model().invoke("hi")
    assert CACHE_KEY not in bench.provider.requests[0]
