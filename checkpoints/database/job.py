"""`Job`: a function that was submitted to a `Database` to run in a transaction, with its result or error."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, cast

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from bursar.checkpoints.database.connections import DriverConnection

T = TypeVar("T")
Work = Callable[[Connection], T]


class Wakeup:
    """A signal to one thread: a bare lock, because `threading.Event` took a sixth of the time to store a checkpoint."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def give(self) -> None:
        """Let the thread in `wait` return. If there is none, let the next `wait` return. Any thread may call this."""
        with suppress(RuntimeError):  # it was given already
            self._lock.release()

    def wait(self) -> None:
        """Block until `give` is called, or return at once if it was called since the last `wait`."""
        self._lock.acquire()


@dataclass(slots=True, eq=False)
class Job(Generic[T]):
    """Work submitted to a `Database`. Once `done`, the work is committed, or `error` says why nothing was kept."""

    work: Work[T]
    readonly: bool
    durable: bool
    one_statement: bool = False
    asked: float = 0.0  # when it was submitted, by the monotonic clock
    until: float | None = None  # when it is given up, by that clock
    lasting: bool = False  # whether it is tried again in the background if it cannot be kept now
    apart: bool = False  # whether it has a transaction of its own
    waiting: "asyncio.Future[T] | None" = None
    turn: "Wakeup | None" = None  # wakes a sync caller: its job is done, or the caller is to do the queue's jobs
    done: bool = False
    result: T | None = None
    committing: bool = False  # whether the commit was under way when the error came
    error: BaseException | None = None
    caller: int = field(default_factory=threading.get_ident)  # the thread that asked for it

    def outcome(self) -> T:
        if self.error is not None:
            raise self.error
        return cast(T, self.result)


class SavepointScope:
    """A block around one job of a transaction. If the job raises, the block stores the error in `job.error`.

    If the job is `alone` in the transaction, or `marked` by a savepoint, the block then undoes only this job. Otherwise
    the job cannot be undone without the transaction's other jobs: the block sets `again`, and the caller undoes all
    jobs and does them again.
    """

    __slots__ = ("_alone", "_held", "_job", "_marked", "again")

    def __init__(self, held: DriverConnection, job: Job[Any], *, alone: bool, marked: bool) -> None:
        self._held = held
        self._job = job
        self._alone = alone
        self._marked = marked
        self.again = False

    def __enter__(self) -> Self:
        if self._marked:
            self._held.savepoint()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is None:
            return False
        # A user's interrupt goes on in the main thread, whichever job it hit. Another caller's job is done anew.
        interrupt = kind is KeyboardInterrupt and threading.current_thread() is threading.main_thread()
        if interrupt and self._job.caller != threading.get_ident():
            return False
        self.again = not (self._alone or self._marked)
        if self.again and isinstance(error, Exception) and not self._held.is_over():
            return True
        # An asyncio future does not take a StopIteration.
        self._job.error = RuntimeError("a piece of work raised StopIteration") if kind is StopIteration else error
        if self._alone:
            self._job.committing = self._held.commits_itself
            self._held.rollback()
        elif self._held.is_over() and (self._marked or isinstance(error, DBAPIError | sqlite3.Error)):
            return False  # some faults, such as a full disk, undo SQLite's transaction as a whole
        elif self._marked:
            self._held.undo_to_savepoint()
        return not interrupt


def resolve(jobs: Sequence[Job[Any]]) -> None:
    """Give the async callers of `jobs` their results or errors. This runs on those callers' event loop."""
    for job in jobs:
        if job.waiting is not None and not job.waiting.done():
            if job.error is None:
                job.waiting.set_result(job.result)
            else:
                job.waiting.set_exception(job.error)
