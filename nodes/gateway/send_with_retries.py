"""A paid call from its hold to its settlement: sent again after a failure that may pass, replayed if it was paid."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Generic, TypeVar

from bursar.checkpoints.ledger.calls import Usage
from bursar.nodes.gateway import failpoints
from bursar.nodes.gateway.admission import (
    AdmissionRequest,
    GrantedCall,
    Offer,
    SizedOffer,
    admit,
    mark_unknown,
    seconds_left,
    settle,
    void,
)
from bursar.nodes.gateway.flow import Flow, Invoke, Sleep, do
from bursar.nodes.gateway.providers.base import Failure
from bursar.nodes.isolation.captured import Captured

T = TypeVar("T")

NO_USAGE = Usage()
MAX_ATTEMPTS = 3
FIRST_PAUSE_SECONDS = 0.5
MAX_PAUSE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Bill:
    """What a call cost, in nano-dollars; None where nobody said, and then it stays at its hold."""

    nanos: int | None
    usage: Usage = NO_USAGE


@dataclass(slots=True)
class PaidCall(ABC, Generic[T]):
    """A call that is paid for: how it is sent, billed, written to the journal and read from it."""

    claim: AdmissionRequest

    @abstractmethod
    def send(self, granted: GrantedCall) -> Flow[T]:
        """Send it once."""

    @abstractmethod
    def bill(self, granted: GrantedCall, result: T) -> Bill:
        """What its result cost."""

    @abstractmethod
    def failure(self, granted: GrantedCall, error: BaseException) -> Failure:
        """What the error of sending means."""

    @abstractmethod
    def write(self, result: T) -> bytes | None:
        """Its result for the journal; None if it cannot be replayed."""

    @abstractmethod
    def read(self, answer: bytes) -> T:
        """The result that `write` wrote."""

    def known_cost(self, granted: GrantedCall, failure: Failure) -> Bill | None:
        """What a failed call is known to cost; None if only its failure says what is owed."""
        return None

    def is_the_providers(self, failure: Failure) -> bool:
        """Whether what the caller gets to see is an error of the provider, not one of the application."""
        return failure.at_fault

    def hang_up(self) -> Flow[None]:
        """Let go of what sending left open, after its money is in order."""
        yield from ()


def fixed_offer(name: str, price_version: str, amount: int, breaker: str) -> Offer:
    """The offer of a call whose cost nothing can lower: `amount` nano-dollars, or not at all."""
    return Offer(name, price_version, amount, lambda left: _whole(amount, left), breaker)


def send_once(send: Invoke[T]) -> Flow[T]:
    """Do what sends the call."""
    result = yield from do(send)
    failpoints.hit("after_send")
    return result


def purchase(call: PaidCall[T]) -> Flow[T]:
    """The result of a call, paid for once. Raises `Refused`, or what sending raises."""
    claim, attempt = call.claim, 0
    while True:  # bounded by MAX_ATTEMPTS of `pause_before_retry`
        granted = yield from admit(claim, first=attempt == 0)
        if isinstance(granted, bytes):
            return call.read(granted)
        try:
            result = yield from call.send(granted)
        except BaseException as error:
            pause = yield from _failed(call, granted, error, attempt)
            if pause is None:
                yield from call.hang_up()
                raise
        else:
            yield from _settle(call, granted, result)
            return result
        yield Sleep(pause)
        attempt += 1


def _settle(call: PaidCall[T], granted: GrantedCall, result: T) -> Flow[None]:
    """Charge what the result cost, or its hold, and keep the result. After that, raise what reading the bill raised."""
    failpoints.hit("after_response")
    bill = Bill(None)
    unread: BaseException | None = None
    try:
        bill = call.bill(granted, result)
    except BaseException as error:  # noqa: BLE001 - raised again when the call is charged
        unread = error
    cost = granted.hold.amount if bill.nanos is None else bill.nanos
    yield from settle(call.claim, granted, cost=cost, usage=bill.usage, response=call.write(result))
    if unread is not None:
        raise unread


def pause_before_retry(failure: Failure, attempt: int, seconds_left: float | None) -> float | None:
    """Seconds to wait before attempt number `attempt` + 1, counted from 0; None if it is not to be made."""
    if not failure.retry or attempt + 1 >= MAX_ATTEMPTS:
        return None
    pause = FIRST_PAUSE_SECONDS * 2**attempt if failure.pause_seconds is None else failure.pause_seconds
    if pause > MAX_PAUSE_SECONDS or (seconds_left is not None and pause >= seconds_left):
        return None
    return pause


def _whole(amount: int, left: int | None) -> SizedOffer | None:
    return SizedOffer(amount) if left is None or amount <= left else None


def _failed(call: PaidCall[T], granted: GrantedCall, error: BaseException, attempt: int) -> Flow[float | None]:
    """Put the money of a failed call in order. Afterwards: seconds to wait before sending again, None if never."""
    claim = call.claim
    left = seconds_left(claim.scope)
    reading = Captured[Failure]()
    with reading:
        reading.value = call.failure(granted, error)
    failure = reading.value or Failure("unknown", retry=False, reason=type(error).__name__)
    says = "at fault" if failure.at_fault else "nothing"
    known = call.known_cost(granted, failure)
    if known is not None and known.nanos is not None:
        vote = says if failure.usage is None else "well"  # it answered, and what it answered could not be read
        yield from settle(claim, granted, cost=known.nanos, usage=known.usage, response=None, says=vote)
    elif failure.owed == "nothing":
        yield from void(claim, granted, failure.reason, says)
    else:
        yield from mark_unknown(claim, granted, failure.reason, says)
    pause = pause_before_retry(failure, attempt, left)
    if pause is None:
        claim.give_back()
        if call.is_the_providers(failure):
            claim.scope.provider_failed(error)
    if reading.error is not None:
        raise reading.error from error
    return pause
