"""Intake: opens the request with an id and an opening time that a resume finds again in the state."""

import hashlib
from datetime import timedelta

from langchain_core.messages import AnyMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.types import Overwrite

from bursar.checkpoints.leases import lease_of
from bursar.checkpoints.ledger.accounts import Account
from bursar.checkpoints.ledger.requests import open_request, open_session
from bursar.checkpoints.ledger.transaction import Transaction
from bursar.nodes.context.coordinator import DEFAULT_TENANT, Coordinator, answer_id, scopes_of, setting, text_hash
from bursar.nodes.isolation.sync_bridge import Update
from bursar.nodes.runs.pauses_and_breakers import check_paused
from bursar.state.session import Plan, Request, SessionState
from bursar.state.spend import Spend


async def intake(coordinator: Coordinator, state: SessionState, config: RunnableConfig) -> Update:
    """Open the request in the ledger, and clear what the state has of the previous request.

    The request's id is derived from session, message and text, so that intake, run again after a crash, opens no second
    request and grants no second budget. If the last message is the previous request's answer, do nothing. Raises
    `Paused` if the tenant, or everything, is paused; then nothing is opened.
    """
    messages = state.get("messages", [])
    last = messages[-1] if messages else None
    if last is not None and (answered := state.get("request")) and last.id == answer_id(answered):
        return {}  # the last message is the answer of the last request: that answer is returned again
    session_id = setting(config, "thread_id") or coordinator.new_id()
    text = last.text if isinstance(last, HumanMessage) else ""
    opened_at = coordinator.clock()
    timeout = coordinator.timeout
    request = Request(
        id=_request_id(session_id, last),
        session_id=session_id,
        tenant=setting(config, "tenant") or DEFAULT_TENANT,
        text=text,
        opened_at=opened_at,
        deadline=None if timeout is None else opened_at + timedelta(seconds=timeout),
        budget=coordinator.budget.per_request,
    )
    budget = coordinator.budget
    caps = (budget.total, budget.per_tenant_day, budget.per_session, budget.per_request)[
        -len(scopes_of(request, budget)) :
    ]
    accounts = [
        Account(scope, None if cap is None else cap.nanos)
        for scope, cap in zip(scopes_of(request, budget), caps, strict=True)
    ]

    lease = lease_of(config)

    def open_books(transaction: Transaction) -> None:
        # Race: a pause may come after this check. The guardian, each run that may pay and each paid call check again.
        check_paused(coordinator, request, transaction)
        open_session(transaction, session_id, request.tenant, at=request.opened_at)
        open_request(
            transaction,
            session_id,
            request.id,
            accounts=accounts,
            text_hash=text_hash(text),
            at=request.opened_at,
            lease=None if lease is None else lease.event("taken"),
        )

    await coordinator.commit(open_books, request)
    return {
        "request": request,
        "plan": Plan(),
        "decisions": Overwrite([]),
        "runs": Overwrite([]),
        "gaps": [],
        "spend": Spend(budget=request.budget),
    }


def _request_id(session_id: str, last: AnyMessage | None) -> str:
    named = ("", "") if last is None else (last.id or "", last.text)
    return "r-" + hashlib.sha256("\x1f".join((session_id, *named)).encode()).hexdigest()[:20]
