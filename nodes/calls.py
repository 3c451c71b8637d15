"""One paid call: admit → send → settle, written once for sync and async, plain and streamed."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatResult
from sqlalchemy import Connection

from bursar.checkpoints.books import Books, Hold, Usage
from bursar.checkpoints.database import Database, Work
from bursar.nodes.answers import Received, as_chunk, billed_in, decode, encode
from bursar.nodes.bounds import WrittenRequest, output_cap
from bursar.nodes.clients import Client
from bursar.nodes.faults import fault_of, pause_before_retry, usage_in
from bursar.nodes.prices import PricedModel
from bursar.nodes.scope import Scope
from bursar.nodes.steps import Do, Emit, Flow, Pause, Source, Transact, do
from bursar.state.errors import BudgetExceeded, Refused, ScopeClosed
from bursar.state.money import USD

MAX_ADMISSIONS = 8  # how often a call that lost the race for the last money is shaped anew


@dataclass(frozen=True, slots=True)
class Call:
    """A call as the caller made it, priced and written down; `occurrence` makes it one of its kind in its run."""

    scope: Scope
    client: Client
    price: PricedModel
    messages: list[BaseMessage]
    stop: list[str] | None
    options: Mapping[str, object]
    request: WrittenRequest
    occurrence: int
    asked: int | None
    choices: int
    maximum: int
    minimum: int

    @property
    def books(self) -> Books:
        return self.scope.ledger.books

    @property
    def database(self) -> Database:
        return self.scope.ledger.database

    def worst_case(self, output_tokens: int) -> int:
        """Nano-dollars of this call with so many output tokens."""
        return self.price.worst_case(self.request.input_tokens, output_tokens)


@dataclass(frozen=True, slots=True)
class Admitted:
    """A call whose hold is committed: it may be sent once, with this output cap."""

    hold: Hold
    cap: int


def answered(call: Call) -> Flow[ChatResult]:
    """The answer to a call, paid for once. Raises `Refused`, or what the provider's SDK raises."""
    attempt = 0
    while True:  # bounded by MAX_ATTEMPTS of `pause_before_retry`
        admitted = yield from _admit(call, first=attempt == 0)
        if isinstance(admitted, bytes):
            return decode(admitted)
        sent = _sent_options(call, admitted.cap)
        try:
            result = yield from do(_send(call, sent))
        except BaseException as error:
            pause = yield from _failed(call, admitted, error, Received(), attempt)
            if pause is None:
                raise
        else:
            yield from _settle(call, admitted, result, received_tokens=0)
            return result
        yield Pause(pause)
        attempt += 1


def streamed(call: Call) -> Flow[None]:
    """The chunks of the answer to a call, paid for once. It stops when as many tokens have come as were paid for."""
    attempt = 0
    while True:  # bounded by MAX_ATTEMPTS of `pause_before_retry`
        admitted = yield from _admit(call, first=attempt == 0)
        if isinstance(admitted, bytes):
            yield Emit(as_chunk(decode(admitted)))
            return
        received, source = Received(), _open(call, _sent_options(call, admitted.cap))
        try:
            while (chunk := (yield from do(source.next()))) is not None:
                received.add(chunk)
                yield Emit(chunk)
                if received.tokens > admitted.cap * call.choices:
                    yield from do(source.close())
                    break
        except BaseException as error:
            pause = yield from _failed(call, admitted, error, received, attempt)
            if pause is None:
                yield from do(source.close())
                raise
        else:
            yield from _settle(call, admitted, received.result(), received_tokens=received.tokens)
            return
        yield Pause(pause)
        attempt += 1


def _admit(call: Call, *, first: bool) -> Flow[Admitted | bytes]:
    """The journal's answer if this call was paid for before, else a committed hold."""
    scope = call.scope
    why_not = _closed(scope)
    if why_not is None and not scope.paid:
        why_not = BudgetExceeded(f"{scope.agent} is deterministic and may not call {call.price.name}", scope="unpaid")
    if why_not is None and first and not scope.take_turn():
        why_not = BudgetExceeded(f"{scope.agent} has used its {scope.max_turns} turns", scope="turns")
    if why_not is not None:
        raise (yield from _refused(call, why_not))
    for _ in range(MAX_ADMISSIONS):
        admission = Transact(call.database, _admission(call), outlast=True)
        try:
            outcome = yield from do(admission)
        except BudgetExceeded:
            continue  # on PostgreSQL another call took the money in between: shape this one anew
        except BaseException:
            _unanswered(call)
            if isinstance(admission.result, Admitted):
                yield Transact(call.database, _voided(call, admission.result.hold, "cancelled before it was sent"))
            raise
        if isinstance(outcome, BudgetExceeded):
            raise (yield from _refused(call, outcome))
        if isinstance(outcome, Admitted) and (why_not := _closed(scope)) is not None:
            yield Transact(call.database, _voided(call, outcome.hold, "the run ended before it was sent"))
            raise (yield from _refused(call, why_not))
        return outcome
    lost = BudgetExceeded(f"other calls took what {call.price.name} needed", scope=scope.scopes[-1])
    raise (yield from _refused(call, lost))


def _admission(call: Call) -> Work[Admitted | BudgetExceeded | bytes]:
    """One transaction: look in the journal, read what is left, shape, hold."""
    scope, books = call.scope, call.books

    def work(connection: Connection) -> Admitted | BudgetExceeded | bytes:
        answer = books.replayable(scope.session_id, scope.checkpoint_ns, call.request.hash, call.occurrence)(connection)
        if answer is not None:
            return answer
        left = books.left(scope.scopes)(connection)
        cap = output_cap(
            call.price,
            input_tokens=call.request.input_tokens,
            left=left,
            asked=call.asked,
            maximum=call.maximum,
            minimum=call.minimum,
            choices=call.choices,
        )
        if cap is None:
            return _too_dear(call, left or 0, connection)
        admitted = Admitted(_hold(call, call.worst_case(cap * call.choices)), cap)
        books.hold(admitted.hold)(connection)
        return admitted

    return work


def _too_dear(call: Call, left: int, connection: Connection) -> BudgetExceeded:
    tightest = next((s for s in call.scope.scopes if call.books.left((s,))(connection) == left), call.scope.scopes[-1])
    least = USD.from_nanos(_least(call))
    message = f"a call to {call.price.name} needs {least} and {USD.from_nanos(left)} is left of {tightest}"
    return BudgetExceeded(message, scope=tightest)


def _least(call: Call) -> int:
    wanted = call.maximum if call.asked is None else min(call.asked, call.maximum)
    return call.worst_case(min(call.minimum, wanted) * call.choices)


def _hold(call: Call, amount: int) -> Hold:
    scope = call.scope
    return Hold(
        call_id=scope.new_id(),
        session_id=scope.session_id,
        request_id=scope.request_id,
        agent=scope.agent,
        checkpoint_ns=scope.checkpoint_ns,
        request_hash=call.request.hash,
        occurrence=call.occurrence,
        model=call.price.name,
        price_version=call.price.version,
        amount=amount,
        scopes=scope.scopes,
        at=scope.clock(),
    )


def _refused(call: Call, refusal: Refused) -> Flow[Refused]:
    """Write the refusal down and keep it in the scope; the result is to be raised."""
    account = refusal.scope if isinstance(refusal, BudgetExceeded) else "run"
    call.scope.latch(refusal)
    _unanswered(call)
    yield Transact(call.database, call.books.refuse(_hold(call, _least(call)), scope=account, reason=str(refusal)))
    return refusal


def _closed(scope: Scope) -> Refused | None:
    if scope.closed:
        return ScopeClosed(f"the run of {scope.agent} has ended; nothing that still runs of it may spend")
    if scope.deadline is not None and time.monotonic() >= scope.deadline:
        return ScopeClosed(f"the deadline of {scope.agent} has passed")
    return None


def _failed(
    call: Call, admitted: Admitted, error: BaseException, received: Received, attempt: int
) -> Flow[float | None]:
    """Put the money of a failed call in order. Afterwards: seconds to wait before sending again, None if never."""
    hold, scope = admitted.hold, call.scope
    fault = fault_of(error, answered=bool(received.chunks), now=scope.clock())
    parsed = usage_in(error)
    beyond = call.worst_case(received.tokens)
    if parsed is not None:
        cost = call.price.cost(parsed)
        work = call.books.settle(hold.call_id, cost=cost, usage=parsed, response=None, at=scope.clock())
    elif beyond > hold.amount:
        usage = Usage(call.request.input_tokens, received.tokens)
        work = call.books.settle(hold.call_id, cost=beyond, usage=usage, response=None, at=scope.clock())
    elif fault.owed == "nothing":
        work = _voided(call, hold, fault.reason)
    else:
        work = call.books.mark_unknown(hold.call_id, reason=fault.reason, at=scope.clock())
    yield Transact(call.database, work)
    left = None if scope.deadline is None else scope.deadline - time.monotonic()
    pause = pause_before_retry(fault, attempt, left)
    if pause is None:
        _unanswered(call)
    return pause


def _unanswered(call: Call) -> None:
    """A caller that tries again makes the same call again: the answer belongs to this occurrence."""
    call.scope.give_back(call.request.hash, call.occurrence)


def _settle(call: Call, admitted: Admitted, result: ChatResult | None, *, received_tokens: int) -> Flow[None]:
    """Book what the provider billed; its hold, or what was received if that is more, where it did not say."""
    at = call.scope.clock()
    billed = billed_in(result)
    if billed is None:
        cost, usage = max(admitted.hold.amount, call.worst_case(received_tokens)), Usage()
    else:
        usage = billed.usage
        cost = call.price.cost(usage, long_cache_write_tokens=billed.long_cache_write_tokens)
    response = None if result is None else encode(result)
    work = call.books.settle(admitted.hold.call_id, cost=cost, usage=usage, response=response, at=at)
    yield Transact(call.database, work)


def _voided(call: Call, hold: Hold, reason: str) -> Work[None]:
    return call.books.void(hold.call_id, reason=reason, at=call.scope.clock())


def _sent_options(call: Call, cap: int) -> dict[str, Any]:
    deadline = call.scope.deadline
    return call.client.capped(call.options, cap, None if deadline is None else deadline - time.monotonic())


def _send(call: Call, options: Mapping[str, Any]) -> Do[ChatResult]:
    model = call.client.model
    return Do(
        lambda: model._generate(call.messages, stop=call.stop, **options),  # pyright: ignore[reportPrivateUsage]
        lambda: model._agenerate(call.messages, stop=call.stop, **options),  # pyright: ignore[reportPrivateUsage]
    )


def _open(call: Call, options: Mapping[str, Any]) -> Source:
    model = call.client.model
    return Source(
        lambda: model._stream(call.messages, stop=call.stop, **options),  # pyright: ignore[reportPrivateUsage]
        lambda: model._astream(call.messages, stop=call.stop, **options),  # pyright: ignore[reportPrivateUsage]
    )
