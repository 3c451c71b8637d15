"""A chat model that is traced also if it is called in a thread that was started by hand."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatResult
from langchain_core.runnables import RunnableConfig

from bursar.nodes.gateway.paid_calls.scope import current_scope
from bursar.state.langgraph_private import AMBIENT_CONFIG

A = TypeVar("A", ChatResult, ChatResult | None)


class ChatModelInThreads(BaseChatModel):
    """A chat model whose calls are traced as part of the run that started the thread of the call."""

    def invoke(
        self,
        input: LanguageModelInput,  # noqa: A002 - the name of the base class
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AIMessage:
        with self._traced_in_thread():
            return super().invoke(input, config, stop=stop, **kwargs)

    async def ainvoke(
        self,
        input: LanguageModelInput,  # noqa: A002 - the name of the base class
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AIMessage:
        with self._traced_in_thread():
            return await super().ainvoke(input, config, stop=stop, **kwargs)

    def _traced_in_thread(self) -> AbstractContextManager[object]:
        """Return a block in which LangChain finds the run's trace, if this thread knows nothing of LangChain's context.

        A thread that is started by hand, or a job of a pool, has the scope of the run, but not LangChain's context.
        LangChain would start a trace of its own for each call there, without the call's cost.
        """
        scope = current_scope()
        if scope is None or scope.closed or scope.observers is None or AMBIENT_CONFIG.get():
            return nullcontext()
        return scope.observers.traced()
