"""A model double that answers at once, so that a benchmark measures only the frameworks around the model."""

from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessage, BaseMessage, ToolCall, ToolMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

QUESTION = "how much did I spend on food in March"
ANSWER = "You spent $412.80 on food in March."
USAGE: UsageMetadata = {"input_tokens": 120, "output_tokens": 20, "total_tokens": 140}


class DoubledModel(BaseChatModel):
    """A model double that calls its first bound tool once in each conversation, and then gives `answer`.

    Without tools it gives `answer` at once.
    """

    model: str = "gpt-4o-mini"
    max_tokens: int = 200
    answer: str = ANSWER

    @property
    def _llm_type(self) -> str:
        return "doubled"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        return LangSmithParams(ls_provider="openai", ls_model_name=self.model, ls_model_type="chat")

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Return this model with the tools bound: every call gets the tools' schemas."""
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **kwargs)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        tools = kwargs.get("tools")
        name = tools[0]["function"]["name"] if tools else None
        if name and not any(isinstance(message, ToolMessage) and message.name == name for message in messages):
            call = ToolCall(name=name, args={}, id=f"call-{name}")
            message = AIMessage(content="", tool_calls=[call], usage_metadata=USAGE)
        else:
            message = AIMessage(content=self.answer, usage_metadata=USAGE)
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return self._generate(messages, stop, **kwargs)


def food_total() -> str:
    """What was spent on food in March."""
    return "$412.80"
