"""The ledger: the durable truth about money and decisions, as users open, read, verify and reconcile it."""

import asyncio
import os
import uuid
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from pydantic import JsonValue, ValidationError
from sqlalchemy import URL, Connection, select, text

from bursar.checkpoints.database.database import Database, Work
from bursar.checkpoints.database.snapshot import lenient_text
from bursar.checkpoints.ledger import actions, administration, anchors, approvals, circuit_breakers, pauses, postings
from bursar.checkpoints.ledger.accounts import MAX_ID_CHARACTERS
from bursar.checkpoints.ledger.actions import ActionRecord
from bursar.checkpoints.ledger.anchors import Anchor
from bursar.checkpoints.ledger.approvals import ApprovalRecord
from bursar.checkpoints.ledger.calls import InFlightCalls
from bursar.checkpoints.ledger.circuit_breakers import BreakerRow
from bursar.checkpoints.ledger.costs import By, CostRow, costs
from bursar.checkpoints.ledger.incidents import IncidentRow, incidents
from bursar.checkpoints.ledger.pauses import PauseRow
from bursar.checkpoints.ledger.requests import SessionRow, list_sessions
from bursar.checkpoints.ledger.spend import spend_of
from bursar.checkpoints.ledger.transaction import Transaction
from bursar.checkpoints.ledger.verify import Verification, verify
from bursar.checkpoints.schema.ledger_tables import OPEN_STATES, calls, events, sessions
from bursar.checkpoints.schema.migrate import migrate
from bursar.state.errors import LedgerError
from bursar.state.events import EVENTS, Event
from bursar.state.money import USD, Amount
from bursar.state.refusals import NotApproved
from bursar.state.spend import Spend

T = TypeVar("T")
P = ParamSpec("P")

KEY_VARIABLE = "BURSAR_AUDIT_KEY"


def random_id() -> str:
    """An id of 32 hexadecimal digits that nobody else draws."""
    return uuid.uuid4().hex


def utc_now() -> datetime:
    """The clock of a ledger that is given none."""
    return datetime.now(UTC)


def _off_loop(
    door: Callable[Concatenate["Ledger", P], T],
) -> Callable[Concatenate["Ledger", P], Coroutine[Any, Any, T]]:
    """The same door for code on an event loop: it waits for the database in a thread, and the loop goes on.

    Cancelling the caller does not cancel what was begun.
    """

    @wraps(door)
    async def opened(self: "Ledger", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.to_thread(door, self, *args, **kwargs)

    return opened


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One event of a session's log; `sequence` counts from 1, `hash` covers it and the hash before it."""

    sequence: int
    at: datetime
    kind: str
    event: Event
    hash: str

    def as_dict(self) -> dict[str, JsonValue]:
        """A flat mapping of plain values: a list of them makes a data frame. Amounts are decimal strings."""
        facts: dict[str, JsonValue] = self.event.model_dump(mode="json", exclude={"kind", "version"})
        return {
            "sequence": self.sequence,
            "at": self.at.isoformat(),
            "kind": self.kind,
            **facts,
            "hash": self.hash,
        }


@dataclass(frozen=True, slots=True)
class OpenHold:
    """A call that is charged at its hold: `held` and perhaps in flight, `sent`, or `unknown` and to be reconciled."""

    call_id: str
    session_id: str
    agent: str
    model: str
    amount: USD
    state: str
    at: datetime


class Ledger:
    """A ledger by database URL. Its tables are created, or brought up to date, when it is made.

    `key` signs the audit log; by default it is the environment's `BURSAR_AUDIT_KEY`, and without one the log is
    chained but unkeyed. One ledger may be used by any number of threads and event loops. Engine and gateway `run` the
    functions of this folder, each in a transaction; the other methods are for people and block until they are done.
    Each of those has an async twin, which blocks no event loop: `await ledger.aspend("s-1")` is `ledger.spend("s-1")`.
    """

    def __init__(
        self, url: str | Database, *, key: bytes | None = None, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self.database = Database.at(url)
        self.clock = clock
        self.key = key or os.environ.get(KEY_VARIABLE, "").encode() or None
        self.in_flight = InFlightCalls.of(self.database)
        migrate(self.database)

    def __deepcopy__(self, memo: dict[int, object]) -> "Ledger":
        return self  # a door to one database, not a value

    def __repr__(self) -> str:
        return f"Ledger({self.url.render_as_string(hide_password=True)!r})"

    @property
    def url(self) -> URL:
        """Where the database is, without Bursar's own settings: any SQLAlchemy engine may be made of it."""
        return self.database.url

    def close(self) -> None:
        """Close every connection to the database, also those of the process's other users of it."""
        self.database.close()

    def run(self, posting: Callable[Concatenate[Transaction, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Commit one posting, such as `run(open_session, "s-1", "acme", at=now)`, and return its result."""
        return self.database.run(self.bind(posting, *args, **kwargs))

    async def arun(self, posting: Callable[Concatenate[Transaction, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """As `run`, without blocking the event loop."""
        return await self.database.arun(self.bind(posting, *args, **kwargs))

    def read(self, query: Callable[Concatenate[Transaction, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of a function that changes nothing."""
        return self.database.run(self.bind(query, *args, **kwargs), readonly=True)

    def bind(self, posting: Callable[Concatenate[Transaction, P], T], /, *args: P.args, **kwargs: P.kwargs) -> Work[T]:
        """The posting with its arguments as a piece of work, for `Database.run` with its options."""
        return lambda connection: posting(Transaction(connection, self.key, self.in_flight), *args, **kwargs)

    def transaction(self, connection: Connection) -> Transaction:
        """The transaction that the connection is in, for a piece of work that does more than post."""
        return Transaction(connection, self.key, self.in_flight)

    def spend(self, session_id: str) -> Spend:
        """What the session was charged so far. Raises `LedgerError` for an unknown session."""
        return self.read(spend_of, f"session:{session_id}")

    def audit(self, session_id: str, *, after: int = 0, limit: int | None = None) -> list[AuditRow]:
        """The session's log: the events that follow number `after`, at most `limit` of them, in order.

        To page through a long log, pass the last row's `sequence` as the next `after`, until no row comes. Raises
        `LedgerError` if the session is unknown, an event cannot be read, or `limit` is not above zero.
        """
        return self.read(_audit, session_id, after, limit)

    def costs(
        self,
        by: By = "agent",
        *,
        session: str | None = None,
        start: datetime | date | None = None,
        end: datetime | date | None = None,
    ) -> list[CostRow]:
        """What was spent by agent, model, day, tenant or session: in one session or all, from `start`, before `end`."""
        return self.run(costs, by, session_id=session, start=start, end=end)

    def verify(self, session_id: str | None = None, *, anchor: Anchor | None = None) -> Verification:
        """Whether the log is whole and agrees with calls and accounts: of one session, or of all.

        Held against an `anchor`, it must go on from there: that shows a tail that was cut and a log that was rewritten.
        A damaged row is a problem in the answer, not an error. Raises `LedgerError` for an unknown session, and for
        one that the anchor does not have.
        """
        if anchor is not None and session_id is not None and all(h.session_id != session_id for h in anchor.heads):
            raise LedgerError(f"the anchor has no session {session_id}")

        return self.read(_verify, session_id, anchor)

    def anchor(self, session_id: str | None = None) -> Anchor:
        """The head of one session's log, or of all, to be kept outside the database and verified against later."""
        return self.run(anchors.anchor, session_id, at=self.clock())

    def open_holds(self) -> list[OpenHold]:
        """Every call that is held, sent or unknown, oldest first.

        What this process sent is sent at once; what another did, once it was on its way for a second and that process
        wrote something else. A call that is held may have been sent all the same.
        """
        found, sent = self.read(_open_holds), self.in_flight
        return [replace(one, state="sent") if one.state == "held" and one.call_id in sent else one for one in found]

    def reconcile(self, call_id: str, amount: Amount) -> None:
        """Charge a call of unknown end its actual cost. Raises `LedgerError` unless its end is unknown."""
        self.run(postings.reconcile, call_id, cost=USD(amount).nanos, at=self.clock())

    def top_up(self, account: str, amount: Amount, *, note: str = "") -> str:
        """Grant an account `amount` more than its cap, on purpose; the scope that was topped up.

        `account` is a request's id, a session's, or a scope such as the one that a `BudgetExceeded` names. What
        tenants and the whole ledger may spend follows the configuration. Raises `LedgerError` if it has no cap.
        """
        return self.run(administration.top_up, account, USD(amount).nanos, note=note, at=self.clock())

    def incidents(self, session_id: str | None = None) -> list[IncidentRow]:
        """Every incident of one session or of all, newest first, and whether it still keeps its session closed."""
        return self.run(incidents, session_id)

    def acknowledge(self, session_id: str, note: str) -> str:
        """Open a session that an incident closed; the incident. Raises `LedgerError` if none closed it."""
        return self.run(administration.acknowledge, session_id, note=note, at=self.clock())

    def approvals(self, session_id: str | None = None) -> list[ApprovalRecord]:
        """Every approval that waits for a person, in one session or all, oldest first."""
        return self.read(approvals.waiting, session_id)

    def approve(self, approval_id: str, *, by: str) -> ApprovalRecord:
        """Say that `by` approves what was asked; it is used when the session is resumed, if `by` is an approver there.

        Raises `LedgerError` if there is no such approval, `NotApproved` if it is late or does not wait any more.
        """
        return self._answer(approval_id, "approved", by=by, reason="")

    def deny(self, approval_id: str, *, by: str, reason: str = "") -> ApprovalRecord:
        """Say that `by` denies what was asked: resumed, the session goes on without it. Raises as `approve`."""
        return self._answer(approval_id, "denied", by=by, reason=f"denied by {by}" + (f": {reason}" if reason else ""))

    def _answer(self, approval_id: str, verdict: str, *, by: str, reason: str) -> ApprovalRecord:
        if not 0 < len(by.strip()) <= MAX_ID_CHARACTERS or not by.isprintable():
            raise LedgerError("an answer needs the name of who gives it")
        asked, changed = self.run(approvals.answer, approval_id, verdict, by=by, reason=reason, at=self.clock())
        if not changed:
            raise NotApproved(f"approval {approval_id} is {asked.state}; it was answered before")
        if asked.state != verdict:
            raise NotApproved(asked.reason)
        return asked

    def open_actions(self, session_id: str | None = None) -> list[ActionRecord]:
        """Every action that has not ended: in flight, in doubt, or being undone. Oldest first."""
        return self.read(actions.open_actions, session_id)

    def settle_action(self, key: str, *, done: bool, by: str, note: str) -> str:
        """Say what a person found out about an action that is in doubt or could not be undone; the state it is in now.

        Raises `LedgerError` for any other action, and without a name and a note.
        """
        return self.run(actions.settle, key, done=done, by=by, note=note, at=self.clock())

    def breakers(self) -> list[BreakerRow]:
        """Every breaker that saw faults lately, by name; one that is not among them is closed."""
        return self.read(circuit_breakers.listed, self.clock())

    def pause(self, what: str = "all", *, by: str = "", note: str = "") -> bool:
        """Stop new work of `all`, `agent:NAME` or `tenant:NAME`, in every process, until `unpause`.

        Once it returns, no call is held for it any more; calls in flight finish. False if it was paused already.
        Who, when and why are in the log of pauses, which `verify` checks. Raises `LedgerError` for another `what`.
        """
        return self.run(pauses.pause, PauseRow(what, self.clock(), by, note))

    def unpause(self, what: str = "all", *, by: str = "", note: str = "") -> bool:
        """Let it work again. False if it was not paused. Raises `LedgerError` for another `what`."""
        return self.run(pauses.unpause, PauseRow(what, self.clock(), by, note))

    def pauses(self) -> list[PauseRow]:
        """What is paused, the oldest first."""
        return self.read(pauses.listed)

    def erase(self, session_id: str, *, note: str = "") -> int:
        """Remove the answers that are kept for the session's calls; how many there were.

        So are arguments and results of its actions, and what people were shown, where that has ended.
        Log and sums stay whole. A call made again is paid again. The checkpointer's own copy of the conversation goes
        with its `delete_thread`. The database reuses the room; its files may hold the bytes until it does.
        """
        return self.run(administration.erase, session_id, note=note, at=self.clock())

    def sessions(self) -> list[SessionRow]:
        """Every session, newest first."""
        return self.read(list_sessions)

    aspend = _off_loop(spend)
    aaudit = _off_loop(audit)
    acosts = _off_loop(costs)
    averify = _off_loop(verify)
    aanchor = _off_loop(anchor)
    aopen_holds = _off_loop(open_holds)
    areconcile = _off_loop(reconcile)
    atop_up = _off_loop(top_up)
    aincidents = _off_loop(incidents)
    aacknowledge = _off_loop(acknowledge)
    aapprovals = _off_loop(approvals)
    aapprove = _off_loop(approve)
    adeny = _off_loop(deny)
    aopen_actions = _off_loop(open_actions)
    asettle_action = _off_loop(settle_action)
    abreakers = _off_loop(breakers)
    apause = _off_loop(pause)
    aunpause = _off_loop(unpause)
    apauses = _off_loop(pauses)
    aerase = _off_loop(erase)
    asessions = _off_loop(sessions)
    aclose = _off_loop(close)


def _verify(transaction: Transaction, session_id: str | None, anchor: Anchor | None) -> Verification:
    with lenient_text(transaction.connection):
        found = verify(transaction, session_id, anchor=anchor)
    if session_id is not None and anchor is None and not found.events and not _known(transaction, session_id):
        raise LedgerError(f"no session {session_id} in the books")
    return found


def _audit(transaction: Transaction, session_id: str, after: int, limit: int | None) -> list[AuditRow]:
    if limit is not None and limit < 1:
        raise LedgerError(f"a page of the log has at least one event, not {limit}")
    columns = events.c
    query = (
        select(columns.sequence, columns.at, columns.kind, columns.payload, columns.hash)
        .where(columns.session_id == session_id, columns.sequence > after)
        .order_by(columns.sequence)
        .limit(limit)
    )
    rows: list[AuditRow] = []
    for sequence, at, kind, payload, kept in transaction.connection.execute(query):
        try:
            event = EVENTS.validate_json(payload)
            rows.append(AuditRow(sequence, datetime.fromisoformat(at), kind, event, kept))
        except (ValidationError, ValueError) as error:
            raise LedgerError(f"session {session_id}: event {sequence} cannot be read; run verify") from error
    if not rows and not _known(transaction, session_id):
        raise LedgerError(f"no session {session_id} in the books")
    return rows


def _known(transaction: Transaction, session_id: str) -> bool:
    query = select(sessions.c.session_id).where(sessions.c.session_id == session_id)
    return transaction.connection.execute(query).first() is not None


def _open_holds(transaction: Transaction) -> list[OpenHold]:
    columns = calls.c
    query = (
        select(columns.call_id, columns.session_id, columns.agent, columns.model, columns.amount)
        .add_columns(columns.state, columns.held_at)
        .where(text(OPEN_STATES))
        .order_by(columns.held_at, columns.call_id)
    )
    return [
        OpenHold(call_id, session_id, agent, model, USD.from_nanos(amount), state, datetime.fromisoformat(at))
        for call_id, session_id, agent, model, amount, state, at in transaction.connection.execute(query)
    ]
