"""A model double that answers what was recorded, with the tokens that were recorded."""

from collections.abc import Callable
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import PrivateAttr

from benchmarks.savings.cache_rules import CacheUse

Answers = Callable[[list[BaseMessage]], AIMessage]
MAX_OUTPUT_TOKENS = 4_096


class RecordedModel(BaseChatModel):
    """A chat model of a seller, so that it has that seller's price, which answers by a function of the messages."""

    model: str
    seller: str
    max_tokens: int = MAX_OUTPUT_TOKENS
    _answers: Answers = PrivateAttr()

    def __init__(self, answers: Answers, **settings: Any) -> None:
        super().__init__(**settings)
        self._answers = answers

    @property
    def _llm_type(self) -> str:
        return "recorded"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        return LangSmithParams(ls_provider=self.seller, ls_model_name=self.model, ls_model_type="chat")

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        message = _within(self._answers(messages), kwargs.get("max_tokens", self.max_tokens))
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return self._generate(messages, stop, **kwargs)


def _within(message: AIMessage, cap: int) -> AIMessage:
    """Return the answer, or its beginning without its tool calls if it is longer than the output cap."""
    usage = message.usage_metadata
    if usage is None or usage["output_tokens"] <= cap:
        return message
    cut = {**usage, "output_tokens": cap, "total_tokens": usage["input_tokens"] + cap}
    return AIMessage(message.text[:cap], usage_metadata=cut, response_metadata={"finish_reason": "length"})


def usage_of(inputs: int, outputs: int, cache: CacheUse | None = None) -> UsageMetadata:
    """Return the usage of a call as a provider reports it. What the cache read and wrote is part of the input."""
    usage = UsageMetadata(input_tokens=inputs, output_tokens=outputs, total_tokens=inputs + outputs)
    if cache is not None:
        usage["input_token_details"] = {"cache_read": cache.read, "cache_creation": cache.written}
    return usage
