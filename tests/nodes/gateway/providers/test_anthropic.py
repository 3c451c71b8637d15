"""Anthropic's bill: cache writes by how long they last, counts that do not add up, and streams of older servers."""

from typing import Any

import pytest
from langchain_anthropic import ChatAnthropic

from bursar.nodes.gateway.meter import meter
from bursar.nodes.gateway.prices import Price
from bursar.nodes.gateway.providers.anthropic import MAKE_CHUNK
from bursar.state.errors import ConfigurationError
from bursar.state.events import CallHeld
from tests.nodes.gateway.providers.protocols import CLAUDE, ClaudeReply
from tests.nodes.gateway.providers.sellers import Seller
from tests.nodes.gateway.providers.test_every_protocol import LONG, PROMPT, WAYS, ask
from tests.support.provider import Reply

pytestmark = pytest.mark.parametrize("seller", ["anthropic"], indirect=True)
TOLD_IN_FULL = [  # what is read, written for five minutes and written for an hour
    {"cached_tokens": 100},
    {"short_writes": 150},
    {"long_writes": 150},
    {"cached_tokens": 40, "short_writes": 60, "long_writes": 80},
]
TOLD_IN_PART = [  # the rest may be of either kind, and is charged as the dearer one
    {"long_writes": 150, "told_long": 50},
    {"long_writes": 150, "told_long": 0},
    {"short_writes": 100, "told_short": 50, "long_writes": 50},
    {"long_writes": 150, "breaks_down": False},
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("counts", TOLD_IN_FULL)
def test_cache_writes_are_charged_by_how_long_they_last(seller: Seller, way: str, counts: dict[str, Any]) -> None:
    """Each kind of input at its own rate, to the nano-dollar."""
    seller.provider.will(ClaudeReply(**counts))
    with seller.bench.scope().enter():
        ask(seller.model(), way)
    assert seller.bench.charged == seller.provider.billed


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("counts", TOLD_IN_PART)
def test_writes_that_are_in_no_breakdown_are_charged(seller: Seller, way: str, counts: dict[str, Any]) -> None:
    """LangChain leaves them out of its sum; they are charged as kept for an hour: never less than was billed."""
    seller.provider.will(ClaudeReply(**counts))
    with seller.bench.scope().enter():
        ask(seller.model(), way)
    told = int(counts.get("told_short", 0))
    at_most = seller.provider.billed + (int(counts.get("short_writes", 0)) - told) * (2_000 - 1_250)
    assert seller.provider.billed <= seller.bench.charged == at_most <= seller.bench.holds()[0]
    assert not seller.bench.ledger.incidents()


@pytest.mark.parametrize("way", ["stream", "astream"])
def test_input_that_is_only_in_the_first_event_is_charged(seller: Seller, way: str) -> None:
    """Servers that end a stream with the output tokens alone are charged right, not at the hold."""
    seller.provider.will(ClaudeReply(cached_tokens=40, short_writes=60, starts_with_input=True))
    with seller.bench.scope().enter():
        ask(seller.model(), way)
    assert seller.bench.charged == seller.provider.billed < seller.bench.holds()[0]


@pytest.mark.parametrize(("counts", "exact"), [({"short_writes": 100, "told_short": 50}, False), ({}, True)])
def test_without_the_sellers_own_counts_a_breakdown_costs_the_hold(
    seller: Seller, monkeypatch: pytest.MonkeyPatch, counts: dict[str, Any], exact: bool
) -> None:
    """As in a langchain-anthropic whose chunks cannot keep them. Without cache writes nothing can be missing."""
    assert hasattr(ChatAnthropic, MAKE_CHUNK)
    monkeypatch.setattr("bursar.nodes.gateway.providers.anthropic.MAKE_CHUNK", "_made_elsewhere")
    seller.provider.will(ClaudeReply(**counts))
    with seller.bench.scope().enter():
        ask(seller.model(), "stream")
    assert seller.bench.charged == (seller.provider.billed if exact else seller.bench.holds()[0])


def test_an_answer_replayed_after_a_stream_is_the_same(seller: Seller) -> None:
    """A repeated run gets the streamed answer from the journal: nothing is sent, nothing is paid again."""
    for _ in range(2):
        with seller.bench.scope().enter():
            answer = ask(seller.model(), "stream")
        assert answer.text == "all is well"
        assert answer.usage_metadata is not None
    assert len(seller.provider.requests) == 1
    assert seller.bench.charged == seller.provider.billed


def test_its_own_maximum_does_not_take_the_whole_budget(seller: Seller) -> None:
    """`ChatAnthropic` always sets a cap, the model's maximum; a call still leaves money for others beside it."""
    with seller.bench.scope("0.04").enter():
        ask(seller.model(), "invoke")
    assert seller.bench.holds()[0] * 3 < 40_000_000
    with seller.bench.scope("0.04", request="r-2").enter():
        ask(seller.model(max_tokens=7_000), "invoke")  # the caller asked for it
    assert seller.caps()[1] == 7_000


def test_a_cap_below_the_thinking_budget_is_not_sent(seller: Seller) -> None:
    """Anthropic demands `max_tokens` above `budget_tokens`: with the money for it the call is sent so."""
    seller.provider.default = Reply(text=LONG)
    thinking = {"type": "enabled", "budget_tokens": 1_500}
    with seller.bench.scope("0.012").enter():
        ask(seller.model(thinking=thinking, max_tokens=4_000), "invoke")
    assert seller.caps()[0] > 1_500
    assert seller.bench.charged == seller.provider.billed


def test_settings_that_the_client_sends_are_fields(seller: Seller) -> None:
    """One that nobody has judged is refused when the model is metered, and sent if it is allowed."""
    for name, value in {"inference_geo": "us", "betas": ["b"], "mcp_servers": [{"url": "http://x"}]}.items():
        settings: dict[str, Any] = {name: value}
        with pytest.raises(ConfigurationError, match=name):
            seller.model(**settings)
    with seller.bench.scope().enter():
        ask(seller.model(inference_geo="us", allow={"inference_geo"}), "invoke")
    assert seller.fields()["inference_geo"] == "us"


def test_a_cheaper_claude_answers_if_the_dearer_does_not_fit(seller: Seller) -> None:
    """Two models of the same class may replace each other, though the gateway has made classes of its own of them."""
    model = meter(seller.chat(model="claude-opus-5"), cheaper=[seller.chat()], min_output_tokens=200)
    with seller.bench.scope("0.005").enter():
        answer = ask(model, "invoke", PROMPT)
    assert answer.response_metadata["instead_of"] == "claude-opus-5"
    assert seller.fields()["model"] == CLAUDE
    held = [row.event for row in seller.bench.ledger.audit("s-1") if isinstance(row.event, CallHeld)]
    assert [event.model for event in held] == [CLAUDE]


def test_a_price_by_hand_counts(seller: Seller) -> None:
    """For a model that no price list has."""
    model = meter(seller.chat(model="claude-x"), price=Price("1", "5", cache_read="0.1", cache_write="1.25"))
    seller.provider.will(ClaudeReply(cached_tokens=50, short_writes=50, told_short=20))
    with seller.bench.scope().enter():
        ask(model, "invoke")
    assert seller.bench.charged == seller.provider.billed
