"""The journal: the answers that the ledger keeps for replay. Here an answer becomes bytes, and bytes an answer."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolCallChunk, message_chunk_to_message
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult, Generation
from langchain_core.outputs.chat_generation import merge_chat_generation_chunks
from pydantic_core import PydanticSerializationError, from_json, to_json

REPLAYED = "replayed"  # in `response_metadata` of an answer from the journal, which was not paid again
INSTEAD_OF = "instead_of"  # in `response_metadata` of a cheaper model's answer: the model that was too dear
CUT_SHORT = "cut_short_by_budget"  # in `response_metadata` of an answer that ended at a cap lowered for the budget
LANGCHAIN_RUN_ID = "lc_run-"
NOT_WRITTEN = frozenset({"type", "id", "index"})  # of a content block: the client or the server wrote them
MAX_DEPTH = 8  # of what a chunk has inside each other
BYTES_PER_LONG_TOKEN = 16  # a token has about 4 bytes; runs of spaces make the long ones


@dataclass(slots=True)
class Received:
    """The chunks of a stream that have arrived. `tokens` is never more than a provider could have billed for them.

    `reported` is what the provider's reports in the stream say of the output tokens so far, `size` is the most bytes
    that the model can have written, and `unreported` is the number of those that came after the last report. `blank`
    counts the chunks that show nothing at all: what the model wrote for them nobody sees.
    """

    chunks: list[ChatGenerationChunk] = field(default_factory=list[ChatGenerationChunk])
    tokens: int = 0
    reported: "OutputReports" = field(default_factory=lambda: OutputReports())
    size: int = 0
    unreported: int = 0
    blank: int = 0

    def add(self, chunk: ChatGenerationChunk) -> None:
        """Add one chunk, and count its tokens: at least one if there is any text in the chunk."""
        self.chunks.append(chunk)
        message, most = chunk.message, _most_bytes(chunk.message)
        self.tokens += _tokens(_size(message))
        self.size += most
        self.unreported += most
        if isinstance(message, AIMessageChunk) and message.usage_metadata:
            self.reported.add(message.usage_metadata)
            self.unreported = 0
        elif not most and not chunk.generation_info:
            self.blank += 1

    @property
    def most(self) -> int:
        """The most output tokens that the text so far can have: those reported, and one for each byte after that.

        Reports of fewer tokens than have certainly come say nothing: then each byte so far may be a token.
        """
        told = self.reported.most(self.tokens)
        return told + (self.unreported if told >= self.tokens else self.size)

    def result(self) -> ChatResult | None:
        """Return the chunks as one answer; None if no chunk arrived."""
        merged = merge_chat_generation_chunks(list(self.chunks))
        if merged is None:
            return None
        message = message_chunk_to_message(merged.message)
        usages = [chunk.message.usage_metadata for chunk in self.chunks if isinstance(chunk.message, AIMessageChunk)]
        if isinstance(message, AIMessage) and (last := _snapshot([usage for usage in usages if usage])) is not None:
            message.usage_metadata = last
        if isinstance(message, AIMessage) and self._goes_on_after(usages):
            message.usage_metadata = None  # the last report does not cover the answer, so nobody knows its cost
        return ChatResult(generations=[ChatGeneration(message=message, generation_info=merged.generation_info)])

    def _goes_on_after(self, usages: Sequence[UsageMetadata | None]) -> bool:
        """Whether the model wrote more after the last of the reports, of which each chunk has one or none."""
        last = max((place for place, usage in enumerate(usages) if usage), default=len(usages))
        return any(_size(chunk.message) for chunk in self.chunks[last + 1 :])


@dataclass(slots=True)
class OutputReports:
    """What the reports of a stream say of its output tokens: `total` is their sum, `last` the last of them.

    `is_so_far` is whether each report may cover the stream so far: none is lower than the one before.
    """

    total: int = 0
    last: int = 0
    is_so_far: bool = True

    def add(self, usage: UsageMetadata) -> None:
        """Count one report."""
        tokens = usage["output_tokens"]
        self.is_so_far = self.is_so_far and tokens >= self.last
        self.total, self.last = self.total + tokens, tokens

    def most(self, arrived: int) -> int:
        """Return the output tokens so far, if `arrived` tokens came for certain. What may be read in two ways is added.

        Reports that cover the stream so far are not lower than what has arrived; reports of one chunk each are.
        """
        return self.last if self.is_so_far and self.last >= arrived else self.total


def mark_replacement(message: BaseMessage, too_dear: str | None) -> None:
    """Write into the message's metadata that a cheaper model answered in place of the model named `too_dear`.

    `message` is the answer or its first chunk. If `too_dear` is None, no model was replaced, and nothing is changed.
    """
    if too_dear is not None:
        known = cast(Mapping[str, object], message.response_metadata)  # pyright: ignore[reportUnknownMemberType]
        message.response_metadata = {**known, INSTEAD_OF: too_dear}


def mark_cut_short(message: BaseMessage) -> None:
    """Write into the message's metadata that its session's budget cut it short."""
    known = cast(Mapping[str, object], message.response_metadata)  # pyright: ignore[reportUnknownMemberType]
    message.response_metadata = {**known, CUT_SHORT: True}


def without_text(chunk: ChatGenerationChunk) -> ChatGenerationChunk:
    """Return a chunk with the metadata of this one, and nothing that the model wrote."""
    known = cast(Mapping[str, object], chunk.message.response_metadata)  # pyright: ignore[reportUnknownMemberType]
    return ChatGenerationChunk(message=AIMessageChunk(content="", response_metadata=dict(known)))


def is_cut_short(generations: Sequence[Generation]) -> bool:
    """Whether a budget cut one of the answers short."""
    messages = [generation.message for generation in generations if isinstance(generation, ChatGeneration)]
    return any(CUT_SHORT in cast(Mapping[str, object], one.response_metadata) for one in messages)  # pyright: ignore[reportUnknownMemberType]


def reported_output(result: ChatResult) -> int | None:
    """Return the output tokens of the answer by its own `usage_metadata`; None if a part of it has none."""
    messages = [generation.message for generation in result.generations]
    usages = [message.usage_metadata if isinstance(message, AIMessage) else None for message in messages]
    return None if None in usages else sum(usage["output_tokens"] for usage in usages if usage is not None)


def least_tokens(result: ChatResult) -> int:
    """Return a number of output tokens that is never more than a provider could have billed for the answer."""
    return sum(_tokens(_size(generation.message)) for generation in result.generations)


def tool_calls_in(result: ChatResult) -> dict[str, str]:
    """Return the name of each tool call in an answer, keyed by a hash of the call's name and arguments.

    Equal calls have one entry.
    """
    found: dict[str, str] = {}
    for generation in result.generations:
        message = generation.message
        for call in message.tool_calls if isinstance(message, AIMessage) else ():
            what = json.dumps([call["name"], call["args"]], sort_keys=True, default=repr)
            found[hashlib.sha256(what.encode("utf-8", "surrogatepass")).hexdigest()] = call["name"]
    return found


def encode(result: ChatResult) -> bytes | None:
    """Return the answer as bytes for the ledger to keep. If it has no form in JSON, return None: it is not kept."""
    generations = [
        {"message": generation.message, "info": generation.generation_info} for generation in result.generations
    ]
    try:
        return to_json(
            {"version": 1, "generations": generations, "output": result.llm_output},
            fallback=repr,
            inf_nan_mode="constants",
        )
    except (PydanticSerializationError, UnicodeEncodeError):
        return None


def decode(answer: bytes) -> ChatResult:
    """Return the answer from the bytes that `encode` wrote, with `replayed` set in its `response_metadata`."""
    written = from_json(answer)
    generations = [
        ChatGeneration(message=_message(entry["message"]), generation_info=entry["info"])
        for entry in written["generations"]
    ]
    return ChatResult(generations=generations, llm_output=written["output"])


def as_chunk(result: ChatResult) -> ChatGenerationChunk:
    """Return an answer as the only chunk of a stream."""
    generation = result.generations[0]
    message = cast(AIMessage, generation.message)
    calls = [
        ToolCallChunk(name=c["name"], args=_arguments(c["args"]), id=c["id"], index=index, type="tool_call_chunk")
        for index, c in enumerate([*message.tool_calls, *message.invalid_tool_calls])
    ]
    chunk = AIMessageChunk(
        content=message.content,  # pyright: ignore[reportUnknownMemberType]
        additional_kwargs={k: v for k, v in _kwargs(message).items() if k != "tool_calls"},
        response_metadata=dict(cast(Mapping[str, object], message.response_metadata)),  # pyright: ignore[reportUnknownMemberType]
        tool_call_chunks=calls,
        usage_metadata=message.usage_metadata,
        id=message.id,
        name=message.name,
        chunk_position="last",
    )
    return ChatGenerationChunk(message=chunk, generation_info=generation.generation_info)


def _message(written: Mapping[str, object]) -> AIMessage:
    message = AIMessage.model_validate(written)
    message.response_metadata = {**cast(dict[str, object], message.response_metadata), REPLAYED: True}  # pyright: ignore[reportUnknownMemberType]
    if message.id is not None and message.id.startswith(LANGCHAIN_RUN_ID):
        message.id = None  # LangChain names the message after its run; the new run gives a new id
    return message


def _arguments(arguments: object) -> str | None:
    return arguments if arguments is None or isinstance(arguments, str) else json.dumps(arguments)


def _snapshot(usages: Sequence[UsageMetadata]) -> UsageMetadata | None:
    """Return the usage of a whole stream if each of its reports covers the stream so far; otherwise return None.

    LangChain adds up the reports of a stream, which is right if None is returned. But some servers repeat the input
    tokens in every report, and give the output tokens of all chunks so far. Then the last report is the usage of the
    stream.
    """
    inputs = [usage["input_tokens"] for usage in usages if usage["input_tokens"]]
    outputs = [usage["output_tokens"] for usage in usages]
    repeated = len(inputs) > 1 and len(set(inputs)) == 1 and outputs == sorted(outputs)
    return usages[-1] if repeated and usages[-1]["input_tokens"] else None


def _tokens(size: int) -> int:
    """Return the fewest tokens that a text of `size` bytes can have: 0 if `size` is 0, otherwise at least one."""
    return max(1, size // BYTES_PER_LONG_TOKEN) if size else 0


def _size(message: BaseMessage) -> int:
    """Return the UTF-8 bytes of what the model wrote in a chunk: text, reasoning, tool names and arguments."""
    content = cast(str | Sequence[object], message.content)  # pyright: ignore[reportUnknownMemberType]
    size = len(content.encode("utf-8", "surrogatepass")) if isinstance(content, str) else sum(map(_block_size, content))
    for call in message.tool_call_chunks if isinstance(message, AIMessageChunk) else ():
        size += _text_size(call.get("args")) + _text_size(call.get("name"))
    return size + _text_size(_kwargs(message).get("reasoning_content"))


def _most_bytes(message: BaseMessage) -> int:
    """Return the most UTF-8 bytes that the model can have written in a chunk, wherever LangChain puts them.

    Arguments of a tool call may be in the content too, and count twice then.
    """
    written = [cast(object, message.content)]  # pyright: ignore[reportUnknownMemberType]
    written.append({name: value for name, value in _kwargs(message).items() if name != "tool_calls"})
    for call in message.tool_call_chunks if isinstance(message, AIMessageChunk) else ():
        written += [call.get("name"), call.get("args")]
    return sum(map(_bytes_in, written))


def _bytes_in(value: object, depth: int = 0) -> int:
    if depth == MAX_DEPTH:
        return len(repr(value).encode("utf-8", "surrogatepass"))
    if isinstance(value, Mapping):
        parts = [part for name, part in cast(Mapping[object, object], value).items() if name not in NOT_WRITTEN]
        return sum(_bytes_in(part, depth + 1) for part in parts)
    if isinstance(value, list | tuple):
        return sum(_bytes_in(part, depth + 1) for part in cast(Sequence[object], value))
    return _text_size(value)


def _block_size(block: object) -> int:
    if isinstance(block, str):
        return _text_size(block)
    return sum(_text_size(_mapping(block).get(name)) for name in ("text", "thinking", "reasoning", "input"))


def _text_size(text: object) -> int:
    return len(text.encode("utf-8", "surrogatepass")) if isinstance(text, str) else 0


def _kwargs(message: BaseMessage) -> Mapping[str, object]:
    return cast(Mapping[str, object], message.additional_kwargs)  # pyright: ignore[reportUnknownMemberType]


def _mapping(value: object) -> Mapping[str, object]:
    return cast(Mapping[str, object], value) if isinstance(value, Mapping) else {}
