"""Raises of a request's budget: at the cap the graph stops, and a person raises the budget once, or denies."""

from dataclasses import dataclass
from functools import partial
from typing import NoReturn

from langchain_core.runnables import RunnableConfig
from langgraph.types import interrupt

from bursar.checkpoints.ledger import approvals as rows
from bursar.checkpoints.ledger.accounts import cap_and_charge, left
from bursar.checkpoints.ledger.administration import RAISED_ONCE, raise_budget
from bursar.checkpoints.ledger.approvals import ApprovalQuery, ApprovalRecord
from bursar.checkpoints.ledger.transaction import Transaction
from bursar.nodes.actions.approvals import MAX_ANSWERS, await_approval, can_wait
from bursar.nodes.context.coordinator import Coordinator, agent_scope, checkpoint_ns, scopes_of
from bursar.nodes.context.outcome import RunVerdict
from bursar.nodes.gateway.paid_calls.flow import Commit, Flow, adrive, do
from bursar.nodes.gateway.paid_calls.scope import Scope
from bursar.nodes.gateway.unmetered_guard import forbid_unmetered
from bursar.nodes.specialists.approval_policy import ActionContext
from bursar.nodes.specialists.chain import Link
from bursar.state.approval import RAISE, BudgetRaise
from bursar.state.money import USD, ZERO
from bursar.state.refusals import BudgetExceeded, NotApproved
from bursar.state.rules.plans import raise_for
from bursar.state.run import Limit
from bursar.state.session import Request


@dataclass(frozen=True, slots=True)
class StoppedStep:
    """A step that a request's budget stopped. It needs `needs` nano-dollars to go on, and `wants` for all that it may.

    `what` is the step in words. If what was left of the budget narrowed the cap of the account `agent`, it did so by
    `narrowed` nano-dollars.
    """

    what: str
    needs: int
    wants: int
    agent: str = ""
    narrowed: int = 0


async def settle_raise(coordinator: Coordinator, request: Request, *, config: RunnableConfig) -> ApprovalRecord | None:
    """Settle the raise that this node asked for, and return it as it is then; None if the node asked for none.

    If a person approved it, the budget is raised, once, however many resumes read the answer. If the request's budget
    was raised for another node meanwhile, the raise is withdrawn. Raises `GraphInterrupt` until a person has answered.
    """
    if not coordinator.asks:
        return None
    asked = await coordinator.commit(partial(_asked_here, request=request, place=checkpoint_ns(config)), request)
    if asked is None or not asked.is_open:
        return asked
    with forbid_unmetered(config):
        await adrive(_settled(coordinator, asked))
    return await coordinator.commit(partial(rows.find, approval_id=asked.approval_id), request)


def may_ask(coordinator: Coordinator, config: RunnableConfig) -> bool:
    """Whether a person is asked at the cap, and the graph can wait for the answer."""
    return coordinator.asks and can_wait(config)


async def ask_for_run(
    coordinator: Coordinator, scope: Scope, link: Link, why: RunVerdict, *, config: RunnableConfig
) -> RunVerdict:
    """If the request's budget stopped the run, and a raise lets it go on, stop the graph and ask a person for it.

    The run then has no outcome: its node runs again once the person has answered. Otherwise return `why`, the outcome;
    its reason says so if more budget was denied or the budget was raised before. Raises `GraphInterrupt`.
    """
    refusal, acting = scope.refusal, scope.acting
    if why.limit not in (Limit.BUDGET, Limit.CEILING) or not may_ask(coordinator, config):
        return why
    if acting is None or not isinstance(refusal, BudgetExceeded):
        return why

    def work(transaction: Transaction) -> BudgetRaise | str:
        step = _stopped_call(transaction, acting, link, refusal)
        if step is None:
            return ""
        ended = ended_raise(transaction, acting.request)
        return ended or propose_raise(transaction, coordinator, acting.request, step) or ""

    asked = await coordinator.commit(work, acting.request)
    if isinstance(asked, BudgetRaise):
        await stop_and_ask(coordinator, acting.request, acting.specialist, asked, config=config)
    return why.adding(asked or "")


async def stop_and_ask(
    coordinator: Coordinator, request: Request, who: str, wanted: BudgetRaise, *, config: RunnableConfig
) -> NoReturn:
    """Write to the ledger that a person is asked for the raise, and stop the graph: raises `GraphInterrupt`.

    `settle_raise` reads the answer when the node runs again.
    """
    acting = ActionContext(request, who, wanted.amount, coordinator.approvals)
    what = f"raise the request's budget of {wanted.budget} by {wanted.amount}: {wanted.why}"
    shown = acting.ask(what, now=coordinator.clock(), action=RAISE, budget_raise=wanted)
    asking = ApprovalQuery(shown, checkpoint_ns(config))
    asked, _ = await coordinator.commit(partial(rows.ask, asking=asking, at=coordinator.clock()), request, durable=True)
    with forbid_unmetered(config):
        for _ in range(MAX_ANSWERS):  # what the node was resumed with earlier answers other questions
            interrupt(asked.shown)
    raise NotApproved("the node was resumed too often")


def propose_raise(
    transaction: Transaction, coordinator: Coordinator, request: Request, step: StoppedStep
) -> BudgetRaise | None:
    """Return the raise of the request's budget with which the step goes on; None if no raise lets it go on."""
    own = f"request:{request.id}"
    cap, charged = cap_and_charge(transaction, own)
    if cap is None:
        return None
    room = cap - charged
    above = left(transaction, scopes_of(request, coordinator.budget)[:-1])
    nanos = raise_for(needs=step.needs, wants=step.wants, room=room, above=above)
    if not nanos:
        return None
    amount, narrowed = USD.from_nanos(nanos), min(nanos, step.narrowed)
    why = f"{step.what} needs {USD.from_nanos(step.needs)}, and {max(USD.from_nanos(room), ZERO)} is left"
    if nanos < step.wants - room:
        why += f"; session, tenant and all above have no more than {amount} for it"
    return BudgetRaise(
        spent=USD.from_nanos(charged),
        budget=USD.from_nanos(cap),
        needs=USD.from_nanos(step.needs),
        amount=amount,
        why=why,
        accounts={own: amount, **({step.agent: USD.from_nanos(narrowed)} if narrowed > 0 else {})},
    )


def ended_raise(transaction: Transaction, request: Request) -> str:
    """Return why nobody is asked to raise the request's budget any more; "" if somebody may be asked."""
    ended = [one for one in rows.raises_of(transaction, request.session_id, request.id) if not one.is_open]
    if any(one.state == "used" for one in ended):
        return RAISED_ONCE
    return not_raised(ended[-1]) if ended else ""


def not_raised(asked: ApprovalRecord) -> str:
    """Return, for the gaps of the answer, why a raise that has ended was not used."""
    return f"more budget was not approved: {asked.reason}"


def added_to(account: str, asked: ApprovalRecord | None) -> USD:
    """Return by how much the raise has raised the cap of `account`; nothing if it was not used."""
    if asked is None or asked.state != "used" or asked.shown is None or asked.shown.budget_raise is None:
        return ZERO
    return asked.shown.budget_raise.accounts.get(account, ZERO)


def _asked_here(transaction: Transaction, *, request: Request, place: str) -> ApprovalRecord | None:
    asked = rows.raises_of(transaction, request.session_id, request.id)
    return next((one for one in asked if one.checkpoint_ns == place), None)


def _settled(coordinator: Coordinator, asked: ApprovalRecord) -> Flow[None]:
    """Read the answer to the raise, and use the raise up. If it cannot be used, end it with the reason."""
    ledger, clock = coordinator.ledger, coordinator.clock
    why = RAISED_ONCE
    try:
        raised = yield from do(Commit(ledger.database, ledger.bind(_is_raised, asked)))
        if not raised and asked.shown is not None:
            asking = ApprovalQuery(asked.shown, asked.checkpoint_ns)
            approval = yield from await_approval(ledger, coordinator.approvals, asking, clock)
            # Race: another resume may use the approval first. Then this raises, and what was used is left as it is.
            yield from do(Commit(ledger.database, ledger.bind(raise_budget, approval, at=clock()), outlast=True))
            return
    except NotApproved as error:
        why = str(error)
    yield from do(Commit(ledger.database, ledger.bind(rows.withdraw, asked.approval_id, why, at=clock())))


def _is_raised(transaction: Transaction, asked: ApprovalRecord) -> bool:
    return any(one.state == "used" for one in rows.raises_of(transaction, asked.session_id, asked.request_id))


def _stopped_call(
    transaction: Transaction, acting: ActionContext, link: Link, refusal: BudgetExceeded
) -> StoppedStep | None:
    """Return the run's step that was refused; None if something else than the request's budget stopped it.

    The agent's own account counts as the request's budget if what was left of that budget narrowed it.
    """
    request, agent = acting.request, agent_scope(acting.request, link.agent)
    cap, charged = cap_and_charge(transaction, agent)
    narrowed = 0 if cap is None else link.ceiling.nanos - cap
    by_budget = refusal.scope == f"request:{request.id}" or (refusal.scope == agent and narrowed > 0)
    if not by_budget:
        return None
    wants = link.ceiling.nanos - charged
    return StoppedStep(f"the next call of {acting.specialist}", refusal.needs, wants, agent, narrowed)
