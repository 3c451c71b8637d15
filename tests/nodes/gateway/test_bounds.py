"""Bounds: no tokeniser of bytes makes more input tokens than the bound, and every output cap fits its money."""

import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.messages.utils import message_chunk_to_message
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel

from bursar.nodes.gateway.bounds import write_identity, write_request
from bursar.nodes.gateway.prices import Price, price_of
from bursar.nodes.gateway.providers.anthropic import AnthropicProvider
from bursar.nodes.gateway.providers.generic import GenericProvider
from bursar.nodes.gateway.providers.openai import OpenAIProvider
from bursar.state.rules.pricing import ORDINARY_OUTPUT_TOKENS, output_cap
from bursar.state.text import mended

ANY = GenericProvider()
PRICE = price_of("m", None, Price("0.15", "0.60"))
# A byte-level tokeniser without merges is the worst there is: a token a byte. Real ones merge.
BYTES = tiktoken.Encoding(
    "bytes",
    pat_str=r"[\s\S]",
    mergeable_ranks={**{bytes([byte]): byte for byte in range(256)}, b"th": 256, b"the": 257},
    special_tokens={"<|end|>": 300},
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)


def _count(text: str) -> int:
    return len(BYTES.encode(text, disallowed_special=()))


@given(st.lists(st.tuples(st.sampled_from([HumanMessage, SystemMessage, AIMessage]), texts), max_size=8), texts)
def test_no_conversation_has_more_tokens_than_its_bound(said: list[tuple[type[BaseMessage], str]], name: str) -> None:
    """Texts, names and four marks a message, counted by the worst byte-level tokeniser, are within the bound."""
    messages = [made(text, name=name or None) for made, text in said]
    tokens = sum(_count(message.text) + _count(message.name or "") + 4 for message in messages) + 3
    assert tokens <= write_request(b"{}", messages, {}, provider=OpenAIProvider()).input_tokens


@given(texts, texts, st.dictionaries(texts, texts, max_size=4))
def test_tool_calls_and_their_results_are_inside_the_bound(name: str, result: str, args: dict[str, str]) -> None:
    """A call's name, id and arguments, and its result, are sent as text and counted."""
    import json

    call = AIMessage("", tool_calls=[{"name": name, "args": args, "id": "call_1", "type": "tool_call"}])
    messages = [call, ToolMessage(result, tool_call_id="call_1")]
    compact = json.dumps(args, ensure_ascii=False, separators=(",", ":"))
    tokens = _count(name) + _count(compact) + _count(result) + 2 * _count("call_1") + 11
    assert tokens <= write_request(b"{}", messages, {}, provider=OpenAIProvider()).input_tokens


@given(texts, st.lists(texts, min_size=1, max_size=5))
def test_schemas_are_inside_the_bound(description: str, fields: list[str]) -> None:
    """A tool's whole schema is counted, and so is the schema of a structured answer."""
    schema = {
        "type": "object",
        "properties": {field: {"type": "string", "description": description} for field in fields},
    }
    tool = {"type": "function", "function": {"name": "t", "description": description, "parameters": schema}}
    spoken = sum(_count(field) + 2 * _count(description) for field in set(fields)) // 2 + _count(description)
    for options in ({"tools": [tool]}, {"response_format": {"type": "json_schema", "json_schema": tool["function"]}}):
        assert spoken <= write_request(b"{}", [], options, provider=OpenAIProvider()).input_tokens


class Total(BaseModel):
    """A category's total."""

    category: str
    cents: int | None = None


def test_a_schema_given_as_a_class_is_written_out() -> None:
    """The strict schema that a provider is sent for a class is within what the class counts for."""
    import json

    sent = len(json.dumps(convert_to_openai_tool(Total, strict=True)))
    assert write_request(b"{}", [], {"response_format": Total}, provider=OpenAIProvider()).input_tokens >= sent


def test_hidden_prompts_have_an_allowance() -> None:
    """Anthropic's own prompt for tools is counted when tools are sent, and only then."""
    tools = {"tools": [convert_to_openai_tool(Total)]}
    here = write_request(b"{}", [], tools, provider=AnthropicProvider()).input_tokens
    assert here - write_request(b"{}", [], tools, provider=OpenAIProvider()).input_tokens == 1_024
    assert write_request(b"{}", [], {}, provider=AnthropicProvider()).input_tokens < 100


@given(st.lists(texts, min_size=1, max_size=4))
def test_a_request_is_the_same_however_its_messages_came(said: list[str]) -> None:
    """Ids, response metadata and the streamed form of an answer make no other request; another word does."""
    plain = [AIMessage(text) for text in said]
    streamed = [
        AIMessageChunk(content=text, id="lc_run--9", response_metadata={"model_name": "m"}, chunk_position="last")
        for text in said
    ]
    first = write_request(b"{}", plain, {}, provider=ANY)
    assert write_request(b"{}", list(streamed), {}, provider=ANY) == first
    assert write_request(b"{}", [message_chunk_to_message(m) for m in streamed], {}, provider=ANY) == first
    assert write_request(b"{}", [*plain, HumanMessage("x")], {}, provider=ANY).hash != first.hash
    assert write_request(b"{}", plain, {"temperature": 1}, provider=ANY).hash != first.hash
    assert write_request(write_identity({"model": "other"}), plain, {}, provider=ANY).hash != first.hash


@pytest.mark.parametrize("options", [{}, {"stop": ["\ud800"]}])
def test_half_a_character_has_no_bound(options: dict[str, object]) -> None:
    """No provider takes it: the caller mends the request, and the mended one has a bound."""
    messages = [HumanMessage("hi" if options else "\ud800")]
    with pytest.raises(UnicodeEncodeError):
        write_request(b"{}", messages, options, provider=GenericProvider())
    assert write_request(b"{}", mended(messages), mended(options), provider=GenericProvider()).input_tokens > 3


@given(
    st.integers(0, 20_000),
    st.integers(0, 50_000_000),
    st.none() | st.integers(1, 50_000),
    st.integers(1, 32_000),
    st.integers(1, 2_000),
    st.integers(1, 4),
)
def test_a_cap_always_fits_its_money(
    input_tokens: int, left: int, asked: int | None, maximum: int, minimum: int, choices: int
) -> None:
    """A cap is never above what is asked, allowed or affordable, nor below the minimum; None means it does not fit."""
    cap = output_cap(
        PRICE,
        input_tokens=input_tokens,
        left=left,
        asked=asked,
        maximum=maximum,
        minimum=minimum,
        choices=choices,
    )
    wanted = min(asked or maximum, maximum)
    if cap is None:
        assert PRICE.worst_case(input_tokens, min(minimum, wanted) * choices) > left
    else:
        assert min(minimum, wanted) <= cap <= wanted
        assert PRICE.worst_case(input_tokens, cap * choices) <= left


@pytest.mark.parametrize(
    ("left", "asked", "cap"),
    [
        (None, None, 16_384),  # no account has a cap: the model's own maximum
        (None, 100, 100),
        (100_000_000, None, 16_384),
        (10_000_000, None, 10_000_000 // 4 // 600),  # a quarter of what is left
        (10_000_000, 16_384, 16_384),  # asked for, and it fits
        (1_000_000, None, ORDINARY_OUTPUT_TOKENS),  # an ordinary answer, if that is more than a quarter
        (200_000, None, 333),  # all that is left
    ],
)
def test_without_a_wish_a_call_takes_a_share(left: int | None, asked: int | None, cap: int) -> None:
    """A caller that asks for no cap leaves room for the others."""
    shaped = output_cap(PRICE, input_tokens=0, left=left, asked=asked, maximum=16_384, minimum=64)
    assert shaped == cap
