"""The provider of any LangChain chat model: with an output cap, with usage in the answer, without retries."""

import types
from collections.abc import Callable, Collection, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from typing import TypeVar, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.outputs import ChatResult
from pydantic import BaseModel

from bursar.nodes.gateway.providers.base import BilledUsage, Failure, FoundCall, LookUp, Provider, ProviderClient
from bursar.nodes.gateway.providers.failures import failure_of
from bursar.nodes.gateway.providers.fields import CAP_OPTIONS, HIDING_PLACES
from bursar.nodes.gateway.providers.sdk_clients import Connecting, client_once, route_hidden_clients
from bursar.state.refusals import Refused

DEFAULT_MAX_OUTPUT_TOKENS = 4_096  # if neither the caller nor the model's profile names a maximum
USAGE_OPTIONS = frozenset({"stream_usage", "stream_options"})  # the gateway decides these

THINKING_FIELDS = (
    *("thinking", "thinking_budget", "thinking_level", "reasoning", "reasoning_effort"),
    *("effort", "output_config", "think"),
)
NO_THINKING: tuple[object, ...] = (None, False, 0, "none", {}, {"type": "disabled"}, {"effort": "none"})

M = TypeVar("M", bound=BaseModel)
Wrap = Callable[[Callable[..., object]], Callable[..., object]]


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

    def can_look_up(self, client: ProviderClient, options: Mapping[str, object], /) -> bool:
        """Return False: a generic provider keeps no calls."""
        return False

    def name_call(self, client: ProviderClient, options: Mapping[str, object], /, *, call_id: str) -> dict[str, object]:
        """Return the options as they are."""
        return dict(options)

    def look_up(self, call: LookUp, /) -> FoundCall | None:
        """Return None: what became of the call cannot be known."""
        return None


def asked_cap(client: ProviderClient, options: Mapping[str, object], *, maximum: int) -> int | None:
    """Return the lowest output cap in the call's options and the model's own settings, None if neither has a cap.

    A setting that is not below `maximum`, the most that the model may write, is no cap: `ChatAnthropic` has it anyway.
    """
    asked = [count(options.get(name)) for name in (*CAP_OPTIONS, client.cap_option)]
    own = [count(setting(client.model, name)) for name in ("max_tokens", client.cap_option)]
    caps = [*asked, *(cap for cap in own if cap < maximum)]
    return min((cap for cap in caps if cap), default=None)


def thinking_tokens(client: ProviderClient, options: Mapping[str, object]) -> int:
    """Return the output tokens that the call sets aside for thinking, 0 if none; an output cap must be above them."""
    extra = mapping(options.get("extra_body") or setting(client.model, "extra_body"))
    asked = [
        options,
        extra,
        {name: setting(client.model, name) for name in ("thinking", "reasoning", "thinking_budget")},
    ]
    budgets = [count(one.get("thinking_budget")) for one in asked]
    budgets += [count(mapping(one.get("thinking")).get("budget_tokens")) for one in asked]
    budgets += [count(mapping(one.get("reasoning")).get("max_tokens")) for one in asked]
    return max(budgets)


def may_think_unseen(client: ProviderClient, options: Mapping[str, object]) -> bool:
    """Whether the call or the model's settings ask for thinking in any way, or the call names another model.

    Nobody knows then whether the stream shows all that is billed.
    """
    if options.get("model") not in (None, client.name):
        return True
    hidden = [mapping(options.get(place) or setting(client.model, place)) for place in HIDING_PLACES]
    own = {name: setting(client.model, name) for name in THINKING_FIELDS}
    asked = (one.get(name) for one in (options, own, *hidden) for name in THINKING_FIELDS)
    return any(value not in NO_THINKING for value in asked)


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
    known = mapping(model.profile).get("max_output_tokens")
    return known if isinstance(known, int) and known > 0 else DEFAULT_MAX_OUTPUT_TOKENS


def without_retries(model: M) -> M:
    """Return a copy of the model that sends each call once, and whose answers report their usage.

    A retry inside the provider's SDK would be a second charge under one hold. The copy sends by HTTP clients that
    belong to the event loop that uses them (see `sdk_clients`).
    """
    update: dict[str, object] = {}
    fields, connecting = type(model).model_fields, Connecting.of(model)
    for name in fields:
        value = setting(model, name)
        # What is sent with each call is copied: the caller may still change their own dict.
        once: object = deepcopy(value) if isinstance(value, dict) else client_once(value, connecting)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        if once is not value:
            update[name] = once
    if "max_retries" in fields:
        update["max_retries"] = 0
    if "stream_usage" in fields:
        update["stream_usage"] = True
    if "streaming" in fields:
        update["streaming"] = False  # the gateway itself chooses between an answer and a stream
    settings = mapping(update.get("model_kwargs"))
    if USAGE_OPTIONS & settings.keys():
        update["model_kwargs"] = {key: value for key, value in settings.items() if key not in USAGE_OPTIONS}
    copy = model.model_copy(update=update)
    for derived in copy.__dict__.keys() - fields.keys():
        vars(copy).pop(derived)  # a cached client was made with the old settings
    route_hidden_clients(copy)
    return copy


def with_method(model: M, name: str, wrap: Wrap) -> M:
    """Return a copy of the model whose method `name` is what `wrap` makes of the method.

    The copy's class inherits from the model's class and has its name, so that traces and hashes do not change.
    """
    copy = model.model_copy()
    object.__setattr__(copy, "__class__", _class_with_method(type(model), name, wrap))
    return copy


@lru_cache(maxsize=64)
def _class_with_method(base: type[BaseModel], name: str, wrap: Wrap) -> type[BaseModel]:
    def method(model: BaseModel, *args: object, **options: object) -> object:
        return wrap(getattr(super(derived, model), name))(*args, **options)

    named = {"__module__": base.__module__, "__qualname__": base.__qualname__}
    derived: type[BaseModel] = types.new_class(
        base.__name__, (base,), exec_body=lambda body: body.update({**named, name: method})
    )
    return derived


def own_fields(model: BaseChatModel) -> Mapping[str, object]:
    """Return the fields that the model adds to every request by itself.

    They are its own defaults, and the settings in which more fields may hide.
    """
    hiding = {place: setting(model, place) for place in HIDING_PLACES}
    return {**mapping(setting(model, "_default_params")), **hiding}


def class_settings(model: BaseChatModel, name: str, without: Collection[str]) -> Mapping[str, object]:
    """Return the settings that class `name`, of which the model's class inherits, adds to those of every chat model.

    Only settings that differ from their default are returned, and none in `without`.
    """
    ancestor = next((one for one in type(model).__mro__ if one.__name__ == name and issubclass(one, BaseModel)), None)
    fields = {} if ancestor is None else ancestor.model_fields
    own = fields.keys() - BaseChatModel.model_fields.keys() - {*HIDING_PLACES, *without}
    given = {name: setting(model, name) for name in sorted(own)}
    return {name: value for name, value in given.items() if value != fields[name].get_default()}


def setting(model: BaseModel, name: str) -> object:
    """Return the model's own setting of this name, None if the model has no such setting."""
    return getattr(model, name, None)


def ancestry(model: BaseChatModel) -> Sequence[str]:
    """Return the names of the model's class and of its base classes.

    Names are compared, so that no provider's package has to be imported.
    """
    return [ancestor.__name__ for ancestor in type(model).__mro__]


def _billed(reported: Mapping[str, object]) -> BilledUsage | None:
    inputs, outputs = mapping(reported.get("input_token_details")), mapping(reported.get("output_token_details"))
    short, long = _sum(inputs, "ephemeral_5m_input_tokens"), _sum(inputs, "ephemeral_1h_input_tokens")
    usage = BilledUsage(
        input_tokens=count(reported.get("input_tokens")),
        output_tokens=count(reported.get("output_tokens")),
        cache_read_tokens=_sum(inputs, "cache_read"),
        cache_write_tokens=max(_sum(inputs, "cache_creation"), short + long),
        reasoning_tokens=_sum(outputs, "reasoning"),
        long_cache_write_tokens=long,
    )
    parts = usage.input_tokens + usage.output_tokens
    usage = replace(usage, other_tokens=max(0, count(reported.get("total_tokens")) - parts))
    if usage.input_tokens == 0 or usage.output_tokens == 0:
        return None  # a call has input and an answer has tokens, so 0 means that the provider did not count
    return usage


def _sum(details: Mapping[str, object], name: str) -> int:
    """Return the sum of the counts in `details` whose key is `name` or ends in `_` and `name`.

    For example `priority_cache_read`, with a service tier before the name, counts as `cache_read`.
    """
    return sum(count(value) for key, value in details.items() if key == name or key.endswith(f"_{name}"))


def count(value: object) -> int:
    """Return a count of tokens as it was reported; 0 for what is no count."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def mapping(value: object) -> Mapping[str, object]:
    """Return the value if it is a mapping, otherwise an empty one."""
    return cast(Mapping[str, object], value) if isinstance(value, Mapping) else {}
