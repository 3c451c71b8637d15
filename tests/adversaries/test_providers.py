"""Providers that bill more than one would think: what is charged is never less, and what is capped stays capped."""

import asyncio
import threading
from typing import Any

import httpx
import openai
import pytest
from langchain_openai import OpenAIEmbeddings

from bursar.nodes.gateway.meter import meter
from bursar.nodes.gateway.paid_calls.journal import INSTEAD_OF
from bursar.state.errors import ConfigurationError, UnknownPrice
from bursar.state.events import CallHeld
from bursar.state.refusals import AccountClosed, BudgetExceeded
from tests.support.bench import SESSION, Bench
from tests.support.provider import DEAR_MODEL, EMBEDDING_MODEL, MODEL, Reply

LONG = "word " * 20_000


@pytest.mark.parametrize("streams", [False, True])
def test_a_server_that_always_writes_as_much_as_it_may(bench: Bench, streams: bool) -> None:
    """Every answer reaches its cap, until the money is gone: the bill never exceeds the budget."""
    bench.provider.default = Reply(text=LONG)
    model = bench.model()

    def for_ever() -> None:
        for number in range(50):
            list(model.stream(f"{number}")) if streams else model.invoke(f"{number}")

    with bench.scope("0.002").enter(), pytest.raises(BudgetExceeded):
        for_ever()
    assert len(bench.provider.bills) > 2
    assert bench.provider.billed == bench.charged <= 2_000_000


def test_a_server_that_writes_sixteen_thousand_tokens_without_a_cap_always_gets_one(bench: Bench) -> None:
    """Plain, streamed, with tools and with structured output, the request carries a cap that the budget pays for."""
    bench.provider.default = Reply(text=LONG)
    model = bench.model()
    schema: dict[str, Any] = {"title": "T", "type": "object", "properties": {}, "description": "nothing"}
    with bench.scope("0.004").enter():
        model.invoke("hello")
        list(model.stream("hello"))
        model.bind_tools([schema]).invoke("hello")
        model.with_structured_output(schema, include_raw=True).invoke("hello")
    caps = [body["max_completion_tokens"] for body in bench.provider.requests]
    assert len(caps) == 4
    assert all(cap < 16_384 for cap in caps)
    assert bench.provider.billed == bench.charged <= 4_000_000


@pytest.mark.parametrize("streams", [False, True])
def test_an_actual_above_the_hold_closes_the_session(bench: Bench, streams: bool) -> None:
    """A server that ignores the cap is booked in full, as an incident; nothing is sent until it is acknowledged."""
    bench.provider.will(Reply(text=LONG[:2_000], ignores_cap=True))
    model = bench.model()
    with bench.scope().enter():
        list(model.stream("hello", max_tokens=20)) if streams else model.invoke("hello", max_tokens=20)
        assert bench.charged > sum(bench.holds())
        with pytest.raises(AccountClosed, match="incident"):
            model.invoke("again")
    assert len(bench.provider.requests) == 1
    assert streams or bench.charged == bench.provider.billed
    bench.ledger.acknowledge(SESSION, note="the server's cap is broken")
    with bench.scope().enter():
        model.invoke("again")
    assert len(bench.provider.requests) == 2


def test_a_stream_that_is_cancelled_in_the_middle(bench: Bench) -> None:
    """The task that reads it is cancelled; the call stays charged at its hold, which is no less than the bill."""
    gate = threading.Event()
    bench.provider.will(Reply(text="a b c d", waits_for=gate))
    model = bench.model()

    async def read(some: asyncio.Event) -> None:
        async for piece in model.astream("hello", max_tokens=100):
            if "finish_reason" in piece.response_metadata:  # pyright: ignore[reportUnknownMemberType]
                some.set()  # the provider sends nothing more until the gate opens

    async def main() -> None:
        some = asyncio.Event()
        task = asyncio.create_task(read(some))
        await some.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with bench.scope().enter():
        asyncio.run(main())
    gate.set()
    assert bench.kinds() == ["call_held", "call_unknown"]
    assert bench.charged == sum(bench.holds()) >= bench.provider.billed > 0
    assert bench.held == 0


def test_a_connection_that_is_cut_in_the_middle_is_not_asked_again(bench: Bench) -> None:
    """Part of an answer came and was billed: sending again would pay twice, so it is unknown and listed."""
    bench.provider.will(Reply(text=LONG, cut_after=5))
    with bench.scope().enter(), pytest.raises((openai.APIError, httpx.HTTPError)):
        list(bench.model().stream("hello", max_tokens=100))
    assert len(bench.provider.requests) == 1
    assert bench.charged == sum(bench.holds()) >= bench.provider.billed
    assert [hold.state for hold in bench.ledger.open_holds()] == ["unknown"]


@pytest.mark.parametrize("streams", [False, True])
def test_a_server_that_does_not_say_what_it_billed(bench: Bench, streams: bool) -> None:
    """Without usage the hold is the charge."""
    bench.provider.default = Reply(usage=False)
    with bench.scope().enter():
        list(bench.model().stream("hello")) if streams else bench.model().invoke("hello")
    assert bench.charged == sum(bench.holds()) >= bench.provider.billed


def test_a_model_without_a_price_sends_nothing(bench: Bench) -> None:
    """Neither metered by itself nor named by a call."""
    with pytest.raises(UnknownPrice):
        bench.model(model="no-such-model")
    with bench.scope().enter(), pytest.raises(UnknownPrice):
        bench.model().bind(model="no-such-model").invoke("hello")
    assert bench.provider.requests == []


def test_fallbacks_times_retries_each_have_a_hold(bench: Bench) -> None:
    """LangChain retries what the gateway retries: each request that was sent had a hold of its own.

    After two calls that failed, the model is left alone in this session: the fallback's call to it is not sent.
    """
    bench.provider.default = Reply(status=503, headers={"retry-after": "0"})
    model = bench.model()
    chain: Any = model.with_retry(stop_after_attempt=2, wait_exponential_jitter=False).with_fallbacks([model])
    with bench.scope().enter(), pytest.raises(openai.InternalServerError):
        chain.invoke("hello")
    assert len(bench.provider.requests) == len(bench.holds()) == 6
    assert bench.charged == bench.provider.billed == 0


def test_embeddings_of_a_large_library_end_at_the_budget(bench: Bench) -> None:
    """Batches are paid for until one does not fit; the bill stays within the budget."""
    fixed: dict[str, Any] = {"model": EMBEDDING_MODEL, "api_key": "none", "base_url": bench.provider.url}
    model = meter(OpenAIEmbeddings(**fixed, chunk_size=4, check_embedding_ctx_length=False))
    with bench.scope("0.0002").enter(), pytest.raises(BudgetExceeded):
        model.embed_documents(["x" * 1_000] * 40)
    assert 0 < len(bench.provider.bills) < 10
    assert bench.provider.billed == bench.charged <= 200_000


@pytest.mark.parametrize("streams", [False, True])
def test_a_cheaper_model_answers_where_the_dear_one_does_not_fit(bench: Bench, streams: bool) -> None:
    """Tools go along; the hold, the bill and the log are the cheaper model's; the answer says whom it replaces."""
    model = meter(bench.chat(model=DEAR_MODEL), cheaper=[bench.chat()], min_output_tokens=200)
    tool: dict[str, Any] = {"title": "Total", "type": "object", "properties": {}, "description": "a total"}
    bench.provider.will(Reply(tool="Total"), Reply(tool="Total"), Reply(text="last"))
    asked: Any = model.bind_tools([tool])
    for _ in range(2):  # the second time from the journal
        with bench.scope("0.0033").enter():
            if streams:
                first = asked.invoke("hello " * 10)
                pieces: list[Any] = list(asked.stream("hello " * 100))
                answer: Any = pieces[0]
                for piece in pieces[1:]:
                    answer += piece
            else:
                first, answer = asked.invoke("hello " * 10), asked.invoke("hello " * 100)
            assert INSTEAD_OF not in first.response_metadata
            assert answer.response_metadata[INSTEAD_OF] == DEAR_MODEL
            assert answer.tool_calls[0]["name"] == "Total"
    assert [body["model"] for body in bench.provider.requests] == [DEAR_MODEL, MODEL]
    assert all(body["tools"][0]["function"]["name"] == "Total" for body in bench.provider.requests)
    held = [row.event.model for row in bench.ledger.audit(SESSION) if isinstance(row.event, CallHeld)]
    assert held == [DEAR_MODEL, MODEL]
    assert bench.charged == bench.provider.billed


def test_when_no_model_of_the_chain_fits_the_call_is_refused(bench: Bench) -> None:
    """The refusal speaks of the cheapest; a model of another class cannot be in the chain."""
    model = meter(bench.chat(model=DEAR_MODEL), cheaper=[bench.chat()])
    with bench.scope("0.00001").enter(), pytest.raises(BudgetExceeded, match=f"a call to {MODEL} needs"):
        model.invoke("hello")
    assert bench.provider.requests == []
    from bursar.testing import ScriptedModel

    with pytest.raises(ConfigurationError, match="same class"):
        meter(bench.chat(), cheaper=[ScriptedModel(replies=[])])
