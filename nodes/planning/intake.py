"""Intake: opens the request with an id and an opening time that a resume finds again in the state."""

import hashlib
from collections.abc import Sequence
from datetime import timedelta
from functools import partial

from langchain_core.messages import AnyMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.types import Overwrite

from bursar.checkpoints.leases import lease_of
from bursar.checkpoints.ledger.accounts import Account
from bursar.checkpoints.ledger.requests import open_request, open_session
from bursar.checkpoints.ledger.transaction import Transaction
from bursar.nodes.context.coordinator import DEFAULT_TENANT, Coordinator, answer_id, scopes_of, setting, text_hash
from bursar.nodes.gateway.scope import Scope, enclosing_scope
from bursar.nodes.isolation.sync_bridge import Update
from bursar.nodes.runs.pauses_and_breakers import check_paused
from bursar.state.budget import Budget
from bursar.state.errors import ConfigurationError, LedgerError
from bursar.state.events import LeaseChanged
from bursar.state.session import Plan, Request, SessionState
from bursar.state.spend import Spend

MAX_ANSWERS = 1_000  # requests for one message of the user


async def intake(coordinator: Coordinator, state: SessionState, config: RunnableConfig) -> Update:
    """Open the request in the ledger, and clear what the state has of the previous request.

    The request's id is derived from session, message and text, so that intake, run again after a crash, opens no
    second request and grants no second budget. If that request has its answer already, the user wants another one:
    a new request is opened for it, whose id counts the earlier ones. If the last message is the previous request's
    answer, do nothing. Raises `Paused` if the tenant, or everything, is paused; then nothing is opened.
    """
    messages = state.get("messages", [])
    last = messages[-1] if messages else None
    if last is not None and (answered := state.get("request")) and last.id == answer_id(answered):
        return {}  # the last message is the answer of the last request: that answer is returned again
    outer = _outer_run(coordinator)
    session_id = setting(config, "thread_id") or coordinator.new_id()
    made_by = (session_id,) if outer is None else (outer.session_id, outer.request_id, outer.agent, session_id)
    text = last.text if isinstance(last, HumanMessage) else ""
    opened_at = coordinator.clock()
    timeout = coordinator.timeout
    request = Request(
        id=_request_id(made_by, last),
        session_id=session_id if outer is None else outer.session_id,
        tenant=(setting(config, "tenant") or DEFAULT_TENANT) if outer is None else outer.tenant,
        text=text,
        opened_at=opened_at,
        deadline=None if timeout is None else opened_at + timedelta(seconds=timeout),
        budget=coordinator.budget.per_request,
        parent=None if outer is None else outer.request_id,
        above=() if outer is None else outer.scopes,
    )
    lease = lease_of(config)
    logged = None if lease is None or outer is not None else lease.event("taken")
    # Those that the outer run's first call would open, as on a path of agents: a call of this request may come first.
    above = [] if outer is None else [Account(scope, None) for scope in outer.opens]
    opening = partial(_open_books, coordinator=coordinator, request=request, above=above, lease=logged)
    request = await coordinator.commit(opening, request)
    return {
        "request": request,
        "plan": Plan(),
        "decisions": Overwrite([]),
        "runs": Overwrite([]),
        "gaps": [],
        "spend": Spend(budget=request.budget),
    }


def _open_books(
    transaction: Transaction,
    *,
    coordinator: Coordinator,
    request: Request,
    above: Sequence[Account],
    lease: LeaseChanged | None,
) -> Request:
    """Open the request with its session and accounts; if it has its answer already, open the next one for its message.

    Returns the request that is open now. `above` are accounts to open too, and `lease` is logged before the request.
    """
    # Race: a pause may come after this check. The guardian, each run that may pay and each paid call check again.
    check_paused(coordinator, request, transaction)
    open_session(transaction, request.session_id, request.tenant, at=request.opened_at)
    for again in range(MAX_ANSWERS):
        opened = request if not again else request.model_copy(update={"id": f"{request.id}-{again}"})
        if open_request(
            transaction,
            opened.session_id,
            opened.id,
            accounts=[*above, *_own_accounts(opened, coordinator.budget)],
            text_hash=text_hash(opened.text),
            at=opened.opened_at,
            lease=lease,
            parent=opened.parent,
        ):
            return opened
    raise LedgerError(f"request {request.id} was answered {MAX_ANSWERS} times; ask with a new message")


def _outer_run(coordinator: Coordinator) -> Scope | None:
    """Return the run of another supervisor that this request is made in, None if a user makes it.

    Raises `ConfigurationError` if that supervisor has another ledger: nobody could hold its accounts there.
    """
    outer = enclosing_scope()
    theirs, ours = (None if outer is None else outer.ledger), coordinator.ledger
    if outer is not None and theirs is not None and (theirs.database, theirs.key) != (ours.database, ours.key):
        raise ConfigurationError(
            f"{outer.agent} runs another supervisor inside, on another ledger, where its budget does not hold; "
            "give both the same Ledger"
        )
    return outer


def _own_accounts(request: Request, budget: Budget) -> list[Account]:
    """Return the accounts to open with their caps: inside another supervisor's run only the request's own.

    The caps of the session, the tenant's day and the ledger are the outer supervisor's there.
    """
    scopes = scopes_of(request, budget)
    if request.parent is not None:
        return [Account(scopes[-1], request.budget.nanos)]
    caps = (budget.total, budget.per_tenant_day, budget.per_session, budget.per_request)[-len(scopes) :]
    return [Account(scope, None if cap is None else cap.nanos) for scope, cap in zip(scopes, caps, strict=True)]


def _request_id(made_by: tuple[str, ...], last: AnyMessage | None) -> str:
    named = ("", "") if last is None else (last.id or "", last.text)
    return "r-" + hashlib.sha256("\x1f".join((*made_by, *named)).encode()).hexdigest()[:20]
