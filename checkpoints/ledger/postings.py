"""The books: every change of money, with the event that tells of it, as one piece of work for one transaction."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, bindparam, select, update

from bursar.checkpoints.database.database import Work
from bursar.checkpoints.database.statement import Statement, insert_new
from bursar.checkpoints.ledger import administration as upkeep
from bursar.checkpoints.ledger import calls
from bursar.checkpoints.ledger import postgresql_postings as charging
from bursar.checkpoints.ledger.accounts import (
    Account,
    cap_of,
    charged,
    check_amount,
    follows_configuration,
    left,
    lock,
    move,
    open_account,
    set_caps,
)
from bursar.checkpoints.ledger.calls import Hold, Usage
from bursar.checkpoints.ledger.hash_chain import FIRST, UnknownSession, append, check_readable, head_of, stamp
from bursar.checkpoints.ledger.in_flight_calls import InFlightCalls
from bursar.checkpoints.ledger.spend import spend_of
from bursar.checkpoints.schema.ledger_tables import requests, sessions
from bursar.state.errors import LedgerError
from bursar.state.events import (
    CallHeld,
    CallRefused,
    CallSettled,
    CallUnknown,
    CallVoided,
    Decided,
    Event,
    Incident,
    LeaseChanged,
    Reconciled,
    RequestClosed,
    RequestOpened,
    clean,
)
from bursar.state.money import USD
from bursar.state.spend import Spend

__all__ = ["Account", "Books", "Hold", "Usage"]

MAX_ID_CHARACTERS = 200
PAUSES = "bursar:pauses"  # the log of pauses is kept as a session's is


@dataclass(frozen=True, slots=True)
class Books:
    """Makes pieces of work; run one with `Database.run` or `arun`. `key` signs the audit log, None leaves it unkeyed.

    Amounts are whole nano-dollars, times are aware. Each piece raises `LedgerError`, and changes nothing, when what
    it names is unknown or in a state that this cannot follow.
    """

    key: bytes | None = field(default=None, repr=False)
    sending: InFlightCalls = field(default_factory=InFlightCalls, repr=False, compare=False)

    def open_session(self, session_id: str, tenant: str, *, at: datetime) -> Work[None]:
        """Afterwards the session exists; one that existed keeps its tenant."""

        def work(connection: Connection) -> None:
            _check_id("session", session_id)
            if session_id == PAUSES:
                raise LedgerError(f"{PAUSES} is the log of pauses; name the session otherwise")
            _check_id("tenant", tenant)
            new = {"sequence": 0, "head": FIRST, "incident": None}
            _open_session(connection, session_id=session_id, tenant=tenant, opened_at=stamp(at), **new)

        return work

    def open_request(
        self,
        session_id: str,
        request_id: str,
        *,
        accounts: Sequence[Account],
        text_hash: str,
        at: datetime,
        lease: LeaseChanged | None = None,
    ) -> Work[None]:
        """Afterwards the request and its accounts exist.

        A new request brings the caps of its session, tenant's day and ledger up or down to these; what they were
        topped up by stays on top. Opened again, it changes no cap and no spend: no fresh grant. The log tells of
        `lease` with it.
        """

        def work(connection: Connection) -> None:
            _check_id("request", request_id)
            when = stamp(at)
            new = _open_request.changes(
                connection,
                request_id=request_id,
                session_id=session_id,
                text_hash=text_hash,
                opened_at=when,
                closed_at=None,
                outcome=None,
            )
            configured = [account for account in accounts if follows_configuration(account.scope)]
            if new:
                set_caps(connection, configured)
            for account in accounts:
                if not new or account not in configured:
                    open_account(connection, account)
            if not new:
                _check_own(connection, session_id, request_id)
                return
            cap = cap_of(connection, f"request:{request_id}")
            caps = {account.scope: _dollars(account.cap) for account in configured}
            opened = RequestOpened(request_id=request_id, text_hash=text_hash, budget=_dollars(cap), caps=caps)
            append(connection, self.key, session_id, when, [opened] if lease is None else [lease, opened])

        return work

    def open_account(self, account: Account) -> Work[None]:
        """Afterwards the account exists; one that existed keeps its cap and its spend."""
        return lambda connection: open_account(connection, account)

    def close_request(self, session_id: str, request_id: str, *, outcome: str, at: datetime) -> Work[Spend]:
        """Afterwards the request is closed; what it was charged. Closed again, it keeps its first outcome."""

        def work(connection: Connection) -> Spend:
            when = stamp(at)
            closed = _close_request.changes(
                connection, request=request_id, session=session_id, closed=when, result=clean(outcome)
            )
            if not closed:
                _check_own(connection, session_id, request_id)
            spend = spend_of(connection, f"request:{request_id}")
            if not closed:
                return spend
            event = RequestClosed(request_id=request_id, outcome=outcome, spent=spend.spent + spend.held)
            append(connection, self.key, session_id, when, [event])
            return spend

        return work

    def hold(self, hold: Hold) -> Work[None]:
        """Afterwards `hold.amount` is held in every account of `hold.scopes`, and the call may be sent.

        Raises `BudgetExceeded`, naming the outermost account that has no room, or `AccountClosed`, naming the incident;
        then nothing is held anywhere.
        """

        def work(connection: Connection) -> None:
            _check_id("call", hold.call_id)
            check_amount("a hold", hold.amount)
            when = stamp(hold.at)
            self.sending.write(connection, hold.at)
            event = CallHeld(
                call_id=hold.call_id,
                request_id=hold.request_id,
                agent=hold.agent,
                model=hold.model,
                amount=USD.from_nanos(hold.amount),
                scopes=hold.scopes,
            )
            charging.hold(connection, self.key, hold, when, event)

        return work

    def sent(self, call_id: str, *, at: datetime) -> None:
        """From now on a held call may have been sent. It takes no commit: the books have it a little later."""
        self.sending.begin(call_id, at)

    def refuse(self, hold: Hold, *, scope: str, reason: str) -> Work[None]:
        """Afterwards the log tells that this call was not sent, and which account had no room for it."""

        def work(connection: Connection) -> None:
            event = CallRefused(
                request_id=hold.request_id,
                agent=hold.agent,
                model=hold.model,
                amount=USD.from_nanos(hold.amount),
                scope=scope,
                reason=reason,
            )
            append(connection, self.key, hold.session_id, stamp(hold.at), [event])

        return work

    def settle(
        self,
        call_id: str,
        *,
        cost: int,
        usage: Usage,
        response: bytes | None,
        at: datetime,
        session_id: str | None = None,
    ) -> Work[None]:
        """Afterwards a held call is charged `cost` in place of its hold, and `response` is kept for replay.

        Who says the call's `session_id` saves PostgreSQL a round trip.

        A cost above the hold is booked in full, for the provider has billed it; it is an `Incident` and closes the
        session to paid calls until it is acknowledged.
        """

        def work(connection: Connection) -> None:
            check_amount("a cost", cost)
            when = stamp(at)
            self.sending.end(call_id)
            settled = CallSettled(
                call_id=call_id,
                cost=USD.from_nanos(cost),
                input_tokens=usage.input_tokens,
                output_tokens=usage.output_tokens,
                cache_read_tokens=usage.cache_read_tokens,
                cache_write_tokens=usage.cache_write_tokens,
                reasoning_tokens=usage.reasoning_tokens,
                response_hash=None if response is None else hashlib.sha256(response).hexdigest(),
            )
            row = calls.settled_row(call_id, cost=cost, usage=usage, response=response, at=when)
            call = charging.settle(connection, self.key, session_id, at=when, row=row, told=settled)
            _check_overrun(connection, self.key, call, cost=cost, at=when)

        return work

    def void(self, call_id: str, *, reason: str, at: datetime) -> Work[None]:
        """Afterwards nothing is owed for a held call."""

        def work(connection: Connection) -> None:
            when = stamp(at)
            self.sending.end(call_id)
            call = calls.void(connection, call_id, reason=clean(reason), at=when)
            move(connection, call.scopes, held=-call.amount, spent=0)
            append(connection, self.key, call.session_id, when, [CallVoided(call_id=call_id, reason=reason)])

        return work

    def mark_unknown(self, call_id: str, *, reason: str, at: datetime) -> Work[None]:
        """Afterwards a held call, whose end nobody saw, stays charged at its hold until it is reconciled."""

        def work(connection: Connection) -> None:
            when = stamp(at)
            self.sending.end(call_id)
            call = calls.mark_unknown(connection, call_id, reason=clean(reason), at=when)
            move(connection, call.scopes, held=-call.amount, spent=call.amount)
            append(connection, self.key, call.session_id, when, [_unknown(call, reason)])

        return work

    def reconcile(self, call_id: str, *, cost: int, at: datetime) -> Work[None]:
        """Afterwards a call of unknown end is charged its actual cost in place of its hold. Above it, as `settle`."""

        def work(connection: Connection) -> None:
            check_amount("a cost", cost)
            when = stamp(at)
            call = calls.reconcile(connection, call_id, cost=cost, at=when)
            move(connection, call.scopes, held=0, spent=cost - call.amount)
            reconciled = Reconciled(call_id=call_id, cost=USD.from_nanos(cost))
            append(connection, self.key, call.session_id, when, [reconciled])
            _check_overrun(connection, self.key, call, cost=cost, at=when)

        return work

    def recover(self, session_id: str, *, checkpoint_ns: str = "", at: datetime) -> Work[int]:
        """Afterwards no call of the session is held: those that an earlier process left are unknown. Their number.

        `checkpoint_ns` limits it to one node's run and what ran inside it. For the owner of that run, before it sends
        anything: a call in flight elsewhere would be marked too.
        """
        reason = "the process that sent it ended before the answer was booked"

        def work(connection: Connection) -> int:
            when = stamp(at)
            lost = calls.mark_all_unknown(connection, session_id, checkpoint_ns=checkpoint_ns, reason=reason, at=when)
            lock(connection, {scope for call in lost for scope in call.scopes})
            for call in lost:
                self.sending.end(call.call_id)
                move(connection, call.scopes, held=-call.amount, spent=call.amount)
            if lost:
                append(connection, self.key, session_id, when, [_unknown(call, reason) for call in lost])
            return len(lost)

        return work

    def replayable(self, session_id: str, checkpoint_ns: str, request_hash: str, occurrence: int) -> Work[bytes | None]:
        """The answer that was paid for under this key; None if there is none."""
        return lambda connection: calls.replayable(
            connection,
            session_id=session_id,
            checkpoint_ns=checkpoint_ns,
            request_hash=request_hash,
            occurrence=occurrence,
        )

    def record(self, session_id: str, event: Event, *, at: datetime) -> Work[tuple[int, str]]:
        """Append one event to the session's log; the result is its sequence, from 1, and its hash."""

        def work(connection: Connection) -> tuple[int, str]:
            if isinstance(event, Decided):  # a router of the user's own may have had its hands in it
                check_readable(event)
            self.sending.write(connection, at)
            return append(connection, self.key, session_id, stamp(at), [event])

        return work

    def record_if_known(self, session_id: str, event: Event, *, at: datetime) -> Work[bool]:
        """As `record` where the books have the session, else nothing. Whether they have it."""

        def work(connection: Connection) -> bool:
            try:
                self.record(session_id, event, at=at)(connection)
            except UnknownSession:
                return False
            return True

        return work

    def top_up(self, account: str, amount: int, *, note: str, at: datetime) -> Work[str]:
        """Afterwards the account may spend `amount` more than its cap so far. The scope that was topped up.

        `account` is a scope, a request's id or a session's. Accounts that sessions share follow the configuration only.
        """
        return lambda connection: upkeep.top_up(
            connection, self.key, account=account, amount=amount, note=note, at=stamp(at)
        )

    def acknowledge(self, session_id: str, *, note: str, at: datetime) -> Work[str]:
        """Afterwards a session that an incident closed is open again. The incident."""
        return lambda connection: upkeep.acknowledge(connection, self.key, session_id, note=note, at=stamp(at))

    def erase(self, session_id: str, *, note: str, at: datetime) -> Work[int]:
        """Afterwards no answer is kept for a call of the session; log and sums stay. How many were erased."""
        return lambda connection: upkeep.erase(connection, self.key, session_id, note=note, at=stamp(at))

    def turns(self, request_id: str, agent: str) -> Work[int]:
        """How many paid calls the agent, and those that it called, sent for the request in all its runs so far."""
        return lambda connection: calls.turns(connection, request_id, agent)

    def head(self, session_id: str) -> Work[tuple[int, str] | None]:
        """Sequence and hash of the session's last event, to be kept elsewhere; None for an unknown session."""
        return lambda connection: head_of(connection, session_id)

    def left(self, scopes: Sequence[str]) -> Work[int | None]:
        """The least that is left of the capped accounts among `scopes`; None if none has a cap."""
        return lambda connection: left(connection, scopes)

    def spend_of(self, scope: str) -> Work[Spend]:
        """What `request:…` or `session:…` was charged, by agent and model."""
        return lambda connection: spend_of(connection, scope)

    def cost_of_agent(self, request_id: str, agent: str) -> Work[int]:
        """What the agent's account of this request is charged, calls in flight included at their hold."""
        return lambda connection: charged(connection, f"agent:{request_id}:{agent}")


def _check_id(what: str, value: str) -> None:
    if not 0 < len(value) <= MAX_ID_CHARACTERS or not value.isprintable():
        raise LedgerError(f"a {what} id is 1 to {MAX_ID_CHARACTERS} printable characters, not {value[:60]!r}")


def _check_own(connection: Connection, session_id: str, request_id: str) -> None:
    found = _owner(connection, request=request_id)
    if not found:
        raise LedgerError(f"no request {request_id} in the books")
    if found[0][0] != session_id:
        raise LedgerError(f"request {request_id} belongs to another session; a request id is used once")


def _check_overrun(connection: Connection, key: bytes | None, call: calls.ClosedCall, *, cost: int, at: str) -> None:
    if cost > call.amount:
        hold, actual = USD.from_nanos(call.amount), USD.from_nanos(cost)
        what = f"cost {actual}, above its hold of {hold}; booked in full"
        upkeep.close(connection, key, call.session_id, Incident(call_id=call.call_id, what=what, closes=True), at=at)


def _dollars(nanos: int | None) -> USD | None:
    return None if nanos is None else USD.from_nanos(nanos)


def _unknown(call: calls.ClosedCall, reason: str) -> CallUnknown:
    return CallUnknown(call_id=call.call_id, amount=USD.from_nanos(call.amount), reason=reason)


_open_session = insert_new(sessions)
_open_request = insert_new(requests)
_close_request = Statement(
    update(requests)
    .values(closed_at=bindparam("closed"), outcome=bindparam("result"))
    .where(
        requests.c.request_id == bindparam("request"),
        requests.c.session_id == bindparam("session"),
        requests.c.closed_at.is_(None),
    )
)
_owner = Statement(select(requests.c.session_id).where(requests.c.request_id == bindparam("request")))
