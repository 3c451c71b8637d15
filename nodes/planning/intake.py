"""Intake: opens the request with an id, a time and a deadline that are found again if the node runs again."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TypeAlias

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, RemoveMessage
from langchain_core.runnables import RunnableConfig
from langgraph.types import Overwrite

from bursar.checkpoints.leases import lease_of
from bursar.checkpoints.ledger.accounts import Account
from bursar.checkpoints.ledger.requests import open_request, open_session, read_history
from bursar.checkpoints.ledger.transaction import Transaction
from bursar.nodes.context.conversation import question_of
from bursar.nodes.context.coordinator import (
    DEFAULT_TENANT,
    Coordinator,
    answer_id,
    check_covered,
    scopes_of,
    setting,
    text_hash,
)
from bursar.nodes.gateway.paid_calls.scope import Scope, enclosing_scope
from bursar.nodes.isolation.sync_bridge import Update
from bursar.nodes.observers.request_observers import current_request
from bursar.nodes.runs.pauses_and_breakers import check_paused
from bursar.state.budget import Budget
from bursar.state.errors import ConfigurationError, LedgerError
from bursar.state.events import Decided, LeaseChanged, Planned
from bursar.state.run import Report
from bursar.state.session import Plan, Request, SessionState
from bursar.state.spend import Spend

MAX_ANSWERS = 1_000  # requests for one message of the user
Opening: TypeAlias = Callable[[Transaction], tuple[Request, Sequence[Decided | Planned]]]


@dataclass(frozen=True, slots=True)
class OpenedRequest:
    """The request that intake opened, or that was open before, with the conversation up to its message.

    `update` clears what the state has of the previous request. `since` has each decision and plan that was logged for
    the request already, in order: the supervisor's node runs again after a crash.
    """

    request: Request
    messages: Sequence[AnyMessage]
    update: Update
    since: Sequence[Decided | Planned]


async def intake(coordinator: Coordinator, state: SessionState, config: RunnableConfig) -> OpenedRequest | None:
    """Open the request in the ledger.

    The request's id is derived from session, message and text, so that intake, run again after a crash, opens no
    second request and grants no second budget: what the request was opened with is read back. If that request has its
    answer already, the user wants another one: a new request is opened for it, whose id counts the earlier ones. If the
    user sends an earlier message again, what came after it leaves the conversation, as in a fork. If the last message
    is the previous request's answer, and the user sends none again, do nothing, and return None. Raises `Paused` if the
    tenant, or everything, is paused; then nothing is opened.
    """
    messages, later = _sent_again(state)
    last = messages[-1] if messages else None
    if isinstance(last, AIMessage) and (answered := state.get("request")) and last.id == answer_id(answered):
        return None  # the last message is the answer of the last request: that answer is returned again
    asked, opening = opening_of(coordinator, last, config, state)
    request, since = await coordinator.commit(opening, asked)
    if (observers := current_request()) is not None:
        request = request.model_copy(update={"trace": observers.trace()})
        observers.opened(request, resumed=False)
    update: Update = {
        "messages": [RemoveMessage(id=message.id or "") for message in later],
        "request": request,
        "plan": Plan(),
        "decisions": Overwrite([]),
        "runs": Overwrite([]),
        "reports": dict[str, Report](),
        "gaps": list[str](),
        "spend": Spend(budget=request.budget),
    }
    return OpenedRequest(request, messages, update, since)


def opening_of(
    coordinator: Coordinator, last: AnyMessage | None, config: RunnableConfig, state: SessionState
) -> tuple[Request, Opening]:
    """Return the request for the message `last` as it is to be opened, and what opens it in a transaction."""
    around = enclosing_scope()
    # A run on another ledger pays a price for this request, which is opened here as a user's.
    outer = around if around is not None and around.is_on(coordinator.ledger) else None
    if outer is not None and outer.covers is not None:
        raise ConfigurationError(
            f"{outer.agent} has a price, which fills its account, and runs a supervisor on the same ledger inside; "
            "give it no price: what the supervisor spends is charged to its account"
        )
    asked = _asked(coordinator, last, config, outer=outer, state=state)
    lease = lease_of(config)
    taken = lease is not None and (around is None or (outer is None and lease != around.lease))
    logged = lease.event("taken") if lease is not None and taken else None
    # Those that the outer run's first call would open, as on a path of agents: a call of this request may come first.
    above = [] if outer is None else [Account(scope, None) for scope in outer.opens]
    opening = partial(_open_books, coordinator=coordinator, request=asked, above=above, around=around, lease=logged)
    return asked, opening


def is_under_way(state: SessionState, config: RunnableConfig) -> bool:
    """Whether the node runs again for the request in the state: no input has come since, and the message is the same.

    Each input has `asked`, see `SessionInput`.
    """
    messages = state.get("messages", [])
    if "request" not in state or "asked" in state or not messages:
        return False
    request = state["request"]
    outer, session_id = enclosing_scope(), setting(config, "thread_id")
    if not session_id:
        return True  # nothing is kept between the runs of such a graph
    if outer is not None and request.parent is None:
        outer = None
    return request.id.startswith(_request_id(_made_by(outer, session_id), messages[-1]))


def _asked(
    coordinator: Coordinator,
    last: AnyMessage | None,
    config: RunnableConfig,
    *,
    outer: Scope | None,
    state: SessionState,
) -> Request:
    """Return the request for the message `last` as it is to be opened, if it is not open yet."""
    session_id = setting(config, "thread_id") or coordinator.new_id()
    opened_at, timeout = coordinator.clock(), coordinator.timeout
    return Request(
        id=_request_id(_made_by(outer, session_id), last),
        session_id=session_id if outer is None else outer.session_id,
        tenant=(setting(config, "tenant") or DEFAULT_TENANT) if outer is None else outer.tenant,
        text=question_of(last),
        opened_at=opened_at,
        deadline=None if timeout is None else opened_at + timedelta(seconds=timeout),
        budget=coordinator.budget.per_request,
        parent=None if outer is None else outer.request_id,
        above=() if outer is None else outer.scopes,
        undeclared=state.get("undeclared", ()),
        previous=_answered_last(state),
    )


def _answered_last(state: SessionState) -> tuple[str, ...]:
    """Return the specialists that answered last: for the request before or, if nobody did, earlier."""
    if "request" not in state:
        return ()
    given = state.get("reports", {})
    answered = (step.specialist for step in state.get("plan", Plan()).steps if step.name in given)
    return tuple(dict.fromkeys(answered)) or state["request"].previous


def _sent_again(state: SessionState) -> tuple[list[AnyMessage], list[AnyMessage]]:
    """Return the conversation up to the message that the user sends now, and what came after it if it is sent again."""
    messages, sent = state.get("messages", []), state.get("asked", [])
    for place, message in enumerate(messages, start=1):
        if sent and message.id == sent[-1] and isinstance(message, HumanMessage):
            later = messages[place:]
            # What the user sends beside it, and the conversation has behind it, is new and stays.
            return (messages, []) if any(one.id in sent for one in later) else (messages[:place], later)
    return messages, []


def _open_books(
    transaction: Transaction,
    *,
    coordinator: Coordinator,
    request: Request,
    above: Sequence[Account],
    around: Scope | None,
    lease: LeaseChanged | None,
) -> tuple[Request, Sequence[Decided | Planned]]:
    """Open the request with its session and accounts; if it has its answer already, open the next one for its message.

    Returns the request that is open now, and what was decided and planned for it already. If it was open before, it has
    the tenant, the times and the budget that it was opened with. `above` are accounts to open too, and `lease` is
    logged before the request. `around` is the run of another supervisor that makes it. Raises `ConfigurationError` if
    that run is on another ledger, and its price does not cover the request; then nothing is opened.
    """
    # Race: a pause may come after this check. The guardian, each run that may pay and each paid call check again.
    check_paused(coordinator, request, transaction)
    open_session(transaction, request.session_id, request.tenant, at=request.opened_at)
    for again in range(MAX_ANSWERS):
        opened = request if not again else request.model_copy(update={"id": f"{request.id}-{again}"})
        opening = open_request(
            transaction,
            opened.session_id,
            opened.id,
            accounts=[*above, *_own_accounts(opened, coordinator.budget)],
            text_hash=text_hash(opened.text),
            at=opened.opened_at,
            lease=lease,
            parent=opened.parent,
            tenant=opened.tenant,
            deadline=opened.deadline,
        )
        if opening == "closed":
            continue
        if around is not None and opened.parent is None:
            check_covered(coordinator, opened, around)
        return _as_opened(transaction, opened) if opening == "open" else (opened, ())
    raise LedgerError(f"request {request.id} was answered {MAX_ANSWERS} times; ask with a new message")


def _as_opened(transaction: Transaction, request: Request) -> tuple[Request, Sequence[Decided | Planned]]:
    before = read_history(transaction, request.session_id, request.id)
    as_then = {"opened_at": before.opened_at, "deadline": before.opened.deadline, "tenant": before.opened.tenant}
    budget = before.opened.budget or request.budget
    return request.model_copy(update={**as_then, "budget": budget}), before.since


def _own_accounts(request: Request, budget: Budget) -> list[Account]:
    """Return the accounts to open with their caps: inside another supervisor's run only the request's own.

    The caps of the session, the tenant's day and the ledger are the outer supervisor's there.
    """
    scopes = scopes_of(request, budget)
    if request.parent is not None:
        return [Account(scopes[-1], request.budget.nanos)]
    caps = (budget.total, budget.per_tenant_day, budget.per_session, budget.per_request)[-len(scopes) :]
    return [Account(scope, None if cap is None else cap.nanos) for scope, cap in zip(scopes, caps, strict=True)]


def _made_by(outer: Scope | None, session_id: str) -> tuple[str, ...]:
    return (session_id,) if outer is None else (outer.session_id, outer.request_id, outer.agent, session_id)


def _request_id(made_by: tuple[str, ...], last: AnyMessage | None) -> str:
    named = ("", "") if last is None else (last.id or "", last.text)
    return "r-" + hashlib.sha256("\x1f".join((*made_by, *named)).encode()).hexdigest()[:20]
