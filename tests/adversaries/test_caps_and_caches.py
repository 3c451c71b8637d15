"""Output caps that the money lowers: an answer that one cut short is for nobody else, and none is below thinking."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.globals import set_llm_cache
from langchain_core.language_models.fake_chat_models import FakeListChatModel

from bursar.nodes.gateway.meter import meter
from bursar.nodes.gateway.paid_calls.journal import CUT_SHORT
from bursar.nodes.gateway.prices import Price
from bursar.state.errors import ConfigurationError
from bursar.state.refusals import BudgetExceeded
from tests.support.bench import Bench
from tests.support.provider import Reply

LONG = "word " * 2_000
POOR, RICH = "0.0003", "0.03"


@pytest.fixture
def cache() -> Iterator[None]:
    """LangChain's cache for all models of the process."""
    set_llm_cache(InMemoryCache())
    yield
    set_llm_cache(None)


def answer(bench: Bench, model: Any, budget: str, request: str, *, asynchronous: bool) -> Any:
    """What the model answers to one and the same question, within the budget."""
    with bench.scope(budget, request=request, checkpoint_ns=request).enter():
        return asyncio.run(model.ainvoke("go on")) if asynchronous else model.invoke("go on")


@pytest.mark.parametrize("where", ["of the process", "of the model"])
@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.usefixtures("cache")
def test_an_answer_that_a_budget_cut_short_is_for_nobody_else(bench: Bench, where: str, asynchronous: bool) -> None:
    """A richer session asks anew. What was not cut is cached, and a hit costs nothing."""
    bench.provider.default = Reply(text=LONG)
    own = {"cache": InMemoryCache()} if where == "of the model" else {}
    model = bench.model(max_tokens=3_000, **own)
    poor = answer(bench, model, POOR, "r-1", asynchronous=asynchronous)
    assert poor.response_metadata[CUT_SHORT]
    rich = answer(bench, model, RICH, "r-2", asynchronous=asynchronous)
    assert len(rich.text) > len(poor.text)
    assert CUT_SHORT not in rich.response_metadata
    spent = bench.ledger.costs("session")
    again = answer(bench, model, POOR, "r-3", asynchronous=asynchronous)
    assert again.text == rich.text
    assert bench.ledger.costs("session") == spent
    assert len(bench.provider.requests) == 2


def test_a_stream_that_a_budget_cut_short_says_so(bench: Bench) -> None:
    """In the metadata of a chunk at its end; one that was not cut does not."""
    bench.provider.default = Reply(text=LONG)
    model = bench.model(max_tokens=3_000)
    with bench.scope(POOR, request="r-1", checkpoint_ns="r-1").enter():
        assert any(CUT_SHORT in chunk.response_metadata for chunk in model.stream("go on"))
    with bench.scope(RICH, request="r-2", checkpoint_ns="r-2").enter():
        assert not any(CUT_SHORT in chunk.response_metadata for chunk in model.stream("go on"))


@pytest.mark.parametrize(
    "asks",
    [
        {"extra_body": {"thinking": {"type": "enabled", "budget_tokens": 600}}},
        {"extra_body": {"reasoning": {"max_tokens": 600}}},
        {"extra_body": {"thinking_budget": 600}},
    ],
    ids=str,
)
def test_a_cap_below_a_thinking_budget_is_not_sent(bench: Bench, asks: dict[str, Any]) -> None:
    """The provider would refuse it, or think all of it away: the call is refused. With enough money it is sent."""
    model = bench.model(max_tokens=3_000, **asks)
    with bench.scope(POOR, request="r-1", checkpoint_ns="r-1").enter(), pytest.raises(BudgetExceeded):
        model.invoke("go on")
    assert not bench.provider.requests
    with bench.scope(RICH, request="r-2", checkpoint_ns="r-2").enter():
        model.invoke("go on")
    assert bench.provider.requests[0]["max_completion_tokens"] > 600


def test_a_model_that_costs_nothing_needs_no_cap(bench: Bench) -> None:
    """A fake, or a model of one's own machine; as soon as it costs something, it needs one."""
    fake = FakeListChatModel(responses=["for nothing"])
    with bench.scope().enter():
        assert meter(fake, price=Price("0", "0")).invoke("how much?").text == "for nothing"
    assert [row.spent.nanos for row in bench.ledger.costs("session")] == [0]
    with pytest.raises(ConfigurationError, match="no output cap"):
        meter(fake, price=Price("0", "0.01"))
