"""Embeddings behind the gateway: held at the bytes of their texts, settled with what the provider billed."""

import asyncio
import pickle
import threading
from typing import Any

import openai
import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_openai import OpenAIEmbeddings

from bursar.nodes.gateway.embeddings import MeteredEmbeddings
from bursar.nodes.gateway.meter import Price, meter
from bursar.state.errors import BursarError, ConfigurationError, UnknownPrice
from bursar.state.events import CallSettled
from bursar.state.refusals import BudgetExceeded, NoSession
from tests.support.bench import SECRET, Bench
from tests.support.provider import EMBEDDING_MODEL, Reply

TEXTS = ["groceries", "rent in March", "π and 漢字", "tickets", "a"]


def embeddings(bench: Bench, **settings: Any) -> MeteredEmbeddings:
    """A metered client of the provider."""
    fixed: dict[str, Any] = {"model": EMBEDDING_MODEL, "api_key": SECRET, "base_url": bench.provider.url, "timeout": 10}
    # Token counts of the client's own would fetch a vocabulary from the network.
    merged: dict[str, Any] = {**fixed, "check_embedding_ctx_length": False, "chunk_size": 2, **settings}
    return meter(OpenAIEmbeddings(**merged))


def test_a_thread_whose_target_is_the_model_pays_for_its_run(bench: Bench) -> None:
    """The thread calls Bursar's own method first, and is the handler's all the same."""
    with bench.scope().enter():
        thread = threading.Thread(target=embeddings(bench).embed_query, args=("how much?",))
        thread.start()
        thread.join()
    assert bench.charged == bench.provider.billed > 0


def test_documents_are_sent_in_batches_and_charged_what_was_billed(bench: Bench) -> None:
    """Five texts in batches of two are three calls, each held before it is sent and settled with its usage."""
    with bench.scope().enter():
        vectors = embeddings(bench).embed_documents(TEXTS)
    assert vectors == [[float(len(text)), 0.5] for text in TEXTS]
    assert [len(body["input"]) for body in bench.provider.requests] == [2, 2, 1]
    assert bench.kinds() == ["call_held", "call_settled"] * 3
    assert bench.charged == bench.provider.billed > 0
    assert all(hold >= bill.nanos for hold, bill in zip(bench.holds(), bench.provider.bills, strict=True))


def test_queries_and_async_calls_are_the_same(bench: Bench) -> None:
    """`embed_query`, `aembed_query` and `aembed_documents` are held, sent and settled alike."""
    model = embeddings(bench)

    async def main() -> list[list[float]]:
        return [await model.aembed_query("abc"), *await model.aembed_documents(TEXTS)]

    with bench.scope().enter():
        assert model.embed_query("ab") == [2.0, 0.5]
        assert asyncio.run(main())[:2] == [[3.0, 0.5], [9.0, 0.5]]
    assert bench.charged == bench.provider.billed
    assert len(bench.provider.bills) == 5


def test_a_repeated_run_is_answered_from_the_journal(bench: Bench) -> None:
    """The same texts at the same place are not sent again, and the vectors are the same to the last bit."""
    runs: list[list[list[float]]] = []
    for _ in range(2):
        with bench.scope().enter():
            runs.append(embeddings(bench).embed_documents(TEXTS))
    assert runs[0] == runs[1]
    assert len(bench.provider.requests) == 3
    assert bench.charged == bench.provider.billed


def test_without_usage_the_hold_is_charged(bench: Bench) -> None:
    """Where the provider does not say what it billed, the bound is what is charged."""
    bench.provider.default = Reply(usage=False)
    with bench.scope().enter():
        embeddings(bench).embed_query("how much?")
    assert bench.charged == sum(bench.holds()) > bench.provider.billed


def test_retries_are_the_gateways_own(bench: Bench) -> None:
    """A refusal for a time is sent again under a new hold; one for good is not, and nothing is owed for either."""
    again = Reply(status=429, headers={"retry-after": "0"})
    bench.provider.will(again, Reply(), Reply(status=400))
    with bench.scope().enter():
        embeddings(bench).embed_query("one")
        with pytest.raises(openai.BadRequestError):
            embeddings(bench).embed_query("two")
    assert len(bench.provider.requests) == 3
    assert bench.kinds() == ["call_held", "call_voided", "call_held", "call_settled", "call_held", "call_voided"]
    assert bench.charged == bench.provider.billed


def test_what_does_not_fit_is_not_sent(bench: Bench) -> None:
    """The batch that the budget has no room for is refused before a byte of it leaves."""
    with bench.scope("0.00001").enter(), pytest.raises(BudgetExceeded, match="request:r-1"):
        embeddings(bench).embed_documents(["short", "text", "x" * 100_000])
    assert len(bench.provider.requests) == 1
    with pytest.raises(NoSession):
        embeddings(bench).embed_query("outside any session")


class Named(DeterministicFakeEmbedding):
    """Embeddings of another library: a name, and no client that could be asked for usage."""

    model: str


def test_other_embeddings_are_charged_at_their_hold(bench: Bench) -> None:
    """Any `Embeddings` with a name and a price works; its usage is not known, so the hold is charged and replayed."""
    model = meter(Named(model="house-embedder", size=3), price=Price("1", "0"))
    vectors: list[list[list[float]]] = []
    for _ in range(2):
        with bench.scope().enter():
            vectors.append(model.embed_documents(["one", "two"]))
    assert vectors[0] == vectors[1]
    assert bench.holds() == [(3 + 8 + 3 + 8) * 1_000]
    assert bench.charged == sum(bench.holds())


def test_a_model_without_a_price_or_a_name_is_not_metered(bench: Bench) -> None:
    """No price, no call; the error comes when the model is metered. Its credentials do not leak."""
    with pytest.raises(UnknownPrice, match="no-such-model"):
        embeddings(bench, model="no-such-model")
    with pytest.raises(ConfigurationError, match="does not say which model"):
        meter(DeterministicFakeEmbedding(size=3), price=Price("1", "0"))
    model = embeddings(bench)
    assert meter(model) is model
    assert SECRET not in repr(model)
    with pytest.raises(BursarError, match="pickle"):
        pickle.dumps(model)


def test_the_log_says_what_was_used(bench: Bench) -> None:
    """The settlement has the tokens that the provider counted."""
    with bench.scope().enter():
        embeddings(bench).embed_query("how much?")
    (settled,) = [row.event for row in bench.ledger.audit("s-1") if isinstance(row.event, CallSettled)]
    assert settled.input_tokens == bench.provider.bills[0].input_tokens
    assert settled.output_tokens == 0
