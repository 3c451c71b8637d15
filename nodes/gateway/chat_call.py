"""The paid calls of a chat model: one that is answered whole, and one that is streamed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatResult

from bursar.checkpoints.ledger.calls import Usage
from bursar.nodes.gateway import failpoints
from bursar.nodes.gateway.admission import (
    AdmissionRequest,
    GrantedCall,
    Offer,
    SizedOffer,
    model_breaker,
    seconds_left,
)
from bursar.nodes.gateway.bounds import output_cap
from bursar.nodes.gateway.flow import ChunkSource, EmitChunk, Flow, Invoke, do
from bursar.nodes.gateway.journal import Received, as_chunk, decode, encode, mark_replacement, tool_calls_in
from bursar.nodes.gateway.prices import PricedModel
from bursar.nodes.gateway.providers.base import BilledUsage, Failure, Provider, ProviderClient
from bursar.nodes.gateway.scope import Scope
from bursar.nodes.gateway.send_with_retries import Bill, PaidCall, purchase, send_once
from bursar.state.refusals import Looping

A = TypeVar("A", ChatResult, ChatResult | None)


@dataclass(frozen=True, slots=True)
class PricedModelCall:
    """A model that may answer the call: its price, the request's most input tokens with it, and its output caps."""

    provider: Provider
    client: ProviderClient
    price: PricedModel
    options: Mapping[str, object]
    input_tokens: int
    asked: int | None
    choices: int
    maximum: int
    minimum: int

    def worst_case(self, output_tokens: int) -> int:
        """Nano-dollars of the call with so many output tokens."""
        return self.price.worst_case(self.input_tokens, output_tokens)

    def bill(self, usage: BilledUsage) -> Bill:
        """What a call of this usage costs."""
        return Bill(self.price.cost(usage, long_cache_write_tokens=usage.long_cache_write_tokens), usage)

    def offer(self) -> Offer:
        """What it needs at least, and how it is fitted into what is left."""
        wanted = self.maximum if self.asked is None else min(self.asked, self.maximum)
        least = self.worst_case(min(self.minimum, wanted) * self.choices)
        breaker = model_breaker(self.client.name, self.client.seller, self.client.base_url)
        return Offer(self.price.name, self.price.version, least, self._shape, breaker)

    def _shape(self, left: int | None) -> SizedOffer | None:
        cap = output_cap(
            self.price,
            input_tokens=self.input_tokens,
            left=left,
            asked=self.asked,
            maximum=self.maximum,
            minimum=self.minimum,
            choices=self.choices,
        )
        return None if cap is None else SizedOffer(self.worst_case(cap * self.choices), cap)


@dataclass(frozen=True, slots=True)
class ChatCall:
    """A call as the caller made it; `candidates` may answer it, the metered model itself before the cheaper ones."""

    claim: AdmissionRequest
    candidates: tuple[PricedModelCall, ...]
    messages: list[BaseMessage]
    stop: list[str] | None

    @property
    def scope(self) -> Scope:
        return self.claim.scope

    def chosen(self, granted: GrantedCall) -> PricedModelCall:
        """The model that the money is held for."""
        return self.candidates[granted.place]

    def to_send(self, granted: GrantedCall) -> tuple[BaseChatModel, dict[str, Any]]:
        """The model and the options with which the call is sent."""
        model = self.chosen(granted)
        left = seconds_left(self.scope)
        options = model.provider.send_options(model.client, model.options, cap=granted.cap, timeout_seconds=left)
        return model.client.model, options

    def replaces(self, granted: GrantedCall) -> str | None:
        """The name of the model that was too dear or has failed, where a cheaper one answers in its place."""
        return self.candidates[0].price.name if granted.place else None


@dataclass(slots=True)
class _Answer(PaidCall[A]):
    """The answer to a call, in the form in which it is asked for; `received` is what has arrived of a stream."""

    call: ChatCall
    received: Received = field(default_factory=Received)

    def bill(self, granted: GrantedCall, result: ChatResult | None) -> Bill:
        """What the provider billed; the hold, or what was received if that is more, where it did not say."""
        model = self.call.chosen(granted)
        billed = None if result is None else model.provider.usage(result)
        if billed is None:
            return Bill(max(granted.hold.amount, model.worst_case(self.received.tokens)))
        return model.bill(billed)

    def failure(self, granted: GrantedCall, error: BaseException) -> Failure:
        provider, scope = self.call.chosen(granted).provider, self.call.scope
        answered, left = bool(self.received.chunks), seconds_left(scope)
        return provider.failure(error, answered=answered, now=scope.clock(), seconds_left=left)

    def known_cost(self, granted: GrantedCall, failure: Failure) -> Bill | None:
        """What was billed for an answer that could not be read, or what was received if it is more than the hold."""
        model, received = self.call.chosen(granted), self.received.tokens
        if failure.usage is not None:
            return model.bill(failure.usage)
        beyond = model.worst_case(received)
        return Bill(beyond, Usage(model.input_tokens, received)) if beyond > granted.hold.amount else None

    def is_the_providers(self, failure: Failure) -> bool:
        """Nobody else's code runs while a model is asked."""
        return True

    def write(self, result: ChatResult | None) -> bytes | None:
        return None if result is None else encode(result)


class _WholeAnswer(_Answer[ChatResult]):
    """An answer that comes at once."""

    __slots__ = ()

    def send(self, granted: GrantedCall) -> Flow[ChatResult]:
        model, options = self.call.to_send(granted)
        messages, stop = self.call.messages, self.call.stop
        result = yield from send_once(
            Invoke(
                lambda: model._generate(messages, stop=stop, **options),  # pyright: ignore[reportPrivateUsage]
                lambda: model._agenerate(messages, stop=stop, **options),  # pyright: ignore[reportPrivateUsage]
            )
        )
        for generation in result.generations:
            mark_replacement(generation.message, self.call.replaces(granted))
        return result

    def read(self, answer: bytes) -> ChatResult:
        return decode(answer)


@dataclass(slots=True)
class _StreamedAnswer(_Answer[ChatResult | None]):
    """An answer that comes in chunks; None if there were none."""

    source: ChunkSource | None = None

    def send(self, granted: GrantedCall) -> Flow[ChatResult | None]:
        self.received = Received()
        self.source = source = self._open(granted)
        while (chunk := (yield from do(source.next()))) is not None:
            if not self.received.chunks:
                failpoints.hit("after_send")
                mark_replacement(chunk.message, self.call.replaces(granted))
            self.received.add(chunk)
            yield EmitChunk(chunk)
            if self.received.tokens > granted.cap * self.call.chosen(granted).choices:
                yield from do(source.close())
                break
        return self.received.result()

    def read(self, answer: bytes) -> ChatResult | None:
        return decode(answer)

    def hang_up(self) -> Flow[None]:
        if self.source is not None:
            yield from do(self.source.close())

    def _open(self, granted: GrantedCall) -> ChunkSource:
        model, options = self.call.to_send(granted)
        messages, stop = self.call.messages, self.call.stop
        return ChunkSource(
            lambda: model._stream(messages, stop=stop, **options),  # pyright: ignore[reportPrivateUsage]
            lambda: model._astream(messages, stop=stop, **options),  # pyright: ignore[reportPrivateUsage]
        )


def chat(call: ChatCall) -> Flow[ChatResult]:
    """The answer to a call, paid for once. Raises `Refused`, or what the provider's SDK raises."""
    return _not_again(call, (yield from purchase(_WholeAnswer(call.claim, call))))


def chat_stream(call: ChatCall) -> Flow[None]:
    """The chunks of the answer to a call, paid for once. It stops when as many tokens have come as were paid for."""
    answer = _StreamedAnswer(call.claim, call)
    result = yield from purchase(answer)
    if result is None:
        return
    if not answer.received.chunks:
        yield EmitChunk(as_chunk(result))  # from the journal
    _not_again(call, result)


def _not_again(call: ChatCall, result: ChatResult) -> ChatResult:
    """The answer, unless its model asks once too often for the same tool call. Raises `Looping`."""
    most = call.scope.max_repeats
    if most is None:
        return result
    for key, name in tool_calls_in(result).items():
        if call.scope.repeat(key) > most:
            what = f"{call.scope.agent} asked {most + 1} times for the same call of {name}; {most} is the limit"
            raise call.scope.latch(Looping(what, scope="loop"))
    return result
