"""A paid call from its hold to its settlement: sent again after a transient failure, replayed if it was paid for."""

import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Generic, TypeVar

from bursar.checkpoints.ledger.calls import KeptAnswer
from bursar.checkpoints.ledger.circuit_breakers import BreakerVote
from bursar.checkpoints.ledger.reconciliation.unknown_calls import LostCall, LostCalls
from bursar.nodes.gateway.look_up.before_paying import look_up_lost_calls
from bursar.nodes.gateway.look_up.found_ends import FoundEnd
from bursar.nodes.gateway.paid_calls.admission import (
    AdmissionRequest,
    GrantedCall,
    admit,
    mark_unknown,
    seconds_left,
    settle,
    void,
)
from bursar.nodes.gateway.paid_calls.flow import Flow, Invoke, Sleep, do
from bursar.nodes.gateway.providers.base import Failure
from bursar.nodes.isolation.captured import Captured
from bursar.nodes.observers.base import CallContext, CallEnd, CallKind, CallState
from bursar.state.money import USD, ZERO
from bursar.state.refusals import LeaseLost, Refused
from bursar.state.rules.calls import end_failed, is_hung, pause_before_retry
from bursar.state.rules.pricing import Bill, Usage

T = TypeVar("T")


@dataclass(slots=True)
class PaidCall(ABC, Generic[T]):
    """A paid call with a result of type T: how it is sent and billed, and how the ledger keeps its result.

    `claim` is what asks for the call's admission, `kind` what observers are told of it.
    """

    kind: ClassVar[CallKind] = "function"

    claim: AdmissionRequest

    def described(self, granted: GrantedCall | None, attempt: int) -> CallContext:
        """Return what observers are told of the sending number `attempt` of the call, from 1.

        `granted` is None if the call is not sent: it is refused, or the ledger has its answer.
        """
        scope, offer = self.claim.scope, self.claim.offers[0 if granted is None else granted.place]
        return CallContext(
            call_id="" if granted is None else granted.hold.call_id,
            kind=self.kind,
            agent=scope.agent,
            model=offer.model,
            held=ZERO if granted is None else USD.from_nanos(granted.hold.amount),
            attempt=attempt,
            began=scope.clock(),
        )

    def held(self, granted: GrantedCall) -> int:
        """Return the call's hold as it is now, in nano-dollars. The hold of a stream may have grown."""
        return granted.hold.amount

    @abstractmethod
    def send(self, granted: GrantedCall) -> Flow[T]:
        """Send the call once, and return its result."""

    @abstractmethod
    def bill(self, granted: GrantedCall, result: T) -> Bill:
        """Return the cost and the usage of the call that gave this result."""

    @abstractmethod
    def failure(self, granted: GrantedCall, error: BaseException) -> Failure:
        """Return what is owed after an error of sending, and whether the same call may be sent again."""

    @abstractmethod
    def write(self, result: T) -> bytes | None:
        """Return the result as bytes, which the ledger keeps for a repeated run; None if it cannot be replayed."""

    @abstractmethod
    def read(self, answer: bytes) -> T:
        """Return the result from the bytes that `write` wrote."""

    def known_cost(self, granted: GrantedCall, failure: Failure) -> Bill | None:
        """Return the cost of a failed call; None if the cost is not known.

        On None, the caller voids the hold if `failure.owed` is "nothing", and otherwise marks the call unknown.
        """
        return None

    def input_cost(self, granted: GrantedCall, usage: Usage) -> int | None:
        """Return the cost of the input alone, in nano-dollars; None if the cost of the call is not split."""
        return None

    def is_the_providers(self, failure: Failure) -> bool:
        """Whether the error of a failed call comes from the provider, not from the application.

        If True, and the call is not sent again, the caller records the error in the scope.
        """
        return failure.at_fault

    def is_whole(self, granted: GrantedCall, result: T, usage: Usage) -> bool:
        """Whether the result is one answer of a model with its usage, which no budget cut short."""
        return False

    def has_begun_to_answer(self) -> bool:
        """Whether part of the answer has arrived, so that what was called is alive."""
        return False

    def find(self, lost: LostCall, seconds: float) -> Flow[FoundEnd | None]:
        """Ask, for at most `seconds`, what became of the call `lost`, and return its end; None if nobody knows it."""
        yield from ()
        return None

    def hang_up(self) -> Flow[None]:
        """Close what sending left open, such as a stream.

        If the call failed and is not sent again, `purchase` runs this after the hold was settled, voided or marked
        unknown.
        """
        yield from ()


class _Telling:
    """What observers are told of one sending of a call: nothing, if nobody listens.

    `granted` is None if the call is not sent. `attempt` counts the sendings before this one. `paid_by` is the id of the
    call whose answer the ledger keeps.
    """

    def __init__(self, call: PaidCall[Any], granted: GrantedCall | None, attempt: int, *, paid_by: str = "") -> None:
        observers = call.claim.scope.observers
        self.attempt = attempt
        self._call = call
        self._granted = granted
        self._clock = call.claim.scope.clock
        self._observers = observers if observers is not None and observers.hears_calls else None
        self._context = call.described(granted, attempt + 1) if self._observers is not None else None
        if paid_by and self._context is not None:
            self._context = replace(self._context, call_id=paid_by)

    def started(self) -> None:
        """Tell that the call is about to be sent."""
        if self._observers is not None and self._context is not None:
            self._observers.call_started(self._context)

    def settled(self, bill: Bill, cost: int, **how: Any) -> None:
        """Tell that the call was charged `cost` nano-dollars, by this bill."""
        self.ended("settled", cost=cost, usage=bill.usage, cache_saved=USD.from_nanos(bill.saved), **how)

    def ended(self, state: CallState, *, cost: int = 0, **how: Any) -> None:
        """Tell how the call ended. `cost` is in nano-dollars, and `how` has the other fields of a `CallEnd`."""
        if self._observers is not None and self._context is not None:
            of_input = self._of_input(cost, how.get("usage"))
            end = CallEnd(state=state, at=self._clock(), cost=USD.from_nanos(cost), of_input=of_input, **how)
            self._observers.call_ended(self._context, end)

    def _of_input(self, cost: int, usage: Usage | None) -> USD | None:
        if self._granted is None or usage is None or not usage.input_tokens:
            return None
        part = self._call.input_cost(self._granted, usage)
        return None if part is None else USD.from_nanos(min(part, cost))


def send_once(send: Invoke[T]) -> Flow[T]:
    """Send the paid call once by `send`, as a step of its flow, and return its result.

    The driver of the flow runs `send` from sync or from async code.
    """
    result = yield from do(send)
    sys.audit("bursar.failpoint", "after_send")
    return result


def purchase(call: PaidCall[T]) -> Flow[T]:
    """Return the result of a call that is paid for once: from the ledger, or by sending the call.

    If the run is a repetition, and the ledger keeps the result, nothing is sent. After a transient failure the call is
    sent again, `MAX_ATTEMPTS` times in all at most. Raises `Refused` if the call is not admitted, and the error of the
    last sending if the call failed.
    """
    claim, attempt = call.claim, 0
    while True:  # bounded by MAX_ATTEMPTS in `pause_before_retry`
        try:
            granted = yield from _admitted(call, first=attempt == 0)
        except Refused as refusal:
            _Telling(call, None, attempt).ended("refused", error=refusal)
            raise
        if isinstance(granted, KeptAnswer):
            result = call.read(granted.answer)
            _Telling(call, None, attempt, paid_by=granted.call_id).ended("replayed", answer=result)
            return result
        left, told = seconds_left(claim.scope), _Telling(call, granted, attempt)
        told.started()
        try:
            result = yield from call.send(granted)
        except BaseException as error:
            pause = yield from _failed(call, granted, error, told, left)
            if pause is None:
                yield from call.hang_up()
                raise
        else:
            yield from _settle(call, granted, result, told)
            return result
        yield Sleep(pause)
        attempt += 1


def _admitted(call: PaidCall[Any], *, first: bool) -> Flow[GrantedCall | KeptAnswer]:
    """Return what `admit` returns, after the provider was asked for the calls of this key whose end nobody saw.

    Raises what `admit` raises.
    """
    claim = call.claim
    admitted = yield from admit(claim, first=first)
    while isinstance(admitted, LostCalls):  # bounded: each round asks for at least one call that was not asked for
        is_looked_up = False
        try:
            yield from look_up_lost_calls(claim, admitted.calls, call.find)
            is_looked_up = True
        except LeaseLost as refusal:
            raise claim.scope.latch(refusal) from None
        finally:
            if not is_looked_up:  # the caller makes the same call again, which must have the same key
                claim.give_back()
        admitted = yield from admit(claim, first=False)
    return admitted


def _settle(call: PaidCall[T], granted: GrantedCall, result: T, told: _Telling) -> Flow[None]:
    """Charge the cost of the result, or the hold if the cost is not known, and let the ledger keep the result.

    If reading the bill raises an error, charge the hold, and raise the error afterwards.
    """
    sys.audit("bursar.failpoint", "after_response")
    bill = Bill(None)
    unread: BaseException | None = None
    try:
        bill = call.bill(granted, result)
    except BaseException as error:  # noqa: BLE001 - raised again when the call is charged
        unread = error
    cost, whole = bill.charge(call.held(granted)), call.is_whole(granted, result, bill.usage)
    yield from settle(call.claim, granted, bill=bill, cost=cost, response=call.write(result), whole=whole)
    told.settled(bill, cost, answer=result, error=unread)
    if unread is not None:
        raise unread


def _failed(
    call: PaidCall[T], granted: GrantedCall, error: BaseException, told: _Telling, had: float | None
) -> Flow[float | None]:
    """Book the end of a failed call. Return the seconds to wait before the call is sent again; None if it is not.

    If the cost is known, the hold is settled with it. If nothing is owed, the hold is voided. Otherwise the call is
    marked unknown; observers are `told` so. The breaker counts a fault once, when the call is not sent again. `had` is
    the seconds to the run's deadline when the call was sent. If `call.failure` raises an error, nobody knows what is
    owed, and that error is raised at the end.
    """
    claim = call.claim
    left = seconds_left(claim.scope)
    reading = Captured[Failure]()
    with reading:
        reading.value = call.failure(granted, error)
    failure = reading.value or Failure("unknown", retry=False, reason=type(error).__name__)
    pause = pause_before_retry(
        told.attempt, retry=failure.retry, pause_seconds=failure.pause_seconds, seconds_left=left
    )
    says: BreakerVote = "nothing"
    if pause is None and failure.at_fault:
        says = "at fault"
    elif failure.owed == "unknown" and not call.has_begun_to_answer() and is_hung(had, left):
        says = "hung"
    known = call.known_cost(granted, failure)
    match end_failed(failure.owed, is_cost_known=known is not None):
        case "settle":
            assert known is not None
            vote = says if failure.usage is None else "well"  # the model answered, but its answer could not be read
            cost = known.charge(call.held(granted))
            yield from settle(claim, granted, bill=known, cost=cost, response=None, says=vote)
            told.settled(known, cost, error=error)
        case "void":
            yield from void(claim, granted, failure.reason, says)
            told.ended("void", error=error, reason=failure.reason)
        case "lose":
            yield from mark_unknown(claim, granted, failure.reason, says)
            told.ended("unknown", cost=call.held(granted), error=error, reason=failure.reason)
    if pause is None:
        claim.give_back()
        if call.is_the_providers(failure):
            claim.scope.provider_failed(error)
    if reading.error is not None:
        raise reading.error from error
    return pause
