"""Calls: the row of each paid call, and the states that it may pass through.

held → sent → settled | void | unknown, and unknown → settled once a person has found out what it cost.

When a process sends a call, it notes that in memory. The state `sent` is written by a later transaction that runs
anyway: a commit just for that state would be a third commit for every call. It would help only if a process died in
the few instructions between the hold and the sending. So after a crash, a held call counts as one that may have been
sent.
"""

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, NoReturn
from weakref import WeakKeyDictionary

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Integer,
    Update,
    bindparam,
    func,
    insert,
    literal_column,
    null,
    or_,
    select,
    text,
    update,
)

from bursar.checkpoints.database.database import Database
from bursar.checkpoints.database.statement import ReturningStatement, Row, Statement
from bursar.checkpoints.ledger.transaction import Transaction
from bursar.checkpoints.schema.ledger_tables import OPEN_STATES, calls
from bursar.state.decision import PATH
from bursar.state.errors import LedgerError
from bursar.state.rules.calls import IN_FLIGHT, MAY_FOLLOW, CallState, CallStep
from bursar.state.rules.pricing import Usage

BRIEF = timedelta(seconds=1)  # calls that are answered sooner are never written as sent
MAX_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Hold:
    """A paid call about to be sent. `amount` is its worst case in nano-dollars.

    `scopes` are the accounts that are charged for it, outermost first. If a resumed run makes a call with the same
    session, `checkpoint_ns`, `request_hash` and `occurrence` again, it gets this call's answer and does not pay.
    """

    call_id: str
    session_id: str
    request_id: str
    agent: str
    checkpoint_ns: str
    request_hash: str
    occurrence: int
    model: str
    price_version: str
    amount: int
    scopes: tuple[str, ...]
    at: datetime


@dataclass(frozen=True, slots=True)
class ClosedCall:
    """A call whose state has just been changed. `amount` is its hold in nano-dollars, `scopes` are its accounts."""

    call_id: str
    session_id: str
    amount: int
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """An answer that the ledger keeps, and the id of the call that paid for it."""

    answer: bytes
    call_id: str


class InFlightCalls:
    """The ids of the calls that this process sent and that have not ended."""

    _of: "WeakKeyDictionary[Database, InFlightCalls]" = WeakKeyDictionary()  # noqa: RUF012 - one registry per process

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: set[str] = set()
        self._unwritten: dict[str, datetime] = {}  # the longest on its way first

    @classmethod
    def of(cls, database: Database) -> "InFlightCalls":
        """Return the one `InFlightCalls` that this process has for `database`."""
        return cls._of.setdefault(database, cls())

    def __contains__(self, call_id: str) -> bool:
        return call_id in self._all

    def begin(self, call_id: str, at: datetime) -> None:
        """Note that the call may have been sent from now on."""
        with self._lock:
            self._all.add(call_id)
            self._unwritten[call_id] = at

    def end(self, call_id: str) -> None:
        """Remove the call, because a transaction is writing its end to the database."""
        with self._lock:
            self._all.discard(call_id)
            self._unwritten.pop(call_id, None)

    def write(self, connection: Connection, at: datetime) -> None:
        """Change calls in the database from held to sent if this process sent them at least `BRIEF` before `at`.

        This changes at most `MAX_AT_ONCE` calls and skips rows that another transaction has locked. If the transaction
        is rolled back, the calls stay held in the database, which is allowed: a held call may have been sent.
        """
        if self._unwritten:  # race: a call that begins just now is left to a later transaction
            for call_id in self._due(at):
                _mark_sent(connection, call=call_id)

    def _due(self, at: datetime) -> list[str]:
        due: list[str] = []
        with self._lock:
            for call_id, since in self._unwritten.items():
                if len(due) == MAX_AT_ONCE or at - since < BRIEF:
                    break
                due.append(call_id)
            for call_id in due:
                del self._unwritten[call_id]
        return due


def new_row(hold: Hold, at: str) -> dict[str, object]:
    """Return the columns of a new call that is held from `at`, for `insert_held`."""
    return {
        "call_id": hold.call_id,
        "session_id": hold.session_id,
        "request_id": hold.request_id,
        "agent": hold.agent,
        "checkpoint_ns": hold.checkpoint_ns,
        "request_hash": hold.request_hash,
        "occurrence": hold.occurrence,
        "model": hold.model,
        "price_version": hold.price_version,
        "amount": hold.amount,
        "scopes": _written(hold.scopes),
        "held_at": at,
    }


def insert_held(transaction: Transaction, row: dict[str, object]) -> None:
    """Insert `row`, made by `new_row`, in the state held. Raises `IntegrityError` if a call has this id already."""
    _insert(transaction.connection, **row)


def raise_hold(transaction: Transaction, call_id: str, *, amount: int, raised: int) -> None:
    """Raise the hold of a held or sent call from `amount` to `raised` nano-dollars.

    Raises `LedgerError` for a call in another state, or with another hold.
    """
    if not _raise.changes(transaction.connection, call=call_id, now=amount, raised=raised):
        _cannot(transaction, call_id, "raised")


def settled_row(
    call_id: str, *, cost: int, usage: Usage, saved: int, response: bytes | None, at: str, whole: bool
) -> dict[str, object]:
    """Return the parameters of the statement that settles a call, for `settle`. `cost` and `saved` are nano-dollars."""
    return {
        "call": call_id,
        "ended": at,
        "price": cost,
        "answer": response,
        "sent": usage.input_tokens,
        "received": usage.output_tokens,
        "cache_read": usage.cache_read_tokens,
        "cache_write": usage.cache_write_tokens,
        "thought": usage.reasoning_tokens,
        "saved": saved,
        "whole": whole,
    }


def settle(transaction: Transaction, call_id: str, row: Mapping[str, object]) -> ClosedCall:
    """Change a held or sent call to settled, and return the call. Raises `LedgerError` for any other call.

    `row`, made by `settled_row`, has the call's cost, usage and answer.
    """
    return _ended(_settle(transaction.connection, **row)) or _cannot(transaction, call_id, "settled")


def void(transaction: Transaction, call_id: str, *, reason: str, at: str) -> ClosedCall:
    """Change a held or sent call to void, and return the call. Raises `LedgerError` for any other call."""
    found = _void(transaction.connection, call=call_id, ended=at, why=reason)
    return _ended(found) or _cannot(transaction, call_id, "voided")


def mark_unknown(transaction: Transaction, call_id: str, *, reason: str, at: str) -> ClosedCall:
    """Change a held or sent call to unknown, and return the call. Raises `LedgerError` for any other call."""
    found = _lose(transaction.connection, call=call_id, ended=at, why=reason)
    return _ended(found) or _cannot(transaction, call_id, "marked unknown")


def mark_all_unknown(
    transaction: Transaction, session_id: str, *, checkpoint_ns: str, reason: str, at: str
) -> list[ClosedCall]:
    """Change every held or sent call of the session at `checkpoint_ns` and below to unknown.

    Returns the changed calls, sorted by id.
    """
    where = {"session": session_id, "checkpoint": checkpoint_ns, "length": len(checkpoint_ns)}
    # Race: one UPDATE may lock its rows in any order. The rows are locked by id first, so two UPDATEs cannot deadlock.
    if not _lock_held(transaction.connection, **where):
        return []
    found = _lose_all(transaction.connection, **where, ended=at, why=reason)
    return [
        ClosedCall(call_id, session, amount, scopes_of(scopes)) for call_id, session, amount, scopes in sorted(found)
    ]


def reconcile(
    transaction: Transaction,
    call_id: str,
    *,
    cost: int,
    usage: Usage | None,
    saved: int,
    response: bytes | None,
    at: str,
) -> ClosedCall:
    """Change a call from unknown to settled at `cost`, and return the call. Raises `LedgerError` for any other call.

    `usage` and `response`, the answer, are kept with the call; None if nobody knows them, nor what the cache `saved`.
    """
    row = settled_row(call_id, cost=cost, usage=usage or Usage(), saved=saved, response=response, at=at, whole=False)
    row["whole"] = None  # it is no part of what answers are expected to take
    if usage is None:
        row |= dict.fromkeys(("sent", "received", "cache_read", "cache_write", "thought", "saved"))
    return _ended(_reconcile(transaction.connection, **row)) or _cannot(transaction, call_id, "reconciled")


def replayable(
    transaction: Transaction, session_id: str, checkpoint_ns: str, request_hash: str, occurrence: int
) -> KeptAnswer | None:
    """Return the newest kept answer to the same call of the same node; None if there is none, so the call must be paid.

    `request_hash` says what is asked, and `occurrence` counts equal calls of the node.
    """
    found = _replayable(
        transaction.connection, session=session_id, checkpoint=checkpoint_ns, request=request_hash, nth=occurrence
    )
    if not found:
        return None
    _, answer, call_id = max(found)
    return KeptAnswer(bytes(answer), call_id)


def turns(transaction: Transaction, request_id: str, agent: str) -> int:
    """Return how many calls were made for the request by the agent and by agents that it called, without void calls."""
    path = f"{agent}{PATH}"
    return int(_turns(transaction.connection, request=request_id, agent=agent, path=path, length=len(path))[0][0])


def erase(transaction: Transaction, session_id: str) -> int:
    """Remove the answers that are kept for the session's calls. Returns how many answers were removed."""
    return _erase.changes(transaction.connection, session=session_id)


@lru_cache  # a run's calls touch the same accounts
def _written(scopes: tuple[str, ...]) -> str:
    return json.dumps(scopes)


@lru_cache
def scopes_of(written: str) -> tuple[str, ...]:
    """Return the scopes of a call from `written`, the JSON text in the call's row."""
    return tuple(json.loads(written))


def _ended(found: list[Row]) -> ClosedCall | None:
    if not found:
        return None
    call_id, session_id, amount, scopes = found[0]
    return ClosedCall(call_id, session_id, amount, scopes_of(scopes))


def _cannot(transaction: Transaction, call_id: str, verb: str) -> NoReturn:
    found = _state(transaction.connection, call=call_id)
    if not found:
        raise LedgerError(f"call {call_id} is not in the books, so it cannot be {verb}")
    state = found[0][0]
    in_flight = state in IN_FLIGHT and verb == "reconciled"
    hint = "; it may still be in flight: resume its session first" if in_flight else ""
    raise LedgerError(f"call {call_id} is {state}, so it cannot be {verb}{hint}")


def _take(step: CallStep) -> Update:
    """Return the UPDATE of one call that changes nothing unless the rules allow the step from the call's state."""
    return update(calls).where(calls.c.call_id == bindparam("call"), _in_state(*MAY_FOLLOW[step]))


def _in_state(*states: CallState) -> ColumnElement[bool]:
    return calls.c.state.in_([literal_column(f"'{state}'") for state in states])


def _returning(statement: Update) -> ReturningStatement:
    read = select(*_ENDED).where(calls.c.call_id == bindparam("call"))
    return ReturningStatement(statement.returning(*_ENDED), sqlite=statement, read=read)


_ENDED = (calls.c.call_id, calls.c.session_id, calls.c.amount, calls.c.scopes)
_lost: dict[str, ColumnElement[Any]] = {
    "state": literal_column("'unknown'"),
    "ended_at": bindparam("ended"),
    "reason": bindparam("why"),
}
_held_of_session = (
    calls.c.session_id == bindparam("session"),
    _in_state(*MAY_FOLLOW["lose"]),
    func.substr(calls.c.checkpoint_ns, 1, bindparam("length", type_=Integer)) == bindparam("checkpoint"),
)

NEW = (
    *("call_id", "session_id", "request_id", "agent", "checkpoint_ns", "request_hash", "occurrence"),
    *("model", "price_version", "amount", "scopes", "held_at"),
)  # the columns of a call that is held
_insert = Statement(insert(calls).values(state=literal_column("'held'"), **{name: bindparam(name) for name in NEW}))
_raise = Statement(
    _take("raise").where(calls.c.amount == bindparam("now")).values(amount=bindparam("raised", type_=BigInteger))
)
_settled: dict[str, ColumnElement[Any]] = {
    "state": literal_column("'settled'"),
    "ended_at": bindparam("ended"),
    "cost": bindparam("price"),
    "response": bindparam("answer"),
    "input_tokens": bindparam("sent"),
    "output_tokens": bindparam("received"),
    "cache_read_tokens": bindparam("cache_read"),
    "cache_write_tokens": bindparam("cache_write"),
    "reasoning_tokens": bindparam("thought"),
    "cache_saved": bindparam("saved"),
    "whole": bindparam("whole"),
}
_settle = _returning(_take("settle").values(_settled))
_void = _returning(
    _take("void").values(state=literal_column("'void'"), ended_at=bindparam("ended"), reason=bindparam("why"))
)
_lose = _returning(_take("lose").values(_lost))
_lose_all = Statement(update(calls).where(*_held_of_session).values(_lost).returning(*_ENDED))
_lock_held = Statement(
    select(calls.c.call_id).where(*_held_of_session).order_by(calls.c.call_id).with_for_update(),
    # Two indexes have a session's calls. SQLite would choose the one that has all of them, not the open ones.
    sqlite=text(
        f"SELECT call_id FROM bursar_calls INDEXED BY bursar_calls_open WHERE session_id = :session AND {OPEN_STATES} "  # noqa: S608 - our own words
        "AND state <> 'unknown' AND substr(checkpoint_ns, 1, :length) = :checkpoint"
    ),
)
_reconcile = _returning(_take("reconcile").values(_settled))
_turns = Statement(
    select(func.count()).where(
        calls.c.request_id == bindparam("request"),
        or_(
            calls.c.agent == bindparam("agent"),
            func.substr(calls.c.agent, 1, bindparam("length", type_=Integer)) == bindparam("path"),
        ),
        calls.c.state != literal_column("'void'"),
    )
)
_erase = Statement(
    update(calls)
    .values(response=null())
    .where(calls.c.session_id == bindparam("session"), calls.c.response.is_not(None))
)
_state = Statement(select(calls.c.state).where(calls.c.call_id == bindparam("call")))
_replayable = Statement(
    select(calls.c.held_at, calls.c.response, calls.c.call_id).where(
        calls.c.session_id == bindparam("session"),
        calls.c.checkpoint_ns == bindparam("checkpoint"),
        calls.c.request_hash == bindparam("request"),
        calls.c.occurrence == bindparam("nth"),
        calls.c.state == literal_column("'settled'"),
        calls.c.response.is_not(None),
    )
)
# Race: another transaction may be ending the call. Its row is then skipped, and nobody waits for it.
_still_held = select(calls.c.call_id).where(calls.c.call_id == bindparam("call"), _in_state(*MAY_FOLLOW["send"]))
_mark_sent = Statement(
    update(calls)
    .values(state=literal_column("'sent'"))
    .where(calls.c.call_id == _still_held.with_for_update(skip_locked=True).scalar_subquery())
)
