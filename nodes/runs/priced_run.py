"""A run that has a price: all of it is one paid call, whose answer is the handler's report."""

import json
from dataclasses import dataclass
from functools import partial
from hashlib import sha256

from bursar.checkpoints.saver.serde import default_serde
from bursar.nodes.gateway.paid_calls.admission import AdmissionRequest, GrantedCall, seconds_left
from bursar.nodes.gateway.paid_calls.flow import Flow, Invoke, adrive
from bursar.nodes.gateway.paid_calls.scope import Scope
from bursar.nodes.gateway.providers.base import Failure
from bursar.nodes.gateway.send_with_retries import PaidCall, purchase, send_once
from bursar.nodes.isolation.captured import Captured
from bursar.nodes.runs.handlers import call
from bursar.nodes.specialists.chain import Link
from bursar.state.errors import BursarError
from bursar.state.money import USD
from bursar.state.rules.calls import fixed_offer
from bursar.state.rules.pricing import Bill
from bursar.state.run import Report, Task

_serde = default_serde()


class _NoReport(Exception):
    """The run gave no report: `end` has what its handler raised, and is None if the handler was late."""

    def __init__(self, end: Captured[Report] | None) -> None:
        super().__init__("no answer in time" if end is None else type(end.error).__name__)
        self.end = end


async def call_at_price(scope: Scope, link: Link, task: Task, price: USD) -> Captured[Report] | None:
    """Call the link's handler as `call` does, as one paid call that costs `price`, and return its report or error.

    The price is held before the handler is called. When the handler has returned its report, the price is charged, and
    the ledger keeps the report: a run that is repeated gets the report again, and pays nothing. Otherwise the call
    stays charged at its price, as unknown. Returns None at the deadline. If the price does not fit, the handler is not
    called, and the refusal is the error.
    """
    given = json.dumps([link.agent, task.text, [(turn.role, turn.text) for turn in task.history]])
    key = sha256(f"priced run\n{given}".encode()).hexdigest()
    # Without a breaker of the call: the agent's own breaker counts its faults.
    offer = fixed_offer(link.name, f"given {price}", price.nanos, breaker="")
    claim = AdmissionRequest(scope, key, scope.next_occurrence(key), (offer,))
    try:
        report = await adrive(purchase(_PricedRun(claim, Invoke(_never, partial(_report, scope, link, task)))))
    except _NoReport as none:
        return none.end
    except BursarError as error:  # the gateway's own: a refusal, or a fault of the ledger
        return Captured(error=error)
    return Captured(report)


@dataclass(slots=True)
class _PricedRun(PaidCall[Report]):
    sending: Invoke[Report]
    kind = "run"

    def send(self, granted: GrantedCall) -> Flow[Report]:
        return send_once(self.sending)

    def bill(self, granted: GrantedCall, result: Report) -> Bill:
        return Bill(granted.hold.amount)

    def failure(self, granted: GrantedCall, error: BaseException) -> Failure:
        """Return that the price is owed, because nobody saw the end of what the run paid for. It is not sent again."""
        return Failure("unknown", retry=False, reason=str(error) or type(error).__name__)

    def write(self, result: Report) -> bytes:
        return _serde.dumps_typed(result.model_dump())[1]

    def read(self, answer: bytes) -> Report:
        return Report.model_validate(_serde.loads_typed(("msgpack", answer)))


async def _report(scope: Scope, link: Link, task: Task) -> Report:
    end = await call(link, task, seconds=seconds_left(scope) or 0, keep=scope.keep)
    if end is None or end.value is None:
        raise _NoReport(end)
    return end.value


def _never() -> Report:
    raise AssertionError("a run is driven from async code")
