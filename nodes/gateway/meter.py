"""The gateway: the only door to a model. `meter` puts a chat model or an embedding model behind it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import cast, overload

from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel

from bursar.nodes.gateway.bounds import check_allow, check_fields, write_identity
from bursar.nodes.gateway.chat_model import MeteredChatModel, MeteringTerms
from bursar.nodes.gateway.embeddings import MeteredEmbeddings, meter_embeddings
from bursar.nodes.gateway.prices import Price, price_of
from bursar.nodes.gateway.providers.anthropic import AnthropicProvider
from bursar.nodes.gateway.providers.azure import AzureProvider
from bursar.nodes.gateway.providers.base import Provider, ProviderClient, registered_providers
from bursar.nodes.gateway.providers.fields import COMMON_FIELDS
from bursar.nodes.gateway.providers.generic import (
    GenericProvider,
    asked_tier,
    known_max_output_tokens,
    mapping,
    own_fields,
)
from bursar.nodes.gateway.providers.ollama import OllamaProvider
from bursar.nodes.gateway.providers.openai import OpenAIProvider
from bursar.state.errors import ConfigurationError, UnknownPrice
from bursar.state.refusals import Refused
from bursar.state.rules.growth import DEFAULT_SLACK_TOKENS, GrowthTerms

__all__ = ["MeteredChatModel", "MeteredEmbeddings", "Price", "meter"]

DEFAULT_MIN_OUTPUT_TOKENS = 64
BUILT_IN_PROVIDERS = (  # the first one that matches serves; the last one matches every model
    AzureProvider(),
    OpenAIProvider(),
    AnthropicProvider(),
    OllamaProvider(),
    GenericProvider(),
)


@overload
def meter(
    model: BaseChatModel,
    *,
    price: Price | None = None,
    min_output_tokens: int = DEFAULT_MIN_OUTPUT_TOKENS,
    max_output_tokens: int | None = None,
    cheaper: Sequence[BaseChatModel] = (),
    provider: Provider | None = None,
    allow: Collection[str] = (),
    prompt_cache: bool | None = None,
    growing_holds: bool = False,
    slack_tokens: int = DEFAULT_SLACK_TOKENS,
) -> MeteredChatModel: ...


@overload
def meter(model: Embeddings, *, price: Price | None = None) -> MeteredEmbeddings: ...


def meter(
    model: BaseChatModel | Embeddings,
    *,
    price: Price | None = None,
    min_output_tokens: int = DEFAULT_MIN_OUTPUT_TOKENS,
    max_output_tokens: int | None = None,
    cheaper: Sequence[BaseChatModel] = (),
    provider: Provider | None = None,
    allow: Collection[str] = (),
    prompt_cache: bool | None = None,
    growing_holds: bool = False,
    slack_tokens: int = DEFAULT_SLACK_TOKENS,
) -> MeteredChatModel | MeteredEmbeddings:
    """Return a metered form of `model`, each of whose calls is sent only if its worst case fits the session's budget.

    The worst case is held before the call, and settled after it. A call's output cap is the one that its caller asks
    for, or `max_output_tokens` (by default the maximum in the model's profile), lowered to what the money left can pay.
    If the lowered cap is below `min_output_tokens`, or if the model's breaker is open, the first of the `cheaper`
    models that fits answers instead, at its own price, with the same tools and options. The answer's
    `response_metadata` then names the replaced model (`instead_of`). If no model fits, the call is refused. `price`
    replaces the price that genai-prices lists. `model` is not changed; if it is metered already, it is returned.

    `provider` prepares the model and its cheaper models for the gateway, and says what their answers bill and what
    their errors mean. By default it is the newest registered provider that matches the model, or one that Bursar knows
    itself. Only request fields whose cost the hold covers are sent, and those in `allow`, of which the caller knows
    that they cost nothing more. A call with another field is refused, and the refusal names the field.

    Calls ask for the provider's prompt cache: OpenAI gets a `prompt_cache_key`, Anthropic `cache_control` where a write
    is expected to pay. Other servers of OpenAI's protocol get the key with `prompt_cache=True` only; False adds none.

    With `growing_holds` a stream's hold pays for a first part of the output, and grows while the stream is received. A
    step that does not fit ends the stream. This rests on the provider: of a stream that is hung up it bills at most
    `slack_tokens` output tokens more than had arrived before the last chunk. A call that may think unseen holds it all.

    An embedding model has no output, so the output settings do not apply. Its hold comes from the bytes of the texts.

    Raises `UnknownPrice` if the model has no price. Raises `ConfigurationError` if the model costs money but takes no
    output cap, if it is billed in a way that has no bound, if one of its settings is a field that may not be sent, if a
    limit of output tokens is below 1, if holds shall grow for a model that thinks unseen, if a metered model is given
    `cheaper` models, or if a cheaper model is of another class, which may read the same options otherwise.
    """
    if isinstance(model, Embeddings):
        return meter_embeddings(model, price)
    if isinstance(model, MeteredChatModel):
        if cheaper:
            raise ConfigurationError("this model is metered already; name its cheaper models where it is metered")
        return model
    _check_arguments(model, min_output_tokens, max_output_tokens)
    growth = _growth(model, slack_tokens) if growing_holds else None
    chosen = _provider_of(model) if provider is None else provider
    client = chosen.prepare(model)
    _check_terms(client, price)
    allowed = frozenset({*getattr(chosen, "allowed_fields", COMMON_FIELDS), *allow})
    identity = _identity(chosen, client, allowed, allow)
    maximum = max_output_tokens or known_max_output_tokens(model)
    like = partial(meter, min_output_tokens=min_output_tokens, max_output_tokens=max_output_tokens, provider=provider)
    like = partial(like, allow=allow, prompt_cache=prompt_cache, growing_holds=growing_holds, slack_tokens=slack_tokens)
    replacing = tuple(terms for other in cheaper for terms in _cheaper(client.model, like(other)))
    own = MeteringTerms(chosen, client, identity, price, min_output_tokens, maximum, allowed, replacing)
    return MeteredChatModel.wrap(model, replace(own, prompt_cache=prompt_cache, growth=growth))


def _check_arguments(model: object, minimum: int, maximum: int | None) -> None:
    """Raise `ConfigurationError` unless `model` is a chat model, and the limits of output tokens are at least 1."""
    if not isinstance(model, BaseChatModel):  # untyped code passes a binding
        raise ConfigurationError(f"meter takes a chat model, not {type(model).__name__}; meter the model, then bind")
    if minimum < 1 or (maximum is not None and maximum < 1):
        raise ConfigurationError("min_output_tokens and max_output_tokens must be at least 1")


def _provider_of(model: BaseChatModel) -> Provider:
    return next(one for one in (*registered_providers(), *BUILT_IN_PROVIDERS) if one.matches(model))


def _growth(model: BaseChatModel, slack_tokens: int) -> GrowthTerms:
    """Return the terms on which the holds of the model's streams grow. Raises `ConfigurationError` if they may not."""
    if slack_tokens < 1:
        raise ConfigurationError("slack_tokens must be at least 1: something is always on its way")
    if mapping(model.profile).get("reasoning_output"):
        raise ConfigurationError(
            f"{type(model).__name__} may bill thoughts that no stream shows, so its holds cannot grow; "
            "leave growing_holds out"
        )
    return GrowthTerms(slack_tokens)


def _cheaper(model: BaseChatModel, metered: MeteredChatModel) -> tuple[MeteringTerms, ...]:
    """Return the terms of `metered`, which may replace `model`, and of the models that may replace `metered`.

    Raises `ConfigurationError` if `metered` wraps a model of another class than `model`.
    """
    inner = metered.terms.client.model
    if type(inner) is not type(model):
        raise ConfigurationError(
            f"{type(inner).__name__} cannot replace {type(model).__name__}, whose options it may read otherwise; "
            "name a cheaper model of the same class"
        )
    return (metered.terms, *metered.terms.cheaper)


def require_price(model: BaseChatModel) -> None:
    """Raise `UnknownPrice` unless calls to `model`, metered or not, have a price today and in future."""
    if isinstance(model, MeteredChatModel):
        terms = model.terms
        for each in (terms, *terms.cheaper):
            _check_terms(each.client, each.price)
    else:
        _check_terms(_provider_of(model).prepare(model), None)


def _check_terms(client: ProviderClient, price: Price | None) -> None:
    """Raise `UnknownPrice` if the client's model has no price.

    Raises `ConfigurationError` if a call to the model costs money and the client has no option to cap the output.
    """
    tier = asked_tier(client, {})
    try:
        listed = price_of(client.name, client.seller, price, base_url=client.base_url, service_tier=tier)
    except UnknownPrice as unknown:
        raise UnknownPrice(f"{unknown}{client.price_hint}") from None
    if not client.cap_option and listed.worst_case(1, 1):
        raise ConfigurationError(
            f"{type(client.model).__name__} takes no output cap (max_tokens), so no call to it can be bounded; "
            "use one that does, or say how it is capped: meter(model, provider=…)"
        )


def _identity(provider: Provider, client: ProviderClient, allowed: Collection[str], allow: Collection[str]) -> bytes:
    """Return the settings by which the client's model differs from others, and the fields that it adds, as JSON.

    They are part of every request's hash, because models with different settings may answer differently. Raises
    `ConfigurationError` if one of the fields may not be sent, or one that the caller `allow`s cannot be allowed.
    """
    model = client.model
    own = cast("Mapping[str, object]", getattr(provider, "own_fields", own_fields)(model))
    try:
        check_allow(allow)
        check_fields(own, allowed, cap_option=client.cap_option)
    except Refused as refusal:
        raise ConfigurationError(str(refusal)) from None
    identifying = cast("Mapping[str, object]", model._identifying_params)  # pyright: ignore[reportPrivateUsage]
    given = {name: value for name, value in own.items() if value is not None}
    return write_identity({**given, **identifying, "_class": type(model).__name__})
