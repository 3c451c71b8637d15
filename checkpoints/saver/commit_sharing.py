"""`CommitSharing`: store a task's writes and the next checkpoint of the session by one commit instead of two.

LangGraph stores a task's writes in the background and, a moment later, the checkpoint of the step. So the writes of a
running graph wait up to `PATIENCE_SECONDS`. If a checkpoint or other writes of the session are stored meanwhile, their
transaction takes the waiting writes along. Otherwise the waiting writes are stored alone. In both cases the writes are
stored when `put_writes` returns.
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
    """A result that is given once: whether writes that wait for another transaction were stored.

    The caller of `put_writes` waits for the result, in a thread or a task. The result is False if the transaction that
    took the writes along failed. Every step of a graph needs a `CommitWaiter`; a `concurrent.futures.Future` in its
    place would cost as much as encoding the writes does.
    """

    __slots__ = ("_stored", "_task", "_turn")

    def __init__(self) -> None:
        self._stored: bool | None = None
        self._task: asyncio.Future[bool] | None = None
        self._turn = threading.Lock()
        self._turn.acquire()

    def give(self, stored: bool) -> None:
        """Set the result: whether the writes are stored. Called once, from any thread."""
        self._stored = stored
        self._turn.release()
        self._wake()

    def wait(self, seconds: float = -1) -> bool | None:
        """Block until `give` is called, and return its result; None if that takes longer than `seconds`.

        If `seconds` is -1, block without a limit.
        """
        return self._stored if self._turn.acquire(timeout=seconds) else None

    def wake(self, task: "asyncio.Future[bool]") -> None:
        """Let `give` set the result of `task`, a future of the running loop; at once if `give` was called already."""
        self._task = task
        self._wake()

    def _wake(self) -> None:
        # Race: `give` and `wake` may run at the same time. Whichever comes second sees both `_task` and `_stored` set.
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
    """Set the future's result to `stored`, unless the future has a result or was cancelled."""
    if not task.done():
        task.set_result(stored)


class PendingWrites(NamedTuple):
    """Writes of a session that wait until another transaction of the session stores them with its own rows.

    `notice` tells the caller of the writes whether they were stored.
    """

    session: Session
    rows: RowsToStore
    notice: CommitWaiter


class StoreOperation(NamedTuple):
    """Rows to store, as the function `work` that stores them in a transaction.

    If `work` raises `IntegrityError`, the saver runs the function `again` instead. `one_statement` says that `work` is
    a single statement. `taken` are waiting writes of other callers, which `work` stores, too. If `parcel` is given,
    these waiting writes are all that `work` stores. The saver then waits first for another transaction to store them,
    and runs `work` only if none does.
    """

    work: Work[None]
    durable: bool
    one_statement: bool
    again: Work[None] | None = None
    taken: Sequence[PendingWrites] = ()
    parcel: PendingWrites | None = None

    @contextmanager
    def told(self) -> Generator[None]:
        """After the block, tell the callers of the `taken` writes whether the block succeeded.

        If it failed, these callers store their writes alone.
        """
        stored = False
        try:
            yield
            stored = True
        finally:
            for parcel in self.taken:
                parcel.notice.give(stored)


class CommitSharing:
    """The writes of a saver that wait to be stored in the next commit, at most one `PendingWrites` for each session.

    Any thread may use a `CommitSharing`.
    """

    def __init__(self) -> None:
        self._waiting: dict[Session, PendingWrites] = {}
        self._lock = threading.Lock()
        self._cancelled: set[asyncio.Task[None]] = set()

    def leave(self, session: Session, rows: RowsToStore) -> PendingWrites | None:
        """Let the rows wait for another transaction of the session to store them. Return them as `PendingWrites`.

        If writes of the session wait already, return None; the caller then stores its own rows and those writes now.
        """
        with self._lock:
            if session in self._waiting:
                return None
            parcel = self._waiting[session] = PendingWrites(session, rows, CommitWaiter())
            return parcel

    def take(self, session: Session) -> list[PendingWrites]:
        """Remove and return the waiting writes of the session, if there are any. The caller must store them."""
        if not self._waiting:  # race: writes that begin to wait just now wait for a later transaction
            return []
        with self._lock:
            parcel = self._waiting.pop(session, None)
        return [] if parcel is None else [parcel]

    def wait(self, parcel: PendingWrites) -> bool:
        """Wait until another transaction has stored the writes `parcel`, and return True.

        Returns False if no transaction takes the writes within `PATIENCE_SECONDS`, or if the transaction that took them
        failed. The caller must then store the writes alone.
        """
        stored = parcel.notice.wait(PATIENCE_SECONDS)
        # Race: another caller may take the writes just now. Then this waits for that caller's result.
        if stored is None and not self._take_back(parcel):
            stored = parcel.notice.wait()
        return bool(stored)

    async def await_(self, parcel: PendingWrites, store: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        """Wait, without blocking the event loop, until another transaction has stored the writes `parcel`; return True.

        Returns False if no transaction takes the writes within `PATIENCE_SECONDS`, or if the transaction that took them
        failed. The caller must then store the writes alone. If the caller is cancelled while no transaction has taken
        the writes, `store` runs in a task of its own, so that the writes are not lost.
        """
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
        """Remove `parcel` from the waiting writes, so that nobody takes it. Returns False if it was taken already."""
        with self._lock:
            if self._waiting.get(parcel.session) is not parcel:
                return False
            del self._waiting[parcel.session]
            return True


def may_wait(config: RunnableConfig, channels: Sequence[str], delta_channels: set[str]) -> bool:
    """Whether writes to these channels may wait for another transaction of the session, which stores them.

    Return False for writes that LangGraph awaits before the next checkpoint: errors, interrupts, resumes and writes to
    delta channels. Return False also outside a running graph, as in an update of state.
    """
    if RUNTIME not in config.get("configurable", {}):
        return False
    return not any(
        channel in WRITES_IDX_MAP or channel in delta_channels or (channel.startswith("__") and channel != TASKS)
        for channel in channels
    )
