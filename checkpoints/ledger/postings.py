"""Postings: functions of a transaction that change a call's money and log the event for it.

Amounts are whole nano-dollars, times are aware. A posting raises `LedgerError`, and changes nothing, if there is no
such call or session, or the call is in a state that the posting cannot follow.
"""

import hashlib
from datetime import datetime

from sqlalchemy.exc import IntegrityError

from bursar.checkpoints.ledger import administration, calls
from bursar.checkpoints.ledger.accounts import check_amount, check_id, lock, move, reserve
from bursar.checkpoints.ledger.calls import Hold
from bursar.checkpoints.ledger.hash_chain import UnknownSession, append, check_readable, stamp
from bursar.checkpoints.ledger.postgresql_postings import hold_in_one, raise_in_one, settle_in_one
from bursar.checkpoints.ledger.transaction import Transaction
from bursar.state.errors import LedgerError
from bursar.state.events import (
    CallHeld,
    CallHoldRaised,
    CallRefused,
    CallSettled,
    CallUnknown,
    CallVoided,
    Decided,
    Event,
    Incident,
    Reconciled,
)
from bursar.state.money import USD
from bursar.state.rules import calls as rules
from bursar.state.rules.pricing import Usage
from bursar.state.text import clean


def hold(transaction: Transaction, hold: Hold) -> None:
    """Hold `hold.amount` in every account of `hold.scopes`. Afterwards the call may be sent.

    Raises `BudgetExceeded`, which names the outermost account without room, or `AccountClosed`, which names the
    incident. The caller rolls back after an error, so nothing is held anywhere.
    """
    check_id("call", hold.call_id)
    check_amount("a hold", hold.amount)
    when = stamp(hold.at)
    transaction.in_flight.write(transaction.connection, hold.at)
    event = CallHeld(
        call_id=hold.call_id,
        request_id=hold.request_id,
        agent=hold.agent,
        model=hold.model,
        amount=USD.from_nanos(hold.amount),
        scopes=hold.scopes,
    )
    row = calls.new_row(hold, when)
    try:
        if _is_postgresql(transaction) and hold_in_one(transaction, hold, row, at=when, told=event):
            return
        calls.insert_held(transaction, row)
        reserve(transaction, hold.scopes, hold.amount)
    except IntegrityError as error:
        raise LedgerError(f"call {hold.call_id} is already in the books; a new call needs a new id") from error
    append(transaction, hold.session_id, when, [event])


def raise_hold(transaction: Transaction, hold: Hold, raised: int, *, at: datetime) -> None:
    """Raise the hold of a call in flight from `hold.amount` to `raised` nano-dollars in every account of the call.

    Afterwards the provider may bill so much. Raises `BudgetExceeded`, which names the outermost account without room,
    or `AccountClosed`, which names the incident. The caller rolls back after an error, so nothing is raised anywhere.
    """
    check_amount("a hold", raised)
    if raised <= hold.amount:
        raise LedgerError(f"the hold of call {hold.call_id} is {hold.amount}; it is not raised to {raised}")
    when = stamp(at)
    transaction.in_flight.write(transaction.connection, at)
    event = CallHoldRaised(call_id=hold.call_id, amount=USD.from_nanos(raised))
    if _is_postgresql(transaction) and raise_in_one(transaction, hold, raised, at=when, told=event):
        return
    calls.raise_hold(transaction, hold.call_id, amount=hold.amount, raised=raised)
    reserve(transaction, hold.scopes, rules.raise_hold(hold.amount, raised).held)
    append(transaction, hold.session_id, when, [event])


def refuse(transaction: Transaction, hold: Hold, *, scope: str, reason: str) -> None:
    """Log that this call was not sent because the account `scope` had no room for it. No account is changed."""
    event = CallRefused(
        request_id=hold.request_id,
        agent=hold.agent,
        model=hold.model,
        amount=USD.from_nanos(hold.amount),
        scope=scope,
        reason=reason,
    )
    append(transaction, hold.session_id, stamp(hold.at), [event])


def settle(
    transaction: Transaction,
    call_id: str,
    *,
    cost: int,
    usage: Usage,
    response: bytes | None,
    at: datetime,
    saved: int = 0,
    session_id: str | None = None,
    whole: bool = False,
) -> None:
    """Charge a held call `cost` in place of its hold, and keep `response` for replay.

    `saved` is what the provider's prompt cache saved, in nano-dollars; below zero if its writes cost more than that.
    If the answer is `whole`, its length counts in what the agent's answers are expected to take.

    If the call's `session_id` is given, PostgreSQL needs one round trip less.

    A cost above the hold is booked in full, because the provider has billed it. Such a cost is an incident: it closes
    the session to paid calls until a person acknowledges the incident.
    """
    check_amount("a cost", cost)
    when = stamp(at)
    transaction.in_flight.end(call_id)
    settled = CallSettled(
        call_id=call_id,
        cost=USD.from_nanos(cost),
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        response_hash=None if response is None else hashlib.sha256(response).hexdigest(),
        cache_saved=USD.from_nanos(saved),
        whole=whole,
    )
    row = calls.settled_row(call_id, cost=cost, usage=usage, saved=saved, response=response, at=when, whole=whole)
    call = None
    if session_id is not None and _is_postgresql(transaction):
        call = settle_in_one(transaction, session_id, row, at=when, told=settled)
    if call is None:
        call = calls.settle(transaction, call_id, row)
        move(transaction, call.scopes, rules.settle(call.amount, cost))
        append(transaction, call.session_id, when, [settled])
    _check_overrun(transaction, call, cost=cost, at=at)


def void(transaction: Transaction, call_id: str, *, reason: str, at: datetime) -> None:
    """Free the whole hold of a held call, because the provider bills nothing for the call."""
    when = stamp(at)
    transaction.in_flight.end(call_id)
    call = calls.void(transaction, call_id, reason=clean(reason), at=when)
    move(transaction, call.scopes, rules.void(call.amount))
    append(transaction, call.session_id, when, [CallVoided(call_id=call_id, reason=reason)])


def mark_unknown(transaction: Transaction, call_id: str, *, reason: str, at: datetime) -> None:
    """Mark a held call as unknown, because nobody saw its end. The call is charged its whole hold until reconciled."""
    when = stamp(at)
    transaction.in_flight.end(call_id)
    call = calls.mark_unknown(transaction, call_id, reason=clean(reason), at=when)
    move(transaction, call.scopes, rules.lose(call.amount))
    append(transaction, call.session_id, when, [_unknown(call, reason)])


def reconcile(
    transaction: Transaction,
    call_id: str,
    *,
    cost: int,
    at: datetime,
    by: str = "",
    usage: Usage | None = None,
    saved: int = 0,
    response: bytes | None = None,
) -> None:
    """Charge an unknown call, whose end nobody saw, its actual `cost` in place of its hold.

    `by` is who found the cost out. If its `usage` and its `response`, the answer, were found too, they are kept,
    with what the cache `saved`: a repeated run gets the answer, and does not pay again.

    A cost above the hold is booked in full and logged as an incident, which closes the session to paid calls until a
    person acknowledges the incident. Raises `LedgerError` if the call is not unknown.
    """
    check_amount("a cost", cost)
    when = stamp(at)
    call = calls.reconcile(transaction, call_id, cost=cost, usage=usage, saved=saved, response=response, at=when)
    move(transaction, call.scopes, rules.reconcile(call.amount, cost))
    found = {} if usage is None else {name: getattr(usage, name) for name in Usage.__dataclass_fields__}
    found |= {} if usage is None else {"cache_saved": USD.from_nanos(saved)}
    kept = None if response is None else hashlib.sha256(response).hexdigest()
    event = Reconciled(call_id=call_id, cost=USD.from_nanos(cost), by=by, response_hash=kept, **found)
    append(transaction, call.session_id, when, [event])
    _check_overrun(transaction, call, cost=cost, at=at)


def recover(transaction: Transaction, session_id: str, *, checkpoint_ns: str = "", at: datetime) -> int:
    """Mark as unknown every call that an earlier process left held in the session. Returns how many calls these were.

    If `checkpoint_ns` is given, only calls of this node's run, and of runs inside it, are marked. Only the session's
    owner may call this, and only before it sends a call: a call that is in flight now would be marked, too.
    """
    reason = "the process that sent it ended before the answer was booked"
    when = stamp(at)
    lost = calls.mark_all_unknown(transaction, session_id, checkpoint_ns=checkpoint_ns, reason=reason, at=when)
    # Race: the moves below touch accounts in the order of the calls. Locked first in one order, they cannot deadlock.
    lock(transaction, {scope for call in lost for scope in call.scopes})
    for call in lost:
        transaction.in_flight.end(call.call_id)
        move(transaction, call.scopes, rules.lose(call.amount))
    if lost:
        append(transaction, session_id, when, [_unknown(call, reason) for call in lost])
    return len(lost)


def record(transaction: Transaction, session_id: str, event: Event, *, at: datetime) -> tuple[int, str]:
    """Append one event to the session's log. Return its sequence, which counts from 1, and its hash."""
    if isinstance(event, Decided):  # a user's own router may have put a NaN into it
        check_readable(event)
    transaction.in_flight.write(transaction.connection, at)
    return append(transaction, session_id, stamp(at), [event])


def record_if_known(transaction: Transaction, session_id: str, event: Event, *, at: datetime) -> bool:
    """Append one event to the session's log, and return True.

    If the ledger has no such session, append nothing and return False.
    """
    try:
        record(transaction, session_id, event, at=at)
    except UnknownSession:
        return False
    return True


def _is_postgresql(transaction: Transaction) -> bool:
    return transaction.connection.dialect.name == "postgresql"


def _check_overrun(transaction: Transaction, call: calls.ClosedCall, *, cost: int, at: datetime) -> None:
    if rules.is_overrun(call.amount, cost):
        hold, actual = USD.from_nanos(call.amount), USD.from_nanos(cost)
        what = f"cost {actual}, above its hold of {hold}; booked in full"
        incident = Incident(call_id=call.call_id, what=what, closes=True)
        administration.close(transaction, call.session_id, incident, at=at)


def _unknown(call: calls.ClosedCall, reason: str) -> CallUnknown:
    return CallUnknown(call_id=call.call_id, amount=USD.from_nanos(call.amount), reason=reason)
