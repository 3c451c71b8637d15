"""The guard against models that were not put behind the gateway: a callback that raises when such a model starts.

The guard misses models that are called with `callbacks=[]`, in threads started by hand, or directly through an SDK. So
it does not replace the gateway.
"""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, NoReturn
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler, BaseCallbackManager
from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ensure_config

from bursar.nodes.gateway.chat_model import MARK
from bursar.state.langgraph_private import ambient_config
from bursar.state.refusals import Unmetered


class UnmeteredGuard(BaseCallbackHandler):
    """A callback that raises `Unmetered` when a model starts outside the gateway, before anything is sent."""

    raise_error = True  # otherwise LangChain logs what a callback raises, and goes on
    run_inline = True  # otherwise an async model may be called before this callback runs

    def on_chat_model_start(
        self,
        serialized: dict[str, Any] | None,
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Raise `Unmetered` unless the chat model carries the mark that `meter` puts into its metadata."""
        if not MARK.items() <= (metadata or {}).items():
            _veto(serialized)

    def on_llm_start(
        self,
        serialized: dict[str, Any] | None,
        prompts: list[str],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Raise `Unmetered` for every text model, because a text model cannot be metered."""
        _veto(serialized)


_VETO = UnmeteredGuard()


@contextmanager
def forbid_unmetered(config: RunnableConfig) -> Generator[None]:
    """Make every model that is not metered raise `Unmetered` in the block.

    In the block, LangChain's current config is `config` with an `UnmeteredGuard` among its callbacks. A Runnable takes
    from the current config what its caller does not pass. So a model is not guarded if its caller passes `callbacks`
    without the guard.
    """
    ours = ensure_config(config)  # a copy of `config`, filled up from the ambient config
    callbacks = ours.get("callbacks")
    if isinstance(callbacks, BaseCallbackManager):
        callbacks.add_handler(_VETO)
    else:
        ours["callbacks"] = [_VETO, *(callbacks or ())]
    with ambient_config(ours):
        yield


def _veto(serialized: dict[str, Any] | None) -> NoReturn:
    name = (serialized or {}).get("name") or "a model"
    raise Unmetered(f"{name} is not metered, and this session's budget would not bound it; use meter(model)")
