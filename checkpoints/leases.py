"""Leases: a session has one owner at a time. A run takes the lease before it reads the session; each write checks it.

A lease expires by the database's clock and is renewed while its owner works. SQLite's clock is the machine's, which all
processes of such a database share. A run that takes a lease over begins a new epoch. If the owner of an earlier epoch
still writes or pays, the transaction that would do so fails.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphDrained
from sqlalchemy import Connection, TextClause, bindparam, select, text

from bursar.checkpoints.database.database import Database, Work
from bursar.checkpoints.database.statement import ReturningStatement, Statement
from bursar.checkpoints.lease_renewal import LeaseRenewer
from bursar.checkpoints.ledger.ledger import Ledger
from bursar.checkpoints.ledger.postings import record_if_known, recover
from bursar.checkpoints.process_identity import Process
from bursar.checkpoints.schema.lease_table import leases
from bursar.state.errors import DatabaseError, SessionBusy
from bursar.state.events import Drained
from bursar.state.events import LeaseChanged as LeaseEvent
from bursar.state.refusals import LeaseLost

LEASE = "__bursar_lease"  # in `configurable`: the lease under which a run writes
# Owners of this process whose runs have ended, but whose leases may still stand: giving them back failed.
_dead_owners: deque[str] = deque(maxlen=10_000)
RELEASE_SECONDS = 1.0  # how long giving a session back may wait for another program's lock
PAUSE_SECONDS = 0.05  # between two attempts to take a lease that another has


@dataclass(frozen=True, slots=True)
class Lease:
    """The ownership of a session by one run, until it is released, expires or is taken over.

    `took_over` is whether the owner before did not give the session back: its process died, or still lives.
    """

    database: Database
    session_id: str
    owner: str
    epoch: int
    took_over: bool = field(default=False, compare=False)

    def check(self, connection: Connection) -> None:
        """Raise `LeaseLost` if the lease was lost. Otherwise no run can take the lease before this transaction ends."""
        # Race: another run may take the lease over. This locks its row, so that a take-over waits for the transaction.
        if not _holds(connection, session=self.session_id, owner=self.owner, epoch=self.epoch):
            raise self.lost()

    def lost(self) -> LeaseLost:
        """Return the error for a run that writes or pays after it lost the lease."""
        return LeaseLost(
            f"this run of session {self.session_id} no longer owns it: another took it over, so nothing more of it "
            "is kept or paid"
        )

    def event(self, action: str) -> LeaseEvent:
        """Return the audit log's event for what was done to this lease: `taken`, `taken_over` or `released`."""
        return LeaseEvent.model_validate(
            {"action": action, "owner": f"{Process.current().name} ({self.owner})", "epoch": self.epoch}
        )


def lease_of(config: RunnableConfig) -> Lease | None:
    """Return the lease in `config`; None if `config` has none. Each write of a run with a lease checks the lease."""
    found = config.get("configurable", {}).get(LEASE)
    return found if isinstance(found, Lease) else None


@dataclass(frozen=True, slots=True)
class _HeldByOther:
    """A session that another run owns: the run's `owner` id, its process, and the milliseconds `left` of its lease."""

    session_id: str
    owner: str
    holder: Process
    left: int

    def error(self) -> SessionBusy:
        return SessionBusy(
            f"session {self.session_id} is running in {self.holder.name}, which owns it for "
            f"{max(self.left, 0) / 1000:.1f} s and renews that; try again later, wait for it with wait_seconds, or "
            'take it over: put "take_over": True beside its thread_id, or for Genie: '
            f"bursar resume {self.session_id} --take-over"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRequest:
    """How a run takes a lease: how long it waits for another owner, and whether it takes over from an owner that lives.

    If a `ledger` in the same database is given, a take-over is logged there, and the calls that the earlier owner left
    in flight become unknown. If `resumes`, the run opens no new request, so the lease is logged when it is taken;
    otherwise the lease is logged when the new request is opened.
    """

    wait_seconds: float = 0.0
    take_over: bool = False
    ledger: Ledger | None = None
    resumes: bool = False


class LeaseHolder:
    """A `with` or `async with` block that owns a session. Pass its `config` to the runs in the block.

    Entering raises `SessionBusy` if another run owns the session.
    """

    def __init__(self, database: Database, session_id: str, *, seconds: float, owner: str, wish: LeaseRequest) -> None:
        self._database = database
        self._session_id = session_id
        self._milliseconds = round(seconds * 1000)
        self._owner = owner
        self._wish = wish
        self._lease: Lease | None = None
        self._refused = False

    @property
    def lease(self) -> Lease:
        """The lease. Raises `RuntimeError` outside the block."""
        if self._lease is None:
            raise RuntimeError("the session is owned inside the with block only")
        return self._lease

    @property
    def config(self) -> RunnableConfig:
        """The config for `graph.invoke(input, owned.config)`: the session, and the lease that each write checks."""
        return {"configurable": {"thread_id": self._session_id, LEASE: self.lease}}

    def __enter__(self) -> Self:
        with self._known():
            for pause in self._pauses():
                time.sleep(pause)
                if self._taken(self._database.run(self._take(), durable=False)):
                    break
        return self

    async def __aenter__(self) -> Self:
        with self._known():
            for pause in self._pauses():
                await asyncio.sleep(pause)
                if self._taken(await self._database.arun(self._take(), durable=False, brief=True)):
                    break
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._known():
            work = self._release(error)
            try:
                self._database.run(work, until=self._until(error))
            except DatabaseError as fault:
                self._leave(work, fault)
                if error is None:
                    self._database.run(_flush, until=self._until(None))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Race: the caller may be cancelled, or close a stream, meanwhile. So a shielded task frees the session.
        with self._known():
            await asyncio.shield(asyncio.ensure_future(self._areleased(error)))

    async def _areleased(self, error: BaseException | None) -> None:
        work = self._release(error)
        try:
            await self._database.arun(work, until=self._until(error))
        except DatabaseError as fault:
            self._leave(work, fault)
            if error is None:
                await self._database.arun(_flush, until=self._until(None))

    @contextmanager
    def _known(self) -> Generator[None]:
        """If the block ends by an error or a cancellation, mark this owner dead, so this process can retake the lease.

        If another run has the lease, do not mark this owner.
        """
        seen = False
        try:
            yield
            seen = True
        finally:
            if not seen and not self._refused:
                _dead_owners.append(self._owner)

    def _pauses(self) -> Iterator[float]:
        """Yield the seconds to pause before each attempt to take the lease. `_last` is True before the last attempt."""
        self._last = False
        until = time.monotonic() + self._wish.wait_seconds
        yield 0.0
        while time.monotonic() + PAUSE_SECONDS < until:
            yield PAUSE_SECONDS
        self._last = True
        yield 0.0

    def _taken(self, found: Lease | _HeldByOther) -> bool:
        if isinstance(found, Lease):
            self._lease = found
            LeaseRenewer.of(self._database).add(found, self._renew(found), every=self._milliseconds / 3000)
            return True
        if self._last or not self._wish.wait_seconds:
            self._refused = True
            raise found.error()
        return False

    def _take(self) -> Work[Lease | _HeldByOther]:
        session, owner, wish = self._session_id, self._owner, self._wish

        def work(connection: Connection) -> Lease | _HeldByOther:
            ours = Process.current()  # reads files: here, where the event loop does not
            new = {"session": session, "owner": owner, "host": ours.host, "process": ours.process}
            new |= {"milliseconds": self._milliseconds}
            taken = _take(connection, **new, force=int(wish.take_over), dead="")
            if not taken:
                [(holder, host, process, left)] = _holder(connection, session=session)
                busy = _HeldByOther(session, holder, Process(host, process), int(left))
                if holder not in _dead_owners and not busy.holder.is_gone:
                    return busy
                # No race: PostgreSQL locked the row even though the first statement left it, and SQLite has one writer.
                taken = _take(connection, **new, force=0, dead=holder)
            [(epoch, previous)] = taken
            lease = Lease(self._database, session, owner, int(epoch), bool(previous))
            if wish.ledger is not None:
                _tell(connection, wish.ledger, lease, took_over=lease.took_over, resumes=wish.resumes)
            return lease

        return work

    def _renew(self, lease: Lease) -> Callable[[], bool]:
        """Return a function that extends the lease. It returns whether the lease was extended: False if it was lost."""
        values = {"session": lease.session_id, "owner": lease.owner, "epoch": lease.epoch}

        def work(connection: Connection) -> bool:
            return bool(_extend.changes(connection, **values, milliseconds=self._milliseconds))

        patience = self._milliseconds / 30_000  # a tenth of the lease, for other sessions' renewals wait their turn
        return lambda: self._database.run(work, durable=False, until=time.monotonic() + patience)

    def _until(self, error: BaseException | None) -> float:
        """Return how long the caller may try to give the session back itself, as a time in seconds of `time.monotonic`.

        After that time `_leave` hands the release to the background. If `error`, which ended the run, is a database
        error, return the present time, so that the run waits for the database no more.
        """
        return time.monotonic() + (0.0 if isinstance(error, DatabaseError) else RELEASE_SECONDS)

    def _leave(self, release: Work[None], fault: DatabaseError) -> None:
        """On PostgreSQL, give the session back later, in the background; this process can take it again at once.

        If that fails, others can take the session when the lease expires. On SQLite, raise `fault` instead, because
        SQLite locks no rows, so the fault is not a locked row that will be free later.
        """
        if self._database.dialect == "sqlite":
            raise fault
        self._database.retry_queue.add(release)
        _dead_owners.append(self._owner)

    def _release(self, error: BaseException | None) -> Work[None]:
        """Stop renewing the lease, and return work that gives the session back and logs the release.

        If `error`, which ended the block, is LangGraph's `GraphDrained`, the work logs the drain, too. The work is to
        be committed durably: that commit puts the run's writes on disk before the run's caller goes on.
        """
        lease, ledger = self.lease, self._wish.ledger
        # Race: a renewal may be under way. Once the lease is given back it changes nothing, for it names the owner.
        LeaseRenewer.of(self._database).remove(lease)

        def work(connection: Connection) -> None:
            freed = _free.changes(connection, session=lease.session_id, owner=lease.owner, epoch=lease.epoch)
            if not freed or ledger is None:
                return
            told = [Drained(reason=error.reason)] if isinstance(error, GraphDrained) else []
            for event in (*told, lease.event("released")):
                record_if_known(ledger.transaction(connection), lease.session_id, event, at=ledger.clock())

        return work


def _flush(connection: Connection) -> None:
    """Let the commit of this transaction put all earlier commits on disk. Only for PostgreSQL.

    This writes a message to PostgreSQL's write-ahead log, which changes no table. A commit waits for the disk only if
    its transaction wrote something.
    """
    connection.exec_driver_sql("SELECT pg_logical_emit_message(true, 'bursar', '')")


def _tell(connection: Connection, ledger: Ledger, lease: Lease, *, took_over: bool, resumes: bool) -> None:
    transaction, session_id, at = ledger.transaction(connection), lease.session_id, ledger.clock()
    if not (took_over or resumes):
        return
    if took_over:  # the earlier owner is gone, or may pay no more: nobody will see how its calls in flight end
        recover(transaction, session_id, at=at)
    event = lease.event("taken_over" if took_over else "taken")
    record_if_known(transaction, session_id, event, at=at)


_NOW = {
    "postgresql": "(extract(epoch FROM clock_timestamp()) * 1000)::bigint",
    "sqlite": "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)",
}


def _timed(statement: str) -> Statement:
    """Return the statement with the database's clock, in milliseconds, in place of `{now}`."""
    return Statement(_at_now(statement, "postgresql"), sqlite=_at_now(statement, "sqlite"))


def _at_now(statement: str, dialect: str) -> TextClause:
    return text(statement.format(now=_NOW[dialect]))


# A lease that was released has no owner and expired at the beginning of time; its row keeps the epoch.
_TAKE = (
    "INSERT INTO bursar_leases (session_id, owner, epoch, expires_at, host, process, previous) "
    "VALUES (:session, :owner, 1, {now} + :milliseconds, :host, :process, '') "
    "ON CONFLICT (session_id) DO UPDATE SET owner = excluded.owner, epoch = bursar_leases.epoch + 1, "
    "expires_at = excluded.expires_at, host = excluded.host, process = excluded.process, "
    "previous = bursar_leases.owner "
    "WHERE bursar_leases.expires_at <= {now} OR bursar_leases.owner = :dead OR :force = 1"
)
_take = ReturningStatement(
    _at_now(f"{_TAKE} RETURNING epoch, previous", "postgresql"),
    sqlite=_at_now(_TAKE, "sqlite"),
    read=text("SELECT epoch, previous FROM bursar_leases WHERE session_id = :session"),
)
_holder = _timed("SELECT owner, host, process, expires_at - {now} FROM bursar_leases WHERE session_id = :session")
_extend = _timed(
    "UPDATE bursar_leases SET expires_at = {now} + :milliseconds "
    "WHERE session_id = :session AND owner = :owner AND epoch = :epoch"
)
_free = _timed(
    "UPDATE bursar_leases SET owner = '', expires_at = 0 "
    "WHERE session_id = :session AND owner = :owner AND epoch = :epoch"
)
_holds = Statement(
    select(leases.c.epoch)
    .where(
        leases.c.session_id == bindparam("session"),
        leases.c.owner == bindparam("owner"),
        leases.c.epoch == bindparam("epoch"),
    )
    .with_for_update(read=True)
)
