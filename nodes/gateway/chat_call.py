"""One call of a chat model: admit → send → settle, written once for sync and async, plain and streamed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatResult

from bursar.checkpoints.ledger.postings import Usage
from bursar.nodes.gateway import failpoints
from bursar.nodes.gateway.admission import (
    AdmissionRequest,
    GrantedCall,
    Offer,
    SizedOffer,
    admit,
    mark_unknown,
    model_breaker,
    seconds_left,
    settle,
    void,
)
from bursar.nodes.gateway.bounds import output_cap
from bursar.nodes.gateway.flow import ChunkSource, EmitChunk, Flow, Invoke, Sleep, do
from bursar.nodes.gateway.journal import Received, as_chunk, billed_in, decode, encode, mark_replacement, tool_calls_in
from bursar.nodes.gateway.prices import PricedModel
from bursar.nodes.gateway.providers.failures import failure_of, pause_before_retry, usage_in
from bursar.nodes.gateway.providers.generic import ProviderClient
from bursar.nodes.gateway.scope import Scope
from bursar.state.refusals import Looping


@dataclass(frozen=True, slots=True)
class PricedModelCall:
    """A model that may answer the call: its price, the request's most input tokens with it, and its output caps."""

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

    def offer(self) -> Offer:
        """What it needs at least, and how it is fitted into what is left."""
        wanted = self.maximum if self.asked is None else min(self.asked, self.maximum)
        least = self.worst_case(min(self.minimum, wanted) * self.choices)
        breaker = model_breaker(self.client.name, self.client.provider, self.client.base_url)
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

    def chosen(self, admitted: GrantedCall) -> PricedModelCall:
        """The model that the money is held for."""
        return self.candidates[admitted.place]

    def replaces(self, admitted: GrantedCall) -> str | None:
        """The name of the model that was too dear or has failed, where a cheaper one answers in its place."""
        return self.candidates[0].price.name if admitted.place else None


def chat(call: ChatCall) -> Flow[ChatResult]:
    """The answer to a call, paid for once. Raises `Refused`, or what the provider's SDK raises."""
    attempt = 0
    while True:  # bounded by MAX_ATTEMPTS of `pause_before_retry`
        admitted = yield from admit(call.claim, first=attempt == 0)
        if isinstance(admitted, bytes):
            return _not_again(call, decode(admitted))
        try:
            result = yield from do(_send(call, admitted))
        except BaseException as error:
            pause = yield from _failed(call, admitted, error, Received(), attempt)
            if pause is None:
                raise
        else:
            for generation in result.generations:
                mark_replacement(generation.message, call.replaces(admitted))
            yield from _settle(call, admitted, result, received_tokens=0)
            return _not_again(call, result)
        yield Sleep(pause)
        attempt += 1


def chat_stream(call: ChatCall) -> Flow[None]:
    """The chunks of the answer to a call, paid for once. It stops when as many tokens have come as were paid for."""
    attempt = 0
    while True:  # bounded by MAX_ATTEMPTS of `pause_before_retry`
        admitted = yield from admit(call.claim, first=attempt == 0)
        if isinstance(admitted, bytes):
            result = decode(admitted)
            yield EmitChunk(as_chunk(result))
            _not_again(call, result)
            return
        received, source = Received(), _open(call, admitted)
        try:
            while (chunk := (yield from do(source.next()))) is not None:
                if not received.chunks:
                    failpoints.hit("after_send")
                    mark_replacement(chunk.message, call.replaces(admitted))
                received.add(chunk)
                yield EmitChunk(chunk)
                if received.tokens > admitted.cap * call.chosen(admitted).choices:
                    yield from do(source.close())
                    break
        except BaseException as error:
            pause = yield from _failed(call, admitted, error, received, attempt)
            if pause is None:
                yield from do(source.close())
                raise
        else:
            result = received.result()
            yield from _settle(call, admitted, result, received_tokens=received.tokens)
            if result is not None:
                _not_again(call, result)
            return
        yield Sleep(pause)
        attempt += 1


def _failed(
    call: ChatCall, admitted: GrantedCall, error: BaseException, received: Received, attempt: int
) -> Flow[float | None]:
    """Put the money of a failed call in order. Afterwards: seconds to wait before sending again, None if never."""
    hold, model, claim = admitted.hold, call.chosen(admitted), call.claim
    left = seconds_left(call.scope)
    fault = failure_of(error, answered=bool(received.chunks), now=call.scope.clock(), seconds_left=left)
    says = "at fault" if fault.real else "nothing"
    parsed = usage_in(error)
    beyond = model.worst_case(received.tokens)
    if parsed is not None:
        yield from settle(claim, admitted, cost=model.price.cost(parsed), usage=parsed, response=None)
    elif beyond > hold.amount:
        usage = Usage(model.input_tokens, received.tokens)
        yield from settle(claim, admitted, cost=beyond, usage=usage, response=None, says=says)
    elif fault.owed == "nothing":
        yield from void(claim, admitted, fault.reason, says)
    else:
        yield from mark_unknown(claim, admitted, fault.reason, says)
    pause = pause_before_retry(fault, attempt, left)
    if pause is None:
        claim.give_back()
        call.scope.provider_failed(error)
    return pause


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


def _settle(call: ChatCall, admitted: GrantedCall, result: ChatResult | None, *, received_tokens: int) -> Flow[None]:
    """Book what the provider billed; its hold, or what was received if that is more, where it did not say."""
    failpoints.hit("after_response")
    model, hold = call.chosen(admitted), admitted.hold
    billed = billed_in(result)
    if billed is None:
        cost, usage = max(hold.amount, model.worst_case(received_tokens)), Usage()
    else:
        usage = billed.usage
        cost = model.price.cost(usage, long_cache_write_tokens=billed.long_cache_write_tokens)
    response = None if result is None else encode(result)
    yield from settle(call.claim, admitted, cost=cost, usage=usage, response=response)


def _sent_options(call: ChatCall, admitted: GrantedCall) -> dict[str, Any]:
    model = call.chosen(admitted)
    return model.client.capped(model.options, admitted.cap, seconds_left(call.scope))


def _send(call: ChatCall, admitted: GrantedCall) -> Invoke[ChatResult]:
    model, options = call.chosen(admitted).client.model, _sent_options(call, admitted)

    def sync() -> ChatResult:
        result = model._generate(call.messages, stop=call.stop, **options)  # pyright: ignore[reportPrivateUsage]
        failpoints.hit("after_send")
        return result

    async def asynchronous() -> ChatResult:
        result = await model._agenerate(call.messages, stop=call.stop, **options)  # pyright: ignore[reportPrivateUsage]
        failpoints.hit("after_send")
        return result

    return Invoke(sync, asynchronous)


def _open(call: ChatCall, admitted: GrantedCall) -> ChunkSource:
    model, options = call.chosen(admitted).client.model, _sent_options(call, admitted)
    return ChunkSource(
        lambda: model._stream(call.messages, stop=call.stop, **options),  # pyright: ignore[reportPrivateUsage]
        lambda: model._astream(call.messages, stop=call.stop, **options),  # pyright: ignore[reportPrivateUsage]
    )
