"""The supervisor: the only router. It scores specialists for the request and chooses by value per expected cost."""

import time

from langchain_core.runnables import RunnableConfig

from bursar.nodes.coordinator import Coordinator, agent_scope, checkpoint_ns, scopes_of
from bursar.nodes.edge import Update
from bursar.nodes.routing import Candidate, Scores
from bursar.nodes.scope import Scope
from bursar.nodes.veto import guarded
from bursar.state.decision import Decision
from bursar.state.errors import Refused
from bursar.state.events import Decided
from bursar.state.money import USD
from bursar.state.selection import Candidate as Weighed
from bursar.state.selection import select
from bursar.state.session import Plan, Request, SessionState, Step

ROUTING_TIMEOUT_SECONDS = 30.0
ROUTING_MAX_TURNS = 4


async def supervise(coordinator: Coordinator, state: SessionState, config: RunnableConfig) -> Update:
    """On the way in, choose; on the way back, when every branch has ended, there is nothing left to decide.

    Adds no cost unless the router is a model, and then that call goes through the gateway like any other.
    """
    if state["decisions"]:
        return {}
    request = state["request"]
    scores = await _scores(coordinator, request, config)
    considered = select(
        [
            Weighed(
                name=name,
                score=scores.by_name.get(name, 0.0),
                value=chain.specialist.weight,
                expected_cost=chain.specialist.expects,
                fits=name in scores.chosen,
            )
            for name, chain in coordinator.chains.items()
        ],
        left := await _left(coordinator, request),
    )
    decision = Decision(
        kind="route",
        by="supervisor",
        rule=f"value per expected cost under what is left; {scores.rule}",
        chosen=tuple(c.name for c in considered if c.verdict == "chosen"),
        candidates=considered,
        left=left,
    )
    await coordinator.database.arun(
        coordinator.books.record(
            request.session_id, Decided(request_id=request.id, decision=decision), at=coordinator.clock()
        )
    )
    return {"decisions": [decision], "plan": _plan(coordinator, decision)}


def _plan(coordinator: Coordinator, decision: Decision) -> Plan:
    """Chosen specialists start with their own handler; those the budget cut start with their first free fallback."""
    steps: list[Step] = []
    for considered in decision.candidates:
        chain = coordinator.chains[considered.name]
        if considered.verdict == "chosen":
            steps.append(Step(name=considered.name, grant=chain.specialist.cap))
        elif considered.verdict == "budget":
            cut = f"the budget had no room for it: {considered.reason}"
            steps.append(Step(name=considered.name, level=chain.first_free, grant=USD(0), cut=cut))
    return Plan(steps=tuple(steps))


async def _left(coordinator: Coordinator, request: Request) -> USD:
    left = await coordinator.database.arun(coordinator.books.left((f"request:{request.id}",)))
    return request.budget if left is None else USD.from_nanos(left)


async def _scores(coordinator: Coordinator, request: Request, config: RunnableConfig) -> Scores:
    candidates = [
        Candidate(name=name, description=chain.specialist.description, examples=tuple(chain.specialist.examples))
        for name, chain in coordinator.chains.items()
    ]
    account = agent_scope(request, "supervisor")
    scope = Scope(
        ledger=coordinator.ledger,
        session_id=request.session_id,
        request_id=request.id,
        agent="supervisor",
        checkpoint_ns=checkpoint_ns(config),
        scopes=(*scopes_of(request), account),
        max_turns=ROUTING_MAX_TURNS,
        deadline=time.monotonic() + ROUTING_TIMEOUT_SECONDS,
        new_id=coordinator.new_id,
        clock=coordinator.clock,
    )
    try:
        with scope.enter(), guarded(config):
            return await coordinator.router.route(request.text, candidates)
    except Refused as refusal:
        return Scores(by_name={}, chosen=(), confidence=0.0, rule=f"the router was refused: {refusal}")
    finally:
        scope.close()
