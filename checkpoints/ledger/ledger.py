"""`Ledger`: the durable truth about money and decisions. Users open, read, verify and reconcile it by its methods."""

import asyncio
import os
import time
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import URL, Connection

from bursar.checkpoints.database.database import Database, Work
from bursar.checkpoints.database.snapshot import lenient_text
from bursar.checkpoints.ledger import actions, administration, anchors, approvals, circuit_breakers, pauses, postings
from bursar.checkpoints.ledger.accounts import MAX_ID_CHARACTERS
from bursar.checkpoints.ledger.actions import ActionRecord
from bursar.checkpoints.ledger.anchors import Anchor
from bursar.checkpoints.ledger.approvals import ApprovalRecord
from bursar.checkpoints.ledger.audit_log import (
    AuditRow,
    IncidentRow,
    follow_log,
    incidents,
    is_known,
    read_log,
    read_page,
)
from bursar.checkpoints.ledger.calls import InFlightCalls
from bursar.checkpoints.ledger.circuit_breakers import BreakerRow
from bursar.checkpoints.ledger.costs import (
    By,
    CostRow,
    ExpectedCostRow,
    QuotedCostRow,
    costs,
    expected_takes,
    quoted_costs,
)
from bursar.checkpoints.ledger.gains import GainRow, gains
from bursar.checkpoints.ledger.pauses import PauseRow
from bursar.checkpoints.ledger.requests import SessionRow, list_sessions
from bursar.checkpoints.ledger.spend import OpenHold, open_holds, spend_of
from bursar.checkpoints.ledger.transaction import Transaction
from bursar.checkpoints.ledger.verify import Verification, verify
from bursar.checkpoints.schema.migrate import migrate
from bursar.state.errors import LedgerError
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
    """Return the present time. This is the clock of a ledger that is made without a clock."""
    return datetime.now(UTC)


def _off_loop(
    door: Callable[Concatenate["Ledger", P], T],
) -> Callable[Concatenate["Ledger", P], Coroutine[Any, Any, T]]:
    """Return the async twin of `door`, a method of `Ledger`. The twin runs `door` in a thread and blocks no event loop.

    If the awaiting task is cancelled, `door` still runs to its end.
    """

    @wraps(door)
    async def opened(self: "Ledger", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.to_thread(door, self, *args, **kwargs)

    return opened


class Ledger:
    """The accounts, calls, decisions and outcomes in one database. Making a ledger creates or migrates the tables.

    `key` signs the audit log. By default it is the environment's `BURSAR_AUDIT_KEY`; without a key the log is chained
    but unkeyed. Any number of threads and event loops may use one ledger. Engine and gateway pass the functions of this
    folder to `run`, which calls each in a transaction. The other methods are for people and block until they are done.
    Each has an async twin, which blocks no event loop: `await ledger.aspend("s-1")` is `ledger.spend("s-1")`.
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
        """Close each connection of this process to the database, even if another ledger or a saver uses it.

        The next use of the database opens it again.
        """
        self.database.close()

    def run(self, posting: Callable[Concatenate[Transaction, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `posting` in a transaction of its own, commit, and return its result.

        A posting is a function whose first argument is a `Transaction`: `run(open_session, "s-1", "acme", at=now)`.
        """
        return self.database.run(self.bind(posting, *args, **kwargs))

    async def arun(self, posting: Callable[Concatenate[Transaction, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `posting` in a transaction of its own, commit, and return its result, without blocking the event loop.

        If the caller is cancelled, the posting still runs and is committed.
        """
        return await self.database.arun(self.bind(posting, *args, **kwargs))

    def read(self, query: Callable[Concatenate[Transaction, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `query`, which changes nothing, in a read-only transaction, and return its result."""
        return self.database.run(self.bind(query, *args, **kwargs), readonly=True)

    def bind(self, posting: Callable[Concatenate[Transaction, P], T], /, *args: P.args, **kwargs: P.kwargs) -> Work[T]:
        """Return a function of a connection, for `Database.run`, that calls `posting` with these arguments."""
        return lambda connection: posting(Transaction(connection, self.key, self.in_flight), *args, **kwargs)

    def transaction(self, connection: Connection) -> Transaction:
        """Return a `Transaction` on `connection`, for code that calls several postings in one database transaction."""
        return Transaction(connection, self.key, self.in_flight)

    def spend(self, session_id: str) -> Spend:
        """Return what the session was charged so far. Raises `LedgerError` if there is no such session."""
        return self.read(spend_of, f"session:{session_id}")

    def audit(self, session_id: str, *, after: int = 0, limit: int | None = None) -> list[AuditRow]:
        """Return the events of the session's log whose sequence is above `after`, at most `limit` of them, in order.

        To page through a long log, pass the last row's `sequence` as the next `after`, until no row is returned. Raises
        `LedgerError` if there is no such session, an event cannot be read, or `limit` is not above zero.
        """
        return self.read(read_log, session_id, after, limit)

    def follow(
        self, session_id: str, *, after: int = 0, poll_seconds: float = 0.2, idle_seconds: float = 600.0
    ) -> Iterator[AuditRow]:
        """Yield the events of the session's log whose sequence is above `after`, those to come too, in order.

        It ends when each request of the session is closed, or when no event has come for `idle_seconds`. It looks for
        new events each `poll_seconds`. After a disconnect, pass the `sequence` of the last row as `after`. Raises what
        `audit` raises.
        """
        pages = follow_log(lambda at: self.read(read_page, session_id, at), after, poll_seconds, idle_seconds)
        for page in pages:
            yield from page.rows
            if not page.rows and not page.ended:
                time.sleep(poll_seconds)

    async def afollow(
        self, session_id: str, *, after: int = 0, poll_seconds: float = 0.2, idle_seconds: float = 600.0
    ) -> AsyncIterator[AuditRow]:
        """As `follow`, from an event loop, which is free while nothing comes."""
        pages = follow_log(lambda at: self.read(read_page, session_id, at), after, poll_seconds, idle_seconds)
        while (page := await asyncio.to_thread(next, pages, None)) is not None:
            for row in page.rows:
                yield row
            if not page.rows and not page.ended:
                await asyncio.sleep(poll_seconds)

    def costs(
        self,
        by: By = "agent",
        *,
        session: str | None = None,
        start: datetime | date | None = None,
        end: datetime | date | None = None,
    ) -> list[CostRow]:
        """Return what was spent in one session or all, as one row for each agent, model, day, tenant or session.

        Only calls whose hold was made at `start` or later and before `end` are counted.
        """
        return self.run(costs, by, session_id=session, start=start, end=end)

    def quoted_costs(
        self, *, session: str | None = None, start: datetime | date | None = None, end: datetime | date | None = None
    ) -> list[QuotedCostRow]:
        """Return what each agent's runs were expected to cost when they were planned, and what they cost."""
        return self.read(quoted_costs, session_id=session, start=start, end=end)

    def gains(self) -> list[GainRow]:
        """Return how often the answers of each cascade's rungs were accepted, what they cost, and what was saved."""
        return self.read(gains)

    def expected_costs(self) -> list[ExpectedCostRow]:
        """Return what each agent is expected to take by its last runs and answers: cost, turns and output tokens."""
        return self.read(expected_takes)

    def verify(self, session_id: str | None = None, *, anchor: Anchor | None = None) -> Verification:
        """Check that the log is whole and agrees with calls and accounts, for one session or all.

        If an `anchor` is given, each log must still have the event that the anchor names. So this finds a log that was
        cut or rewritten. A damaged row is a problem in the result, not an error. Raises `LedgerError` if there is no
        such session, or the anchor lacks the session.
        """
        if anchor is not None and session_id is not None and all(h.session_id != session_id for h in anchor.heads):
            raise LedgerError(f"the anchor has no session {session_id}")

        return self.read(_verify, session_id, anchor)

    def anchor(self, session_id: str | None = None) -> Anchor:
        """Return the last hash and the totals of one session's log, or of all logs.

        Keep the anchor outside the database, and give it to `verify`.
        """
        return self.run(anchors.anchor, session_id, at=self.clock())

    def open_holds(self) -> list[OpenHold]:
        """Return every call that is held, sent or unknown, oldest first.

        A call of this process is listed as sent at once. A call of another process is listed as sent once it has been
        in flight for a second and that process has written something else. A held call may have been sent, too.
        """
        found, sent = self.read(open_holds), self.in_flight
        return [replace(one, state="sent") if one.state == "held" and one.call_id in sent else one for one in found]

    def reconcile(self, call_id: str, amount: Amount, *, by: str = "") -> None:
        """Charge `amount`, the actual cost, for an unknown call, whose end nobody saw. `by`, who found out, is logged.

        Raises `LedgerError` for any other call.
        """
        self.run(postings.reconcile, call_id, cost=USD(amount).nanos, at=self.clock(), by=by)

    def top_up(self, account: str, amount: Amount, *, note: str = "") -> str:
        """Raise the cap of an account by `amount`, and return the account's scope.

        `account` is a request's id, a session's id, or a scope, such as `BudgetExceeded.scope`. Raises
        `LedgerError` if there is no such account, it has no cap, or it is a tenant's or the whole ledger's: only the
        configuration sets the cap of such an account.
        """
        return self.run(administration.top_up, account, USD(amount).nanos, note=note, at=self.clock())

    def incidents(self, session_id: str | None = None) -> list[IncidentRow]:
        """Return every incident of one session or of all, newest first, and whether it still closes its session."""
        return self.run(incidents, session_id)

    def acknowledge(self, session_id: str, note: str) -> str:
        """Open a session that an incident closed, and return the incident's text.

        Raises `LedgerError` if no incident closed the session, or `note` is empty.
        """
        return self.run(administration.acknowledge, session_id, note=note, at=self.clock())

    def approvals(self, session_id: str | None = None) -> list[ApprovalRecord]:
        """Return every approval that waits for a person, in one session or all, oldest first."""
        return self.read(approvals.waiting, session_id)

    def approve(self, approval_id: str, *, by: str) -> ApprovalRecord:
        """Record that the person `by` approves. When the session is resumed, Bursar checks that `by` is an approver.

        Raises `LedgerError` if there is no such approval, `NotApproved` if the approval is late or was answered before.
        """
        return self._answer(approval_id, "approved", by=by, reason="")

    def deny(self, approval_id: str, *, by: str, reason: str = "") -> ApprovalRecord:
        """Record that the person `by` denies. The resumed session goes on without it.

        Raises `LedgerError` if there is no such approval, `NotApproved` if the approval was answered before.
        """
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
        """Record what the person `by` found out about an action that is in doubt or could not be undone.

        `done` is whether the action's effect stands. Returns the action's new state. Raises `LedgerError` for any other
        action, and if `by` or `note` is empty.
        """
        return self.run(actions.settle, key, done=done, by=by, note=note, at=self.clock())

    def breakers(self) -> list[BreakerRow]:
        """Return every breaker that saw faults lately, sorted by name. Every other breaker is closed."""
        return self.read(circuit_breakers.listed, self.clock())

    def pause(self, what: str = "all", *, by: str = "", note: str = "") -> bool:
        """Stop new work of `all`, `agent:NAME` or `tenant:NAME`, in every process, until `unpause`.

        After this returns, no new call of `what` is held; calls in flight finish. Returns False if `what` was paused
        already. The log of pauses, which `verify` checks, says who paused, when and why. Raises `LedgerError` if `what`
        is anything else.
        """
        return self.run(pauses.pause, PauseRow(what, self.clock(), by, note))

    def unpause(self, what: str = "all", *, by: str = "", note: str = "") -> bool:
        """End the pause of `all`, `agent:NAME` or `tenant:NAME`, in every process, and log who ended it, when and why.

        Returns False if `what` was not paused. Raises `LedgerError` if `what` is none of these three.
        """
        return self.run(pauses.unpause, PauseRow(what, self.clock(), by, note))

    def pauses(self) -> list[PauseRow]:
        """Return every pause that is in force, oldest first."""
        return self.read(pauses.listed)

    def erase(self, session_id: str, *, note: str = "") -> int:
        """Remove the answers of the session's calls, and the contents of its ended actions and approvals.

        Returns how many rows had such contents. Log and sums stay whole. If an erased call is made again, it is paid
        again. The checkpointer's own copy of the conversation stays until its `delete_thread`. The database's files may
        hold the erased bytes until the database reuses their space.
        """
        return self.run(administration.erase, session_id, note=note, at=self.clock())

    def sessions(self) -> list[SessionRow]:
        """Return every session, newest first."""
        return self.read(list_sessions)

    aspend = _off_loop(spend)
    aaudit = _off_loop(audit)
    acosts = _off_loop(costs)
    aquoted_costs = _off_loop(quoted_costs)
    agains = _off_loop(gains)
    aexpected_costs = _off_loop(expected_costs)
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
    if session_id is not None and anchor is None and not found.events and not is_known(transaction, session_id):
        raise LedgerError(f"no session {session_id} in the books")
    return found
