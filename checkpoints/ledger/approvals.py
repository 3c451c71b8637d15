"""Approvals: the row of each question to a person and its answer, and the states that it may pass through.

waiting → approved → used; or waiting → denied | expired | refused, and approved → expired | refused. Every change is
made only if the approval still has the state that the caller read. So if several callers try the same change, exactly
one of them makes it.
"""

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select, text, update

from bursar.checkpoints.database.statement import insert_new
from bursar.checkpoints.ledger.hash_chain import append, lock_session, stamp
from bursar.checkpoints.ledger.transaction import Transaction
from bursar.checkpoints.schema.ledger_tables import WAITING, approvals
from bursar.state.approval import RAISE, ApprovalRequest
from bursar.state.errors import LedgerError
from bursar.state.events import Approval
from bursar.state.refusals import NotApproved
from bursar.state.text import clean

LATE = "the approval came too late: it had to be given by {}"


@dataclass(frozen=True, slots=True)
class ApprovalQuery:
    """What a person is to be asked, and the `checkpoint_ns` of the node that asks.

    `ask` fills in the id, the attempt and the hash of `request`.
    """

    request: ApprovalRequest
    checkpoint_ns: str

    def subject(self) -> str:
        """Return a hash of the question and of the node that asks it.

        The approval's id, attempt and expiry are not hashed, so the hash is the same each time the question is asked.
        """
        fixed = self.request.model_dump(mode="json", exclude={"approval_id", "attempt", "expires_at", "subject_hash"})
        text_ = json.dumps([self.checkpoint_ns, fixed], sort_keys=True)
        return hashlib.sha256(text_.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class ApprovalRecord:
    """An approval as its row in the database has it. `shown` is what the person is shown; None if that was erased."""

    approval_id: str
    attempt: int
    session_id: str
    request_id: str
    checkpoint_ns: str
    specialist: str
    action: str | None
    subject_hash: str
    state: str
    asked_at: datetime
    expires_at: datetime
    by: str
    reason: str
    shown: ApprovalRequest | None

    @property
    def is_open(self) -> bool:
        """Whether it waits for a person, or was approved and is not used yet."""
        return self.state in {"waiting", "approved"}


def ask(
    transaction: Transaction, asking: ApprovalQuery, *, at: datetime
) -> tuple[ApprovalRecord, list[ApprovalRecord]]:
    """Return the newest approval for the same question, and all approvals of the same run.

    If no approval exists for the question, or the newest was used, this makes a new approval, which waits for a person.
    A raise of a budget is used once, and is not asked for again. If the newest waits or was approved, and its time is
    over, this changes its state to expired.
    """
    # Race: of two callers that ask the same, the second waits for the session's row and then finds the first's.
    lock_session(transaction, asking.request.session_id)
    subject = asking.subject()
    query = _ASKED.where(approvals.c.subject == subject).order_by(approvals.c.attempt.desc())
    row = transaction.connection.execute(query).first()
    asked = None if row is None else _asked(row)
    if asked is None or (asked.state == "used" and asked.action != RAISE):
        attempt = 1 if asked is None else asked.attempt + 1
        asked = _insert(transaction, asking, subject, attempt=attempt, at=at)
    elif asked.is_open and asked.expires_at < at:
        _change(transaction, asked, "expired", by=asked.by, reason=_late(asked), at=at)
        asked = find(transaction, asked.approval_id)
    here = (approvals.c.session_id == asked.session_id, approvals.c.checkpoint_ns == asking.checkpoint_ns)
    return asked, [_asked(row) for row in transaction.connection.execute(_ASKED.where(*here))]


def answer(
    transaction: Transaction, approval_id: str, verdict: str, *, by: str, reason: str = "", at: datetime
) -> tuple[ApprovalRecord, bool]:
    """Change a waiting approval to `verdict`: approved, denied or refused.

    If `verdict` is `approved` but the approval's time is over, change the approval to expired instead. If the approval
    does not wait, change nothing. Returns the approval as it is afterwards, and whether its state was changed. Raises
    `LedgerError` if there is no such approval.
    """
    asked = _locked(transaction, approval_id)
    became, why = verdict, reason
    if verdict == "approved" and asked.expires_at < at:
        became, why = "expired", _late(asked)
    waited = asked.state == "waiting"
    changed = waited and _change(transaction, asked, became, by=by, reason=why, at=at)
    return find(transaction, approval_id), changed


def refuse(transaction: Transaction, asked: ApprovalRecord, reason: str, *, by: str, at: datetime) -> bool:
    """Change the approval `asked` to refused, because `by` is no approver.

    Returns False, and changes nothing, if the approval's state changed since `asked` was read.
    """
    lock_session(transaction, asked.session_id)
    return _change(transaction, asked, "refused", by=by, reason=reason, at=at)


def withdraw(transaction: Transaction, approval_id: str, reason: str, *, at: datetime) -> None:
    """Change an approval that waits or was approved to refused, for `reason`. If it has ended, change nothing."""
    asked = _locked(transaction, approval_id)
    if asked.is_open:
        _change(transaction, asked, "refused", by=asked.by, reason=reason, at=at)


def use(transaction: Transaction, approval_id: str, *, at: datetime) -> None:
    """Change an approval from approved to used. Raises `NotApproved` if its time is over or it is not approved."""
    asked = _locked(transaction, approval_id)
    if asked.expires_at < at:
        raise NotApproved(_late(asked))
    if asked.state != "approved" or not _change(transaction, asked, "used", by=asked.by, reason="", at=at):
        raise NotApproved(f"approval {approval_id} is {find(transaction, approval_id).state}; an approval is used once")


def _insert(
    transaction: Transaction, asking: ApprovalQuery, subject: str, *, attempt: int, at: datetime
) -> ApprovalRecord:
    named = {"approval_id": f"a-{subject[:16]}-{attempt}", "attempt": attempt}
    shown = asking.request.model_copy(update=named).sealed()
    _insert_new(
        transaction.connection,
        approval_id=shown.approval_id,
        subject=subject,
        attempt=attempt,
        session_id=shown.session_id,
        request_id=shown.request_id,
        checkpoint_ns=asking.checkpoint_ns,
        specialist=shown.specialist,
        action=shown.action,
        subject_hash=shown.subject_hash,
        state="waiting",
        asked_at=stamp(at),
        expires_at=stamp(shown.expires_at),
        answered_at=None,
        answered_by=None,
        reason=None,
        shown=shown.model_dump_json(),
    )
    asked = find(transaction, shown.approval_id)
    append(transaction, asked.session_id, stamp(at), [_event(asked, "asked", by="", reason="")])
    return asked


def _change(transaction: Transaction, asked: ApprovalRecord, state: str, *, by: str, reason: str, at: datetime) -> bool:
    """Change the approval to `state` and log it, if it still has the state of `asked`. Otherwise return False.

    The caller holds the lock of the session's row.
    """
    condition = (approvals.c.approval_id == asked.approval_id, approvals.c.state == asked.state)
    values = {"state": state, "answered_at": stamp(at), "answered_by": clean(by), "reason": clean(reason)}
    if not transaction.connection.execute(update(approvals).values(**values).where(*condition)).rowcount:
        return False
    append(transaction, asked.session_id, stamp(at), [_event(asked, state, by=by, reason=reason)])
    return True


def _locked(transaction: Transaction, approval_id: str) -> ApprovalRecord:
    lock_session(transaction, find(transaction, approval_id).session_id)
    return find(transaction, approval_id)  # race: another transaction may have answered before this held the lock


def waiting(transaction: Transaction, session_id: str | None) -> list[ApprovalRecord]:
    """Return every approval that waits for a person, in one session or all, oldest first."""
    query = _ASKED.where(text(WAITING)).order_by(approvals.c.asked_at, approvals.c.approval_id)
    if session_id is not None:
        query = query.where(approvals.c.session_id == session_id)
    return [_asked(row) for row in transaction.connection.execute(query)]


def raises_of(transaction: Transaction, session_id: str, request_id: str) -> list[ApprovalRecord]:
    """Return every raise of the request's budget that a person was asked for, oldest first."""
    which = (approvals.c.session_id == session_id, approvals.c.request_id == request_id, approvals.c.action == RAISE)
    query = _ASKED.where(*which).order_by(approvals.c.asked_at, approvals.c.approval_id)
    return [_asked(row) for row in transaction.connection.execute(query)]


def find(transaction: Transaction, approval_id: str) -> ApprovalRecord:
    """Return the approval with this id. Raises `LedgerError` if there is none."""
    row = transaction.connection.execute(_ASKED.where(approvals.c.approval_id == approval_id)).one_or_none()
    if row is None:
        raise LedgerError(f"no approval {approval_id} in the books; list those that wait with: bursar approvals")
    return _asked(row)


def erase(transaction: Transaction, session_id: str) -> int:
    """Remove what people were shown from the session's approvals, unless the approval still waits for a person.

    Returns how many approvals were changed.
    """
    condition = (approvals.c.session_id == session_id, approvals.c.state != "waiting", approvals.c.shown.is_not(None))
    return transaction.connection.execute(update(approvals).values(shown=None).where(*condition)).rowcount


def _late(asked: ApprovalRecord) -> str:
    return LATE.format(f"{asked.expires_at:%Y-%m-%d %H:%M:%S} UTC")


def _event(asked: ApprovalRecord, verdict: str, *, by: str, reason: str) -> Approval:
    return Approval.model_validate(
        {
            "request_id": asked.request_id,
            "specialist": asked.specialist,
            "verdict": verdict,
            "subject_hash": asked.subject_hash,
            "by": by,
            "approval_id": asked.approval_id,
            "action": asked.action,
            "reason": reason,
        }
    )


_ASKED = select(
    approvals.c.approval_id,
    approvals.c.attempt,
    approvals.c.session_id,
    approvals.c.request_id,
    approvals.c.checkpoint_ns,
    approvals.c.specialist,
    approvals.c.action,
    approvals.c.subject_hash,
    approvals.c.state,
    approvals.c.asked_at,
    approvals.c.expires_at,
    approvals.c.answered_by,
    approvals.c.reason,
    approvals.c.shown,
)


def _asked(row: Any) -> ApprovalRecord:
    name, attempt, session, request, place, specialist, action, hashed, state, at, expires, by, reason, shown = row
    return ApprovalRecord(
        approval_id=name,
        attempt=attempt,
        session_id=session,
        request_id=request,
        checkpoint_ns=place,
        specialist=specialist,
        action=action,
        subject_hash=hashed,
        state=state,
        asked_at=datetime.fromisoformat(at),
        expires_at=datetime.fromisoformat(expires),
        by=by or "",
        reason=reason or "",
        shown=None if shown is None else ApprovalRequest.model_validate_json(shown),
    )


_insert_new = insert_new(approvals)
