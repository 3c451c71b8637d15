"""The guardian: admits the plan under what is left in every account; starts a fallback if there is no room."""

from collections.abc import Mapping
from datetime import datetime

from langchain_core.runnables import RunnableConfig

from bursar.checkpoints.ledger.accounts import Account, open_account
from bursar.checkpoints.ledger.postings import record
from bursar.checkpoints.ledger.transaction import Transaction
from bursar.nodes.actions.budget_raises import (
    StoppedStep,
    ended_raise,
    may_ask,
    not_raised,
    propose_raise,
    settle_raise,
    stop_and_ask,
)
from bursar.nodes.context.coordinator import Coordinator, agent_scope
from bursar.nodes.runs.pauses_and_breakers import StartBlock, mark_watched, standing_of, start_blocks
from bursar.state.approval import BudgetRaise
from bursar.state.decision import Considered, Decision, Step
from bursar.state.errors import BursarError
from bursar.state.events import Decided, Planned
from bursar.state.money import USD, ZERO
from bursar.state.rules.plans import PlanCut, PricedStep, allowance, price_plan
from bursar.state.session import Plan, Request


class _AskFirstError(BursarError):
    """Raised to roll the admission back, because a person is asked to raise the request's budget by `wanted` before."""

    def __init__(self, wanted: BudgetRaise, who: str) -> None:
        super().__init__(wanted.why)
        self.wanted = wanted
        self.who = who


async def guard(
    coordinator: Coordinator, request: Request, plan: Plan, config: RunnableConfig
) -> tuple[Plan, Decision]:
    """Price the plan before any specialist starts, and open the accounts of the specialists that may pay.

    Both happen in one transaction. An account is capped at the specialist's ceiling or at what is left, whichever is
    less. If a specialist's expected cost does not fit what is left of request, session and tenant, the specialist
    starts with its first fallback that costs nothing. A paused specialist also starts with that fallback; if it has no
    such fallback, it is denied. If a specialist's breaker is open, the specialist starts with its first fallback.

    If a person is asked at the cap, and the request's budget alone keeps a specialist from starting, nothing is written
    before the person has answered: raises `GraphInterrupt`. Raises `Paused` if the tenant, or everything, is paused:
    the request then waits unchanged.
    """
    gone = tuple(step for step in plan.steps if step.specialist not in coordinator.all_chains)  # the report names them
    plan = plan.model_copy(update={"steps": tuple(step for step in plan.steps if step not in gone)}) if gone else plan
    asked = await settle_raise(coordinator, request, config=config)
    refused = ""
    if asked is not None and asked.state == "used":
        plan = _begun_anew(plan)
    elif asked is not None:
        refused = f"; {not_raised(asked)}"

    def admit(transaction: Transaction) -> tuple[Plan, Decision]:
        # Race: another request may take this money after the read. Each hold of a paid call checks its accounts again.
        now = standing_of(coordinator, request, plan, transaction)
        stopped = start_blocks(coordinator, request, plan, now, transaction)
        room = request.budget if now.left is None else max(USD.from_nanos(now.left), ZERO)
        admitted, decision = price(coordinator, plan, room, stopped, refused)
        if may_ask(coordinator, config):
            _ask_first(transaction, coordinator, request, plan, decision)
        if now.breakers:
            admitted = mark_watched(coordinator, request, admitted, now, transaction)
        for step in admitted.steps:
            if not step.chain_index and coordinator.all_chains[step.specialist].links[step.chain_index].paid:
                open_account(transaction, Account(agent_scope(request, step.name), step.allowance.nanos))
        admitted = admitted.model_copy(update={"steps": (*admitted.steps, *gone)}) if gone else admitted
        record_plan(transaction, request, admitted, decision, at=coordinator.clock())
        return admitted, decision

    try:
        return await coordinator.commit(admit, request)
    except _AskFirstError as first:
        await stop_and_ask(coordinator, request, first.who, first.wanted, config=config)


def record_plan(transaction: Transaction, request: Request, plan: Plan, decision: Decision, *, at: datetime) -> None:
    """Write the decision to the log, with the round's steps of the plan as they are after it."""
    decided = Decided(request_id=request.id, decision=decision, round=plan.round, place=plan.place)
    record(transaction, request.session_id, decided, at=at)
    planned = Planned(
        request_id=request.id,
        by=decision.by,
        round=plan.round,
        place=plan.place,
        steps=tuple(step for step in plan.steps if step.round == plan.round),
        denied=plan.denied,
    )
    record(transaction, request.session_id, planned, at=at)


def _begun_anew(plan: Plan) -> Plan:
    """Return the plan in which each specialist starts with its own handler, as before the supervisor cut any."""
    steps = [step.model_copy(update={"chain_index": 0, "skip_reason": ""}) for step in plan.steps]
    return plan.model_copy(update={"steps": tuple(steps)})


def _ask_first(
    transaction: Transaction, coordinator: Coordinator, request: Request, plan: Plan, decision: Decision
) -> None:
    """Raise `_AskFirstError` if a raise of the request's budget lets a specialist start that the decision cuts."""
    chains = coordinator.all_chains
    wants = {step.name: step.expects or chains[step.specialist].specialist.cap for step in plan.steps}
    cut = [one.name for one in decision.candidates if one.verdict == "budget"]
    if not cut or ended_raise(transaction, request):
        return
    chosen = sum(one.expected_cost.nanos for one in decision.candidates if one.verdict == "chosen")
    step = StoppedStep(
        f"the plan with {' and '.join(cut)}",
        needs=chosen + min(wants[name].nanos for name in cut),
        wants=chosen + sum(wants[name].nanos for name in cut),
    )
    wanted = propose_raise(transaction, coordinator, request, step)
    if wanted is not None:
        raise _AskFirstError(wanted, ", ".join(cut))


def price(
    coordinator: Coordinator, plan: Plan, left: USD, stopped: Mapping[str, StartBlock], refused: str
) -> tuple[Plan, Decision]:
    """Return the plan as it may start with `left` to be spent, and the decision that says so. Nothing is written.

    The whole plan is priced, all its waves. What its composer is expected to cost is kept back. What does not fit is
    cut: it starts with its first free fallback, and so does a step that needs it. `stopped` has steps that may not
    start with their own handler, and `refused` is added to each cut's reason.
    """
    room = max(left - coordinator.composer_share, ZERO)
    cuts = price_plan([_priced(coordinator, step, stopped) for step in plan.steps], room.nanos)
    steps: list[Step] = []
    judged: list[Considered] = []
    denied = list(plan.denied)
    for step in plan.steps:
        chain = coordinator.all_chains[step.specialist]
        why, stop = step.skip_reason, stopped.get(step.name)
        fits = stop is None and not step.skip_reason and step.name not in cuts
        if fits:
            most = allowance(ceiling=chain.specialist.cap.nanos, left=room.nanos)
            steps.append(step.model_copy(update={"allowance": USD.from_nanos(most)}))
        elif stop is None:
            why = (step.skip_reason or _reason(step, cuts[step.name])) + refused
            cut = {"chain_index": chain.first_free, "allowance": ZERO, "skip_reason": why}
            steps.append(step.model_copy(update=cut))
        elif stop.level is None:
            why = stop.reason
            denied.append((step.name, why))
        else:
            why = stop.reason
            cut = {"chain_index": max(stop.level, step.chain_index), "allowance": ZERO, "skip_reason": why}
            steps.append(step.model_copy(update=cut))
        verdict = "chosen" if fits else "budget" if stop is None else "policy"
        judged.append(Considered(name=step.name, score=0.0, expected_cost=step.expects, verdict=verdict, reason=why))
    decision = Decision(
        kind="admit",
        by="guardian",
        rule="expected costs fit what is left of request, session and tenant; accounts capped at ceiling",
        chosen=tuple(c.name for c in judged if c.verdict == "chosen"),
        candidates=tuple(judged),
        left=left,
    )
    return plan.model_copy(update={"steps": tuple(steps), "denied": tuple(denied)}), decision


def _priced(coordinator: Coordinator, step: Step, stopped: Mapping[str, StartBlock]) -> PricedStep:
    """Return the step as it is priced. A step that starts with a fallback for another reason than money costs nothing.

    What needs such a step gets the fallback's report, and is not cut with it.
    """
    chain = coordinator.all_chains[step.specialist]
    return PricedStep(
        name=step.name,
        needs=tuple(need for need in step.needs if need not in step.optional),
        optional=step.optional,
        expects=0 if step.name in stopped else step.expects.nanos,
        pays=chain.links[0].paid and step.name not in stopped,
        wanted=step.wanted,
        cut=bool(step.skip_reason) and step.name not in stopped,
    )


def _reason(step: Step, cut: PlanCut) -> str:
    if cut.kind == "need":
        return f"it needs {cut.of}, which was cut"
    if cut.kind == "idle":
        return f"{cut.of} alone needed it, and was cut"
    cost, left = USD.from_nanos(cut.cost), USD.from_nanos(cut.left)
    needed = f", {cost} with what it needs" if cost > step.expects else ""
    return f"the budget had no room for it: expects {step.expects}{needed}, {left} left"
