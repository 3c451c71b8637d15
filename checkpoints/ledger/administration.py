"""What people change in the ledger: top up, close, open and erase a session. Each change logs an event."""

from datetime import datetime

from sqlalchemy import bindparam, null, select, update

from bursar.checkpoints.database.statement import Statement
from bursar.checkpoints.ledger import actions, approvals, calls
from bursar.checkpoints.ledger.accounts import check_amount, describe_scope, follows_configuration, grant, lock
from bursar.checkpoints.ledger.hash_chain import append, head_of, lock_session, stamp
from bursar.checkpoints.ledger.transaction import Transaction
from bursar.checkpoints.schema.ledger_tables import accounts, requests, sessions
from bursar.state.errors import LedgerError
from bursar.state.events import Acknowledged, Erased, Incident, ToppedUp
from bursar.state.money import USD
from bursar.state.refusals import NotApproved
from bursar.state.text import clean

RAISED_ONCE = "the request's budget was raised once already"


def top_up(transaction: Transaction, account: str, amount: int, *, note: str, at: datetime) -> str:
    """Raise the cap of a request's, an agent's or a session's account by `amount`. Return the account's scope.

    `account` is a scope, a request's id or a session's id; `amount` is in nano-dollars. Raises `LedgerError` if there
    is no such account, it has no cap, or sessions share it: only the configuration sets the cap of a shared account.
    """
    check_amount("a top-up", amount)
    if amount == 0:
        raise LedgerError("a top-up of $0.00 grants nothing")
    scope = _scope(transaction, account)
    session_id = _session_of(transaction, scope)
    grant(transaction, scope, amount)
    append(transaction, session_id, stamp(at), [ToppedUp(scope=scope, amount=USD.from_nanos(amount), note=note)])
    return scope


def raise_budget(transaction: Transaction, approval_id: str, *, at: datetime) -> None:
    """Use up an approved raise of a request's budget: raise the caps of its accounts by what the person was shown.

    Raises `NotApproved`, and the caller must then roll back, if the approval is not approved or its time is over, or if
    the request's budget was raised before.
    """
    asked = approvals.find(transaction, approval_id)
    if asked.shown is None or asked.shown.budget_raise is None:
        raise NotApproved("what was shown to be approved is not in the books any more")
    amounts = asked.shown.budget_raise.accounts
    # Race: the hold of a paid call locks these accounts, then the session. In the same order no two wait in a circle.
    lock(transaction, amounts)
    for scope, amount in amounts.items():
        top_up(transaction, scope, amount.nanos, note=f"approved by {asked.by}: {approval_id}", at=at)
    # Race: another resume may use this approval, another specialist its own. The session is locked: one is first.
    approvals.use(transaction, approval_id, at=at)
    raises = approvals.raises_of(transaction, asked.session_id, asked.request_id)
    if sum(one.state == "used" for one in raises) > 1:
        raise NotApproved(RAISED_ONCE)


def close(transaction: Transaction, session_id: str, incident: Incident, *, at: datetime) -> None:
    """Log the incident and close the session: every later hold raises an error that names the first incident."""
    append(transaction, session_id, stamp(at), [incident])
    _close(transaction.connection, session=session_id, what=clean(f"call {incident.call_id}: {incident.what}"))


def acknowledge(transaction: Transaction, session_id: str, *, note: str, at: datetime) -> str:
    """Open a session that an incident closed, and return the incident's text.

    Raises `LedgerError` if no incident closed the session, or `note` is empty.
    """
    if not note.strip():
        raise LedgerError("an acknowledgement needs a note that says what was found")
    # Race: this locks the row, so that only one of two acknowledgements finds the incident.
    found = _incident(transaction.connection, session=session_id)
    if not found:
        raise LedgerError(f"no session {session_id} in the books")
    if found[0][0] is None:
        raise LedgerError(f"session {session_id} is open; no incident waits to be acknowledged")
    append(transaction, session_id, stamp(at), [Acknowledged(note=note)])
    _open(transaction.connection, session=session_id)
    return str(found[0][0])


def erase(transaction: Transaction, session_id: str, *, note: str, at: datetime) -> int:
    """Remove the answers of the session's calls, and the contents of its actions and approvals that have ended.

    Returns how many rows had such contents. If no row had any, as when a session is erased again, nothing is logged.
    """
    if head_of(transaction, session_id) is None:
        raise LedgerError(f"no session {session_id} in the books")
    erased = calls.erase(transaction, session_id)
    # Race: the session is locked after calls and before actions and approvals, so that no circle of waits forms.
    lock_session(transaction, session_id)
    erased += actions.erase(transaction, session_id) + approvals.erase(transaction, session_id)
    if erased:
        append(transaction, session_id, stamp(at), [Erased(answers=erased, note=note)])
    return erased


def _scope(transaction: Transaction, account: str) -> str:
    """Return the scope of the account that `account` names: a scope, the id of a request or the id of a session.

    Raises `LedgerError` if `account` names no account or several.
    """
    possible = (account, f"request:{account}", f"session:{account}")
    meant = [scope for scope in possible if _exists(transaction.connection, one=scope)]
    if not meant:
        raise LedgerError(f"no request, session or account {account!r} in the books")
    if len(meant) > 1:
        raise LedgerError(f"{account!r} may be {' or '.join(meant)}; write one of them")
    return meant[0]


def _session_of(transaction: Transaction, scope: str) -> str:
    kind, _, name = scope.partition(":")
    if kind == "session":
        return name
    if follows_configuration(scope) or kind not in {"request", "agent"}:
        raise LedgerError(f"{describe_scope(scope)} is shared by sessions; change its cap in the budget instead")
    found = _owner(transaction.connection, request=name if kind == "request" else name.partition(":")[0])
    if not found:
        raise LedgerError(f"no request of {describe_scope(scope)} in the books")
    return str(found[0][0])


_exists = Statement(select(accounts.c.scope).where(accounts.c.scope == bindparam("one")))
_owner = Statement(select(requests.c.session_id).where(requests.c.request_id == bindparam("request")))
_incident = Statement(
    select(sessions.c.incident).where(sessions.c.session_id == bindparam("session")).with_for_update()
)
_close = Statement(
    update(sessions)
    .values(incident=bindparam("what"))
    .where(sessions.c.session_id == bindparam("session"), sessions.c.incident.is_(None))
)
_open = Statement(update(sessions).values(incident=null()).where(sessions.c.session_id == bindparam("session")))
