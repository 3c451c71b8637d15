"""Writes that nobody waits for travel with the next checkpoint of their session, in one transaction.

LangGraph stores a task's writes in the background and, a moment later, the checkpoint of the step: two commits, though
one is enough. So the writes of a running graph wait a moment, as a parcel, for a companion: the checkpoint, or other
writes of the session, whose transaction takes them along. If none comes in time, they are stored alone. As ever, they
are stored when `put_writes` returns.
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
    """Tells a thread or a task that waits whether its parcel is stored; False if the companion that took it failed.

    Every step of a graph needs one, and a `concurrent.futures.Future` costs as much as encoding the writes does.
    """

    __slots__ = ("_stored", "_task", "_turn")

    def __init__(self) -> None:
        self._stored: bool | None = None
        self._task: asyncio.Future[bool] | None = None
        self._turn = threading.Lock()
        self._turn.acquire()

    def give(self, stored: bool) -> None:
        """Say whether the parcel is stored. Called once, from any thread."""
        self._stored = stored
        self._turn.release()
        self._wake()

    def wait(self, seconds: float = -1) -> bool | None:
        """Block until `give` is called, and return what it said; None if that took longer than `seconds`."""
        return self._stored if self._turn.acquire(timeout=seconds) else None

    def wake(self, task: "asyncio.Future[bool]") -> None:
        """Let `give` resolve this future of the running loop. If it was called already, resolve the future now."""
        self._task = task
        self._wake()

    def _wake(self) -> None:
        # Race: `give` and `wake` may run at the same time. Whichever comes second sees what the first has left.
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
    """Give the future its result, unless it has one or was cancelled."""
    if not task.done():
        task.set_result(stored)


class PendingWrites(NamedTuple):
    """A parcel: writes of a session that wait for a companion, and how their caller is told."""

    session: Session
    rows: RowsToStore
    notice: CommitWaiter


class StoreOperation(NamedTuple):
    """Work that stores rows, and the work to do `again` instead if it breaks the database's constraints.

    `one_statement` says that the work is a single statement. `taken` are parcels that the work takes along. If
    `parcel` is given, the rows wait as a parcel, and the work is done only if no companion takes it.
    """

    work: Work[None]
    durable: bool
    one_statement: bool
    again: Work[None] | None = None
    taken: Sequence[PendingWrites] = ()
    parcel: PendingWrites | None = None

    @contextmanager
    def told(self) -> Generator[None]:
        """Tell the callers of the `taken` parcels how the block ended. If it failed, they store their parcels alone."""
        stored = False
        try:
            yield
            stored = True
        finally:
            for parcel in self.taken:
                parcel.notice.give(stored)


class CommitSharing:
    """The parcels of a saver that wait for a companion. Any thread may use it."""

    def __init__(self) -> None:
        self._waiting: dict[Session, PendingWrites] = {}
        self._lock = threading.Lock()
        self._cancelled: set[asyncio.Task[None]] = set()

    def leave(self, session: Session, rows: RowsToStore) -> PendingWrites | None:
        """Leave the rows as a parcel. Returns None if the session has one already: then take that along at once."""
        with self._lock:
            if session in self._waiting:
                return None
            parcel = self._waiting[session] = PendingWrites(session, rows, CommitWaiter())
            return parcel

    def take(self, session: Session) -> list[PendingWrites]:
        """Take the parcel that waits in this session, if there is one. The caller stores it."""
        if not self._waiting:  # race: a parcel that is left just now waits for another companion
            return []
        with self._lock:
            parcel = self._waiting.pop(session, None)
        return [] if parcel is None else [parcel]

    def wait(self, parcel: PendingWrites) -> bool:
        """Wait until a companion stored the parcel. Returns False if none came or it failed: then store it yourself."""
        stored = parcel.notice.wait(PATIENCE_SECONDS)
        # Race: a companion may take the parcel just now. Then the caller waits for what the companion says.
        if stored is None and not self._take_back(parcel):
            stored = parcel.notice.wait()
        return bool(stored)

    async def await_(self, parcel: PendingWrites, store: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        """As `wait`, in a task. If the task is cancelled and no companion stores the parcel, `store` is called."""
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
        """Take the parcel back, so that no companion takes it. Returns False if one has taken it already."""
        with self._lock:
            if self._waiting.get(parcel.session) is not parcel:
                return False
            del self._waiting[parcel.session]
            return True


def may_wait(config: RunnableConfig, channels: Sequence[str], delta_channels: set[str]) -> bool:
    """Whether LangGraph stores these writes in the background, and does not await them before the next checkpoint.

    LangGraph awaits writes of delta channels, and errors.
    """
    if RUNTIME not in config.get("configurable", {}):
        return False
    return not any(
        channel in WRITES_IDX_MAP or channel in delta_channels or (channel.startswith("__") and channel != TASKS)
        for channel in channels
    )
