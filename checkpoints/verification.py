"""Do the books agree: is every log whole, and do events, calls and accounts tell the same sums?"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from pydantic import ValidationError
from sqlalchemy import Connection, select, text

from bursar.checkpoints.accounts import in_words
from bursar.checkpoints.audit_chain import check_chain
from bursar.checkpoints.schema import accounts, calls, events, requests, sessions
from bursar.state.events import (
    EVENTS,
    CallHeld,
    CallSettled,
    CallUnknown,
    CallVoided,
    Event,
    Reconciled,
    RequestOpened,
)

MAX_PROBLEMS = 100
OWN_KINDS = {"session", "request", "agent"}  # accounts that calls of one session alone touch
ROWS_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Verification:
    """What was checked and what was wrong. True if nothing was."""

    keyed: bool
    sessions: int
    events: int
    problems: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the books agree."""
        return not self.problems

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        key = "" if self.keyed else ", unkeyed: whoever can write the database can rewrite its history"
        checked = f"{self.sessions} session{'' if self.sessions == 1 else 's'}, {self.events} events{key}"
        return "\n".join([f"verified: {checked}" if self.ok else f"NOT verified: {checked}", *self.problems])


@dataclass(slots=True)
class _Problems:
    """The first `MAX_PROBLEMS` problems, and how many more there were."""

    first: list[str] = field(default_factory=list[str])
    count: int = 0

    def add(self, problems: Iterable[str]) -> None:
        for problem in problems:
            self.count += 1
            if self.count <= MAX_PROBLEMS:
                self.first.append(problem)

    def told(self) -> tuple[str, ...]:
        more = self.count - len(self.first)
        return (*self.first, f"and {more} more") if more else tuple(self.first)


@dataclass(slots=True)
class _Told:
    """A call as its events tell it."""

    request_id: str
    agent: str
    model: str
    amount: int
    scopes: tuple[str, ...]
    state: str = "held"
    cost: int | None = None
    response_hash: str | None = None

    @property
    def spent(self) -> int:
        return {"settled": self.cost or 0, "unknown": self.amount}.get(self.state, 0)

    @property
    def held(self) -> int:
        return self.amount if self.state == "held" else 0


@dataclass(slots=True)
class _Sums:
    """What the events add up to, by account."""

    spent: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    held: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    overrun: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    budgets: dict[str, int | None] = field(default_factory=dict[str, int | None])

    def add(self, call: _Told) -> None:
        for scope in call.scopes:
            self.spent[scope] += call.spent
            self.held[scope] += call.held
            self.overrun[scope] += max(call.spent - call.amount, 0)


def verify(connection: Connection, key: bytes | None, session_id: str | None) -> Verification:
    """Check one session, or all of them and every account. Rows that make no sense are problems, never errors.

    Within one session its own accounts are checked; those that sessions share can only be checked over all.
    """
    if connection.dialect.name == "postgresql":  # one snapshot, however busy the books are meanwhile
        connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
    names = [session_id] if session_id is not None else _all_sessions(connection)
    sums = _Sums()
    count = 0
    problems = _Problems()
    for name in names:
        log = _Log(connection, name)
        problems.add(_check_session(log, key, sums))
        count += log.count
    problems.add(_check_accounts(connection, sums, everything=session_id is None))
    return Verification(keyed=key is not None, sessions=len(names), events=count, problems=problems.told())


def _all_sessions(connection: Connection) -> list[str]:
    found: set[str] = set()
    for table in (sessions, requests, calls, events):  # a session whose row is gone is found by what it left
        found.update(str(name) for name in connection.execute(select(table.c.session_id).distinct()).scalars())
    return sorted(found)


class _Log:
    """One session's events, read once; afterwards `told` has its calls as the events tell them."""

    def __init__(self, connection: Connection, session_id: str) -> None:
        self.connection = connection
        self.session_id = session_id
        self.count = 0
        self.told: dict[str, _Told] = {}
        self.unreadable: list[str] = []
        self.budgets: dict[str, int | None] = {}

    def rows(self) -> Iterator[Sequence[object]]:
        columns = (events.c.sequence, events.c.at, events.c.kind, events.c.payload, events.c.previous, events.c.hash)
        query = select(*columns).where(events.c.session_id == self.session_id).order_by(events.c.sequence)
        for row in self.connection.execute(query.execution_options(yield_per=ROWS_AT_ONCE)):
            self.count += 1
            self._take(row[0], row[2], row[3])
            yield tuple(row)

    def _take(self, sequence: object, kind: object, payload: object) -> None:
        where = f"session {self.session_id}: event {sequence}"
        try:
            event = EVENTS.validate_json(payload if isinstance(payload, str | bytes) else repr(payload))
        except ValidationError:
            self.unreadable.append(f"{where} cannot be read")
            return
        if event.kind != kind:
            self.unreadable.append(f"{where} is called {kind} and is a {event.kind}")
        if not self._tell(event):
            self.unreadable.append(f"{where} ({event.kind}) cannot follow what came before it")

    def _tell(self, event: Event) -> bool:
        """Take the event into `told`; False if no such call is in a state that it can follow."""
        if isinstance(event, RequestOpened):
            self.budgets[f"request:{event.request_id}"] = None if event.budget is None else event.budget.nanos
            return True
        if isinstance(event, CallHeld):
            known = event.call_id in self.told
            self.told[event.call_id] = _Told(
                event.request_id, event.agent, event.model, event.amount.nanos, event.scopes
            )
            return not known
        if not isinstance(event, CallSettled | CallVoided | CallUnknown | Reconciled):
            return True
        call = self.told.get(event.call_id)
        if call is None or call.state != ("unknown" if isinstance(event, Reconciled) else "held"):
            return False
        if isinstance(event, CallSettled | Reconciled):
            call.state, call.cost = "settled", event.cost.nanos
            call.response_hash = event.response_hash if isinstance(event, CallSettled) else None
        else:
            call.state = "void" if isinstance(event, CallVoided) else "unknown"
        return True


def _check_session(log: _Log, key: bytes | None, sums: _Sums) -> Iterator[str]:
    query = select(sessions.c.sequence, sessions.c.head).where(sessions.c.session_id == log.session_id)
    row = log.connection.execute(query).one_or_none()
    end = None if row is None else (row[0], row[1])
    yield from check_chain(log.session_id, rows=log.rows(), end=end, key=key)
    yield from log.unreadable
    for call in log.told.values():
        sums.add(call)
    sums.budgets.update(log.budgets)
    yield from _check_calls(log)


def _check_calls(log: _Log) -> Iterator[str]:
    waiting = dict(log.told)
    columns = calls.c
    query = select(
        columns.call_id,
        columns.request_id,
        columns.agent,
        columns.model,
        columns.amount,
        columns.scopes,
        columns.state,
        columns.cost,
        columns.response,
    ).where(columns.session_id == log.session_id)
    for row in log.connection.execute(query.execution_options(yield_per=ROWS_AT_ONCE)):
        call_id, *facts, response = row
        told = waiting.pop(call_id, None)
        if told is None:
            yield f"call {call_id}: it is in the books, and no event tells of it"
            continue
        names = ("request", "agent", "model", "hold", "accounts", "state", "cost")
        events_say = (
            told.request_id,
            told.agent,
            told.model,
            told.amount,
            json.dumps(told.scopes),
            told.state,
            told.cost,
        )
        for name, fact, said in zip(names, facts, events_say, strict=True):
            if fact != said:
                yield f"call {call_id}: its {name} is {fact!r}, its events say {said!r}"
        if _hash(response) != told.response_hash:
            yield f"call {call_id}: its answer is not the one that was paid for"
    for call_id in waiting:
        yield f"call {call_id}: its events tell of it, and it is not in the books"


def _hash(response: object) -> str | None:
    if response is None:
        return None
    return hashlib.sha256(response if isinstance(response, bytes) else repr(response).encode()).hexdigest()


def _check_accounts(connection: Connection, sums: _Sums, *, everything: bool) -> Iterator[str]:
    waiting = {
        scope for scope in (sums.spent.keys() | sums.budgets) if everything or scope.partition(":")[0] in OWN_KINDS
    }
    for name, cap, spent, held in _accounts(connection, None if everything else sorted(waiting)):
        scope = str(name)
        waiting.discard(scope)
        for column, kept, told in (("spent", spent, sums.spent.get(scope, 0)), ("held", held, sums.held.get(scope, 0))):
            if kept != told:
                yield f"{in_words(scope)}: {kept!r} nano-dollars {column}, its calls add up to {told}"
        if scope in sums.budgets and cap != sums.budgets[scope]:
            yield f"{in_words(scope)}: its cap is {cap!r} nano-dollars, it was opened with {sums.budgets[scope]}"
        charged = sums.spent.get(scope, 0) + sums.held.get(scope, 0) - sums.overrun.get(scope, 0)
        if isinstance(cap, int) and charged > cap:
            yield f"{in_words(scope)}: {charged} nano-dollars charged, above its cap of {cap}"
    for scope in sorted(waiting):
        if sums.spent.get(scope) or sums.held.get(scope) or sums.budgets.get(scope) is not None:
            yield f"{in_words(scope)}: its account is missing"


def _accounts(connection: Connection, scopes: list[str] | None) -> Iterator[Sequence[object]]:
    columns = accounts.c
    query = select(columns.scope, columns.cap, columns.spent, columns.held)
    if scopes is None:
        yield from map(tuple, connection.execute(query.execution_options(yield_per=ROWS_AT_ONCE)))
        return
    for start in range(0, len(scopes), ROWS_AT_ONCE):  # a statement takes only so many parameters
        some = scopes[start : start + ROWS_AT_ONCE]
        yield from map(tuple, connection.execute(query.where(columns.scope.in_(some))))
