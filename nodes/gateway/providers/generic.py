"""What a chat model's own client must do for the gateway: take an output cap, report usage, and not retry by itself."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar, cast, runtime_checkable

from langchain_core.language_models import BaseChatModel
from pydantic import BaseModel

from bursar.state.errors import ConfigurationError
from bursar.state.refusals import Refused

DEFAULT_MAX_OUTPUT_TOKENS = 4_096  # where neither the caller nor the model's profile says more
CAP_OPTIONS = ("max_completion_tokens", "max_tokens", "max_output_tokens", "num_predict", "max_new_tokens")
# By class name along the inheritance, so that no provider package is imported to ask.
CAP_OPTION_OF: Mapping[str, str] = {"ChatOpenAI": "max_completion_tokens", "BaseChatOpenAI": "max_tokens"}
USAGE_OPTIONS = frozenset({"stream_usage", "stream_options"})  # the gateway decides these

M = TypeVar("M", bound=BaseModel)


@runtime_checkable
class _SDKClient(Protocol):
    """The clients of openai, anthropic, groq, together: one generator makes them all."""

    max_retries: int

    def with_options(self, *, max_retries: int) -> object: ...


@dataclass(frozen=True, slots=True)
class ProviderClient:
    """A copy of a chat model that is fit for the gateway. `cap_option` is the call option that caps its output."""

    model: BaseChatModel
    cap_option: str
    name: str
    provider: str | None
    base_url: str | None
    streams: bool
    streams_async: bool

    def asked_cap(self, options: Mapping[str, object]) -> int | None:
        """The lowest output cap that the caller or the model's own settings name, None if neither does."""
        given = [*(options.get(name) for name in CAP_OPTIONS), _field(self.model, "max_tokens")]
        caps = [cap for cap in given if isinstance(cap, int) and not isinstance(cap, bool) and cap > 0]
        return min(caps, default=None)

    def choices(self, options: Mapping[str, object]) -> int:
        """How many answers the call asks for; each may reach the cap."""
        asked = options.get("n") or _field(self.model, "n") or 1
        if not isinstance(asked, int) or asked < 1:
            raise Refused(f"n={asked!r} is no number of answers")
        return asked

    def service_tier(self, options: Mapping[str, object]) -> str | None:
        """The provider's service tier that the call asks for, which can cost more than the standard one."""
        asked = options.get("service_tier") or _field(self.model, "service_tier")
        return asked if isinstance(asked, str) else None

    def capped(self, options: Mapping[str, object], cap: int, timeout_seconds: float | None) -> dict[str, object]:
        """The options as they are sent: one output cap, and no longer wait than the run's deadline allows."""
        sent = {key: value for key, value in options.items() if key not in CAP_OPTIONS and key not in USAGE_OPTIONS}
        sent[self.cap_option] = cap
        if timeout_seconds is not None and "BaseChatOpenAI" in _ancestry(self.model):
            own = sent.get("timeout", _field(self.model, "request_timeout"))
            if own is None or isinstance(own, int | float):
                sent["timeout"] = timeout_seconds if own is None else min(own, timeout_seconds)
        return sent


def client_of(model: BaseChatModel) -> ProviderClient:
    """A copy of `model` for the gateway; the original is left as it is.

    Raises `ConfigurationError` when it takes no output cap, hides one where it would win over the gateway's, or keeps
    a client whose own retries cannot be turned off.
    """
    for place in ("model_kwargs", "extra_body"):
        hidden = sorted(set(CAP_OPTIONS) & _mapping(_field(model, place)).keys())
        if hidden:
            raise ConfigurationError(f"{hidden[0]} in {place} would win over the gateway's cap; set max_tokens instead")
    traced = model._get_ls_params()  # pyright: ignore[reportPrivateUsage]
    name = traced.get("ls_model_name") or model.get_name()
    copy = without_retries(model)
    base_url = _field(model, "openai_api_base")
    return ProviderClient(
        model=copy,
        cap_option=_cap_option(model),
        name=name,
        provider=traced.get("ls_provider"),
        base_url=base_url if isinstance(base_url, str) else None,
        streams=_overrides(model, "_stream"),
        streams_async=_overrides(model, "_stream") or _overrides(model, "_astream"),
    )


def check_call_options(options: Mapping[str, object]) -> None:
    """Raise `Refused` when a call hides an output cap where it would win over the gateway's."""
    hidden = sorted(set(CAP_OPTIONS) & _mapping(options.get("extra_body")).keys())
    if hidden:
        raise Refused(f"{hidden[0]} in extra_body would win over the gateway's cap; pass max_tokens instead")


def known_max_output_tokens(model: BaseChatModel) -> int:
    """The model's own maximum where its profile knows it."""
    known = _mapping(model.profile).get("max_output_tokens")
    return known if isinstance(known, int) and known > 0 else DEFAULT_MAX_OUTPUT_TOKENS


def _cap_option(model: BaseChatModel) -> str:
    for ancestor in _ancestry(model):
        if ancestor in CAP_OPTION_OF:
            return CAP_OPTION_OF[ancestor]
    fields = type(model).model_fields
    if "max_tokens" in fields or any(field.alias == "max_tokens" for field in fields.values()):
        return "max_tokens"
    raise ConfigurationError(
        f"{type(model).__name__} takes no output cap (max_tokens), so no call to it can be bounded; use one that does"
    )


def without_retries(model: M) -> M:
    """A copy that sends each call once: a retry inside the provider's SDK would be a second charge under one hold."""
    update: dict[str, object] = {}
    fields = type(model).model_fields
    for name in fields:
        value = _field(model, name)
        once = _client_once(value)
        if once is not value:
            update[name] = once
    if "max_retries" in fields:
        update["max_retries"] = 0
    if "stream_usage" in fields:
        update["stream_usage"] = True
    if "streaming" in fields:
        update["streaming"] = False  # the gateway itself chooses between an answer and a stream
    settings = _mapping(_field(model, "model_kwargs"))
    if USAGE_OPTIONS & settings.keys():
        update["model_kwargs"] = {key: value for key, value in settings.items() if key not in USAGE_OPTIONS}
    copy = model.model_copy(update=update)
    for derived in copy.__dict__.keys() - fields.keys():
        vars(copy).pop(derived)  # a cached client was made with the old settings
    return copy


def _client_once(value: object) -> object:
    if isinstance(value, _SDKClient):
        return value if value.max_retries == 0 else value.with_options(max_retries=0)
    owner = getattr(value, "_client", None)
    if isinstance(owner, _SDKClient):  # a resource such as `client.chat.completions`
        once = _client_once(owner)
        return value if once is owner else type(value)(once)  # type: ignore[call-arg]
    return value


def _field(model: BaseModel, name: str) -> object:
    return getattr(model, name, None)


def _mapping(value: object) -> Mapping[str, object]:
    return cast(Mapping[str, object], value) if isinstance(value, Mapping) else {}


def _ancestry(model: BaseChatModel) -> Iterable[str]:
    return [ancestor.__name__ for ancestor in type(model).__mro__]


def _overrides(model: BaseChatModel, method: str) -> bool:
    return getattr(type(model), method) is not getattr(BaseChatModel, method)
