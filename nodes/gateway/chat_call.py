"""The paid calls of a chat model: `chat` for a whole answer, `chat_stream` for a streamed answer."""

import sys
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, cast

from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk, ChatResult

from bursar.checkpoints.ledger.reconciliation.unknown_calls import LostCall
from bursar.nodes.gateway.chat.call import ChatCall, PricedModelCall
from bursar.nodes.gateway.chat.stream_hold import StreamHold
from bursar.nodes.gateway.look_up.asking import asked
from bursar.nodes.gateway.look_up.found_ends import LISTED, FoundEnd, found_end, is_same_price
from bursar.nodes.gateway.paid_calls.admission import GrantedCall, seconds_left
from bursar.nodes.gateway.paid_calls.flow import ChunkSource, EmitChunk, Flow, Invoke, do
from bursar.nodes.gateway.paid_calls.journal import (
    Received,
    as_chunk,
    decode,
    encode,
    least_tokens,
    mark_cut_short,
    mark_replacement,
    reported_output,
    tool_calls_in,
    without_text,
)
from bursar.nodes.gateway.prices import price_of
from bursar.nodes.gateway.providers.base import (
    Failure,
    LookUp,
    finder_of,
)
from bursar.nodes.gateway.providers.generic import asked_tier
from bursar.nodes.gateway.send_with_retries import PaidCall, purchase, send_once
from bursar.nodes.observers.base import CallContext
from bursar.state.errors import BursarError
from bursar.state.refusals import Looping
from bursar.state.rules.growth import GrowingHold, bill_hung_up
from bursar.state.rules.pricing import Bill, PricedModel, Usage, bill, bill_answer, bill_cut_stream

A = TypeVar("A", ChatResult, ChatResult | None)

BLANK_CHUNKS = 3  # that a stream of one answer has at most if it hides nothing: before, between and after its text


@dataclass(slots=True)
class _Answer(PaidCall[A]):
    """A paid call of a chat model with an answer of type A. `received` has the chunks of a stream that have arrived."""

    call: ChatCall
    received: Received = field(default_factory=Received)

    kind = "chat"

    def described(self, granted: GrantedCall | None, attempt: int) -> CallContext:
        """Return what observers are told of the call, with the model that is asked and its server."""
        model = self.call.candidates[0] if granted is None else self.call.chosen(granted)
        return replace(
            cast("PaidCall[Any]", super(_Answer, self)).described(granted, attempt),
            provider=model.client.seller or "",
            server=model.client.base_url or "",
            instead_of="" if granted is None else self.call.replaces(granted) or "",
            cap=0 if granted is None else granted.cap,
            traced=self.call.traced,
        )

    def bill(self, granted: GrantedCall, result: ChatResult | None) -> Bill:
        """Return what is charged for the answer. If no chunk of a stream arrived, `result` is None."""
        model = self.call.chosen(granted)
        seen = max(self.received.tokens, 0 if result is None else least_tokens(result))
        usage = None if result is None else model.provider.usage(result)
        return bill_answer(model.price, usage, hold=self.held(granted), input_tokens=model.input_tokens, seen=seen)

    def is_cut_short(self, granted: GrantedCall, result: ChatResult) -> bool:
        """Whether the answer ended at an output cap that was lowered for the budget. True also if that is not known."""
        model = self.call.chosen(granted)
        if granted.cap >= model.wanted:
            return False
        written = reported_output(result)
        return written is None or written >= granted.cap

    def is_whole(self, granted: GrantedCall, result: ChatResult | None, usage: Usage) -> bool:
        if result is None or not usage.output_tokens or self.call.chosen(granted).choices > 1:
            return False
        return not self.is_cut_short(granted, result)

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
            return bill(model.price, failure.usage)
        return bill_cut_stream(model.price, hold=self.held(granted), input_tokens=model.input_tokens, seen=received)

    def find(self, lost: LostCall, seconds: float) -> Flow[FoundEnd | None]:
        """Ask the provider of the model that was called, and return what it found; None if it found nothing.

        A call that was held at another price than the model has here is not asked for: nobody knows what it cost.
        """
        named = [(model, price) for model in self.call.candidates if (price := _price_of(lost, model)) is not None]
        finder = finder_of(named[0][0].provider) if named else None
        if finder is None:
            return None
        (model, price), first = named[0], self.call.candidates[0]
        question = LookUp(lost.call_id, lost.model, model.client, lost.held_at, seconds)
        found = yield from do(asked(finder, question))
        if found is None:
            return None
        replaced = None if model is first else first.price.name
        return found_end(found, price, hold=lost.amount, wanted=model.wanted, instead_of=replaced)

    def input_cost(self, granted: GrantedCall, usage: Usage) -> int | None:
        price = self.call.chosen(granted).price
        return price.cost(Usage(usage.input_tokens, 0, usage.cache_read_tokens, usage.cache_write_tokens))

    def has_begun_to_answer(self) -> bool:
        return bool(self.received.chunks)

    def is_the_providers(self, failure: Failure) -> bool:
        """Return True: only the provider's code runs while a model is asked, so the error is the provider's."""
        return True

    def write(self, result: ChatResult | None) -> bytes | None:
        return None if result is None else encode(result)


class _WholeAnswer(_Answer[ChatResult]):
    """The paid call whose answer arrives whole."""

    __slots__ = ()

    def send(self, granted: GrantedCall) -> Flow[ChatResult]:
        model, messages, options = self.call.to_send(granted)
        stop = self.call.stop
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
    """The paid call whose answer arrives in chunks. Its result is None if no chunk arrived.

    If the hold grows while the chunks arrive, `growing` is that hold.
    """

    source: ChunkSource | None = None
    growing: StreamHold | None = None

    def held(self, granted: GrantedCall) -> int:
        return granted.hold.amount if self.growing is None else self.growing.hold.amount

    def send(self, granted: GrantedCall) -> Flow[ChatResult | None]:
        self.received, self.growing = Received(), self._growing(granted)
        self.source = source = self._open(granted)
        while (chunk := (yield from do(source.next()))) is not None:
            if not self.received.chunks:
                sys.audit("bursar.failpoint", "after_send")
                mark_replacement(chunk.message, self.call.replaces(granted))
            self.received.add(chunk)
            if self.growing is not None:
                yield from self._pay_for_chunk(self.growing, self._most_written(granted))
            yield EmitChunk(self.received.chunks[-1])
            if self._is_hung_up():
                yield from do(source.close())
                break
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

    def is_cut_short(self, granted: GrantedCall, result: ChatResult) -> bool:
        whole = super(_StreamedAnswer, self).is_cut_short(granted, result)
        return whole or self._is_hung_up()

    def bill(self, granted: GrantedCall, result: ChatResult | None) -> Bill:
        growing = self.growing
        if growing is None or not growing.is_over or result is None:
            return super(_StreamedAnswer, self).bill(granted, result)
        model = self.call.chosen(granted)
        return bill_hung_up(
            model.price,
            model.provider.usage(result),
            hold=growing.hold.amount,
            input_tokens=model.input_tokens,
            least=self.received.tokens,
            most=min(self._most_written(granted) + growing.now.slack, growing.now.most),
        )

    def _growing(self, granted: GrantedCall) -> StreamHold | None:
        """Return the hold of the call if it grows; None if it pays for the whole answer from the beginning."""
        model = self.call.chosen(granted)
        if model.growth is None:
            return None
        most = granted.cap * model.choices
        held = model.price.output_within(model.input_tokens, granted.hold.amount)
        held = most if held is None else min(held, most)
        now = GrowingHold(model.price, model.input_tokens, most=most, slack=model.growth.slack, held=held)
        return StreamHold(self.call.claim, granted.hold, now)

    def _most_written(self, granted: GrantedCall) -> int:
        """Return the most output tokens that the model can have written so far.

        If too many chunks show nothing, the model writes what nobody sees: it may have written all that its cap allows.
        """
        model = self.call.chosen(granted)
        hides = self.received.blank > BLANK_CHUNKS * model.choices
        return granted.cap * model.choices if hides else self.received.most

    def _pay_for_chunk(self, growing: StreamHold, most: int) -> Flow[None]:
        """Commit the hold that pays for the last chunk, with which `most` tokens are written.

        If it does not fit, keep no text that is not paid for.
        """
        try:
            yield from growing.cover(most)
        except BursarError:  # nobody knows any more whether the call is in flight; its end is booked by `purchase`
            yield from self.hang_up()
            raise
        if most > growing.now.held:
            self.received.chunks[-1] = without_text(self.received.chunks[-1])

    def _is_hung_up(self) -> bool:
        return self.growing is not None and self.growing.is_over

    def read(self, answer: bytes) -> ChatResult | None:
        return decode(answer)

    def hang_up(self) -> Flow[None]:
        if self.source is not None:
            yield from do(self.source.close())

    def _open(self, granted: GrantedCall) -> ChunkSource:
        model, messages, options = self.call.to_send(granted)
        stop = self.call.stop
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

    A repeated run gets the answer from the ledger, as one chunk. If more tokens arrive than the cap allows, or if the
    next step of a growing hold does not fit, the stream is closed. Raises `Refused`, or the error of the provider's
    SDK.
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


def _price_of(lost: LostCall, model: PricedModelCall) -> PricedModel | None:
    """Return the price that the model had when the call was held; None if the call was held at another one."""
    client = model.client
    if lost.model != model.price.name or not is_same_price(model.price.version, lost.price_version):
        return None
    if not model.price.version.startswith(LISTED):
        return model.price
    tier, on = asked_tier(client, model.options), lost.held_at.date()
    return price_of(lost.model, client.seller, base_url=client.base_url, service_tier=tier, on=on)
