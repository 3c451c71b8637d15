"""One door to a database: short transactions, from any thread and any event loop, on SQLite and PostgreSQL.

There is one implementation for sync and async callers. *Work* is a function of a SQLAlchemy `Connection`. It runs in a
transaction on a kept connection: in the thread of a sync caller, on a worker thread for an async caller. Submitted work
is a *job*. PostgreSQL has `pool_size` connections. SQLite has one writer, so one connection: the thread that uses it
does all waiting jobs in one transaction. Brief work that waits for no lock and no disk runs on the event loop.
"""

import asyncio
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from queue import Empty, LifoQueue
from typing import Any, TypeVar
from weakref import WeakSet

from sqlalchemy import Connection, Engine
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from bursar.checkpoints.database.connections import DriverConnection
from bursar.checkpoints.database.engines import make_engine
from bursar.checkpoints.database.error_codes import deadline_error, to_database_error
from bursar.checkpoints.database.job import Job, SavepointScope, Wakeup, Work, resolve
from bursar.checkpoints.database.loop_commits import is_watched
from bursar.checkpoints.database.postgresql_deadline import ServerHealth
from bursar.checkpoints.database.retry_queue import RetryQueue
from bursar.checkpoints.database.stop_guard import shielded
from bursar.checkpoints.database.url import DEFAULTS, parse
from bursar.state.errors import BursarError, ConfigurationError, DatabaseError

T = TypeVar("T")

MAX_GROUP = 64  # jobs in one transaction: bounds how long the first waits for the last


class Database:
    """The connections of this process to one database. `at(url)` returns one instance, which ledger and saver share."""

    _shared: dict[str, "Database"] = {}  # noqa: RUF012 - one registry per process, on purpose
    _shared_lock = threading.Lock()

    def __init__(self, url: str | URL) -> None:
        self.url, self.settings = parse(url)
        self.dialect = self.url.get_backend_name()
        self.workers = 1 if self.dialect == "sqlite" else self.settings.pool_size
        self._inherited: list[object] = []
        self._start()
        _databases.add(self)

    def _start(self) -> None:
        self.engine: Engine = make_engine(self.url, self.settings)
        self._lock = threading.Lock()
        self._inside = threading.local()
        self._queue: deque[Job[Any]] = deque()
        self._called = False  # whether a worker was called and has not begun yet
        self._executor: ThreadPoolExecutor | None = None
        server = ServerHealth()
        # SQLite's one connection and its lock. Only `with` takes the lock, so that no interrupt leaves it taken.
        self._one, self._busy = DriverConnection(self.engine, self.settings, server), threading.Lock()
        # Connections to PostgreSQL. The one used last is taken first, so that few are kept busy.
        self._free: LifoQueue[DriverConnection] = LifoQueue()
        self.retry_queue = RetryQueue(lambda work, until: self.run(work, until=until))
        for _ in range(0 if self.dialect == "sqlite" else self.workers):
            self._free.put(DriverConnection(self.engine, self.settings, server))

    @classmethod
    def at(cls, url: "str | URL | Database") -> "Database":
        """Return the one `Database` of this process for `url`, made on first use; `url` itself if it is a `Database`.

        So all callers share even a SQLite database in memory. A `url` without settings fits a `Database` with any.
        Raises `ConfigurationError` if `url` has other settings than the `Database` was opened with.
        """
        if isinstance(url, Database):
            return url
        parsed, settings = parse(url)
        key = parsed.render_as_string(hide_password=False)
        with cls._shared_lock:
            if key not in cls._shared:
                cls._shared[key] = cls(url)
            found = cls._shared[key]
        if settings not in (DEFAULTS, found.settings):
            where = parsed.render_as_string(hide_password=True)
            raise ConfigurationError(
                f"{where}: this process opened it with other settings; write the same URL everywhere"
            )
        return found

    def run(
        self,
        work: Work[T],
        *,
        readonly: bool = False,
        durable: bool = True,
        one_statement: bool = False,
        until: float | None = None,
        lasting: bool = False,
        apart: bool = False,
    ) -> T:
        """Call `work` with a connection in a transaction, commit, and return the work's result.

        The work must change nothing but the database: it may run more than once, and the last run counts. If
        `readonly`, it must change nothing; then SQLite takes no write lock. If not `durable`, the commit survives the
        end of this process, but is on disk only with the next durable commit: both databases write commits to disk in
        order. If `one_statement`, the work is a single statement, which PostgreSQL commits in one round trip. Work that
        waits for PostgreSQL is given up at `until`, in seconds of `time.monotonic`; never if that is infinite; if it is
        None, when the server is silent for some seconds longer than a statement may take. If `lasting` and PostgreSQL
        fails, this raises, and the work is tried again in the background. If `apart`, no other work is in the
        transaction. Raises what `work` raises, and keeps nothing of it then; `DatabaseError` if the database cannot be
        used; `BursarError` if called by other work, which must use the connection that it was given.
        """
        job = Job(work, readonly, durable, one_statement, time.monotonic(), until, lasting, apart)
        self._check_outside()
        with shielded():
            if self.dialect == "sqlite":
                interrupted = True
                try:
                    self._queue.append(job)
                    while not job.done:  # bounded: each turn does the jobs before this one that have waited longest
                        self._take_turn(job)
                    interrupted = False
                finally:
                    if interrupted:  # by the user: without a worker nobody would do the jobs behind this one
                        with self._lock:
                            self._call_worker()
            else:
                self._do_one(job)
        return job.outcome()

    async def arun(
        self,
        work: Work[T],
        *,
        readonly: bool = False,
        durable: bool = True,
        brief: bool = False,
        one_statement: bool = False,
        until: float | None = None,
        lasting: bool = False,
        apart: bool = False,
    ) -> T:
        """Call `work` in a transaction and return its result, as `run` does, without blocking the event loop.

        Parameters and errors are those of `run`. `brief` promises that the work takes less time than handing it to
        another thread; it may then run on the event loop. If the caller is cancelled, the work still runs.
        """
        self._check_outside()
        if brief and (readonly or not durable) and self.dialect == "sqlite" and not is_watched():
            at_once = Job(work, readonly, durable)
            with shielded():
                done = self._lead([at_once], at_once=True)
            if done:
                return at_once.outcome()
        waiting: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        job = Job(work, readonly, durable, one_statement, time.monotonic(), until, lasting, apart, waiting)
        with self._lock:
            if self.dialect == "sqlite":
                self._call_worker()
                self._queue.append(job)
            else:
                self._workers().submit(self._do_one, job)
        return await waiting

    def close(self) -> None:
        """Do all submitted jobs, then close every connection. The next use of the database opens it again."""
        self.retry_queue.forget()
        with self._lock:
            executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=True)
        if self._queue:
            self._work_off_all()
        if self.dialect == "sqlite":
            with self._busy:
                self._one.drop()
        else:
            connections = [self._free.get() for _ in range(self.workers)]
            for held in connections:
                held.drop()
                self._free.put(held)
        self.engine.dispose()

    def _workers(self) -> ThreadPoolExecutor:
        """Return the pool of worker threads, made on first use. The caller holds `_lock`."""
        if self._executor is None:
            self._executor = ThreadPoolExecutor(self.workers, thread_name_prefix="bursar-database")
        return self._executor

    def _call_worker(self) -> None:
        """Let a worker thread do the queue's jobs once the caller, which holds `_lock`, has released it."""
        if not self._called:
            self._workers().submit(self._work_off_all)
            self._called = True

    def _check_outside(self) -> None:
        if getattr(self._inside, "working", False):
            raise BursarError("a piece of work is one transaction and cannot run another; give it its connection")

    def _do_one(self, job: Job[Any]) -> None:
        """Do the job on a PostgreSQL connection. If none is free within `pool_timeout` or by `until`, the job fails."""
        seconds = self.settings.pool_timeout
        if job.until is not None:
            seconds = min(seconds, max(0.0, job.until - job.asked))
        try:
            held = self._free.get(timeout=max(0.0, job.asked + seconds - time.monotonic()))
        except Empty:
            where, size = self.url.render_as_string(hide_password=True), self.settings.pool_size
            job.error = DatabaseError(
                f"{where}: none of the {size} connections of this process was free within {seconds:g} s; raise "
                "pool_size or pool_timeout in the URL"
            )
            self._deliver([job])
        else:
            ended: list[Job[Any]] = []
            try:
                try:
                    self._transact(held, [job], ended)
                finally:
                    self._free.put(held)
            finally:
                self._deliver(ended)

    def _work_off_all(self) -> None:
        with self._lock:
            self._called = False
        while self._queue:  # bounded by what is submitted
            self._lead([])

    def _take_turn(self, job: Job[Any]) -> None:
        """Do the queue's jobs if the connection is free. Otherwise wait until it is free or `job` is done."""
        if not self._busy.locked():
            self._lead([])
        elif job.turn is None:
            job.turn = Wakeup()  # race: the connection may be free by now, so look once more before waiting
        else:
            job.turn.wait()

    def _lead(self, jobs: list[Job[Any]], *, at_once: bool = False) -> bool:
        """Do `jobs` on SQLite's connection; if `jobs` is empty, the queue's jobs, the longest waiting first.

        If `at_once` and the jobs cannot begin at once, do nothing and return False; otherwise return True. The
        connection is freed before any caller gets its result, so a caller that submits more at once finds it free.
        """
        # Race: another thread may take the lock after this look. Then `with` waits for one transaction of that thread.
        if at_once and (self._queue or self._busy.locked()):
            return False
        held, ended, told = self._one, list[Job[Any]](), False
        try:
            with self._busy:
                begun = None
                try:
                    if at_once and (begun := held.begin_at_once(readonly=jobs[0].readonly)) is None:
                        return False
                    self._transact(held, jobs, ended, begun)
                finally:
                    held.rollback()  # what an interrupt left; otherwise there is nothing to undo
        finally:
            try:
                self._pass_on(ended)
                told = True
            finally:
                if not told:  # the user interrupted: other callers still wait
                    self._pass_on(ended)
        return True

    def _pass_on(self, ended: Sequence[Job[Any]]) -> None:
        """Wake the queue's first caller, if it is sync, to do the queue's jobs. Give callers of `ended` the results."""
        with suppress(IndexError):  # race: another thread may empty the queue after the look at it
            if self._queue and (turn := self._queue[0].turn) is not None:
                turn.give()  # if the first caller is async, it has called a worker
        self._deliver(ended)

    def _transact(
        self, held: DriverConnection, jobs: list[Job[Any]], told: list[Job[Any]], begun: Connection | None = None
    ) -> None:
        """Do `jobs` in one transaction on `held`, and commit; if `jobs` is empty, do the queue's jobs.

        If a job raises, only that job is undone. If the database fails, each job gets the error. Add jobs that ended to
        `told`, for the caller to deliver. `begun`, if given, is the connection, already in a transaction.
        """
        ended = committing = failed = False
        self._inside.working = True
        line = held.line
        if line is not None:
            line.begin(jobs[0].until)
        try:
            if not jobs:
                self._join(jobs)
            if jobs and not self._attempt(held, jobs, begun):
                held.rollback()
                self._attempt(held, jobs, marked=True)
            if len(jobs) > 1 or (jobs and jobs[0].error is None):
                committing = True
                try:
                    held.commit()
                except sqlite3.Error:  # race: an interrupt may come at any call, so `failed` is set before every call
                    failed = True
                    raise
            ended = True
        except (DBAPIError, DatabaseError, self.engine.dialect.loaded_dbapi.Error) as error:
            held.rollback()
            for job in jobs:
                job.error = job.error or error
                job.committing = committing or held.commits_itself
            ended = True
        finally:
            self._inside.working = False
            if not ended and (failed or not (committing and held.is_over())):  # interrupted: other jobs stay to do
                held.rollback()
                self._put_back([job for job in jobs if job.error is None])
                jobs = [job for job in jobs if job.error is not None]
            if line is not None and line.end():
                held.drop()
                for job in jobs:  # one at most, none if it was interrupted
                    self._tell_overdue(job, unheard=line.unheard)
            told += jobs

    def _attempt(
        self, held: DriverConnection, jobs: list[Job[Any]], begun: Connection | None = None, *, marked: bool = False
    ) -> bool:
        """Do `jobs` in a transaction that is not committed yet; return True. Jobs queued meanwhile are added to `jobs`.

        If `marked`, each job has a savepoint, to undo it alone if it raises. Otherwise, if one of several raises,
        return False; the caller does all again, `marked`. If `begun` is given, it is in a transaction already: use it.
        """
        readonly, durable = all(job.readonly for job in jobs), any(job.durable for job in jobs)
        joined = not (readonly or marked or begun)  # a reading transaction sees nothing that was written since it began
        connection = begun or held.begin(readonly=readonly, durable=durable, one_statement=jobs[0].one_statement)
        for job in jobs:  # `_join` may make it longer on the way
            if job.error is None:  # otherwise an interrupt has ended it
                with SavepointScope(held, job, alone=len(jobs) == 1, marked=marked) as attempt:
                    job.result = job.work(connection)
                if attempt.again:
                    return False
            if self._queue and job is jobs[-1] and joined and job.error is None:
                self._join(jobs, durable=durable)
        return True

    def _join(self, jobs: list[Job[Any]], *, durable: bool = True) -> None:
        """Move jobs from the queue to `jobs`. If not `durable`, stop before a job that needs a durable commit."""
        while self._queue and len(jobs) < MAX_GROUP:
            job = self._queue[0]  # no race: only the thread that has the connection takes jobs from the queue
            if job.durable and not (durable or job.readonly):
                break
            if jobs and (job.apart or jobs[-1].apart):
                break
            jobs.append(job)
            self._queue.popleft()  # race: after `append`, so that an interrupt between leaves it in both, not in none

    def _tell_overdue(self, job: Job[Any], *, unheard: bool) -> None:
        if isinstance(job.error, DBAPIError | DatabaseError | self.engine.dialect.loaded_dbapi.Error):
            job.error = deadline_error(self.url, job.error, unheard=unheard, committing=job.committing)

    def _put_back(self, jobs: Sequence[Job[Any]]) -> None:
        if self.dialect == "sqlite":  # on PostgreSQL a job is alone, and its own caller was interrupted
            with self._lock:
                waiting = set(self._queue)
                self._queue.extendleft(job for job in reversed(jobs) if job not in waiting)
                self._call_worker()

    def _deliver(self, jobs: Sequence[Job[Any]]) -> None:
        """Give every caller its job's result or error. A caller whose event loop has ended meanwhile gets none."""
        by_loop: dict[asyncio.AbstractEventLoop, list[Job[Any]]] = {}
        for job in jobs:
            if isinstance(job.error, Exception):
                job.error = to_database_error(self.url, self.settings, job.error, committing=job.committing)
                if job.lasting and isinstance(job.error, DatabaseError) and self.dialect != "sqlite":
                    self.retry_queue.add(job.work)
            job.done = True
            if job.turn is not None:
                job.turn.give()
            if job.waiting is not None:
                by_loop.setdefault(job.waiting.get_loop(), []).append(job)
        for loop, done in by_loop.items():
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(resolve, done)

    def _leave_to_parent(self) -> None:
        """Begin anew in a forked child: new locks, queue, connections. The parent's stay open, because it uses them."""
        self._inherited.append((self.engine, self._one, self._free, self._executor))
        self._start()


_databases: WeakSet[Database] = WeakSet()


def _in_forked_child() -> None:
    Database._shared_lock = threading.Lock()  # pyright: ignore[reportPrivateUsage]
    Database._shared.clear()  # pyright: ignore[reportPrivateUsage]
    for database in list(_databases):
        database._leave_to_parent()  # pyright: ignore[reportPrivateUsage]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_forked_child)
