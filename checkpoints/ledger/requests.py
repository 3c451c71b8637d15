"""Functions that open sessions and requests with their accounts, and close requests, each in a transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import bindparam, case, func, or_, select, update

from bursar.checkpoints.database.statement import Statement, insert_new
from bursar.checkpoints.ledger.accounts import Account, cap_of, check_id, follows_configuration, open_account, set_caps
from bursar.checkpoints.ledger.hash_chain import FIRST, append, stamp
from bursar.checkpoints.ledger.spend import spend_of
from bursar.checkpoints.ledger.transaction import Transaction
from bursar.checkpoints.schema.ledger_tables import calls, events, requests, sessions
from bursar.state.decision import Decision
from bursar.state.errors import LedgerError
from bursar.state.events import EVENTS, Decided, LeaseChanged, Planned, RequestClosed, RequestOpened
from bursar.state.money import USD
from bursar.state.spend import Spend
from bursar.state.text import clean

PAUSES = "bursar:pauses"  # the session id of the log of pauses, which is kept as a session's log is


RequestOpening = Literal["new", "open", "closed"]


@dataclass(frozen=True, slots=True)
class RequestHistory:
    """How a request was opened, and `since` then each decision and plan that was logged for it, in order."""

    opened_at: datetime
    opened: RequestOpened
    since: tuple[Decided | Planned, ...]


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A session in a list of sessions. `requests` is the number of its requests; `outcome` is the last one's outcome.

    `spent` is the cost of settled calls plus the holds of unknown calls, whose end nobody saw.
    """

    session_id: str
    tenant: str
    opened: datetime
    requests: int
    spent: USD
    outcome: str | None


def open_session(transaction: Transaction, session_id: str, tenant: str, *, at: datetime) -> None:
    """Open the session if it does not exist. A session that exists keeps its tenant.

    Raises `LedgerError` if an id is not valid.
    """
    check_id("session", session_id)
    if session_id == PAUSES:
        raise LedgerError(f"{PAUSES} is the log of pauses; name the session otherwise")
    check_id("tenant", tenant)
    new = {"sequence": 0, "head": FIRST, "incident": None}
    _open_session(transaction.connection, session_id=session_id, tenant=tenant, opened_at=stamp(at), **new)


def open_request(
    transaction: Transaction,
    session_id: str,
    request_id: str,
    *,
    accounts: Sequence[Account],
    text_hash: str,
    at: datetime,
    lease: LeaseChanged | None = None,
    parent: str | None = None,
    tenant: str = "",
    deadline: datetime | None = None,
) -> RequestOpening:
    """Open the request and its `accounts` if they do not exist. Return whether it is `new`, was `open`, or is `closed`.

    If it was closed before, nothing is changed, and the caller opens another one.

    If the request is new, each of `accounts` that belongs to the session, the tenant's day or the ledger gets the given
    cap plus the account's top-ups. If the request is opened again, no cap and no spend changes: it gets no new budget.
    `parent` is the request whose run made this one; `tenant` and `deadline` are logged for `read_history`. If the
    request is new, `lease`, if any, is logged first. Raises `LedgerError` if another session has the request.
    """
    check_id("request", request_id)
    when = stamp(at)
    # Race: if two open the same request, one of the inserts changes nothing, and only the other sets caps.
    new = _open_request.changes(
        transaction.connection,
        request_id=request_id,
        session_id=session_id,
        text_hash=text_hash,
        opened_at=when,
        closed_at=None,
        outcome=None,
        parent=parent,
    )
    if not new and not _is_open(transaction, session_id, request_id):
        return "closed"
    configured = [account for account in accounts if follows_configuration(account.scope)]
    if new:
        set_caps(transaction, configured)
    for account in accounts:
        if not new or account not in configured:
            open_account(transaction, account)
    if not new:
        return "open"
    cap = cap_of(transaction, f"request:{request_id}")
    caps = {account.scope: _dollars(account.cap) for account in configured}
    opened = RequestOpened(
        request_id=request_id,
        text_hash=text_hash,
        budget=_dollars(cap),
        caps=caps,
        parent=parent,
        tenant=tenant,
        deadline=deadline,
    )
    append(transaction, session_id, when, [opened] if lease is None else [lease, opened])
    return "new"


def read_history(transaction: Transaction, session_id: str, request_id: str) -> RequestHistory:
    """Return how the request was opened, and what was decided and planned for it since.

    Raises `LedgerError` if the session's log has no such request.
    """
    rows = _told_of(transaction.connection, session=session_id, request=f"%{request_id}%")
    told = [(datetime.fromisoformat(at), EVENTS.validate_json(payload)) for at, payload in rows]
    opened = next(
        ((at, event) for at, event in told if isinstance(event, RequestOpened) and event.request_id == request_id), None
    )
    if opened is None:
        raise LedgerError(f"no request {request_id} in the log of its session")
    since = [event for _, event in told if isinstance(event, Decided | Planned) and event.request_id == request_id]
    return RequestHistory(opened[0], opened[1], tuple(since))


def close_request(
    transaction: Transaction,
    session_id: str,
    request_id: str,
    *,
    outcome: str,
    at: datetime,
    decisions: Sequence[Decision] = (),
) -> Spend:
    """Close the request with `outcome`, and return what it was charged. A closed request keeps its first outcome.

    If this closes it, the `decisions` about its answer are logged before.

    Raises `LedgerError` if the session has no such request.
    """
    when = stamp(at)
    # Race: if two close the same request, one of the updates changes nothing, and only the other logs it.
    closed = _close_request.changes(
        transaction.connection, request=request_id, session=session_id, closed=when, result=clean(outcome)
    )
    if not closed:
        _is_open(transaction, session_id, request_id)
    spend = spend_of(transaction, f"request:{request_id}")
    if not closed:
        return spend
    event = RequestClosed(request_id=request_id, outcome=outcome, spent=spend.spent + spend.held)
    decided = [Decided(request_id=request_id, decision=decision) for decision in decisions]
    append(transaction, session_id, when, [*decided, event])
    return spend


def list_sessions(transaction: Transaction) -> list[SessionRow]:
    """Return every session, the newest first."""
    count: dict[str, int] = {}
    outcome: dict[str, str | None] = {}
    spent: dict[str, int] = {}
    asked = select(requests.c.session_id, requests.c.outcome).where(requests.c.parent.is_(None))
    opened = asked.order_by(requests.c.opened_at, requests.c.request_id)
    for session_id, last in transaction.connection.execute(opened):
        count[session_id] = count.get(session_id, 0) + 1
        outcome[session_id] = last
    charge = func.sum(case((calls.c.state == "unknown", calls.c.amount), else_=calls.c.cost))
    charges = select(calls.c.session_id, charge).group_by(calls.c.session_id)
    for session_id, total in transaction.connection.execute(charges):
        spent[session_id] = int(total or 0)
    columns = sessions.c
    query = (
        select(columns.session_id, columns.tenant, columns.opened_at)
        .where(columns.session_id != PAUSES)
        .order_by(columns.opened_at.desc(), columns.session_id)
    )
    return [
        SessionRow(
            name,
            tenant,
            datetime.fromisoformat(at),
            count.get(name, 0),
            USD.from_nanos(spent.get(name, 0)),
            outcome.get(name),
        )
        for name, tenant, at in transaction.connection.execute(query)
    ]


def _is_open(transaction: Transaction, session_id: str, request_id: str) -> bool:
    """Return whether the session's request is open. Raises `LedgerError` if the session has no such request."""
    found = _owner(transaction.connection, request=request_id)
    if not found:
        raise LedgerError(f"no request {request_id} in the books")
    if found[0][0] != session_id:
        raise LedgerError(f"request {request_id} belongs to another session; a request id is used once")
    return found[0][1] is None


def _dollars(nanos: int | None) -> USD | None:
    return None if nanos is None else USD.from_nanos(nanos)


_open_session = insert_new(sessions)
_open_request = insert_new(requests)
_close_request = Statement(
    update(requests)
    .values(closed_at=bindparam("closed"), outcome=bindparam("result"))
    .where(
        requests.c.request_id == bindparam("request"),
        requests.c.session_id == bindparam("session"),
        requests.c.closed_at.is_(None),
    )
)
_owner = Statement(
    select(requests.c.session_id, requests.c.closed_at).where(requests.c.request_id == bindparam("request"))
)
_told_of = Statement(
    select(events.c.at, events.c.payload)
    .where(
        events.c.session_id == bindparam("session"),
        or_(events.c.kind == "request_opened", events.c.kind == "decided", events.c.kind == "planned"),
        events.c.payload.like(bindparam("request")),
    )
    .order_by(events.c.sequence)
)
