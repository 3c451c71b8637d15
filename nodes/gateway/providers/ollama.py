"""Ollama as a provider: models on one's own machines, free or at a price of one's own."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import cast

from langchain_core.language_models import BaseChatModel

from bursar.nodes.gateway.providers.base import ProviderClient
from bursar.nodes.gateway.providers.fields import COMMON_FIELDS
from bursar.nodes.gateway.providers.generic import (
    GenericProvider,
    ancestry,
    class_settings,
    own_fields,
    setting,
    with_method,
)
from bursar.state.errors import ConfigurationError

CAP_OPTION = "num_predict"
TEMPLATE_TOKENS = 1_024  # a model's own template and system prompt, which the server adds
CHAT_PARAMS = "_chat_params"  # of `ChatOllama`: returns what is sent
CLIENT_SETTINGS = frozenset(
    {"base_url", "client_kwargs", "async_client_kwargs", "sync_client_kwargs", "validate_model_on_init", CAP_OPTION}
)


class OllamaProvider(GenericProvider):
    """The provider of chat models whose class inherits from `ChatOllama`."""

    allowed_fields = COMMON_FIELDS | {  # how the server samples and where it computes: none adds tokens
        *("keep_alive", "think", "top_logprobs", "num_ctx", "num_keep", "num_batch", "num_gpu", "main_gpu"),
        *("num_thread", "numa", "use_mmap", "use_mlock", "low_vram", "repeat_last_n", "penalize_newline"),
        *("typical_p", "tfs_z", "mirostat", "mirostat_eta", "mirostat_tau"),
    }

    def matches(self, model: BaseChatModel, /) -> bool:
        """Whether the model's class inherits from `ChatOllama`."""
        return "ChatOllama" in ancestry(model)

    def prepare(self, model: BaseChatModel, /) -> ProviderClient:
        """Return the client of `GenericProvider.prepare`. Its model sends the cap of each call to the server.

        `ChatOllama` itself has no option of a call for that: the cap is one of the server's `options`, and those of a
        call replace all settings of the model. Raises `ConfigurationError` if this version of `ChatOllama` cannot be
        capped.
        """
        client, base_url = super().prepare(model), setting(model, "base_url")
        if not hasattr(client.model, CHAT_PARAMS):
            raise ConfigurationError(
                f"this {type(model).__name__} is not built as langchain-ollama 1.1 is, so its output cannot be capped; "
                "install langchain-ollama 1.1, or say how it is capped: meter(model, provider=…)"
            )
        capped = with_method(client.model, CHAT_PARAMS, _capped)
        return replace(client, model=capped, base_url=base_url if isinstance(base_url, str) else None)

    def own_fields(self, model: BaseChatModel) -> Mapping[str, object]:
        """Return the fields that the model adds to every request: `ChatOllama` sends most of its settings."""
        return {**own_fields(model), **class_settings(model, "ChatOllama", CLIENT_SETTINGS)}

    def cap_option(self, model: BaseChatModel) -> str:
        """Return `num_predict`."""
        return CAP_OPTION

    def hidden_input_tokens(self, tools: int, /) -> int:
        """Return a bound of the tokens of a model's template, by which the server writes the prompt."""
        return TEMPLATE_TOKENS


def _capped(chat_params: Callable[..., object]) -> Callable[..., object]:
    """Return `chat_params`, with the cap of the call among the `options` that it returns."""

    def with_cap(*args: object, num_predict: int, **options: object) -> object:
        params = cast("dict[str, object]", chat_params(*args, **options))
        return {**params, "options": {**cast("dict[str, object]", params["options"]), CAP_OPTION: num_predict}}

    return with_cap
