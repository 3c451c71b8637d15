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
    """Return a unique id: 32 random hexadecimal digits."""
    return uuid.uuid4().hex


def utc_now() -> datetime:
    """Return the present time: the clock of a ledger that is made without one."""
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
        """Return a flat mapping of plain values: a list of them makes a data frame. Amounts are decimal strings."""
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
    """The books in one database. Making a ledger creates the tables, or brings them up to date.

    `key` signs the audit log. By default it is the environment's `BURSAR_AUDIT_KEY`; without a key the log is chained
    but unkeyed. Any number of threads and event loops may use one ledger. Engine and gateway `run` the functions of
    this folder, each in a transaction. The other methods are for people and block until they are done.
    Each of them has an async twin, which blocks no event loop: `await ledger.aspend("s-1")` is `ledger.spend("s-1")`.
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
        """The database's URL without Bursar's own settings, from which any SQLAlchemy engine may be made."""
        return self.database.url

    def close(self) -> None:
        """Close every connection of this process to the database, also those of other ledgers and savers."""
        self.database.close()

    def run(self, posting: Callable[Concatenate[Transaction, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Commit one posting, such as `run(open_session, "s-1", "acme", at=now)`, and return its result."""
        return self.database.run(self.bind(posting, *args, **kwargs))

    async def arun(self, posting: Callable[Concatenate[Transaction, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """As `run`, without blocking the event loop."""
        return await self.database.arun(self.bind(posting, *args, **kwargs))

    def read(self, query: Callable[Concatenate[Transaction, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function that changes nothing, and return its result."""
        return self.database.run(self.bind(query, *args, **kwargs), readonly=True)

    def bind(self, posting: Callable[Concatenate[Transaction, P], T], /, *args: P.args, **kwargs: P.kwargs) -> Work[T]:
        """Return the posting with its arguments as a piece of work, to be given to `Database.run` with its options."""
        return lambda connection: posting(Transaction(connection, self.key, self.in_flight), *args, **kwargs)

    def transaction(self, connection: Connection) -> Transaction:
        """Return the connection's transaction, for a piece of work that does more than one posting."""
        return Transaction(connection, self.key, self.in_flight)

    def spend(self, session_id: str) -> Spend:
        """Return what the session was charged so far. Raises `LedgerError` for an unknown session."""
        return self.read(spend_of, f"session:{session_id}")

    def audit(self, session_id: str, *, after: int = 0, limit: int | None = None) -> list[AuditRow]:
        """Return the session's log: the events that follow number `after`, at most `limit` of them, in order.

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
        """Return what was spent by agent, model, day, tenant or session, in one session or all.

        Calls count whose hold was made at `start` or later and before `end`.
        """
        return self.run(costs, by, session_id=session, start=start, end=end)

    def verify(self, session_id: str | None = None, *, anchor: Anchor | None = None) -> Verification:
        """Check that the log is whole and agrees with calls and accounts, for one session or all.

        With an `anchor` the log must go on from there, so a cut tail and a rewritten log are found. A damaged row is a
        problem in the result, not an error. Raises `LedgerError` for an unknown session, and for a session that the
        anchor does not have.
        """
        if anchor is not None and session_id is not None and all(h.session_id != session_id for h in anchor.heads):
            raise LedgerError(f"the anchor has no session {session_id}")

        return self.read(_verify, session_id, anchor)

    def anchor(self, session_id: str | None = None) -> Anchor:
        """Return the head of one session's log, or of all. Keep it outside the database, and give it to `verify`."""
        return self.run(anchors.anchor, session_id, at=self.clock())

    def open_holds(self) -> list[OpenHold]:
        """Return every call that is held, sent or unknown, oldest first.

        A call of this process is listed as sent at once. A call of another process is listed as sent once it has been
        in flight for a second and that process has written something else. A held call may have been sent, too.
        """
        found, sent = self.read(_open_holds), self.in_flight
        return [replace(one, state="sent") if one.state == "held" and one.call_id in sent else one for one in found]

    def reconcile(self, call_id: str, amount: Amount) -> None:
        """Charge a call of unknown end its actual cost. Raises `LedgerError` unless its end is unknown."""
        self.run(postings.reconcile, call_id, cost=USD(amount).nanos, at=self.clock())

    def top_up(self, account: str, amount: Amount, *, note: str = "") -> str:
        """Raise the cap of an account by `amount`, and return the account's scope.

        `account` is a request's id, a session's id, or a scope such as the one that a `BudgetExceeded` names. Raises
        `LedgerError` if the account has no cap, or is a tenant's or the whole ledger's: those follow the configuration.
        """
        return self.run(administration.top_up, account, USD(amount).nanos, note=note, at=self.clock())

    def incidents(self, session_id: str | None = None) -> list[IncidentRow]:
        """Return every incident of one session or of all, newest first, and whether it still closes its session."""
        return self.run(incidents, session_id)

    def acknowledge(self, session_id: str, note: str) -> str:
        """Open a session that an incident closed, and return the incident. Raises `LedgerError` if none closed it."""
        return self.run(administration.acknowledge, session_id, note=note, at=self.clock())

    def approvals(self, session_id: str | None = None) -> list[ApprovalRecord]:
        """Return every approval that waits for a person, in one session or all, oldest first."""
        return self.read(approvals.waiting, session_id)

    def approve(self, approval_id: str, *, by: str) -> ApprovalRecord:
        """Record that `by` approves. If `by` is an approver there, the resumed session uses the approval.

        Raises `LedgerError` if there is no such approval, `NotApproved` if it is late or does not wait any more.
        """
        return self._answer(approval_id, "approved", by=by, reason="")

    def deny(self, approval_id: str, *, by: str, reason: str = "") -> ApprovalRecord:
        """Record that `by` denies. The resumed session goes on without what was asked. Raises as `approve`."""
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
        """Return every action that has not ended, oldest first: in flight, in doubt, or being undone."""
        return self.read(actions.open_actions, session_id)

    def settle_action(self, key: str, *, done: bool, by: str, note: str) -> str:
        """Record what a person found out about an action that is in doubt or could not be undone. Return its new state.

        Raises `LedgerError` for any other action, and without a name and a note.
        """
        return self.run(actions.settle, key, done=done, by=by, note=note, at=self.clock())

    def breakers(self) -> list[BreakerRow]:
        """Return every breaker that saw faults lately, by name. A breaker that is not among them is closed."""
        return self.read(circuit_breakers.listed, self.clock())

    def pause(self, what: str = "all", *, by: str = "", note: str = "") -> bool:
        """Stop new work of `all`, `agent:NAME` or `tenant:NAME`, in every process, until `unpause`.

        Once it returns, no new call is held for `what`; calls in flight finish. Returns False if it was paused already.
        The log of pauses, which `verify` checks, says who paused, when and why. Raises `LedgerError` for another
        `what`.
        """
        return self.run(pauses.pause, PauseRow(what, self.clock(), by, note))

    def unpause(self, what: str = "all", *, by: str = "", note: str = "") -> bool:
        """Let `what` work again. Returns False if it was not paused. Raises `LedgerError` for another `what`."""
        return self.run(pauses.unpause, PauseRow(what, self.clock(), by, note))

    def pauses(self) -> list[PauseRow]:
        """Return every pause that holds, oldest first."""
        return self.read(pauses.listed)

    def erase(self, session_id: str, *, note: str = "") -> int:
        """Remove the answers of the session's calls, and the contents of its ended actions and approvals.

        Returns how many rows had any. Log and sums stay whole. A call made again is paid again. The checkpointer's
        own copy of the conversation stays until its `delete_thread`. The database reuses the room; its files may hold
        the bytes until then.
        """
        return self.run(administration.erase, session_id, note=note, at=self.clock())

    def sessions(self) -> list[SessionRow]:
        """Return every session, newest first."""
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
