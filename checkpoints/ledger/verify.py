"""`verify`: check that every session's log is whole, and that events, calls and accounts have the same sums."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, field
from datetime import datetime

from sqlalchemy import Connection, Integer, select, type_coerce

from bursar.checkpoints.database.snapshot import one_snapshot
from bursar.checkpoints.ledger import pauses
from bursar.checkpoints.ledger.accounts import describe_scope, follows_configuration
from bursar.checkpoints.ledger.anchors import Anchor, Head
from bursar.checkpoints.ledger.hash_chain import check_chain
from bursar.checkpoints.ledger.projection import ROWS_AT_ONCE, CallProjection, SessionProjection
from bursar.checkpoints.ledger.transaction import Transaction
from bursar.checkpoints.ledger.verify_actions import check_actions, check_approvals
from bursar.checkpoints.schema.ledger_tables import accounts, actions, approvals, calls, events, requests, sessions

MAX_PROBLEMS = 100
OWN_KINDS = {"session", "request", "agent"}  # accounts that calls of one session alone touch


@dataclass(frozen=True, slots=True)
class Verification:
    """The result of `verify`: how much was checked, and the problems found, in words. Its truth value is `ok`.

    After the first `MAX_PROBLEMS` problems only their number is told. `keyed` is whether the log is signed. `erased`
    counts kept answers of calls that were erased on purpose. `anchored` is when the anchor was made that the logs were
    compared with, None if no anchor was given.
    """

    keyed: bool
    sessions: int
    events: int
    problems: tuple[str, ...] = ()
    erased: int = 0
    anchored: datetime | None = None

    @property
    def ok(self) -> bool:
        """Whether no problem was found."""
        return not self.problems

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        checked = [f"{_count(self.sessions, 'session')}, {self.events} events"]
        if self.erased:
            checked.append(f"{_count(self.erased, 'answer')} erased on purpose")
        if self.anchored is not None:
            checked.append(f"held against an anchor of {self.anchored:%Y-%m-%d %H:%M:%S} UTC")
        if not self.keyed:
            since = "its history" if self.anchored is None else "what came after the anchor"
            checked.append(f"unkeyed: whoever can write the database can rewrite {since}")
        return "\n".join([f"{'verified' if self.ok else 'NOT verified'}: {', '.join(checked)}", *self.problems])


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


@dataclass(slots=True)
class _Problems:
    """The problems that `verify` has found: the first `MAX_PROBLEMS` in words, and the number of all."""

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
class _Sums:
    """What the events of all checked sessions add up to, by account; amounts in nano-dollars."""

    spent: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    held: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    overrun: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    granted: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    budgets: dict[str, int | None] = field(default_factory=dict[str, int | None])
    caps: defaultdict[str, set[int | None]] = field(default_factory=lambda: defaultdict(set[int | None]))

    def take(self, log: SessionProjection) -> None:
        for call in log.calls.values():
            for scope in call.scopes:
                self.spent[scope] += call.spent
                self.held[scope] += call.held
                self.overrun[scope] += max(call.spent - call.amount, 0)
        for scope, amount in log.granted.items():
            self.granted[scope] += amount
        self.budgets.update(log.budgets)
        for scope, caps in log.caps.items():
            # A session's cap is that of its last request. If sessions share an account, the request of any of them may
            # have been the last: clocks of several machines do not say which.
            self.caps[scope].update(caps[-1:] if scope.startswith("session:") else caps)


def verify(transaction: Transaction, session_id: str | None, *, anchor: Anchor | None = None) -> Verification:
    """Check that the rows and accounts of a session agree with its events, and return all problems found.

    If `session_id` is None, check all sessions, every account and the pauses. Otherwise check that session and only the
    accounts that are its own: an account that sessions share can only be checked with the events of all of them. If an
    `anchor` is given, each log must still have the event that the anchor names for it. A row that makes no sense is
    reported as a problem; it raises no error.
    """
    connection, key = transaction.connection, transaction.key
    one_snapshot(connection)
    heads = {head.session_id: head for head in anchor.heads} if anchor is not None else {}
    names = [session_id] if session_id is not None else sorted(_all_sessions(connection) | heads.keys())
    sums = _Sums()
    count = erased = 0
    problems = _Problems()
    for name in names:
        head = heads.get(name)
        log = SessionProjection(connection, name, mark=None if head is None else head.sequence)
        problems.add(_check_session(log, key))
        problems.add(_check_head(log, head))
        sums.take(log)
        count += log.count
        erased += log.erased
    problems.add(_check_accounts(connection, sums, everything=session_id is None))
    if session_id in {None, pauses.LOG}:
        problems.add(pauses.check(transaction))
    return Verification(
        keyed=key is not None,
        sessions=len(set(names) - {pauses.LOG}),
        events=count,
        problems=problems.told(),
        erased=erased,
        anchored=None if anchor is None else anchor.at,
    )


def _all_sessions(connection: Connection) -> set[str]:
    found: set[str] = set()
    for table in (
        sessions,
        requests,
        calls,
        events,
        actions,
        approvals,
    ):  # if a session's row is gone, its rows in the other tables are found
        found.update(str(name) for name in connection.execute(select(table.c.session_id).distinct()).scalars())
    return found


def _check_session(log: SessionProjection, key: bytes | None) -> Iterator[str]:
    columns = sessions.c
    query = select(columns.sequence, columns.head, columns.incident).where(columns.session_id == log.session_id)
    row = log.connection.execute(query).one_or_none()
    end = None if row is None else (row[0], row[1])
    yield from check_chain(log.session_id, rows=log.rows(), end=end, key=key)
    yield from log.unreadable
    if row is not None and (row[2] is not None) != log.closed:
        is_now, should = ("open", "closed") if log.closed else ("closed", "open")
        yield f"session {log.session_id}: it is {is_now} to paid calls, its events say {should}"
    yield from _check_requests(log)
    yield from _check_calls(log)
    yield from check_actions(log)
    yield from check_approvals(log)


def _check_requests(log: SessionProjection) -> Iterator[str]:
    """Yield a problem for each request whose row disagrees with its events.

    A request's row has the hash of its text and its outcome, so this finds events about it that were deleted from the
    end of the log. The check of the calls does not find them, because they belong to no call.
    """
    columns = requests.c
    query = select(columns.request_id, columns.text_hash, columns.outcome).where(columns.session_id == log.session_id)
    rows = {str(name): (text_hash, outcome) for name, text_hash, outcome in log.connection.execute(query)}
    for name in sorted(rows.keys() | log.requests.keys()):
        row, told = rows.get(name), log.requests.get(name)
        if told is None:
            yield f"request {name}: it is in the books, and no event tells that it was opened"
        elif row is None:
            yield f"request {name}: its events tell of it, and it is not in the books"
        elif row != told:
            for what, fact, said in zip(("text hash", "outcome"), row, told, strict=True):
                if fact != said:
                    yield f"request {name}: its {what} is {fact!r}, its events say {said!r}"


def _check_head(log: SessionProjection, head: Head | None) -> Iterator[str]:
    """Yield a problem if the log does not agree with `head`, the session's entry in the anchor; None checks nothing.

    `head` names one event by its sequence, and has the event's hash and the totals of the log up to that event. There
    is a problem if the event is missing, or if its hash or these totals are not those of `head`.
    """
    if head is None or head.sequence == 0:
        return
    where = f"session {log.session_id}"
    if log.totals is None:
        yield f"{where}: event {head.sequence}, which the anchor has as the last, is missing; the log was cut"
        return
    if log.totals.hash != head.hash:
        yield f"{where}: event {head.sequence} is not the one that the anchor has; the log was rewritten"
    if head.spent is None or head.held is None or head.calls is None:
        return
    found = (log.totals.spent, log.totals.held, log.totals.calls)
    if found != (head.spent.nanos, head.held.nanos, head.calls):
        spent, held, count = found
        yield (
            f"{where}: up to event {head.sequence} {count} calls, {spent} nano-dollars spent and {held} held; the "
            f"anchor has {head.calls}, {head.spent.nanos} and {head.held.nanos}"
        )


_FACTS = {
    "request": calls.c.request_id,
    "agent": calls.c.agent,
    "model": calls.c.model,
    "hold": calls.c.amount,
    "accounts": calls.c.scopes,
    "state": calls.c.state,
    "cost": calls.c.cost,
    "input tokens": calls.c.input_tokens,
    "output tokens": calls.c.output_tokens,
    "cache-read tokens": calls.c.cache_read_tokens,
    "cache-write tokens": calls.c.cache_write_tokens,
    "reasoning tokens": calls.c.reasoning_tokens,
    "cache saving": calls.c.cache_saved,
    "whole answer": type_coerce(calls.c.whole, Integer),  # as SQLite has it: its type would read any text as true
}


def _check_calls(log: SessionProjection) -> Iterator[str]:
    waiting = dict(log.calls)
    query = select(calls.c.call_id, calls.c.response).add_columns(*_FACTS.values())
    rows = log.connection.execute(
        query.where(calls.c.session_id == log.session_id).execution_options(yield_per=ROWS_AT_ONCE)
    )
    for call_id, response, *facts in map(tuple[object, ...], rows):
        told = waiting.pop(str(call_id), None)
        if told is None:
            yield f"call {call_id}: it is in the books, and no event tells of it"
            continue
        for name, fact, said in zip(_FACTS, facts, _said(told), strict=True):
            if fact != said and (name, fact, said) != ("state", "sent", "held"):  # no event says that a call was sent
                yield f"call {call_id}: its {name} is {fact!r}, its events say {said!r}"
        if told.erased:
            if response is not None:
                yield f"call {call_id}: its answer was erased, and one is there"
        elif _hash(response) != told.response_hash:
            yield f"call {call_id}: its answer is not the one that was paid for"
    for call_id in waiting:
        yield f"call {call_id}: its events tell of it, and it is not in the books"


def _said(told: CallProjection) -> tuple[object, ...]:
    tokens = (None,) * 5 if told.usage is None else astuple(told.usage)
    scopes = json.dumps(told.scopes)
    used = (told.cost, *tokens, told.cache_saved, told.whole)
    return (told.request_id, told.agent, told.model, told.amount, scopes, told.state, *used)


def _hash(response: object) -> str | None:
    if response is None:
        return None
    return hashlib.sha256(response if isinstance(response, bytes) else repr(response).encode()).hexdigest()


def _check_accounts(connection: Connection, sums: _Sums, *, everything: bool) -> Iterator[str]:
    told = {*sums.spent, *sums.budgets, *sums.granted}
    waiting = {scope for scope in told if everything or scope.partition(":")[0] in OWN_KINDS}
    for name, *kept in _accounts(connection, None if everything else sorted(waiting)):
        scope = str(name)
        waiting.discard(scope)
        yield from _check_account(scope, kept, sums)
    for scope in sorted(waiting):
        if sums.spent.get(scope) or sums.held.get(scope) or sums.budgets.get(scope) is not None:
            yield f"{describe_scope(scope)}: its account is missing"


def _check_account(scope: str, kept: Sequence[object], sums: _Sums) -> Iterator[str]:
    name = describe_scope(scope)
    cap, spent, held, granted = kept
    for column, is_now, told in (("spent", spent, sums.spent.get(scope, 0)), ("held", held, sums.held.get(scope, 0))):
        if is_now != told:
            yield f"{name}: {is_now!r} nano-dollars {column}, its calls add up to {told}"
    added = sums.granted.get(scope, 0)
    if granted != added:
        yield f"{name}: topped up by {granted!r} nano-dollars, its events say {added}"
    if scope in sums.budgets and cap != _plus(sums.budgets[scope], added):
        on_top = f" and topped up by {added}" if added else ""
        yield f"{name}: its cap is {cap!r} nano-dollars, it was opened with {sums.budgets[scope]}{on_top}"
    configured = sums.caps.get(scope)
    if configured is not None and cap not in {_plus(one, added) for one in configured}:
        yield f"{name}: its cap is {cap!r} nano-dollars; no request was opened with that"
    charged = sums.spent.get(scope, 0) + sums.held.get(scope, 0) - sums.overrun.get(scope, 0)
    # A cap that follows the configuration may have been lowered below what was charged.
    if isinstance(cap, int) and charged > cap and not follows_configuration(scope):
        yield f"{name}: {charged} nano-dollars charged, above its cap of {cap}"


def _plus(cap: int | None, added: int) -> int | None:
    return None if cap is None else cap + added


def _accounts(connection: Connection, scopes: list[str] | None) -> Iterator[Sequence[object]]:
    columns = accounts.c
    query = select(columns.scope, columns.cap, columns.spent, columns.held, columns.granted)
    if scopes is None:
        yield from map(tuple, connection.execute(query.execution_options(yield_per=ROWS_AT_ONCE)))
        return
    for start in range(0, len(scopes), ROWS_AT_ONCE):  # a statement takes only so many parameters
        some = scopes[start : start + ROWS_AT_ONCE]
        yield from map(tuple, connection.execute(query.where(columns.scope.in_(some))))
