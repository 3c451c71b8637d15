"""Actions: the row of each side effect, and the states that it may pass through.

intended → done | void | in_doubt, in_doubt → done | void | intended, void → intended, done → undoing → undone. The
intent is committed before the effect. Every change is made only if the action still has the state and the attempt that
the caller read. So if several callers try the same change, exactly one of them makes it.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import and_, or_, select, text, update

from bursar.checkpoints.database.statement import insert_new
from bursar.checkpoints.ledger.approvals import use
from bursar.checkpoints.ledger.hash_chain import append, lock_session, stamp
from bursar.checkpoints.ledger.transaction import Transaction
from bursar.checkpoints.schema.ledger_tables import OPEN_ACTIONS, actions
from bursar.state.errors import LedgerError
from bursar.state.events import ActionChanged, ActionIntended, Incident
from bursar.state.refusals import ActionRefused
from bursar.state.text import clean

ENDED = ("done", "void", "undone")
UNDOING = ("undoing", "undone")


@dataclass(frozen=True, slots=True)
class ActionIntent:
    """An action about to be done.

    `attempt` names this try and the process that tries. A process on another host takes the try for dead after
    `until`. `arguments` is canonical JSON.
    """

    key: str
    session_id: str
    request_id: str
    agent: str
    checkpoint_ns: str
    name: str
    arguments: bytes
    irreversible: bool
    attempt: str
    until: datetime

    @property
    def arguments_hash(self) -> str:
        """SHA-256 of the arguments' canonical JSON."""
        return hashlib.sha256(self.arguments).hexdigest()


@dataclass(frozen=True, slots=True)
class ActionRecord:
    """An action's row in the database. `arguments` and `result` are JSON; None if erased, or if there is no result."""

    key: str
    session_id: str
    agent: str
    name: str
    irreversible: bool
    arguments_hash: str
    state: str
    attempt: str
    until: datetime
    at: datetime
    reason: str
    arguments: bytes | None
    result: bytes | None

    @property
    def short(self) -> str:
        """The action's name without its module."""
        return self.name.rpartition(".")[2]


def find(transaction: Transaction, key: str) -> ActionRecord | None:
    """Return the action with this key; None if nobody has intended it yet."""
    found = transaction.connection.execute(_DEED.where(actions.c.key == key)).one_or_none()
    return None if found is None else _deed(found)


def of_run(transaction: Transaction, session_id: str, checkpoint_ns: str) -> list[ActionRecord]:
    """Return the actions of one node's run, the newest first."""
    here = and_(actions.c.session_id == session_id, actions.c.checkpoint_ns == checkpoint_ns)
    query = _DEED.where(here).order_by(actions.c.ordinal.desc())
    return [_deed(row) for row in transaction.connection.execute(query)]


def intend(
    transaction: Transaction, intent: ActionIntent, *, approval: str | None = None, at: datetime
) -> ActionRecord | None:
    """Record the action as intended and return None: this attempt alone may do it.

    If the action was recorded before, return its record and change nothing. If the id of an `approval` is given, the
    approval is used up in the same transaction. Raises `NotApproved` if the approval is not in force any more. Raises
    `ActionRefused` if the action is out of order: it follows an irreversible action, it is irreversible and another
    action of the run has not ended, or the run is being undone. After an error nothing is kept.
    """
    when = stamp(at)
    # Race: of two callers that intend the same action, the second waits here and then finds the first one's row.
    lock_session(transaction, intent.session_id)
    found = find(transaction, intent.key)
    if found is not None:
        return found
    event = ActionIntended(
        key=intent.key,
        request_id=intent.request_id,
        agent=intent.agent,
        name=intent.name,
        arguments_hash=intent.arguments_hash,
        irreversible=intent.irreversible,
    )
    ordinal, _ = append(transaction, intent.session_id, when, [event])
    _check_order(transaction, intent)
    if not _insert.changes(transaction.connection, **_row(intent, ordinal, when)):
        raise LedgerError(f"action {intent.key} was intended twice at the same moment")
    if approval is not None:
        use(transaction, approval, at=at)
    return None


def claim(transaction: Transaction, deed: ActionRecord, *, attempt: str, until: datetime, at: datetime) -> bool:
    """Record that `attempt` is about to try again an action that is void or in doubt, and return True.

    `deed` is the action as it was read. A process on another host takes the new try for dead after `until`. If the
    action changed since `deed` was read, change nothing and return False.
    """
    values = {"state": "intended", "attempt": attempt, "until": stamp(until), "ended_at": None, "reason": None}
    return _change(transaction, deed.key, ("void", "in_doubt"), values, attempt=deed.attempt, at=at)


def done(transaction: Transaction, key: str, *, attempt: str, result: bytes, at: datetime) -> bool:
    """Record that this attempt did the action, with its result for replay.

    Returns False, and changes nothing, if another attempt or a person has changed the action meanwhile.
    """
    values = {"state": "done", "result": result, "ended_at": stamp(at), "reason": None}
    return _change(transaction, key, ("intended", "in_doubt", "void"), values, attempt=attempt, at=at)


def void(transaction: Transaction, key: str, *, attempt: str, reason: str, at: datetime) -> bool:
    """Record that this attempt did not do the action. Returns False if another attempt or a person has changed it."""
    values = {"state": "void", "reason": clean(reason), "ended_at": stamp(at)}
    return _change(transaction, key, ("intended", "in_doubt"), values, attempt=attempt, at=at)


def doubt(transaction: Transaction, key: str, *, attempt: str, reason: str, at: datetime) -> bool:
    """Record that nobody knows whether this attempt did the action.

    Returns False, and changes nothing, if another attempt or a person has changed the action meanwhile.
    """
    values = {"state": "in_doubt", "reason": clean(reason)}
    return _change(transaction, key, ("intended",), values, attempt=attempt, at=at)


def undoing(transaction: Transaction, deed: ActionRecord, *, attempt: str, until: datetime, at: datetime) -> bool:
    """Record that `attempt` is about to undo an action that is done, or whose undoing has not ended; return True.

    `deed` is the action as it was read. A process on another host takes the try for dead after `until`. If the action
    changed since `deed` was read, change nothing and return False.
    """
    values = {"state": "undoing", "attempt": attempt, "until": stamp(until)}
    return _change(transaction, deed.key, ("done", "undoing"), values, attempt=deed.attempt, at=at)


def undone(transaction: Transaction, key: str, *, attempt: str, at: datetime) -> bool:
    """Record that this attempt undid the action. Returns False if another attempt or a person has changed it."""
    values = {"state": "undone", "ended_at": stamp(at), "reason": None}
    return _change(transaction, key, ("undoing",), values, attempt=attempt, at=at)


def settle(transaction: Transaction, key: str, *, done: bool, by: str, note: str, at: datetime) -> str:
    """Record what the person `by` found out about an unfinished action, and return the action's new state.

    `done` is whether the action's effect stands, also for an action that was being undone. Raises `LedgerError` if the
    action is not in doubt, not being undone, and not intended by an attempt whose `until` is over. Raises it also if
    there is no such action, or if `by` or `note` is empty.
    """
    deed = find(transaction, key)
    if deed is None:
        raise LedgerError(f"no action {key} in the books; list those that wait with: bursar incidents")
    if not by.strip() or not note.strip():
        raise LedgerError("to settle an action needs a name and a note that says what was found")
    if deed.state in ENDED or (deed.state == "intended" and deed.until > at):
        hint = "; it may still be in flight" if deed.state == "intended" else ""
        raise LedgerError(f"action {key} is {deed.state}, so it cannot be settled{hint}")
    state = "done" if done else "undone" if deed.state == "undoing" else "void"
    values: dict[str, object] = {"state": state, "ended_at": stamp(at), "reason": clean(note)}
    if done and deed.result is None:
        values["result"] = b"null"
    _change(transaction, key, (deed.state,), values, attempt=deed.attempt, at=at, by=by)
    return state


def tell_incident(transaction: Transaction, session_id: str, key: str, what: str, *, at: datetime) -> None:
    """Log the incident `what` of the action `key`, unless the action's last incident was the same.

    The incident does not close the session.
    """
    lock_session(transaction, session_id)
    same = update(actions).values(reason=clean(what)).where(actions.c.key == key)
    changed = same.where(or_(actions.c.reason.is_(None), actions.c.reason != clean(what)))
    if transaction.connection.execute(changed).rowcount:
        append(transaction, session_id, stamp(at), [Incident(what=clean(f"action {key}: {what}"))])


def open_actions(transaction: Transaction, session_id: str | None) -> list[ActionRecord]:
    """Return every action that has not ended, in one session or all, oldest first."""
    query = _DEED.where(text(OPEN_ACTIONS)).order_by(actions.c.intended_at, actions.c.key)
    if session_id is not None:
        query = query.where(actions.c.session_id == session_id)
    return [_deed(row) for row in transaction.connection.execute(query)]


def erase(transaction: Transaction, session_id: str) -> int:
    """Remove arguments and results of the session's ended actions. Returns how many actions had any."""
    ended = and_(actions.c.session_id == session_id, actions.c.state.in_(ENDED))
    kept = or_(actions.c.arguments.is_not(None), actions.c.result.is_not(None))
    erased = update(actions).values(arguments=None, result=None).where(ended, kept)
    return transaction.connection.execute(erased).rowcount


def _change(
    transaction: Transaction,
    key: str,
    states: Sequence[str],
    values: Mapping[str, object],
    *,
    attempt: str,
    at: datetime,
    by: str = "",
) -> bool:
    """Change the action to `values`, log that, and return True.

    If the action has none of `states`, or belongs to another attempt, change nothing and return False.
    """
    whose = select(actions.c.session_id).where(actions.c.key == key)
    session_id = transaction.connection.execute(whose).scalar()
    if session_id is None:
        return False
    lock_session(transaction, str(session_id))
    # Race: another caller may have changed the action before this lock. The condition lets only one caller win.
    condition = and_(actions.c.key == key, actions.c.state.in_(states), actions.c.attempt == attempt)
    statement = update(actions).values(**values).where(condition).returning(actions.c.session_id, actions.c.result)
    found = transaction.connection.execute(statement).one_or_none()
    if found is None:
        return False
    done = values["state"] == "done"
    event = ActionChanged.model_validate(
        {
            "key": key,
            "state": values["state"],
            "result_hash": hashlib.sha256(bytes(found[1])).hexdigest() if done else None,
            "reason": values.get("reason") or "",
            "by": by,
        }
    )
    append(transaction, str(found[0]), stamp(at), [event])
    return True


def _check_order(transaction: Transaction, intent: ActionIntent) -> None:
    others = [deed for deed in of_run(transaction, intent.session_id, intent.checkpoint_ns) if deed.key != intent.key]
    refused = f"{intent.name.rpartition('.')[2]} was not done"
    if any(deed.state in UNDOING for deed in others):
        raise ActionRefused(f"{refused}: the actions of this run are being undone")
    if last := _first(others, irreversible=True, states=("intended", "in_doubt", "done")):
        raise ActionRefused(f"{refused}: {last.short} cannot be undone, and is the last action of a run")
    if intent.irreversible and (before := _first(others, irreversible=False, states=("intended", "in_doubt"))):
        raise ActionRefused(f"{refused}: it cannot be undone, and {before.short} has not ended")


def _first(deeds: Sequence[ActionRecord], *, irreversible: bool, states: Collection[str]) -> ActionRecord | None:
    return next((deed for deed in deeds if deed.irreversible == irreversible and deed.state in states), None)


def _row(intent: ActionIntent, ordinal: int, at: str) -> dict[str, object]:
    return {
        "key": intent.key,
        "session_id": intent.session_id,
        "request_id": intent.request_id,
        "agent": intent.agent,
        "checkpoint_ns": intent.checkpoint_ns,
        "name": intent.name,
        "irreversible": intent.irreversible,
        "arguments_hash": intent.arguments_hash,
        "state": "intended",
        "attempt": intent.attempt,
        "until": stamp(intent.until),
        "ordinal": ordinal,
        "intended_at": at,
        "ended_at": None,
        "reason": None,
        "arguments": intent.arguments,
        "result": None,
    }


_DEED = select(
    actions.c.key,
    actions.c.session_id,
    actions.c.agent,
    actions.c.name,
    actions.c.irreversible,
    actions.c.arguments_hash,
    actions.c.state,
    actions.c.attempt,
    actions.c.until,
    actions.c.intended_at,
    actions.c.reason,
    actions.c.arguments,
    actions.c.result,
)


def _deed(row: Any) -> ActionRecord:
    key, session, agent, name, irreversible, hashed, state, attempt, until, at, reason, arguments, result = row
    return ActionRecord(
        key=key,
        session_id=session,
        agent=agent,
        name=name,
        irreversible=bool(irreversible),
        arguments_hash=hashed,
        state=state,
        attempt=attempt,
        until=datetime.fromisoformat(until),
        at=datetime.fromisoformat(at),
        reason=reason or "",
        arguments=None if arguments is None else bytes(arguments),
        result=None if result is None else bytes(result),
    )


_insert = insert_new(actions)
