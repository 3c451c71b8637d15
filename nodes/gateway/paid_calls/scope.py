"""Scopes: which run a paid call is charged to, and under which limits, in every task and thread of that run."""

import heapq
import threading
import time
from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime

from bursar.checkpoints.leases import Lease
from bursar.checkpoints.ledger.calls import PATH
from bursar.checkpoints.ledger.ledger import Ledger
from bursar.checkpoints.ledger.transaction import Transaction
from bursar.nodes.isolation.inherited_context import InheritedContextVar
from bursar.nodes.observers.run_observers import RunObservers
from bursar.nodes.specialists.approval_policy import ActionContext
from bursar.nodes.specialists.covered_requests import CoveredRequests
from bursar.state.decision import Decision
from bursar.state.errors import ConfigurationError
from bursar.state.refusals import Refused
from bursar.state.rules.calls import has_turn
from bursar.state.run import Report

LATE_SECONDS = 0.02  # from a run's deadline until the commit of its hold is given up: the deadline ends the run first


_current: InheritedContextVar["Scope"] = InheritedContextVar("bursar_scope")


@dataclass(slots=True)
class _Part:
    """The state of one rung of a run, or of the run itself: a rung's refusal, its end and its loops are its own.

    A rung ends with the part `above` it at the latest.
    """

    above: "_Part | None" = None
    refusal: Refused | None = None
    closed: bool = False
    repeats: dict[str, int] = field(default_factory=dict[str, int])

    @property
    def ended(self) -> bool:
        """Whether this part has ended, or one above it."""
        return self.closed or (self.above is not None and self.above.ended)


@dataclass(slots=True)
class _Tally:
    """The counts and the state of one run, shared by its scope and all scopes that are made of it."""

    turns: int = 0
    closed: bool = False
    decisions: list[Decision] = field(default_factory=list[Decision])
    books_gone: bool = False
    provider_error: BaseException | None = None
    kept: Report | str | None = None
    occurrences: dict[str, int] = field(default_factory=dict[str, int])
    given_back: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    # Race: a handler may pay from several threads at once; each takes the lock before it changes a count.
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(slots=True, kw_only=True)
class Scope:
    """One run of one handler, as the gateway sees it: the accounts that its paid calls are charged to, and its limits.

    `agent` names the agent, or the path of agents `caller → called`. `checkpoint_ns` is the run's place in the graph.
    `scopes` are the accounts that each call is charged to, outermost first. Before the first call the accounts in
    `opens` are opened. With `paid=False` every paid call is refused. `max_turns` caps the paid calls of this run,
    replayed calls included. In the ledger it also caps them together with those of the agent's earlier runs for the
    request. `max_repeats` is how many times in a row a model may ask for the same tool call. `deadline` is in seconds
    of `time.monotonic`. `observers` are told of each paid call. If there is a `lease`, a paid call is refused once the
    lease is lost. The first refusal of a run is kept, even if the handler swallows the exception. Without `acting` the
    run does no action. `offline` marks a last resort, which opens no connection. If `apart`, its coroutines run on a
    loop of Bursar's own. `outer` is the run of another supervisor that this run is part of, and that it ends with. If
    the run has a price, `covers` has the requests that the price pays for.
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
    observers: RunObservers | None = None
    deadline: float | None = None
    opens: tuple[str, ...] = ()
    acting: ActionContext | None = None
    lease: Lease | None = None
    offline: bool = False
    apart: bool = False
    outer: "Scope | None" = None
    covers: CoveredRequests | None = None
    _tally: _Tally = field(default_factory=_Tally, repr=False)
    _part: _Part = field(default_factory=_Part, repr=False)

    def __post_init__(self) -> None:
        if (outer := self.outer) is not None:
            self.paid = self.paid and outer.paid
            self.offline = self.offline or outer.offline
            self.deadline = min((at for at in (self.deadline, outer.deadline) if at is not None), default=None)

    @property
    def agents(self) -> tuple[str, ...]:
        """The agent, and the agents of the runs on this ledger that the run is part of."""
        return (self.agent, *(() if (outer := self.charged) is None else outer.agents))

    @property
    def leases_elsewhere(self) -> tuple[Lease, ...]:
        """The leases of the run, and of the runs that it is part of, that are not in the ledger's database."""
        own = () if self.lease is None or self.lease.database is self.ledger.database else (self.lease,)
        outer = self.charged
        return own if outer is None else tuple(dict.fromkeys((*own, *outer.leases_elsewhere)))

    @property
    def charged(self) -> "Scope | None":
        """`outer` if it is on the same ledger, where this run is charged to its accounts; otherwise None."""
        return self.outer if self.outer is not None and self.outer.is_on(self.ledger) else None

    @property
    def covered(self) -> tuple[str, int] | None:
        """The account of the request that a run on another ledger pays a price for, and what the price covers of it.

        None if there is no such run. The account's own cap does not do: a person may raise it, but not the price.
        """
        inner, outer = self, self.outer
        while outer is not None and inner.charged is not None:
            inner, outer = outer, outer.outer
        if outer is None or outer.covers is None:
            return None
        return f"request:{inner.request_id}", outer.covers.budget_of(inner.request_id)

    @property
    def refusal(self) -> Refused | None:
        """The first refusal of the run, or of the run's rung whose scope this is; None if there is none."""
        return self._part.refusal

    @property
    def decisions(self) -> list[Decision]:
        """The decisions of the run's cascades and choices so far, in order."""
        return self._tally.decisions

    @property
    def turns(self) -> int:
        """The paid calls of the run so far, replayed calls included."""
        return self._tally.turns

    @property
    def closed(self) -> bool:
        """Whether the run has ended, or the run's rung whose scope this is."""
        return self._tally.closed or self._part.ended or (self.outer is not None and self.outer.closed)

    @property
    def provider_error(self) -> BaseException | None:
        """The last error of a provider after which the gateway did not send the call again, None if there is none."""
        return self._tally.provider_error

    @property
    def kept(self) -> Report | str | None:
        """The partial report that the handler last passed to `keep`, None if it passed none."""
        return self._tally.kept

    @property
    def books_gone(self) -> bool:
        """Whether the run's ledger is closed and takes no more entries: a ledger in memory ends with its session."""
        return self._tally.books_gone

    @property
    def until(self) -> float | None:
        """When the commit of a hold is given up, in seconds of `time.monotonic`; None if the run has no deadline.

        This is shortly after the deadline. By then the graph has gone on without the run, and must not wait for the
        database locks that the run holds.
        """
        return None if self.deadline is None else self.deadline + LATE_SECONDS

    @property
    def is_overdue(self) -> bool:
        """Whether the run's deadline has passed."""
        return self.deadline is not None and time.monotonic() >= self.deadline

    @property
    def owner(self) -> str:
        """The agent whose run this is: the first name on the path `agent`."""
        return self.agent.partition(PATH)[0]

    def check_lease(self, transaction: Transaction) -> None:
        """Raise `LeaseLost` if the run has lost the lease of its session.

        Otherwise no other process can take the lease until the transaction ends. If the run has no lease, or its lease
        is in another database than the ledger, nothing is checked.
        """
        if self.lease is not None and self.lease.database is self.ledger.database:
            self.lease.check(transaction.connection)
        if (outer := self.charged) is not None and outer.lease != self.lease:
            outer.check_lease(transaction)

    def is_on(self, ledger: Ledger) -> bool:
        """Whether the run is charged on `ledger`: the same database and the same key."""
        return (self.ledger.database, self.ledger.key) == (ledger.database, ledger.key)

    @property
    def tenant(self) -> str:
        """The name of the tenant whose account is charged; empty if no tenant's account is charged."""
        account = next((scope for scope in self.scopes if scope.startswith("tenant:")), "")
        return account.partition(":")[2].rpartition(":")[0]

    def enter(self) -> AbstractContextManager[None]:
        """Make this the current scope in the block, and in every task, thread and pool job that the block starts."""
        return _current.bound_to(self)

    def child(self, name: str) -> "Scope":
        """Return a scope of the same run that also charges the account of the path `agent → name`.

        The new scope shares turns, deadline, refusal and the run's end with this scope. Raises `ConfigurationError` for
        an empty name or a name with an arrow in it.
        """
        if not name.strip() or PATH.strip() in name:
            raise ConfigurationError(f"a name on a path of agents is a plain name, not {name!r}")
        agent = f"{self.agent}{PATH}{name}"
        account = f"agent:{self.request_id}:{agent}"
        return replace(self, agent=agent, scopes=(*self.scopes, account), opens=(*self.opens, account))

    def rung(self, name: str, *, paid: bool = True, seconds: float | None = None, turns: int | None = None) -> "Scope":
        """Return a scope as `child` does, for a rung that may be refused without an end of the run.

        What is refused in it does not latch in the run. It has `seconds` until a deadline of its own, and `turns` paid
        calls; None is as many as the run has left. Unless `paid`, every paid call and every action in it is refused.
        """
        until = [self.deadline, None if seconds is None else time.monotonic() + seconds]
        most = [self.max_turns, None if turns is None else self.turns + turns]
        return replace(
            self.child(name),
            paid=self.paid and paid,
            acting=self.acting if paid else None,
            deadline=min((at for at in until if at is not None), default=None),
            max_turns=min((number for number in most if number is not None), default=None),
            _part=_Part(above=self._part),
        )

    def end_rung(self) -> None:
        """End the rung: what of it still executes, such as a thread that was left behind, can no longer spend."""
        self._part.closed = True

    def close(self, *, books_gone: bool = False) -> None:
        """End the run: code of the run that still executes can no longer spend. Its observers are told of open calls.

        `books_gone` says that the ledger is closed too; then a later refusal is not written to the ledger.
        """
        self._tally.books_gone = books_gone
        self._tally.closed = True
        if self.observers is not None:
            self.observers.hang_up()

    def latch(self, refusal: Refused) -> Refused:
        """Keep the refusal if the run has none yet, and return it for the caller to raise."""
        with self._tally.lock:
            if self._part.refusal is None:
                self._part.refusal = refusal
        return refusal

    def take_turn(self, model: str) -> bool:
        """Count one paid call of `model`. Return False, without counting, if the run has no turns left."""
        tally = self._tally
        with tally.lock:
            if not has_turn(tally.turns, self.max_turns):
                return False
            tally.turns += 1
            number = tally.turns
        if self.observers is not None:
            self.observers.turn(number, model)
        return True

    def count_repeats(self, calls: Collection[str]) -> Mapping[str, int]:
        """Return for each tool call of an answer, by its hash, how many answers in a row have asked for it.

        Answers without a tool call are not counted: they may be those of another model, which a tool has asked.
        """
        part = self._part
        with self._tally.lock:
            if calls:
                part.repeats = {call: part.repeats.get(call, 0) + 1 for call in calls}
            return part.repeats

    def keep(self, work: Report | str) -> None:
        """Keep `work` as the handler's partial report, in place of an earlier one. After the run's end, do nothing."""
        if not self._tally.closed:
            self._tally.kept = work

    def provider_failed(self, error: BaseException) -> None:
        """Record the error of a provider after which the gateway does not send the call again."""
        self._tally.provider_error = error

    def next_occurrence(self, request_hash: str) -> int:
        """Count a request of this run, and return how many requests with the same hash came before: 0 for the first.

        A number that `give_back` freed is returned again first. A run that is repeated gets the same numbers, and so
        finds the answers that the ledger keeps under hash and number.
        """
        tally = self._tally
        with tally.lock:
            if given_back := tally.given_back.get(request_hash):
                return heapq.heappop(given_back)
            occurrence = tally.occurrences.get(request_hash, 0)
            tally.occurrences[request_hash] = occurrence + 1
            return occurrence

    def give_back(self, request_hash: str, occurrence: int) -> None:
        """Let the next request with this hash have the number `occurrence` again.

        The call that had the number got no answer, so the ledger keeps no answer under it.
        """
        with self._tally.lock:
            heapq.heappush(self._tally.given_back.setdefault(request_hash, []), occurrence)


def current_scope() -> Scope | None:
    """Return the scope that a paid call made here is charged to, None outside any session.

    In a thread that was started by hand, this is the scope in which the thread was started.
    """
    return _current.get()


def enclosing_scope() -> Scope | None:
    """Return the scope that a request made here is part of; None if a user makes it.

    A thread that a run has started and that outlives it, such as one of a server, is free when the run has ended.
    """
    scope = _current.get()
    return None if scope is None or (scope.closed and not _current.is_bound_to(scope)) else scope


def carry_scope() -> AbstractContextManager[None]:
    """Return a block in which the enclosing scope, if any, is in the context: another thread with a copy finds it."""
    scope = enclosing_scope()
    return nullcontext() if scope is None or _current.is_bound_to(scope) else scope.enter()


def offline_agent() -> str | None:
    """Return the agent whose last resort this code is a part of: the code may open no connection. Otherwise, None.

    A thread that the run started and that outlives the run, as tracers' threads do, may open connections after the
    run's end.
    """
    scope = enclosing_scope()
    return None if scope is None or not scope.offline else scope.agent


@contextmanager
def charged_as(name: str) -> Generator[None]:
    """Charge the paid calls of the block to the account of the path `agent → name` too; `agent` is the current agent.

    They are charged to the accounts of the current agent as before. A handler uses it to call another agent's function:
    the calling agent is charged, and the ledger names both agents. Outside any session it does nothing; there a paid
    call is refused anyway.
    """
    scope = current_scope()
    if scope is None:
        yield
        return
    with scope.child(name).enter():
        yield
