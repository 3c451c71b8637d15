"""Streams whose words are where nobody looks, or are not shown: a hold that grows still pays for what is billed."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from bursar.nodes.gateway.meter import meter
from bursar.state.events import CallHoldRaised, Incident
from tests.nodes.gateway.chat.paced import PacedHandler, PacedProvider, paced
from tests.support.bench import SESSION, Bench, make_bench
from tests.support.provider import Bill, Reply

OUTPUT = 600  # nano-dollars for a token
WORDS = 300
LONG = Reply(text=" ".join(["word"] * WORDS))


class _Hiding(PacedProvider):
    """A paced provider whose words are in the field `place` of a chunk, and not in its text. It bills them the same.

    With the place "content" they are in the text, and each chunk reports that no token was written.
    """

    place = "content"

    def handler(self) -> type[PacedHandler]:
        return _HidingHandler


class _HidingHandler(PacedHandler):
    def events(self, body: Any, reply: Reply, bill: Bill) -> Iterator[str]:
        for piece in super().events(body, reply, bill):
            yield self._moved(piece, bill.input_tokens) if super().is_word(piece) else piece

    def is_word(self, piece: str) -> bool:
        return "word" in piece

    def _moved(self, piece: str, sent: int) -> str:
        assert isinstance(self.provider, _Hiding)
        place, chunk = self.provider.place, json.loads(piece.removeprefix("data: "))
        delta = chunk["choices"][0]["delta"]
        word = delta.pop("content")
        delta[place] = {"name": "f", "arguments": word} if place == "function_call" else word
        if place == "content":
            chunk["usage"] = {"prompt_tokens": sent, "completion_tokens": 0, "total_tokens": sent}
        return f"data: {json.dumps(chunk)}\n\n"


@pytest.fixture(params=["function_call", "refusal", "reasoning", "content"])
def hiding(request: pytest.FixtureRequest) -> Iterator[_Hiding]:
    """A provider that hides its words in one of these places."""
    with paced(_Hiding) as provider:
        assert isinstance(provider, _Hiding)
        provider.place, provider.default = str(request.param), LONG
        yield provider


@pytest.fixture
def books(hiding: _Hiding, any_url: str) -> Iterator[Bench]:
    """A bench with that provider, on SQLite and on PostgreSQL. When the test ends, its log must verify."""
    yield from make_bench(hiding, any_url)


def receive(bench: Bench, provider: PacedProvider, *, budget: str) -> None:
    """Receive a stream, under a hold that grows, until it ends or is hung up."""
    with bench.scope(budget).enter():
        for _ in meter(bench.chat(), growing_holds=True, slack_tokens=32).stream("hello", max_tokens=600):
            provider.read()


def raises(bench: Bench) -> list[CallHoldRaised]:
    """Return the events that tell of raised holds."""
    return [row.event for row in bench.ledger.audit(SESSION) if isinstance(row.event, CallHoldRaised)]


def test_hidden_words_are_never_billed_above_the_budget(books: Bench, hiding: _Hiding) -> None:
    """If what the model may have written no longer fits, the stream is hung up before the provider bills it."""
    receive(books, hiding, budget="0.00011")
    assert hiding.written < WORDS
    assert hiding.billed <= books.charged <= 110_000
    assert books.held == 0


def test_hidden_words_are_paid_for_if_they_fit(books: Bench, hiding: _Hiding) -> None:
    """With money enough the hold grows up to the whole cap, and exactly what was billed is charged."""
    receive(books, hiding, budget="0.01")
    assert hiding.written == WORDS
    assert raises(books)[-1].amount.nanos >= WORDS * OUTPUT
    assert books.charged == hiding.billed
    assert not any(isinstance(row.event, Incident) for row in books.ledger.audit(SESSION))


@pytest.mark.parametrize(
    "asked",
    [
        {"reasoning_effort": "high"},
        {"extra_body": {"reasoning_effort": "low"}},
        {"extra_body": {"thinking": {"type": "adaptive"}}},
        {"model": "gpt-4o"},
    ],
)
def test_a_call_that_may_think_unseen_holds_its_whole_worst_case(asked: dict[str, Any], bench: Bench) -> None:
    """A call that asks for thinking, or for another model, holds all of its cap; one that asks for none holds less."""
    model = meter(bench.chat(), growing_holds=True)
    bench.provider.default = Reply(reasoning_tokens=200)
    with bench.scope().enter():
        list(model.bind(max_tokens=1_000, **asked).stream("hello"))
        list(model.stream("hello", max_tokens=1_000, reasoning_effort=None))
    whole, part = bench.holds()
    assert whole >= 1_000 * OUTPUT > part
    assert bench.charged == bench.provider.billed
