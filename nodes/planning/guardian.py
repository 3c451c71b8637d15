"""The guardian: admits the plan under what is left in every account; starts a fallback if there is no room."""

from collections.abc import Mapping

from langchain_core.runnables import RunnableConfig

from bursar.checkpoints.ledger.accounts import Account, open_account
from bursar.checkpoints.ledger.postings import record
from bursar.checkpoints.ledger.transaction import Transaction
from bursar.nodes.context.coordinator import Coordinator, agent_scope
from bursar.nodes.isolation.sync_bridge import Update
from bursar.nodes.runs.pauses_and_breakers import StartBlock, mark_watched, standing_of, start_blocks
from bursar.state.decision import Considered, Decision
from bursar.state.events import Decided
from bursar.state.money import USD, ZERO
from bursar.state.session import Plan, SessionState, Step


async def guard(coordinator: Coordinator, state: SessionState, config: RunnableConfig) -> Update:
    """Price the plan before any specialist starts, and open the accounts of the specialists that may pay.

    Both happen in one transaction. An account is capped at the specialist's ceiling or at what is left, whichever is
    less. If a specialist's expected cost does not fit what is left of request, session and tenant, the specialist
    starts with its first fallback that costs nothing. A paused specialist also starts with that fallback; if it has no
    such fallback, it is denied. If a specialist's breaker is open, the specialist starts with its first fallback.
    Raises `Paused` if the tenant, or everything, is paused: the request then waits unchanged.
    """
    request, plan = state["request"], state["plan"]

    def admit(transaction: Transaction) -> tuple[Plan, Decision]:
        # Race: another request may take this money after the read. Each hold of a paid call checks its accounts again.
        now = standing_of(coordinator, request, plan, transaction)
        stopped = start_blocks(coordinator, request, plan, now, transaction)
        room = request.budget if now.left is None else max(USD.from_nanos(now.left), ZERO)
        admitted, decision = _admit(coordinator, plan, room, stopped)
        if now.breakers:
            admitted = mark_watched(coordinator, request, admitted, now, transaction)
        for step in admitted.steps:
            if not step.chain_index and coordinator.chains[step.name].links[step.chain_index].paid:
                open_account(transaction, Account(agent_scope(request, step.name), step.allowance.nanos))
        event = Decided(request_id=request.id, decision=decision)
        record(transaction, request.session_id, event, at=coordinator.clock())
        return admitted, decision

    admitted, decision = await coordinator.commit(admit, request)
    return {"plan": admitted, "decisions": [decision]}


def _admit(coordinator: Coordinator, plan: Plan, left: USD, stopped: Mapping[str, StartBlock]) -> tuple[Plan, Decision]:
    steps: list[Step] = []
    judged: list[Considered] = []
    denied = list(plan.denied)
    remaining = left
    for step in plan.steps:
        chain = coordinator.chains[step.name]
        expects = chain.specialist.expects
        stop = stopped.get(step.name)
        fits = (
            stop is None
            and not step.skip_reason
            and expects <= remaining
            and (bool(remaining) or not chain.links[0].paid)
        )
        if fits:
            remaining -= expects
            cut = step.skip_reason
            steps.append(step.model_copy(update={"allowance": min(chain.specialist.cap, left)}))
        elif stop is not None:
            cut = stop.reason
            if stop.level is None:
                denied.append((step.name, cut))
            else:
                steps.append(
                    step.model_copy(
                        update={"chain_index": max(stop.level, step.chain_index), "allowance": ZERO, "skip_reason": cut}
                    )
                )
        else:
            cut = step.skip_reason or f"the budget had no room for it: expects {expects}, {remaining} left"
            steps.append(
                step.model_copy(update={"chain_index": chain.first_free, "allowance": ZERO, "skip_reason": cut})
            )
        judged.append(
            Considered(
                name=step.name,
                score=0.0,
                expected_cost=expects,
                verdict="chosen" if fits else "budget" if stop is None else "policy",
                reason=cut,
            )
        )
    decision = Decision(
        kind="admit",
        by="guardian",
        rule="expected costs fit what is left of request, session and tenant; accounts capped at ceiling",
        chosen=tuple(c.name for c in judged if c.verdict == "chosen"),
        candidates=tuple(judged),
        left=left,
    )
    return plan.model_copy(update={"steps": tuple(steps), "denied": tuple(denied)}), decision
