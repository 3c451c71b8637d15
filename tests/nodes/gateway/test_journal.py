"""What was paid for is not paid for again: the journal, seen from a run that is repeated."""

import asyncio
from typing import cast

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import BaseModel

from bursar.checkpoints.ledger import postings
from bursar.checkpoints.ledger.accounts import left
from bursar.checkpoints.ledger.calls import Hold
from bursar.nodes.gateway.paid_calls.journal import as_chunk, decode, encode
from bursar.nodes.gateway.providers.generic import GenericProvider
from tests.support.bench import Bench
from tests.support.provider import Reply


class Total(BaseModel):
    """A category's total."""

    category: str
    cents: int


def test_a_repeated_run_is_answered_from_the_journal(bench: Bench) -> None:
    """The same calls at the same place of the graph send nothing, cost nothing, and answer the same."""
    bench.provider.will(Reply(text="first"), Reply(text="second"))
    answers: list[str] = []
    for _ in range(2):
        with bench.scope().enter():
            answers += [bench.model().invoke("hello").text, bench.model().invoke("hello").text]
    assert answers == ["first", "second", "first", "second"]
    assert len(bench.provider.requests) == 2
    assert bench.charged == bench.provider.billed


def test_a_replay_needs_no_money(bench: Bench) -> None:
    """A request that has used up its budget can still replay what it had paid for."""
    with bench.scope("0.0005").enter():
        paid = bench.model().invoke("hello", max_tokens=700)
    bench.ledger.run(postings.hold, _filler(bench))
    with bench.scope("0.0005", max_turns=1).enter():
        assert bench.model().invoke("hello", max_tokens=700).text == paid.text
    assert len(bench.provider.requests) == 1


def test_a_stream_is_replayed_as_a_stream_and_as_an_answer(bench: Bench) -> None:
    """Whichever way an answer was read first, it is replayed in the way it is asked for; message ids do not matter."""
    model = bench.model()
    messages = [HumanMessage("hi", id="1"), AIMessage("yes?", id="2"), HumanMessage("hello", id="3")]

    async def main() -> str:
        return "".join([chunk.text async for chunk in model.astream(messages)])

    with bench.scope().enter():
        first = "".join(chunk.text for chunk in model.stream(messages))
    for message in messages:
        message.id = None
    with bench.scope().enter():
        again = model.invoke(messages)
    with bench.scope().enter():
        streamed = asyncio.run(main())
    assert first == again.text == streamed == "all is well"
    assert len(bench.provider.requests) == 1


def test_tool_calls_and_structured_output_are_replayed(bench: Bench) -> None:
    """A replayed answer has its tool calls and parses as the paid one did, streamed too."""
    arguments = {"category": "food", "cents": 1250}
    bench.provider.will(Reply(tool="Total", arguments=arguments), Reply(text='{"category": "food", "cents": 1250}'))
    model = bench.model()
    for _ in range(2):
        with bench.scope().enter():
            called = model.bind_tools([Total]).invoke("hello")
            assert called.tool_calls[0]["args"] == arguments
            parsed = model.with_structured_output(Total, method="json_schema").invoke("hello")
            assert parsed == Total(category="food", cents=1250)
    with bench.scope().enter():
        chunks = [cast(AIMessageChunk, chunk) for chunk in model.bind_tools([Total]).stream("hello")]
    assert chunks[0].tool_calls[0]["args"] == arguments
    assert len(bench.provider.requests) == 2


@pytest.mark.parametrize("change", [{"checkpoint_ns": "spending:2"}, {}])
def test_another_place_or_another_request_is_paid_for(bench: Bench, change: dict[str, str]) -> None:
    """A fork runs elsewhere in the graph, and other options are another request: both are paid for."""
    with bench.scope().enter():
        bench.model().invoke("hello")
    with bench.scope(**change).enter():
        bench.model().bind(**({} if change else {"temperature": 0.5})).invoke("hello")
    assert len(bench.provider.requests) == 2


def test_a_call_that_failed_and_was_made_again_is_replayed(bench: Bench) -> None:
    """An attempt without an answer does not count: the repeated run finds the answer of the attempt that had one."""
    bench.provider.will(Reply(status=400), Reply(text="at last"))
    model = bench.model().with_retry(stop_after_attempt=2)
    for _ in range(2):
        with bench.scope().enter():
            assert model.invoke("hello").text == "at last"
    assert len(bench.provider.requests) == 2
    assert bench.charged == bench.provider.billed


def test_an_unknown_call_is_not_replayed(bench: Bench) -> None:
    """A call whose end nobody saw has no answer: the repeated run sends it again, and both are charged."""
    bench.provider.will(Reply(cut_after=2))
    for attempt in range(2):
        with bench.scope().enter():
            if attempt == 0:
                with pytest.raises(Exception, match=r"."):
                    list(bench.model().stream("hello"))
            else:
                list(bench.model().stream("hello"))
    assert len(bench.provider.requests) == 2
    assert bench.charged >= bench.provider.billed


def test_an_answer_survives_the_journal() -> None:
    """Content, tool calls, usage and a parsed object come back; LangChain's run id does not."""
    message = AIMessage(
        "done",
        id="lc_run--1",
        tool_calls=[{"name": "t", "args": {"a": 1}, "id": "c1", "type": "tool_call"}],
        usage_metadata={"input_tokens": 3, "output_tokens": 2, "total_tokens": 5},
        additional_kwargs={"parsed": Total(category="food", cents=1)},
    )
    result = ChatResult(generations=[ChatGeneration(message=message)], llm_output={"model_name": "m"})
    kept = encode(result)
    assert kept is not None
    again = decode(kept)
    replayed = again.generations[0].message
    assert isinstance(replayed, AIMessage)
    assert (replayed.text, replayed.id, replayed.tool_calls) == ("done", None, message.tool_calls)
    assert replayed.additional_kwargs["parsed"] == {"category": "food", "cents": 1}  # pyright: ignore[reportUnknownMemberType]
    assert replayed.response_metadata["replayed"] is True  # pyright: ignore[reportUnknownMemberType]
    assert again.llm_output == {"model_name": "m"}
    assert cast(AIMessageChunk, as_chunk(again).message).tool_calls == message.tool_calls
    billed = GenericProvider().usage(again)
    assert billed is not None
    assert (billed.input_tokens, billed.output_tokens) == (3, 2)


def test_usage_of_zero_is_no_usage() -> None:
    """A provider that reports zeros did not count, and its hold is charged."""
    zero = AIMessage("done", usage_metadata={"input_tokens": 5, "output_tokens": 0, "total_tokens": 5})
    assert GenericProvider().usage(ChatResult(generations=[ChatGeneration(message=zero)])) is None


def test_what_cannot_be_written_down_is_not_kept() -> None:
    """An answer with a lone surrogate is given to the caller, and not replayed."""
    broken = ChatResult(generations=[ChatGeneration(message=ToolMessage("\ud800", tool_call_id="1"))])
    assert encode(broken) is None


def _filler(bench: Bench):

    rest = bench.ledger.run(left, ("request:r-1",))
    return Hold(
        call_id="filler",
        session_id="s-1",
        request_id="r-1",
        agent="other",
        checkpoint_ns="other:1",
        request_hash="f" * 64,
        occurrence=0,
        model="m",
        price_version="p",
        amount=rest or 0,
        scopes=("request:r-1",),
        at=bench.ledger.clock(),
    )
