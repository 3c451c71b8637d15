"""Upkeep: what a person does to the books on purpose. Each leaves an event in the session's log."""

from sqlalchemy import Connection, bindparam, null, select, update

from bursar.checkpoints.database.statement import Statement
from bursar.checkpoints.ledger import actions, approvals, calls
from bursar.checkpoints.ledger.accounts import check_amount, describe_scope, follows_configuration, grant
from bursar.checkpoints.ledger.hash_chain import append, head_of, lock_session
from bursar.checkpoints.schema.ledger_tables import accounts, requests, sessions
from bursar.state.errors import LedgerError
from bursar.state.events import Acknowledged, Erased, Incident, ToppedUp, clean
from bursar.state.money import USD


def top_up(connection: Connection, key: bytes | None, *, account: str, amount: int, note: str, at: str) -> str:
    """Raise the cap of a request's, an agent's or a session's account. The scope that was meant."""
    check_amount("a top-up", amount)
    if amount == 0:
        raise LedgerError("a top-up of $0.00 grants nothing")
    scope = _scope(connection, account)
    session_id = _session_of(connection, scope)
    grant(connection, scope, amount)
    append(connection, key, session_id, at, [ToppedUp(scope=scope, amount=USD.from_nanos(amount), note=note)])
    return scope


def close(connection: Connection, key: bytes | None, session_id: str, incident: Incident, *, at: str) -> None:
    """No call of the session is held from now on; the first incident is the one that holds are told."""
    append(connection, key, session_id, at, [incident])
    _close(connection, session=session_id, what=clean(f"call {incident.call_id}: {incident.what}"))


def acknowledge(connection: Connection, key: bytes | None, session_id: str, *, note: str, at: str) -> str:
    """Open a session that an incident closed; the incident. Raises `LedgerError` if none closed it."""
    if not note.strip():
        raise LedgerError("an acknowledgement needs a note that says what was found")
    found = _incident(connection, session=session_id)
    if not found:
        raise LedgerError(f"no session {session_id} in the books")
    if found[0][0] is None:
        raise LedgerError(f"session {session_id} is open; no incident waits to be acknowledged")
    append(connection, key, session_id, at, [Acknowledged(note=note)])
    _open(connection, session=session_id)
    return str(found[0][0])


def erase(connection: Connection, key: bytes | None, session_id: str, *, note: str, at: str) -> int:
    """Remove the session's answers, and what is kept of its actions and approvals that have ended; how many there were.

    Erasing again tells nothing new.
    """
    if head_of(connection, session_id) is None:
        raise LedgerError(f"no session {session_id} in the books")
    erased = calls.erase(connection, session_id)
    lock_session(connection, session_id)
    erased += actions.erase(connection, session_id) + approvals.erase(connection, session_id)
    if erased:
        append(connection, key, session_id, at, [Erased(answers=erased, note=note)])
    return erased


def _scope(connection: Connection, account: str) -> str:
    """The scope that `account` means: itself, or the request or session of that id."""
    meant = [scope for scope in (account, f"request:{account}", f"session:{account}") if _exists(connection, one=scope)]
    if not meant:
        raise LedgerError(f"no request, session or account {account!r} in the books")
    if len(meant) > 1:
        raise LedgerError(f"{account!r} may be {' or '.join(meant)}; write one of them")
    return meant[0]


def _session_of(connection: Connection, scope: str) -> str:
    kind, _, name = scope.partition(":")
    if kind == "session":
        return name
    if follows_configuration(scope) or kind not in {"request", "agent"}:
        raise LedgerError(f"{describe_scope(scope)} is shared by sessions; change its cap in the budget instead")
    found = _owner(connection, request=name if kind == "request" else name.partition(":")[0])
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
