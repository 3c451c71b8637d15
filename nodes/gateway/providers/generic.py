"""The provider of any LangChain chat model: with an output cap, with usage in the answer, without retries."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Protocol, TypeVar, cast, runtime_checkable

from langchain_core.language_models import BaseChatModel
from langchain_core.outputs import ChatResult
from pydantic import BaseModel

from bursar.nodes.gateway.providers.base import BilledUsage, Failure, Provider, ProviderClient
from bursar.nodes.gateway.providers.failures import failure_of
from bursar.state.refusals import Refused

CAP_OPTIONS = ("max_completion_tokens", "max_tokens", "max_output_tokens", "num_predict", "max_new_tokens")
DEFAULT_MAX_OUTPUT_TOKENS = 4_096  # if neither the caller nor the model's profile names a maximum
USAGE_OPTIONS = frozenset({"stream_usage", "stream_options"})  # the gateway decides these

M = TypeVar("M", bound=BaseModel)


@runtime_checkable
class _SDKClient(Protocol):
    """An SDK's client whose retries can be set, as those of openai, anthropic and groq."""

    max_retries: int

    def with_options(self, *, max_retries: int) -> object: ...


class GenericProvider(Provider):
    """The provider of every chat model that keeps to LangChain's conventions."""

    def matches(self, model: BaseChatModel, /) -> bool:
        """Return True: every model matches."""
        return True

    def prepare(self, model: BaseChatModel, /) -> ProviderClient:
        """Return the client for the model, with a copy of the model that does not retry and that reports usage.

        If the model takes no output cap, `cap_option` is empty.
        """
        traced = model._get_ls_params()  # pyright: ignore[reportPrivateUsage]
        name = traced.get("ls_model_name") or model.get_name()
        return ProviderClient(without_retries(model), self.cap_option(model), name, traced.get("ls_provider"))

    def cap_option(self, model: BaseChatModel) -> str:
        """Return the call option that caps the model's output; empty if there is none."""
        fields = type(model).model_fields
        capped = "max_tokens" in fields or any(field.alias == "max_tokens" for field in fields.values())
        return "max_tokens" if capped else ""

    def send_options(
        self, client: ProviderClient, options: Mapping[str, object], *, cap: int, timeout_seconds: float | None
    ) -> dict[str, object]:
        """Return the caller's options with `cap` as their only output cap. If the model takes no cap, none is added.

        The caller's options that ask for a report of usage are left out, because the gateway itself asks for it.
        `timeout_seconds` is not used, because LangChain's models have no common option for a timeout.
        """
        sent = {key: value for key, value in options.items() if key not in CAP_OPTIONS and key not in USAGE_OPTIONS}
        return {**sent, client.cap_option: cap} if client.cap_option else sent

    def usage(self, result: ChatResult, /) -> BilledUsage | None:
        """Return the `usage_metadata` of the answer; None if it reports no input tokens or no output tokens."""
        for generation in result.generations:
            reported = getattr(generation.message, "usage_metadata", None)
            if isinstance(reported, Mapping):
                return _billed(cast(Mapping[str, object], reported))
        return None

    def failure(self, error: BaseException, *, answered: bool, now: datetime, seconds_left: float | None) -> Failure:
        """Return what is owed and who is at fault, by the HTTP status and the class of the error."""
        return failure_of(error, answered=answered, now=now, seconds_left=seconds_left)

    def hidden_input_tokens(self, tools: int, /) -> int:
        """Return 0: a generic provider adds no tokens of its own to a call."""
        return 0


def asked_cap(client: ProviderClient, options: Mapping[str, object]) -> int | None:
    """Return the lowest output cap in the call's options and the model's own settings, None if neither has a cap."""
    names = {*CAP_OPTIONS, client.cap_option}
    given = [*(options.get(name) for name in names), setting(client.model, "max_tokens")]
    caps = [cap for cap in given if isinstance(cap, int) and not isinstance(cap, bool) and cap > 0]
    return min(caps, default=None)


def thinking_tokens(client: ProviderClient, options: Mapping[str, object]) -> int:
    """Return the output tokens that the call sets aside for thinking, 0 if none; an output cap must be above them."""
    extra = _mapping(options.get("extra_body") or setting(client.model, "extra_body"))
    asked = [
        options,
        extra,
        {name: setting(client.model, name) for name in ("thinking", "reasoning", "thinking_budget")},
    ]
    budgets = [_count(one.get("thinking_budget")) for one in asked]
    budgets += [_count(_mapping(one.get("thinking")).get("budget_tokens")) for one in asked]
    budgets += [_count(_mapping(one.get("reasoning")).get("max_tokens")) for one in asked]
    return max(budgets)


def asked_choices(client: ProviderClient, options: Mapping[str, object]) -> int:
    """Return the number of answers that the call asks for; each may reach the cap.

    Raises `Refused` if the option `n` is no number of answers.
    """
    asked = options.get("n")
    if asked is None:
        asked = setting(client.model, "n")
    if asked is None:
        return 1
    if not isinstance(asked, int) or asked < 1:
        raise Refused(f"n={asked!r} is no number of answers")
    return asked


def asked_tier(client: ProviderClient, options: Mapping[str, object]) -> str | None:
    """Return the service tier that the call asks for, None without one. A tier may cost more than the standard."""
    asked = options.get("service_tier") or setting(client.model, "service_tier")
    return asked if isinstance(asked, str) else None


def known_max_output_tokens(model: BaseChatModel) -> int:
    """Return the maximum of output tokens in the model's profile; `DEFAULT_MAX_OUTPUT_TOKENS` if it has none."""
    known = _mapping(model.profile).get("max_output_tokens")
    return known if isinstance(known, int) and known > 0 else DEFAULT_MAX_OUTPUT_TOKENS


def without_retries(model: M) -> M:
    """Return a copy of the model that sends each call once, and whose answers report their usage.

    A retry inside the provider's SDK would be a second charge under one hold.
    """
    update: dict[str, object] = {}
    fields = type(model).model_fields
    for name in fields:
        value = setting(model, name)
        once = _client_once(value)
        if once is not value:
            update[name] = once
    if "max_retries" in fields:
        update["max_retries"] = 0
    if "stream_usage" in fields:
        update["stream_usage"] = True
    if "streaming" in fields:
        update["streaming"] = False  # the gateway itself chooses between an answer and a stream
    settings = _mapping(setting(model, "model_kwargs"))
    if USAGE_OPTIONS & settings.keys():
        update["model_kwargs"] = {key: value for key, value in settings.items() if key not in USAGE_OPTIONS}
    copy = model.model_copy(update=update)
    for derived in copy.__dict__.keys() - fields.keys():
        vars(copy).pop(derived)  # a cached client was made with the old settings
    return copy


def setting(model: BaseModel, name: str) -> object:
    """Return the model's own setting of this name, None if the model has no such setting."""
    return getattr(model, name, None)


def ancestry(model: BaseChatModel) -> Sequence[str]:
    """Return the names of the model's class and of its base classes.

    Names are compared, so that no provider's package has to be imported.
    """
    return [ancestor.__name__ for ancestor in type(model).__mro__]


def _client_once(value: object) -> object:
    if isinstance(value, _SDKClient):
        return value if value.max_retries == 0 else value.with_options(max_retries=0)
    owner = getattr(value, "_client", None)
    if isinstance(owner, _SDKClient):  # a resource such as `client.chat.completions`
        once = _client_once(owner)
        return value if once is owner else type(value)(once)  # type: ignore[call-arg]
    return value


def _billed(reported: Mapping[str, object]) -> BilledUsage | None:
    inputs, outputs = _mapping(reported.get("input_token_details")), _mapping(reported.get("output_token_details"))
    short, long = _sum(inputs, "ephemeral_5m_input_tokens"), _sum(inputs, "ephemeral_1h_input_tokens")
    usage = BilledUsage(
        input_tokens=_count(reported.get("input_tokens")),
        output_tokens=_count(reported.get("output_tokens")),
        cache_read_tokens=_sum(inputs, "cache_read"),
        cache_write_tokens=max(_sum(inputs, "cache_creation"), short + long),
        reasoning_tokens=_sum(outputs, "reasoning"),
        long_cache_write_tokens=long,
    )
    parts = usage.input_tokens + usage.output_tokens
    usage = replace(usage, other_tokens=max(0, _count(reported.get("total_tokens")) - parts))
    if usage.input_tokens == 0 or usage.output_tokens == 0:
        return None  # a call has input and an answer has tokens, so 0 means that the provider did not count
    return usage


def _sum(details: Mapping[str, object], name: str) -> int:
    """Return the sum of the counts in `details` whose key is `name` or ends in `_` and `name`.

    For example `priority_cache_read`, with a service tier before the name, counts as `cache_read`.
    """
    return sum(_count(value) for key, value in details.items() if key == name or key.endswith(f"_{name}"))


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _mapping(value: object) -> Mapping[str, object]:
    return cast(Mapping[str, object], value) if isinstance(value, Mapping) else {}
