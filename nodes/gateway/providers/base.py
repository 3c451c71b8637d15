"""Extension point for model providers: the `Provider` protocol, the values that it returns, and `register_provider`."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol, cast, runtime_checkable
from urllib.parse import urlsplit

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatResult

from bursar.state.rules.pricing import BilledUsage


@dataclass(frozen=True, slots=True)
class ProviderClient:
    """A copy of a chat model for the gateway. It sends each call once, and its answers report their usage.

    `cap_option` is the call option that caps the output. A call costs what genai-prices lists for model `name`. The
    seller is the provider at `base_url` if genai-prices lists that URL, otherwise `seller`, a name in genai-prices.
    `price_hint` is said to the caller if the model has no price.
    """

    model: BaseChatModel
    cap_option: str
    name: str
    seller: str | None = None
    base_url: str | None = None
    price_hint: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """How a call failed. `owed` is "nothing" if the provider refused the call or never saw it, otherwise "unknown".

    If `retry`, the same call may be sent again, after `pause_seconds` if the server asks for a pause. If `at_fault`,
    the provider is at fault, not the call, and the failure counts for the model's breaker. `usage` is the usage billed
    for an answer that arrived whole but could not be read; it is charged, whatever `owed` says. `reason` is kept in the
    log, so it never quotes the request.
    """

    owed: Literal["nothing", "unknown"]
    retry: bool
    reason: str
    pause_seconds: float | None = None
    at_fault: bool = False
    usage: BilledUsage | None = None


@dataclass(frozen=True, slots=True)
class LookUp:
    """A call whose end nobody saw, as a provider is asked for it.

    `model` is the model's name, `client` the client that sent the call or that would send it, `held_at` when it may
    have been sent, at the earliest. The look-up should end within `timeout_seconds`; later nobody waits for it.
    """

    call_id: str
    model: str
    client: ProviderClient
    held_at: datetime
    timeout_seconds: float


@dataclass(frozen=True, slots=True)
class FoundCall:
    """A call as its provider has kept it: the usage that it billed, and the answer, None if it has not kept that.

    If not `finished`, the model is still writing, and nothing is booked.
    """

    usage: BilledUsage
    answer: ChatResult | None = None
    finished: bool = True


@dataclass(frozen=True, slots=True)
class CacheAdvice:
    """What a provider needs to know of a call to use its prompt cache.

    `key` is the same for all calls of one agent of one tenant to one model. `asked` is what `meter` was given as
    `prompt_cache`. The static part is the tools and the system messages before all others; it has at most `static_size`
    tokens, and the whole prompt at most `size`. `static_pays` and `whole_pays` say whether a write of that part to the
    cache is expected to pay.
    """

    key: str
    asked: bool | None
    static_size: int
    size: int
    static_pays: bool
    whole_pays: bool


class Provider(Protocol):
    """What the gateway must know of a provider of chat models. The gateway charges by what its methods return."""

    def matches(self, model: BaseChatModel, /) -> bool:
        """Whether this provider serves the model, so that `meter` uses this provider for it."""
        ...

    def prepare(self, model: BaseChatModel, /) -> ProviderClient:
        """Return the client with a copy of the model for the gateway. The model itself is not changed.

        Raises `ConfigurationError` if the model's output cannot be capped, or its own retries cannot be turned off.
        """
        ...

    def send_options(
        self, client: ProviderClient, options: Mapping[str, object], *, cap: int, timeout_seconds: float | None
    ) -> dict[str, object]:
        """Return the options to send: the options of the caller, with the output cap `cap`, in tokens.

        The call must wait at most `timeout_seconds`, the time to the run's deadline; None is no deadline.
        """
        ...

    def usage(self, result: ChatResult, /) -> BilledUsage | None:
        """Return the usage that the provider billed for an answer.

        If the answer does not report its usage, return None: the call is charged at its hold.
        """
        ...

    def failure(self, error: BaseException, *, answered: bool, now: datetime, seconds_left: float | None) -> Failure:
        """Return what is owed after an error of sending, and whether the same call may be sent again.

        `answered` says that part of the answer had arrived. `now` is the current time, for a date in the provider's
        `Retry-After`. `seconds_left` is the time to the run's deadline, None without a deadline.
        """
        ...

    def hidden_input_tokens(self, tools: int, /) -> int:
        """Return the most input tokens that the provider itself adds to a call with `tools` tools."""
        ...


class CallFinder(Protocol):
    """What a provider may have, too, if it can find out what became of a call. Without it, it knows of no call."""

    def can_look_up(self, client: ProviderClient, options: Mapping[str, object], /) -> bool:
        """Whether `look_up` may find a call that is sent with these options of the caller."""
        ...

    def name_call(self, client: ProviderClient, options: Mapping[str, object], /, *, call_id: str) -> dict[str, object]:
        """Return the options to send, with what makes the call known to the provider by `call_id`.

        `options` are those of `send_options`. What is added must not cost anything.
        """
        ...

    def look_up(self, call: LookUp, /) -> FoundCall | None:
        """Return the call as the provider has kept it; None if it was not found, or cannot be known.

        It runs in a thread of its own. An error that it raises counts as None.
        """
        ...


@runtime_checkable
class CachingProvider(Protocol):
    """A provider that does something of its own for its prompt cache."""

    def use_cache(
        self, client: ProviderClient, messages: list[BaseMessage], options: dict[str, object], advice: CacheAdvice, /
    ) -> tuple[list[BaseMessage], dict[str, object]]:
        """Return the messages and options to send, with what the provider's cache needs.

        What is added must not raise the call's worst case. The messages given are not changed.
        """
        ...


def finder_of(provider: Provider) -> CallFinder | None:
    """Return the provider as one that finds calls, None if it lacks a method of `CallFinder`."""
    finds = all(hasattr(provider, name) for name in ("can_look_up", "name_call", "look_up"))
    return cast(CallFinder, provider) if finds else None


def model_breaker(name: str, provider: str | None, base_url: str | None) -> str:
    """Return the name of a model's breaker. Each model of each provider has a breaker of its own.

    If `base_url` is given, the model has one breaker for each server.
    """
    parts = urlsplit(base_url or "")
    port = f":{parts.port}" if parts.port else ""
    server = f"@{parts.hostname}{port}" if parts.hostname else ""  # not the part before the host: it holds credentials
    return f"model:{provider or 'unknown'}/{name}{server}"


_registered: tuple[Provider, ...] = ()


def register_provider(provider: Provider) -> None:
    """Make `meter` use this provider for the models that it matches, before all providers known so far.

    Models that are metered already keep their provider.
    """
    global _registered  # noqa: PLW0603 - a process has one list
    _registered = (provider, *_registered)


def registered_providers() -> tuple[Provider, ...]:
    """Return the registered providers, the newest first."""
    return _registered
