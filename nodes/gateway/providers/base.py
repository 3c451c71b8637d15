"""The seam for model providers: the `Provider` protocol, the values it answers with, and `register_provider`."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from langchain_core.language_models import BaseChatModel
from langchain_core.outputs import ChatResult

from bursar.checkpoints.ledger.calls import Usage


@dataclass(frozen=True, slots=True)
class ProviderClient:
    """A copy of a chat model that is fit for the gateway: it sends each call once, and its answers report their usage.

    `cap_option` is the call option that caps the output. Calls are priced as `name` from `seller`, a provider's name
    in genai-prices, or from whom genai-prices knows at `base_url`.
    """

    model: BaseChatModel
    cap_option: str
    name: str
    seller: str | None = None
    base_url: str | None = None


@dataclass(frozen=True, slots=True)
class BilledUsage(Usage):
    """Tokens as a provider billed them. `long_cache_write_tokens` of the cache writes are kept for an hour."""

    long_cache_write_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Failure:
    """How a call failed. `owed`: nothing if the provider refused it or never saw it, unknown otherwise.

    `retry`: the same call may be sent again, after `pause_seconds` where the server named them. `at_fault`: the fault
    is the provider's, not the call's, and counts for the model's breaker. `usage`: what was billed for an answer that
    arrived whole and could not be read; then this is charged, whatever is `owed`. `reason` is kept in the log, so it
    never quotes the request.
    """

    owed: Literal["nothing", "unknown"]
    retry: bool
    reason: str
    pause_seconds: float | None = None
    at_fault: bool = False
    usage: BilledUsage | None = None


class Provider(Protocol):
    """What the gateway must know of a provider of chat models. The money follows what it answers."""

    def matches(self, model: BaseChatModel, /) -> bool:
        """Whether the model is one of this provider's."""
        ...

    def prepare(self, model: BaseChatModel, /) -> ProviderClient:
        """A copy of the model for the gateway; the model itself is left as it is.

        Raises `ConfigurationError` if its output cannot be capped, or its own retries cannot be turned off.
        """
        ...

    def send_options(
        self, client: ProviderClient, options: Mapping[str, object], *, cap: int, timeout_seconds: float | None
    ) -> dict[str, object]:
        """The caller's options as they are sent: with this output cap, and no longer wait than the run's deadline."""
        ...

    def usage(self, result: ChatResult, /) -> BilledUsage | None:
        """What the provider says it billed for an answer. None if it does not say: then the hold is charged."""
        ...

    def failure(self, error: BaseException, *, answered: bool, now: datetime, seconds_left: float | None) -> Failure:
        """Read what sending raised. `answered`: part of the answer had arrived.

        `seconds_left` is what the deadline of the run leaves, None without one.
        """
        ...

    def hidden_input_tokens(self, tools: int, /) -> int:
        """The most input tokens that the provider adds out of sight to a call with so many tools."""
        ...


_registered: tuple[Provider, ...] = ()


def register_provider(provider: Provider) -> None:
    """From here on, `meter` asks this provider before all that it knows, and takes it for the models that it matches.

    Models that are metered already keep the provider that they have.
    """
    global _registered  # noqa: PLW0603 - a process has one list
    _registered = (provider, *_registered)


def registered_providers() -> tuple[Provider, ...]:
    """The providers that were registered, the newest first."""
    return _registered
