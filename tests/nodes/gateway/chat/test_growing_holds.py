"""Streams that hold less: the hold grows while the stream is received, and a step that does not fit ends the stream."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from langchain_core.messages import AIMessageChunk

from bursar.checkpoints.ledger import administration, postings
from bursar.checkpoints.ledger.spend import spend_of
from bursar.nodes.gateway.chat_model import MeteredChatModel
from bursar.nodes.gateway.meter import meter
from bursar.nodes.gateway.paid_calls.scope import Scope
from bursar.state.errors import ConfigurationError, LedgerError
from bursar.state.events import CallHoldRaised, CallRefused, Incident
from bursar.state.refusals import BudgetExceeded
from tests.nodes.gateway.chat.paced import AHEAD, PacedProvider, paced
from tests.support.bench import NOW, SESSION, Bench, make_bench
from tests.support.provider import Reply

WORDS = 300
LONG = Reply(text=" ".join(["word"] * WORDS), shape="cumulative")
SLACK = 32
OUTPUT = 600  # nano-dollars for a token


@pytest.fixture
def slow() -> Iterator[PacedProvider]:
    """A provider that is never far ahead of its reader. Its answers have 300 words, and report the tokens so far."""
    with paced() as provider:
        provider.default = LONG
        yield provider


@pytest.fixture
def books(slow: PacedProvider, any_url: str) -> Iterator[Bench]:
    """A bench with that provider, on SQLite and on PostgreSQL. When the test ends, its log must verify."""
    yield from make_bench(slow, any_url)


def growing(bench: Bench, slack: int = SLACK) -> MeteredChatModel:
    """Return a model whose holds grow."""
    return meter(bench.chat(), growing_holds=True, slack_tokens=slack)


def charged(bench: Bench, scope: Scope) -> int:
    """Return what the scope's request was charged, with its holds."""
    spend = bench.ledger.run(spend_of, f"request:{scope.request_id}")
    return (spend.spent + spend.held).nanos


def raised(bench: Bench) -> list[int]:
    """Return the amount of every raise so far."""
    events = [row.event for row in bench.ledger.audit(SESSION)]
    return [event.amount.nanos for event in events if isinstance(event, CallHoldRaised)]


def is_cut_short(chunks: list[AIMessageChunk]) -> bool:
    """Whether a chunk says that the budget cut the answer short."""
    return any("cut_short_by_budget" in chunk.response_metadata for chunk in chunks)


def test_a_stream_is_received_whole_under_a_hold_that_grows(books: Bench, slow: PacedProvider) -> None:
    """Each chunk is paid for when it arrives here; in the end exactly what was billed is charged."""
    text = 0
    with books.scope().enter():
        for chunk in growing(books).stream("hello", max_tokens=1_000):
            text += bool(chunk.text)
            # What has been passed on, and what the provider is ahead, is in the books already.
            assert books.charged >= slow.inputs * 150 + min(text + SLACK, WORDS) * OUTPUT or text == WORDS
            slow.read()
    assert text == WORDS
    assert slow.requests[0]["max_completion_tokens"] == 1_000
    [first] = books.holds()
    assert first < raised(books)[0] < raised(books)[-1] <= 1_000 * OUTPUT + 1_000 * 150
    assert len(raised(books)) == 2  # 96 tokens, 192, 384
    assert books.kinds() == ["call_held", *["call_hold_raised"] * 2, "call_settled"]
    assert books.charged == slow.billed


def test_a_step_that_does_not_fit_ends_the_stream_with_what_there_is(books: Bench, slow: PacedProvider) -> None:
    """The caller gets the text that was paid for, marked; charged is what may be billed, and within the budget."""
    budget, chunks = 110_000, list[AIMessageChunk]()
    with books.scope("0.00011").enter():
        for chunk in growing(books).stream("hello", max_tokens=1_000):
            chunks.append(chunk)
            slow.read()
    words = sum(bool(chunk.text) for chunk in chunks)
    assert 96 < words < WORDS
    assert is_cut_short(chunks)
    assert slow.written <= words + 1 + 2 * AHEAD
    assert slow.billed <= books.charged <= budget
    assert books.held == 0
    [refused] = [row.event for row in books.ledger.audit(SESSION) if isinstance(row.event, CallRefused)]
    assert refused.scope == "request:r-1"
    assert "its stream was ended" in refused.reason


def test_an_answer_that_was_cut_is_not_paid_again(books: Bench, slow: PacedProvider) -> None:
    """The repeated run gets it from the ledger, with its mark."""
    texts: list[str] = []
    for _ in range(2):
        chunks: list[AIMessageChunk] = []
        with books.scope("0.00011").enter():
            for chunk in growing(books).stream("hello", max_tokens=1_000):
                chunks.append(chunk)
                slow.read()
        assert is_cut_short(chunks)
        texts.append("".join(chunk.text for chunk in chunks))
    assert texts[0] == texts[1]
    assert len(slow.requests) == 1


def test_without_reports_each_byte_may_be_a_token(books: Bench, slow: PacedProvider) -> None:
    """The hold grows sooner, up to the whole cap; what the provider bills in the end is charged."""
    slow.default = Reply(text=LONG.text)
    with books.scope().enter():
        for _ in growing(books).stream("hello", max_tokens=600):
            slow.read()
    assert raised(books)[-1] >= 600 * OUTPUT
    assert books.charged == slow.billed


def test_without_usage_a_cut_stream_is_charged_no_less_than_billed(books: Bench, slow: PacedProvider) -> None:
    """Nobody reports the end of a stream that is hung up: it is charged by its text and the slack."""
    slow.default = Reply(text=LONG.text, usage=False)
    chunks: list[AIMessageChunk] = []
    with books.scope("0.00011").enter():
        for chunk in growing(books).stream("hello", max_tokens=1_000):
            chunks.append(chunk)
            slow.read()
    assert is_cut_short(chunks)
    assert slow.billed <= books.charged <= 110_000
    assert books.held == 0


def test_a_stream_that_nobody_reads_to_its_end_is_unknown_at_the_hold_as_it_stands(
    books: Bench, slow: PacedProvider
) -> None:
    """The grown hold stays charged, and it covers what was billed."""
    with books.scope().enter():
        stream = growing(books).stream("hello", max_tokens=1_000)
        for _, _ in zip(range(100), stream, strict=False):
            slow.read()
        stream.close()  # type: ignore[attr-defined]
    [one] = books.ledger.open_holds()
    assert one.amount.nanos == raised(books)[-1] == books.charged
    assert slow.billed <= books.charged


def test_an_ended_run_raises_no_hold(books: Bench, slow: PacedProvider) -> None:
    """A stream that outlives its run ends at the next step; until then its text was paid for."""
    scope, words = books.scope(), 0
    with scope.enter():
        for chunk in growing(books).stream("hello", max_tokens=1_000):
            words += bool(chunk.text)
            if words == 10:
                scope.close()
            slow.read()
    assert 10 < words < WORDS
    assert raised(books) == []
    assert slow.billed <= books.charged == books.charged - books.held


def test_a_closed_session_raises_no_hold(books: Bench, slow: PacedProvider) -> None:
    """An incident elsewhere in the session ends its growing streams at their next step."""
    words = 0
    with books.scope().enter():
        for chunk in growing(books).stream("hello", max_tokens=1_000):
            words += bool(chunk.text)
            if words == 10:
                books.ledger.run(administration.close, SESSION, Incident(what="elsewhere", closes=True), at=NOW)
            slow.read()
    assert 10 < words < WORDS
    assert raised(books) == []
    assert slow.billed <= books.charged
    books.ledger.run(administration.acknowledge, SESSION, note="seen", at=NOW)


def test_a_call_that_others_ended_raises_its_error(books: Bench, slow: PacedProvider) -> None:
    """If the session was taken over, its calls in flight are unknown; the old owner's stream does not go on."""
    words = 0
    with books.scope().enter():
        stream = growing(books).stream("hello", max_tokens=1_000)
        for _ in range(10):
            words += bool(next(stream).text)
            slow.read()
        books.ledger.run(postings.recover, SESSION, at=NOW)
        with pytest.raises(LedgerError, match="cannot be"):
            words += _rest(stream, slow)
    assert slow.written < WORDS
    assert slow.billed <= books.charged


def _rest(stream: Iterator[AIMessageChunk], slow: PacedProvider) -> int:
    """Read the stream to its end, and return how many words came."""
    words = 0
    for chunk in stream:
        words += bool(chunk.text)
        slow.read()
    return words


def test_async_streams_grow_too(books: Bench, slow: PacedProvider) -> None:
    """`astream` is held, raised and settled as `stream` is."""

    async def main() -> int:
        words = 0
        with books.scope().enter():
            async for chunk in growing(books).astream("hello", max_tokens=1_000):
                words += bool(chunk.text)
                slow.read()
        return words

    assert asyncio.run(main()) == WORDS
    assert len(raised(books)) == 2
    assert books.charged == slow.billed


def test_only_streams_that_were_told_to_hold_less(bench: Bench) -> None:
    """A whole answer, and a stream of a model that was not told so, hold their whole worst case and never more."""
    with bench.scope().enter():
        growing(bench).invoke("one", max_tokens=1_000)
        list(bench.model().stream("two", max_tokens=1_000))
    assert all(hold >= 1_000 * OUTPUT for hold in bench.holds())
    assert raised(bench) == []


def test_thoughts_that_no_stream_shows_are_held_whole(bench: Bench) -> None:
    """A model that thinks unseen is refused when it is metered, and so is a slack of nothing."""
    with pytest.raises(ConfigurationError, match="thoughts"):
        meter(bench.chat(model="o3-mini"), growing_holds=True)
    with pytest.raises(ConfigurationError, match="slack_tokens"):
        meter(bench.chat(), growing_holds=True, slack_tokens=0)
    assert meter(bench.chat(), growing_holds=True)


@pytest.mark.parametrize("grows", [True, False])
def test_streams_at_once_use_the_budget(bench: Bench, grows: bool) -> None:
    """Two tenants with twelve streams each, read in turns: the budget that they need one after the other is enough.

    With whole holds it is not: most of them are refused.
    """
    bench.provider.default = Reply(text=" ".join(["word"] * 120), shape="cumulative")
    model = meter(bench.chat(), growing_holds=grows, slack_tokens=SLACK)
    needed = 12 * (120 * OUTPUT + 20 * 150) + 1_000 * OUTPUT + 1_000 * 150
    whole = refused = 0
    for tenant in ("a", "b"):
        scope = bench.scope(f"0.{needed:09}", request=f"r-{tenant}")
        with ExitStack() as open_streams:
            open_streams.enter_context(scope.enter())
            streams = [iter(model.stream(f"{tenant} {number}", max_tokens=1_000)) for number in range(12)]
            while streams:
                for stream in list(streams):
                    try:
                        if next(stream, None) is None:
                            streams.remove(stream)
                            whole += 1
                    except BudgetExceeded:
                        streams.remove(stream)
                        refused += 1
        assert charged(bench, scope) <= needed
    assert (whole, refused) == ((24, 0) if grows else (whole, 24 - whole))
    assert grows or refused >= 16
    ended = [bench.ledger.run(spend_of, f"request:r-{tenant}") for tenant in ("a", "b")]
    assert sum(one.spent.nanos for one in ended) == bench.provider.billed
