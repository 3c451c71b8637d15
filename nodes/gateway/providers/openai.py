"""OpenAI, and the servers that speak its protocol behind a class of langchain-openai."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from langchain_core.language_models import BaseChatModel

from bursar.nodes.gateway.providers.base import BilledUsage, Failure, ProviderClient
from bursar.nodes.gateway.providers.generic import GenericProvider, ancestry, setting

CAP_OPTION_OF: Mapping[str, str] = {"ChatOpenAI": "max_completion_tokens", "BaseChatOpenAI": "max_tokens"}


class OpenAIProvider(GenericProvider):
    """A chat model whose class inherits from one of OpenAI's."""

    def matches(self, model: BaseChatModel, /) -> bool:
        """A model of such a class."""
        return any(name in CAP_OPTION_OF for name in ancestry(model))

    def prepare(self, model: BaseChatModel, /) -> ProviderClient:
        """As for any model; its server says who sells it."""
        base_url = setting(model, "openai_api_base")
        return replace(super().prepare(model), base_url=base_url if isinstance(base_url, str) else None)

    def cap_option(self, model: BaseChatModel) -> str:
        """As the class next to the model's own has it."""
        return next(CAP_OPTION_OF[name] for name in ancestry(model) if name in CAP_OPTION_OF)

    def send_options(
        self, client: ProviderClient, options: Mapping[str, object], *, cap: int, timeout_seconds: float | None
    ) -> dict[str, object]:
        """As for any model, and no longer wait than the run's deadline allows."""
        sent = super().send_options(client, options, cap=cap, timeout_seconds=timeout_seconds)
        if timeout_seconds is not None and "BaseChatOpenAI" in ancestry(client.model):
            own = sent.get("timeout", setting(client.model, "request_timeout"))
            if own is None or isinstance(own, int | float):
                sent["timeout"] = timeout_seconds if own is None else min(own, timeout_seconds)
        return sent

    def failure(self, error: BaseException, *, answered: bool, now: datetime, seconds_left: float | None) -> Failure:
        """As for any model, with the usage of an answer that could not be parsed, which the SDK's error keeps."""
        failure = super().failure(error, answered=answered, now=now, seconds_left=seconds_left)
        usage = _usage_in(error)
        return failure if usage is None else replace(failure, usage=usage)


def _usage_in(error: BaseException) -> BilledUsage | None:
    usage = getattr(getattr(error, "completion", None), "usage", None)
    sent, received = getattr(usage, "prompt_tokens", None), getattr(usage, "completion_tokens", None)
    if not isinstance(sent, int) or not isinstance(received, int) or sent <= 0 or received < 0:
        return None
    return BilledUsage(input_tokens=sent, output_tokens=received)
