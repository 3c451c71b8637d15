"""A paid call from its hold to its settlement: sent again after a transient failure, replayed if it was paid for."""

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
    """The cost of a call in nano-dollars, and its usage. If `nanos` is None, nobody reported the cost.

    The call is then charged at its hold.
    """

    nanos: int | None
    usage: Usage = NO_USAGE


@dataclass(slots=True)
class PaidCall(ABC, Generic[T]):
    """A paid call with a result of type T: how it is sent and billed, and how the ledger keeps its result.

    `claim` is what asks for the call's admission.
    """

    claim: AdmissionRequest

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

    def is_the_providers(self, failure: Failure) -> bool:
        """Whether the error of a failed call comes from the provider, not from the application.

        If True, and the call is not sent again, the caller records the error in the scope.
        """
        return failure.at_fault

    def hang_up(self) -> Flow[None]:
        """Close what sending left open, such as a stream.

        If the call failed and is not sent again, `purchase` runs this after the hold was settled, voided or marked
        unknown.
        """
        yield from ()


def fixed_offer(name: str, price_version: str, amount: int, breaker: str) -> Offer:
    """Return the `Offer` by which a call that costs at most `amount` nano-dollars is admitted, if that much is left.

    `name` is the model or the function, `price_version` the source of its price, and `breaker` the name of its breaker.
    """
    return Offer(name, price_version, amount, lambda left: _whole(amount, left), breaker)


def send_once(send: Invoke[T]) -> Flow[T]:
    """Send the paid call once by `send`, as a step of its flow, and return its result.

    The driver of the flow runs `send` from sync or from async code.
    """
    result = yield from do(send)
    failpoints.hit("after_send")
    return result


def purchase(call: PaidCall[T]) -> Flow[T]:
    """Return the result of a call that is paid for once: from the ledger, or by sending the call.

    If the run is a repetition, and the ledger keeps the result, nothing is sent. After a transient failure the call is
    sent again, `MAX_ATTEMPTS` times in all at most. Raises `Refused` if the call is not admitted, and the error of the
    last sending if the call failed.
    """
    claim, attempt = call.claim, 0
    while True:  # bounded by MAX_ATTEMPTS in `pause_before_retry`
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
    """Charge the cost of the result, or the hold if the cost is not known, and let the ledger keep the result.

    If reading the bill raises an error, charge the hold, and raise the error afterwards.
    """
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
    """Return the seconds to wait before the next attempt; None if the call is not sent again.

    `attempt` is the number of the attempt that failed, from 0. `seconds_left` is the time to the run's deadline, None
    without a deadline.
    """
    if not failure.retry or attempt + 1 >= MAX_ATTEMPTS:
        return None
    pause = FIRST_PAUSE_SECONDS * 2**attempt if failure.pause_seconds is None else failure.pause_seconds
    if pause > MAX_PAUSE_SECONDS or (seconds_left is not None and pause >= seconds_left):
        return None
    return pause


def _whole(amount: int, left: int | None) -> SizedOffer | None:
    return SizedOffer(amount) if left is None or amount <= left else None


def _failed(call: PaidCall[T], granted: GrantedCall, error: BaseException, attempt: int) -> Flow[float | None]:
    """Book the end of a failed call. Return the seconds to wait before the call is sent again; None if it is not.

    If the cost is known, the hold is settled with it. If nothing is owed, the hold is voided. Otherwise the call is
    marked unknown. If `call.failure` raises an error, nobody knows what is owed, and that error is raised at the end.
    """
    claim = call.claim
    left = seconds_left(claim.scope)
    reading = Captured[Failure]()
    with reading:
        reading.value = call.failure(granted, error)
    failure = reading.value or Failure("unknown", retry=False, reason=type(error).__name__)
    says = "at fault" if failure.at_fault else "nothing"
    known = call.known_cost(granted, failure)
    if known is not None and known.nanos is not None:
        vote = says if failure.usage is None else "well"  # the model answered, but its answer could not be read
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
