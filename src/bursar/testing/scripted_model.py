"""Test double for a chat model: it answers from a script and costs nothing."""

import json
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeAlias, cast

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import PrivateAttr

BYTES_PER_TOKEN = 4

Reply: TypeAlias = "str | AIMessage | Exception"
Scripted: TypeAlias = "Reply | Callable[[list[BaseMessage]], Reply]"


class ScriptError(AssertionError):
    """Raised if a model was called more often, or less often, than its script says."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call as the model got it. `usage` is that of the answer, None if the call raised.

    `options` has, among others, the tools and the output cap.
    """

    messages: tuple[BaseMessage, ...]
    options: dict[str, Any]
    usage: UsageMetadata | None


class _Script:
    """The replies to come and the calls so far. A model shares it with all its copies and bindings."""

    def __init__(self, replies: Sequence[Scripted]) -> None:
        self.lock = threading.Lock()
        self.replies = deque(replies)
        self.calls: list[Call] = []
        self.unexpected = 0


class ScriptedModel(BaseChatModel):
    """A chat model that gives `replies` one after the other and costs nothing.

    A reply is a text, an `AIMessage` (with tool calls, or with its own `usage_metadata`), an exception to raise, or a
    function of the messages that returns one of these. Like a provider, the model keeps to the output cap of a call and
    reports its usage: four bytes of the prompt are a token, and so is each word of the answer. It streams word by word,
    takes tools and structured output, and under `meter` is priced as `model`.

    A call beyond the script raises `ScriptError`. `check()`, and the end of a `with` block, raise `ScriptError` if
    replies are left over, or if there was a call beyond the script whose error an agent swallowed:

        with ScriptedModel(replies=["12.50 for food"]) as model:
            app = build(meter(model))
            ...
        assert model.calls[0].messages[-1].text == "how much for food?"
    """

    model: str = "gpt-4o-mini"
    max_tokens: int | None = None
    _script: _Script = PrivateAttr()

    def __init__(self, replies: Sequence[Scripted], **settings: Any) -> None:
        super().__init__(**settings)
        self._script = _Script(replies)

    @property
    def calls(self) -> list[Call]:
        """The calls that took a reply so far, also if the reply was an exception that the call raised."""
        return list(self._script.calls)

    @property
    def left(self) -> int:
        """The number of replies that no call has taken yet."""
        return len(self._script.replies)

    def check(self) -> None:
        """Raise `ScriptError` unless the calls took every reply, and no call was beyond the script."""
        if self._script.unexpected:
            raise ScriptError(f"{self._script.unexpected} calls beyond the script's {len(self.calls)}")
        if self.left:
            raise ScriptError(f"{self.left} replies of the script were not asked for")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.check()

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Return a Runnable that calls this model with these tools in the options of each call."""
        described = [convert_to_openai_tool(tool) for tool in tools]
        return self.bind(tools=described, tool_choice=tool_choice, **kwargs)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        message = self._next(messages, kwargs)
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return self._generate(messages, stop, None, **kwargs)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        for chunk in _chunks(self._next(messages, kwargs)):
            if run_manager is not None:
                run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in _chunks(self._next(messages, kwargs)):
            if run_manager is not None:
                await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    def _next(self, messages: list[BaseMessage], options: dict[str, Any]) -> AIMessage:
        script = self._script
        with script.lock:  # race: several threads take a reply at once
            if not script.replies:
                script.unexpected += 1
                raise ScriptError(f"call {len(script.calls) + script.unexpected} is beyond the script")
            scripted = script.replies.popleft()
        reply = scripted(messages) if callable(scripted) else scripted
        message = None if isinstance(reply, Exception) else self._written(reply, messages, options)
        with script.lock:
            script.calls.append(Call(tuple(messages), options, None if message is None else message.usage_metadata))
        if message is None:
            raise cast(Exception, reply)
        return message

    def _written(self, reply: "str | AIMessage", messages: list[BaseMessage], options: dict[str, Any]) -> AIMessage:
        message = AIMessage(reply) if isinstance(reply, str) else reply.model_copy()
        if message.usage_metadata is not None:
            return message
        words = message.text.split(" ") if message.text else []
        cap = options.get("max_tokens") or self.max_tokens
        if cap is not None and len(words) > cap:
            message = message.model_copy(update={"content": " ".join(words[:cap])})
            words = words[:cap]
        called = [json.dumps(call["args"]) for call in message.tool_calls]
        sent = sum(len(m.text.encode()) for m in messages) + len(json.dumps(options.get("tools") or ""))
        received = max(1, len(words) + sum(-(-len(text) // BYTES_PER_TOKEN) for text in called))
        received = received if cap is None else min(received, cap)
        inputs = max(1, sent // BYTES_PER_TOKEN)
        usage = UsageMetadata(input_tokens=inputs, output_tokens=received, total_tokens=inputs + received)
        return message.model_copy(update={"usage_metadata": usage})

    @property
    def _llm_type(self) -> str:
        return "scripted"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": self.model}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        return LangSmithParams(ls_provider="openai", ls_model_name=self.model, ls_model_type="chat")


def _chunks(message: AIMessage) -> Iterator[ChatGenerationChunk]:
    words = message.text.split(" ") if message.text else []
    for index, word in enumerate(words):
        yield _chunk(AIMessageChunk(content=f" {word}" if index else word, id=message.id))
    calls = [
        tool_call_chunk(name=call["name"], args=json.dumps(call["args"]), id=call["id"], index=index)
        for index, call in enumerate(message.tool_calls)
    ]
    usage = message.usage_metadata
    last = AIMessageChunk(
        content="", tool_call_chunks=calls, usage_metadata=usage, id=message.id, chunk_position="last"
    )
    yield _chunk(last)


def _chunk(message: AIMessageChunk) -> ChatGenerationChunk:
    return ChatGenerationChunk(message=message)
