"""The paid calls of a chat model: `chat` for a whole answer, `chat_stream` for a streamed answer."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult

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
from bursar.nodes.gateway.journal import (
    Received,
    as_chunk,
    decode,
    encode,
    least_tokens,
    mark_cut_short,
    mark_replacement,
    reported_output,
    tool_calls_in,
)
from bursar.nodes.gateway.prices import PricedModel
from bursar.nodes.gateway.providers.base import BilledUsage, Failure, Provider, ProviderClient
from bursar.nodes.gateway.scope import Scope
from bursar.nodes.gateway.send_with_retries import Bill, PaidCall, purchase, send_once
from bursar.state.refusals import Looping

A = TypeVar("A", ChatResult, ChatResult | None)


@dataclass(frozen=True, slots=True)
class PricedModelCall:
    """A model that may answer a call, with its price.

    `input_tokens` is an upper bound of the request's input tokens. `asked` is the output cap that the caller set,
    `maximum` the model's own cap, `minimum` the smallest useful cap, in tokens. `choices` is the number of answers.
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

    def worst_case(self, output_tokens: int) -> int:
        """Return the most, in nano-dollars, that the call can cost with `output_tokens` output tokens."""
        return self.price.worst_case(self.input_tokens, output_tokens)

    def bill(self, usage: BilledUsage) -> Bill:
        """Return the cost of a call with this usage, and the usage."""
        return Bill(self.price.cost(usage, long_cache_write_tokens=usage.long_cache_write_tokens), usage)

    @property
    def wanted(self) -> int:
        """The output cap, in tokens, that the call would have if money were no object."""
        return self.maximum if self.asked is None else min(self.asked, self.maximum)

    def offer(self) -> Offer:
        """Return the offer of this model: its least worst case, its breaker, and the function that sizes the call."""
        least = self.worst_case(min(self.minimum, self.wanted) * self.choices)
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
    """A call of a metered chat model. `candidates` may answer: the metered model first, then the cheaper models."""

    claim: AdmissionRequest
    candidates: tuple[PricedModelCall, ...]
    messages: list[BaseMessage]
    stop: list[str] | None

    @property
    def scope(self) -> Scope:
        return self.claim.scope

    def chosen(self, granted: GrantedCall) -> PricedModelCall:
        """Return the candidate that was granted the call: the model for which the money is held."""
        return self.candidates[granted.place]

    def to_send(self, granted: GrantedCall) -> tuple[BaseChatModel, dict[str, Any]]:
        """Return the model and the options with which the granted call is sent."""
        model = self.chosen(granted)
        left = seconds_left(self.scope)
        options = model.provider.send_options(model.client, model.options, cap=granted.cap, timeout_seconds=left)
        return model.client.model, options

    def replaces(self, granted: GrantedCall) -> str | None:
        """If a cheaper model answers in place of the metered model, return the metered model's name; otherwise None.

        A cheaper model answers if the metered model was too dear, or if its breaker was open.
        """
        return self.candidates[0].price.name if granted.place else None


@dataclass(slots=True)
class _Answer(PaidCall[A]):
    """A paid call of a chat model with an answer of type A. `received` has the chunks of a stream that have arrived."""

    call: ChatCall
    received: Received = field(default_factory=Received)

    def bill(self, granted: GrantedCall, result: ChatResult | None) -> Bill:
        """Return what is charged for the answer: the cost of the usage that the provider reports.

        At least the output that has arrived is charged, even if the provider reports less. Usage whose parts do not
        agree is charged at the most that it may mean, as far as the hold goes. If no usage is reported, or if no chunk
        arrived (`result` is None), the hold is charged, or the worst case of the chunks received if that is more.
        """
        model = self.call.chosen(granted)
        seen = max(self.received.tokens, 0 if result is None else least_tokens(result))
        billed = None if result is None else model.provider.usage(result)
        if billed is None:
            return Bill(max(granted.hold.amount, model.worst_case(self.received.tokens)))
        bill = model.bill(replace(billed, output_tokens=max(billed.output_tokens, seen)))
        if _is_sound(billed) or bill.nanos is None:
            return bill
        # What the parts may mean at most is charged as far as the hold goes: beyond it nobody knows that it was billed.
        most = model.bill(_completed(billed)).nanos or 0
        return replace(bill, nanos=max(bill.nanos, min(most, granted.hold.amount)))

    def is_cut_short(self, granted: GrantedCall, result: ChatResult) -> bool:
        """Whether the answer ended at an output cap that was lowered for the budget. True also if that is not known."""
        model = self.call.chosen(granted)
        if granted.cap >= model.wanted:
            return False
        written = reported_output(result)
        return written is None or written >= granted.cap

    def failure(self, granted: GrantedCall, error: BaseException) -> Failure:
        provider, scope = self.call.chosen(granted).provider, self.call.scope
        answered, left = bool(self.received.chunks), seconds_left(scope)
        return provider.failure(error, answered=answered, now=scope.clock(), seconds_left=left)

    def known_cost(self, granted: GrantedCall, failure: Failure) -> Bill | None:
        """Return the cost of a failed call in two cases; otherwise None, and `failure.owed` says what is owed.

        If the provider billed an answer that could not be read, return what the provider billed. If the chunks received
        have a worst case above the hold, return that worst case.
        """
        model, received = self.call.chosen(granted), self.received.tokens
        if failure.usage is not None:
            return model.bill(failure.usage)
        beyond = model.worst_case(received)
        return Bill(beyond, Usage(model.input_tokens, received)) if beyond > granted.hold.amount else None

    def is_the_providers(self, failure: Failure) -> bool:
        """Return True: only the provider's code runs while a model is asked, so the error is the provider's."""
        return True

    def write(self, result: ChatResult | None) -> bytes | None:
        return None if result is None else encode(result)


class _WholeAnswer(_Answer[ChatResult]):
    """The paid call whose answer arrives whole."""

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
            if self.is_cut_short(granted, result):
                mark_cut_short(generation.message)
        return result

    def read(self, answer: bytes) -> ChatResult:
        return decode(answer)


@dataclass(slots=True)
class _StreamedAnswer(_Answer[ChatResult | None]):
    """The paid call whose answer arrives in chunks. Its result is None if no chunk arrived."""

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
        result = self.received.result()
        if result is not None and self.is_cut_short(granted, result):
            last = ChatGenerationChunk(message=AIMessageChunk(content=""))
            for message in (last.message, *(generation.message for generation in result.generations)):
                mark_cut_short(message)
            yield EmitChunk(last)
        return result

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
    """Return the answer to a call, which is paid for once: a repeated run gets the answer from the ledger.

    Raises `Refused`, or the error of the provider's SDK.
    """
    return _not_again(call, (yield from purchase(_WholeAnswer(call.claim, call))))


def chat_stream(call: ChatCall) -> Flow[None]:
    """Emit the chunks of the answer to a call, which is paid for once.

    A repeated run gets the answer from the ledger, as one chunk. If more tokens arrive than the hold pays for, the
    stream is closed. Raises `Refused`, or the error of the provider's SDK.
    """
    answer = _StreamedAnswer(call.claim, call)
    result = yield from purchase(answer)
    if result is None:
        return
    if not answer.received.chunks:
        yield EmitChunk(as_chunk(result))  # from the journal
    _not_again(call, result)


def _not_again(call: ChatCall, result: ChatResult) -> ChatResult:
    """Count the answer's tool calls in the run, and return the answer.

    Raises `Looping` if the model has asked more than `max_repeats` times in a row for the same tool call.
    """
    most = call.scope.max_repeats
    if most is None:
        return result
    asked = tool_calls_in(result)
    repeats = call.scope.count_repeats(asked)
    for key, name in asked.items():
        if repeats[key] > most:
            what = (
                f"{call.scope.agent} asked {most + 1} times in a row for the same call of {name}; {most} is the limit"
            )
            raise call.scope.latch(Looping(what, scope="loop"))
    return result


def _is_sound(usage: BilledUsage) -> bool:
    """Whether the parts of the usage agree with each other and with its total."""
    cached = usage.cache_read_tokens + usage.cache_write_tokens
    return cached <= usage.input_tokens and usage.reasoning_tokens <= usage.output_tokens and not usage.other_tokens


def _completed(usage: BilledUsage) -> BilledUsage:
    """Return the highest usage that counts which do not agree may stand for; counts that agree come back unchanged.

    A part that is greater than its total, such as cached input, is added to the total. Tokens that are in no count but
    in the sum of all are output.
    """
    cached = usage.cache_read_tokens + usage.cache_write_tokens
    beside_input = cached if cached > usage.input_tokens else 0
    beside_output = usage.reasoning_tokens if usage.reasoning_tokens > usage.output_tokens else 0
    output = usage.output_tokens + beside_output + usage.other_tokens
    return replace(usage, input_tokens=usage.input_tokens + beside_input, output_tokens=output, other_tokens=0)
