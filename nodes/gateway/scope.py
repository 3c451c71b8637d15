"""Who is spending: the scope of one run of one handler, and how it reaches each task and thread of that run."""

import heapq
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import wraps
from typing import Any, Generic, TypeVar, cast

from bursar.checkpoints.leases import Lease
from bursar.checkpoints.ledger.calls import PATH
from bursar.checkpoints.ledger.ledger import Ledger
from bursar.checkpoints.ledger.transaction import Transaction
from bursar.nodes.specialists.approval_policy import ActionContext
from bursar.state.errors import ConfigurationError
from bursar.state.refusals import Refused
from bursar.state.run import Report

T = TypeVar("T")
R = TypeVar("R")

LATE_SECONDS = 0.02  # after a run's deadline: it is told of its deadline, not of the hold
# Modules whose threads serve whoever asks next: what one of them was started under says nothing of its next job.
SHARED_THREADS = ("concurrent.", "multiprocessing.", "anyio.", "bursar.")
OWN_POOLS = "bursar-"


class InheritedContextVar(Generic[T]):
    """A context variable with a default of None. One per name and process.

    A thread that was started where it had a value keeps that value as its default, and a job given to a
    `ThreadPoolExecutor` runs under the value of whoever gave it. To that end `Thread.start` and
    `ThreadPoolExecutor.submit` are wrapped when a value is first set; nothing else of a context is carried. Threads of
    other pools have no value.
    """

    def __init__(self, name: str) -> None:
        self._variable: ContextVar[T | None] = ContextVar(name, default=None)
        self._attribute = f"_{name}"
        self._lock = threading.Lock()
        self._wrapped = False

    def get(self) -> T | None:
        """The value here, None where there is none."""
        value = self._variable.get()
        return getattr(threading.current_thread(), self._attribute, None) if value is None else value

    def is_bound_to(self, value: T) -> bool:
        """Whether it is the value of the context itself, not one that the thread was started in."""
        return self._variable.get() is value

    @contextmanager
    def bound_to(self, value: T) -> Generator[None]:
        """Inside the block, and in every task, thread and job of a pool that it starts, `value` is the value."""
        self._wrap()
        token = self._variable.set(value)
        try:
            yield
        finally:
            self._variable.reset(token)

    def _wrap(self) -> None:
        if self._wrapped:
            return
        with self._lock:
            if not self._wrapped:
                threading.Thread.start = cast("Any", self._remembering(threading.Thread.start))
                ThreadPoolExecutor.submit = cast("Any", self._carrying(ThreadPoolExecutor.submit))
                self._wrapped = True

    def _remembering(self, start: Callable[[threading.Thread], None]) -> Callable[[threading.Thread], None]:
        @wraps(start)
        def remembering(thread: threading.Thread) -> None:
            value = self.get()
            if value is not None and not _is_shared(thread):
                setattr(thread, self._attribute, value)
            start(thread)

        return remembering

    def _carrying(self, submit: Callable[..., "Future[Any]"]) -> Callable[..., "Future[Any]"]:
        @wraps(submit)
        def carrying(
            pool: ThreadPoolExecutor, fn: Callable[..., Any], /, *args: object, **kwargs: object
        ) -> "Future[Any]":
            value = self.get()
            if value is None or str(getattr(pool, "_thread_name_prefix", "")).startswith(OWN_POOLS):
                return submit(pool, fn, *args, **kwargs)
            return submit(pool, self._run, value, fn, *args, **kwargs)

        return carrying

    def _run(self, value: T, function: Callable[..., R], /, *args: object, **kwargs: object) -> R:
        with self.bound_to(value):
            return function(*args, **kwargs)


_current: InheritedContextVar["Scope"] = InheritedContextVar("bursar_scope")


@dataclass(slots=True)
class _Tally:
    """What a run and the scopes inside it count together."""

    refusal: Refused | None = None
    turns: int = 0
    closed: bool = False
    books_gone: bool = False
    provider_error: BaseException | None = None
    kept: Report | str | None = None
    repeats: dict[str, int] = field(default_factory=dict[str, int])
    occurrences: dict[str, int] = field(default_factory=dict[str, int])
    given_back: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(slots=True, kw_only=True)
class Scope:
    """One run of one handler: whom its paid calls are charged to, and what they may not exceed.

    `scopes` are the accounts that a call touches, outermost first; those of them in `opens` are opened by the first
    call. `paid=False` refuses every paid call. `max_turns` caps the paid calls of this run, replayed ones included, and
    those that the books have of earlier runs of the same agent for the same request. `deadline` is in seconds of
    `time.monotonic`. `max_repeats` is how often a model may ask for the same tool call. `on_turn` is told the number
    and the model of each paid call. `lease` must hold for each of them. The first refusal of a run stays, also where
    the handler swallows the exception. Without `acting` no action is done. `offline` is of a last resort: it opens no
    connection.
    """

    ledger: Ledger
    session_id: str
    request_id: str
    agent: str
    checkpoint_ns: str
    scopes: tuple[str, ...]
    new_id: Callable[[], str]
    clock: Callable[[], datetime]
    paid: bool = True
    max_turns: int | None = None
    max_repeats: int | None = None
    on_turn: Callable[[int, str], None] | None = None
    deadline: float | None = None
    opens: tuple[str, ...] = ()
    acting: ActionContext | None = None
    lease: Lease | None = None
    offline: bool = False
    _tally: _Tally = field(default_factory=_Tally, repr=False)

    @property
    def refusal(self) -> Refused | None:
        """The first refusal of the run."""
        return self._tally.refusal

    @property
    def turns(self) -> int:
        """Paid calls of the run so far, replayed ones included."""
        return self._tally.turns

    @property
    def closed(self) -> bool:
        """Whether the run has ended."""
        return self._tally.closed

    @property
    def provider_error(self) -> BaseException | None:
        """The last error of a provider that no retry mended."""
        return self._tally.provider_error

    @property
    def kept(self) -> Report | str | None:
        """What the handler had so far, as it last said."""
        return self._tally.kept

    @property
    def books_gone(self) -> bool:
        """Whether the run has outlived its books, as those in memory end with their session."""
        return self._tally.books_gone

    @property
    def until(self) -> float | None:
        """When a hold is given up: its run, which has gone on without it, is not to wait for its locks."""
        return None if self.deadline is None else self.deadline + LATE_SECONDS

    @property
    def is_overdue(self) -> bool:
        """Whether the run's deadline has passed."""
        return self.deadline is not None and time.monotonic() >= self.deadline

    @property
    def owner(self) -> str:
        """The agent whose run it is: the first on the path."""
        return self.agent.partition(PATH)[0]

    def check_lease(self, transaction: Transaction) -> None:
        """Raises `LeaseLost` unless the run owns its session; it then does until the transaction ends.

        A lease in another database is not looked at here.
        """
        if self.lease is not None and self.lease.database is self.ledger.database:
            self.lease.check(transaction.connection)

    @property
    def tenant(self) -> str:
        """Whose tenant's account is charged; empty where none is."""
        account = next((scope for scope in self.scopes if scope.startswith("tenant:")), "")
        return account.partition(":")[2].rpartition(":")[0]

    def enter(self) -> AbstractContextManager[None]:
        """Make this the current scope of the block and of every task, thread and executor call started in it."""
        return _current.bound_to(self)

    def child(self, name: str) -> "Scope":
        """The same run on behalf of `name`: its calls are charged to the path `agent → name` and to all it is part of.

        Turns, deadline, refusal and the end are those of the run. Raises `ConfigurationError` for an empty name or one
        that holds the arrow.
        """
        if not name.strip() or PATH.strip() in name:
            raise ConfigurationError(f"a name on a path of agents is a plain name, not {name!r}")
        agent = f"{self.agent}{PATH}{name}"
        account = f"agent:{self.request_id}:{agent}"
        return replace(self, agent=agent, scopes=(*self.scopes, account), opens=(*self.opens, account))

    def close(self, *, books_gone: bool = False) -> None:
        """End the run: whatever still runs of it can no longer spend. `books_gone`: nor can that be written down."""
        self._tally.books_gone = books_gone
        self._tally.closed = True

    def latch(self, refusal: Refused) -> Refused:
        """Keep the first refusal of the run and return the one given, to be raised."""
        tally = self._tally
        with tally.lock:
            if tally.refusal is None:
                tally.refusal = refusal
        return refusal

    def take_turn(self, model: str) -> bool:
        """Count one paid call, of that model; False when the run has none left."""
        tally = self._tally
        with tally.lock:
            if self.max_turns is not None and tally.turns >= self.max_turns:
                return False
            tally.turns += 1
            number = tally.turns
        if self.on_turn is not None:
            self.on_turn(number, model)
        return True

    def repeat(self, call: str) -> int:
        """Count a tool call that the model asks for; how often it has asked for this very call in this run."""
        tally = self._tally
        with tally.lock:
            number = tally.repeats[call] = tally.repeats.get(call, 0) + 1
            return number

    def keep(self, work: Report | str) -> None:
        """Keep what the handler has so far, in place of what it had before. Nothing once the run has ended."""
        if not self._tally.closed:
            self._tally.kept = work

    def provider_failed(self, error: BaseException) -> None:
        """The provider failed so, and it is not tried again."""
        self._tally.provider_error = error

    def next_occurrence(self, request_hash: str) -> int:
        """How often this request was answered before in this run: 0 at first. The same when the run is repeated."""
        tally = self._tally
        with tally.lock:
            if given_back := tally.given_back.get(request_hash):
                return heapq.heappop(given_back)
            occurrence = tally.occurrences.get(request_hash, 0)
            tally.occurrences[request_hash] = occurrence + 1
            return occurrence

    def give_back(self, request_hash: str, occurrence: int) -> None:
        """Let the next such request have this occurrence: it got no answer, so the journal must not count it."""
        with self._tally.lock:
            heapq.heappush(self._tally.given_back.setdefault(request_hash, []), occurrence)


def current_scope() -> Scope | None:
    """The scope that a paid call made here would be charged to, None outside any session.

    A raw thread has the scope that it was started in.
    """
    return _current.get()


def offline_agent() -> str | None:
    """The agent whose run here may open no connection; None where there is none.

    A thread that it has started and that outlives it, as those of tracers do, is free when the run has ended.
    """
    scope = _current.get()
    if scope is None or not scope.offline or (scope.closed and not _current.is_bound_to(scope)):
        return None
    return scope.agent


@contextmanager
def charged_as(name: str) -> Generator[None]:
    """Inside the block, paid calls are made on behalf of `name`: charged to `agent → name`, and to the agent too.

    For a handler that calls another agent's function: whose business caused a call is charged, and the path is kept.
    Outside any session it does nothing; a paid call is refused there anyway.
    """
    scope = current_scope()
    if scope is None:
        yield
        return
    with scope.child(name).enter():
        yield


def _is_shared(thread: threading.Thread) -> bool:
    target = getattr(thread, "_target", None)
    origin = getattr(type(thread) if target is None else target, "__module__", None)
    return isinstance(origin, str) and origin.startswith(SHARED_THREADS)
