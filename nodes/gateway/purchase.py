"""A paid call that is no chat: admit → send → settle for whatever has a bound and a bill."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from bursar.checkpoints.ledger.postings import Usage
from bursar.nodes.gateway import failpoints
from bursar.nodes.gateway.admission import AdmissionRequest, admit, mark_unknown, seconds_left, settle, void
from bursar.nodes.gateway.flow import Flow, Invoke, Sleep, do
from bursar.nodes.gateway.providers.failures import Failure, pause_before_retry
from bursar.nodes.isolation.captured import Captured

T = TypeVar("T")

NO_USAGE = Usage()


@dataclass(frozen=True, slots=True)
class Bill:
    """What a call cost, in nano-dollars; None where nobody said, and then it stays at its hold."""

    nanos: int | None
    usage: Usage = NO_USAGE


@dataclass(frozen=True, slots=True)
class Purchase(Generic[T]):
    """A call with one offer: how it is sent, billed, written to the journal (None: it is not) and read from it."""

    claim: AdmissionRequest
    send: Invoke[T]
    bill: Callable[[T], Bill]
    write: Callable[[T], bytes | None]
    read: Callable[[bytes], T]
    fault: Callable[[BaseException], Failure]


def purchase(purchase: Purchase[T]) -> Flow[T]:
    """The result of a call, paid for once. Raises `Refused`, or what sending raises."""
    claim, attempt = purchase.claim, 0
    while True:  # bounded by MAX_ATTEMPTS of `pause_before_retry`
        admitted = yield from admit(claim, first=attempt == 0)
        if isinstance(admitted, bytes):
            return purchase.read(admitted)
        end = Captured[T]()
        with end:
            end.value = yield from do(purchase.send)
            failpoints.hit("after_send")
        if end.error is None:
            break
        fault = purchase.fault(end.error)
        end_call = void if fault.owed == "nothing" else mark_unknown
        yield from end_call(claim, admitted, fault.reason, "at fault" if fault.real else "nothing")
        pause = pause_before_retry(fault, attempt, seconds_left(claim.scope))
        if pause is None:
            claim.give_back()
            if fault.real:
                claim.scope.provider_failed(end.error)
            raise end.error
        yield Sleep(pause)
        attempt += 1
    result = end.result()
    failpoints.hit("after_response")
    billing = Captured[Bill]()
    with billing:
        billing.value = purchase.bill(result)
    bill = billing.value or Bill(None)
    cost = admitted.hold.amount if bill.nanos is None else bill.nanos
    yield from settle(claim, admitted, cost=cost, usage=bill.usage, response=purchase.write(result))
    if billing.error is not None:
        raise billing.error  # the price function's own: its call is charged at the hold, its result is in the journal
    return result
