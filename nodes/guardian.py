"""The cost guardian: admits the plan under what is left in every account, degrades what does not fit."""

from langchain_core.runnables import RunnableConfig
from sqlalchemy import Connection

from bursar.checkpoints.books.accounts import Account
from bursar.nodes.coordinator import Coordinator, agent_scope, scopes_of
from bursar.nodes.edge import Update
from bursar.state.decision import Considered, Decision
from bursar.state.events import Decided
from bursar.state.money import USD, ZERO
from bursar.state.session import Plan, SessionState, Step


async def guard(coordinator: Coordinator, state: SessionState, config: RunnableConfig) -> Update:
    """Price the plan before it starts, in one transaction with the accounts it opens.

    Every admitted specialist gets an account capped at its ceiling or at what is left, whichever is less; one whose
    expected cost no longer fits request, session and tenant starts with its first fallback that costs nothing.
    """
    request, plan = state["request"], state["plan"]

    def admit(connection: Connection) -> tuple[Plan, Decision]:
        left = coordinator.books.left(scopes_of(request, coordinator.budget))(connection)
        room = request.budget if left is None else max(USD.from_nanos(left), ZERO)
        admitted, decision = _admit(coordinator, plan, room)
        for step in admitted.steps:
            if coordinator.chains[step.name].links[step.level].paid:
                coordinator.books.open_account(Account(agent_scope(request, step.name), step.grant.nanos))(connection)
        event = Decided(request_id=request.id, decision=decision)
        coordinator.books.record(request.session_id, event, at=coordinator.clock())(connection)
        return admitted, decision

    admitted, decision = await coordinator.database.arun(admit, durable=False, brief=True)
    return {"plan": admitted, "decisions": [decision]}


def _admit(coordinator: Coordinator, plan: Plan, left: USD) -> tuple[Plan, Decision]:
    steps: list[Step] = []
    judged: list[Considered] = []
    remaining = left
    for step in plan.steps:
        chain = coordinator.chains[step.name]
        expects = chain.specialist.expects
        fits = not step.cut and expects <= remaining and (bool(remaining) or not chain.links[0].paid)
        if fits:
            remaining -= expects
            steps.append(step.model_copy(update={"grant": min(chain.specialist.cap, left)}))
        else:
            cut = step.cut or f"the budget had no room for it: expects {expects}, {remaining} left"
            steps.append(step.model_copy(update={"level": chain.first_free, "grant": ZERO, "cut": cut}))
        judged.append(
            Considered(
                name=step.name,
                score=0.0,
                expected_cost=expects,
                verdict="chosen" if fits else "budget",
                reason=steps[-1].cut,
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
    return plan.model_copy(update={"steps": tuple(steps)}), decision
