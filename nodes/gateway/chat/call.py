"""A call of a metered chat model, and the models that may answer it, with their prices."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatResult

from bursar.nodes.gateway.paid_calls.admission import AdmissionRequest, GrantedCall, seconds_left
from bursar.nodes.gateway.paid_calls.scope import Scope
from bursar.nodes.gateway.prompt_caches.advice import CallToCache, advise, prompt_of
from bursar.nodes.gateway.prompt_caches.memory import PromptMemory
from bursar.nodes.gateway.providers.base import (
    CachingProvider,
    Provider,
    ProviderClient,
    finder_of,
    model_breaker,
)
from bursar.state.rules.calls import Offer, model_offer
from bursar.state.rules.growth import GrowthTerms
from bursar.state.rules.pricing import PricedModel

A = TypeVar("A", ChatResult, ChatResult | None)


@dataclass(frozen=True, slots=True)
class PricedModelCall:
    """A model that may answer a call, with its price. If there is `growth`, its hold grows while the answer arrives.

    `input_tokens` is an upper bound of the request's input tokens. `asked` is the output cap that the caller set,
    `maximum` the model's own cap, `minimum` the smallest useful cap, in tokens. `choices` is the number of answers.
    `written` are the messages of the call as JSON. If `prompt_cache` is False, the provider's cache is left alone.
    """

    provider: Provider
    client: ProviderClient
    price: PricedModel
    options: Mapping[str, object]
    input_tokens: int
    asked: int | None
    choices: int
    maximum: int
    minimum: int
    written: tuple[str, ...] = ()
    prompt_cache: bool | None = None
    growth: GrowthTerms | None = None

    @property
    def wanted(self) -> int:
        """The output cap, in tokens, that the call would have if money were no object."""
        return self.maximum if self.asked is None else min(self.asked, self.maximum)

    @property
    def is_findable(self) -> bool:
        """Whether the provider may find out what became of this call, if nobody sees its end."""
        finder = finder_of(self.provider)
        return finder is not None and finder.can_look_up(self.client, self.options)

    def offer(self) -> Offer:
        """Return the offer of this model: its least worst case, its breaker, and the function that sizes the call."""
        return model_offer(
            self.price,
            input_tokens=self.input_tokens,
            asked=self.asked,
            maximum=self.maximum,
            minimum=self.minimum,
            choices=self.choices,
            breaker=model_breaker(self.client.name, self.client.seller, self.client.base_url),
            growth=self.growth,
        )


@dataclass(frozen=True, slots=True)
class ChatCall:
    """A call of a metered chat model. `candidates` may answer: the metered model first, then the cheaper models.

    `traced` is the id of the LangChain run of the call.
    """

    claim: AdmissionRequest
    candidates: tuple[PricedModelCall, ...]
    messages: list[BaseMessage]
    stop: list[str] | None
    traced: UUID | None = None

    @classmethod
    def of(
        cls,
        scope: Scope,
        request_hash: str,
        candidates: tuple[PricedModelCall, ...],
        messages: list[BaseMessage],
        stop: list[str] | None,
    ) -> "ChatCall":
        """Return the call with this hash as the run's next: ready to be paid by one of the candidates."""
        offers = tuple(model.offer() for model in candidates)
        findable = any(model.is_findable for model in candidates)
        claim = AdmissionRequest(scope, request_hash, scope.next_occurrence(request_hash), offers, findable)
        return cls(claim, candidates, messages, stop)

    @property
    def scope(self) -> Scope:
        return self.claim.scope

    def chosen(self, granted: GrantedCall) -> PricedModelCall:
        """Return the candidate that was granted the call: the model for which the money is held."""
        return self.candidates[granted.place]

    def to_send(self, granted: GrantedCall) -> tuple[BaseChatModel, list[BaseMessage], dict[str, Any]]:
        """Return the model, the messages and the options with which the granted call is sent.

        What the provider needs for its prompt cache is in them.
        """
        model, messages = self.chosen(granted), self.messages
        left = seconds_left(self.scope)
        options = model.provider.send_options(model.client, model.options, cap=granted.cap, timeout_seconds=left)
        if model.prompt_cache is not False:
            scope, prompt = self.scope, prompt_of(messages, model.written, options)
            call = CallToCache(scope.tenant, scope.agent, model.client, model.price, prompt, asked=model.prompt_cache)
            advice = advise(PromptMemory.of(scope.ledger.database), call, scope.clock())
            if isinstance(model.provider, CachingProvider):
                messages, options = model.provider.use_cache(model.client, messages, options, advice)
        if (finder := finder_of(model.provider)) is not None:
            options = finder.name_call(model.client, options, call_id=granted.hold.call_id)
        return model.client.model, messages, options

    def replaces(self, granted: GrantedCall) -> str | None:
        """If a cheaper model answers in place of the metered model, return the metered model's name; otherwise None.

        A cheaper model answers if the metered model was too dear, or if its breaker was open.
        """
        return self.candidates[0].price.name if granted.place else None
