"""OpenAI as a provider, and servers that speak its protocol through a class of langchain-openai."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage

from bursar.nodes.gateway.providers.base import BilledUsage, CacheAdvice, Failure, ProviderClient
from bursar.nodes.gateway.providers.fields import HIDING_PLACES
from bursar.nodes.gateway.providers.generic import GenericProvider, ancestry, mapping, setting
from bursar.state.errors import ConfigurationError

CAP_OPTION_OF: Mapping[str, str] = {
    "ChatOpenAI": "max_completion_tokens",
    "AzureChatOpenAI": "max_completion_tokens",
    "BaseChatOpenAI": "max_tokens",
}


CACHE_KEY = "prompt_cache_key"
HOST = "api.openai.com"  # regions have addresses below it


class OpenAIProvider(GenericProvider):
    """The provider of chat models whose class inherits from a class of langchain-openai."""

    def matches(self, model: BaseChatModel, /) -> bool:
        """Whether the model's class inherits from a class of langchain-openai."""
        return any(name in CAP_OPTION_OF for name in ancestry(model))

    def prepare(self, model: BaseChatModel, /) -> ProviderClient:
        """Return the client of `GenericProvider.prepare`, with the URL of the model's server added.

        The seller of the model is found by that URL. Raises `ConfigurationError` if `use_previous_response_id` is set:
        the model would go on with a conversation that the provider keeps, and whose tokens nobody counts here.
        """
        if setting(model, "use_previous_response_id"):
            raise ConfigurationError(
                "use_previous_response_id goes on with what the provider keeps, whose tokens are not counted here; "
                "leave it off, so that each call sends its whole conversation"
            )
        base_url = setting(model, "openai_api_base")
        return replace(super().prepare(model), base_url=base_url if isinstance(base_url, str) else None)

    def cap_option(self, model: BaseChatModel) -> str:
        """Return the cap option of the nearest class of langchain-openai among the model's ancestors."""
        return next(CAP_OPTION_OF[name] for name in ancestry(model) if name in CAP_OPTION_OF)

    def send_options(
        self, client: ProviderClient, options: Mapping[str, object], *, cap: int, timeout_seconds: float | None
    ) -> dict[str, object]:
        """Return the options of `GenericProvider.send_options`, and a request timeout of at most `timeout_seconds`.

        If the caller or the model has set a timeout that is not a number of seconds, that timeout stays.
        """
        sent = super().send_options(client, options, cap=cap, timeout_seconds=timeout_seconds)
        if timeout_seconds is not None and "BaseChatOpenAI" in ancestry(client.model):
            own = sent.get("timeout", setting(client.model, "request_timeout"))
            if own is None or isinstance(own, int | float):
                sent["timeout"] = timeout_seconds if own is None else min(own, timeout_seconds)
        return sent

    def use_cache(
        self, client: ProviderClient, messages: list[BaseMessage], options: dict[str, object], advice: CacheAdvice, /
    ) -> tuple[list[BaseMessage], dict[str, object]]:
        """Return the options with a `prompt_cache_key`, if the server knows that field or the user asked for it.

        OpenAI sends calls with the same key and the same beginning to the same machine, which has the prompt in its
        cache. A key of the caller's, or of the model's settings, stays.
        """
        if not (advice.asked or _is_openai(client.model)) or _names_key(client.model, options):
            return messages, options
        return messages, {**options, CACHE_KEY: advice.key}

    def failure(self, error: BaseException, *, answered: bool, now: datetime, seconds_left: float | None) -> Failure:
        """Return the failure of `GenericProvider.failure`.

        If the SDK's error has an answer that the SDK could not parse, add the usage of that answer to the failure.
        """
        failure = super().failure(error, answered=answered, now=now, seconds_left=seconds_left)
        usage = _usage_in(error)
        return failure if usage is None else replace(failure, usage=usage)


def _is_openai(model: BaseChatModel) -> bool:
    """Whether the model's calls go to OpenAI itself, by the address of the SDK's client."""
    host = getattr(getattr(setting(model, "root_client"), "base_url", None), "host", None)
    return isinstance(host, str) and (host == HOST or host.endswith(f".{HOST}"))


def _names_key(model: BaseChatModel, options: Mapping[str, object]) -> bool:
    """Whether the caller or the model's own settings name a key for the cache."""
    own = [mapping(setting(model, place)) for place in HIDING_PLACES]
    return any(CACHE_KEY in fields for fields in (options, mapping(options.get("extra_body")), *own))


def _usage_in(error: BaseException) -> BilledUsage | None:
    usage = getattr(getattr(error, "completion", None), "usage", None)
    sent, received = getattr(usage, "prompt_tokens", None), getattr(usage, "completion_tokens", None)
    if not isinstance(sent, int) or not isinstance(received, int) or sent <= 0 or received < 0:
        return None
    return BilledUsage(input_tokens=sent, output_tokens=received)
