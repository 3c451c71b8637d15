"""Writes that nobody waits for travel with the next checkpoint of their session, in one transaction.

LangGraph stores a task's writes in the background and, a moment later, the checkpoint of the step: two commits where
one will do. So writes of a running graph wait a moment for their companion. They are stored when `put_writes`
returns, as ever; if nothing takes them along, or other writes of the session arrive, they go at once.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import WRITES_IDX_MAP

from bursar.checkpoints.database.database import Work
from bursar.checkpoints.leases import Lease
from bursar.checkpoints.saver.store import RowsToStore
from bursar.state.langgraph_private import RUNTIME, TASKS

PATIENCE_SECONDS = 0.005

Session = tuple[str, str, Lease | None]  # session, namespace, and the run that owns it: no other takes its writes along


class CommitWaiter:
    """Tells one who waits, a thread or a task, whether the parcel is stored; False: whoever took it along has failed.

    It is told at every step of a graph: a `concurrent.futures.Future` costs as much as encoding the writes does.
    """

    __slots__ = ("_stored", "_task", "_turn")

    def __init__(self) -> None:
        self._stored: bool | None = None
        self._task: asyncio.Future[bool] | None = None
        self._turn = threading.Lock()
        self._turn.acquire()

    def give(self, stored: bool) -> None:
        """Say it, once, from any thread."""
        self._stored = stored
        self._turn.release()
        self._wake()

    def wait(self, seconds: float = -1) -> bool | None:
        """Block until it is said; None where it was not in time."""
        return self._stored if self._turn.acquire(timeout=seconds) else None

    def wake(self, task: "asyncio.Future[bool]") -> None:
        """Have this future of the running loop resolved when it is said; it may have been."""
        self._task = task
        self._wake()

    def _wake(self) -> None:
        # Whoever comes second of the two sides sees what the first has left.
        task, stored = self._task, self._stored
        if task is None or stored is None:
            return
        loop = task.get_loop()
        if loop is asyncio._get_running_loop():
            _resolve(task, stored)
        else:
            with suppress(RuntimeError):  # its loop has ended
                loop.call_soon_threadsafe(_resolve, task, stored)


def _resolve(task: "asyncio.Future[bool]", stored: bool) -> None:
    """Unless it is."""
    if not task.done():
        task.set_result(stored)


class PendingWrites(NamedTuple):
    """Writes that wait."""

    session: Session
    rows: RowsToStore
    notice: CommitWaiter


class StoreOperation(NamedTuple):
    """Work to be done, and what instead if it breaks the database's constraints.

    `one_statement` says that it is a single one. `taken` are parcels that the work takes along. Or it is a parcel
    itself, to be done if nobody takes it.
    """

    work: Work[None]
    durable: bool
    one_statement: bool
    again: Work[None] | None = None
    taken: Sequence[PendingWrites] = ()
    parcel: PendingWrites | None = None

    @contextmanager
    def told(self) -> Generator[None]:
        """Tell those who wait how the block ended. If it fails, they store their parcels on their own."""
        stored = False
        try:
            yield
            stored = True
        finally:
            for parcel in self.taken:
                parcel.notice.give(stored)


class CommitSharing:
    """The parcels of a saver. For any thread."""

    def __init__(self) -> None:
        self._waiting: dict[Session, PendingWrites] = {}
        self._lock = threading.Lock()
        self._cancelled: set[asyncio.Task[None]] = set()

    def leave(self, session: Session, rows: RowsToStore) -> PendingWrites | None:
        """A parcel that waits now; None if the session has one already: take that along, and wait no longer."""
        with self._lock:
            if session in self._waiting:
                return None
            parcel = self._waiting[session] = PendingWrites(session, rows, CommitWaiter())
            return parcel

    def take(self, session: Session) -> list[PendingWrites]:
        """What waits in this session: whoever takes it stores it."""
        if not self._waiting:
            return []
        with self._lock:
            parcel = self._waiting.pop(session, None)
        return [] if parcel is None else [parcel]

    def wait(self, parcel: PendingWrites) -> bool:
        """Wait for a companion; False when there was none or it failed: then the caller stores the parcel."""
        stored = parcel.notice.wait(PATIENCE_SECONDS)
        if stored is None and not self._take_back(parcel):
            stored = parcel.notice.wait()
        return bool(stored)

    async def await_(self, parcel: PendingWrites, store: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        """As `wait`. If the caller is cancelled, `store` is called for it."""
        loop = asyncio.get_running_loop()
        told: asyncio.Future[bool] = loop.create_future()
        parcel.notice.wake(told)
        patience = loop.call_later(PATIENCE_SECONDS, self._give_up, parcel, told)
        try:
            return await told
        except asyncio.CancelledError:
            nobody_did = told.done() and not told.cancelled() and not told.result()
            if nobody_did or self._take_back(parcel):
                task = asyncio.ensure_future(store())
                self._cancelled.add(task)
                task.add_done_callback(self._cancelled.discard)
            raise
        finally:
            patience.cancel()

    def _give_up(self, parcel: PendingWrites, told: "asyncio.Future[bool]") -> None:
        if self._take_back(parcel):
            _resolve(told, stored=False)

    def _take_back(self, parcel: PendingWrites) -> bool:
        """Whether nobody has taken the parcel; then nobody will."""
        with self._lock:
            if self._waiting.get(parcel.session) is not parcel:
                return False
            del self._waiting[parcel.session]
            return True


def may_wait(config: RunnableConfig, channels: Sequence[str], delta_channels: set[str]) -> bool:
    """Whether these writes are stored in the background, before a checkpoint that does not wait for them.

    It does wait for writes of delta channels and for errors.
    """
    if RUNTIME not in config.get("configurable", {}):
        return False
    return not any(
        channel in WRITES_IDX_MAP or channel in delta_channels or (channel.startswith("__") and channel != TASKS)
        for channel in channels
    )
