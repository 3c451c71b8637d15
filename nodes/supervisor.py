"""The supervisor node: scores the specialists for the request, and chooses by value per expected cost."""

import time
from collections.abc import Container
from dataclasses import replace
from datetime import datetime
from math import isfinite

from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphBubbleUp

from bursar.checkpoints.leases import lease_of
from bursar.checkpoints.ledger.accounts import Account, left, open_account
from bursar.checkpoints.ledger.postings import record, recover
from bursar.checkpoints.ledger.transaction import Transaction
from bursar.nodes.context.coordinator import Coordinator, agent_scope, checkpoint_ns, outer_scope, scopes_of
from bursar.nodes.context.deadlines import time_for
from bursar.nodes.gateway.scope import Scope
from bursar.nodes.gateway.unmetered_guard import forbid_unmetered
from bursar.nodes.isolation.captured import capture
from bursar.nodes.isolation.sync_bridge import Update
from bursar.nodes.isolation.workers import TooManyAbandoned, run_on_handler_loop
from bursar.nodes.routers.base import Scores, is_free, is_ready
from bursar.nodes.routers.word_overlap import by_words
from bursar.nodes.specialists.definition import is_deterministic
from bursar.state.decision import Decision
from bursar.state.errors import BursarError
from bursar.state.events import Decided
from bursar.state.money import USD
from bursar.state.refusals import Refused
from bursar.state.session import Plan, Request, SessionState, Step
from bursar.state.value_selection import ScoredCandidate as Weighed
from bursar.state.value_selection import select

ROUTING_MAX_TURNS = 4
NO_QUESTION = "there is no question in the last message"


async def supervise(coordinator: Coordinator, state: SessionState, config: RunnableConfig) -> Update:
    """Choose the specialists when the node first runs for a request. When it runs again, do nothing.

    It runs again after all branches of the plan. Only a router that asks a model costs money; the router's call goes
    through the gateway.
    """
    if state["decisions"]:
        return {}
    request = state["request"]
    free = is_free(coordinator.router) or is_deterministic(coordinator.router)
    if not free:
        await _open(coordinator, request, config)
    scores, fault = await _scores(coordinator, request, config, paid=not free)
    if fault and fault != NO_QUESTION:
        scores = _by_words(request, coordinator, fault)

    def decide(transaction: Transaction) -> Decision:
        decision = _decision(coordinator, request, scores, fault, transaction)
        event = Decided(request_id=request.id, decision=decision)
        record(transaction, request.session_id, event, at=coordinator.clock())
        return decision

    decision = await coordinator.commit(decide, request)
    return {"decisions": [decision], "plan": _plan(coordinator, decision)}


def _decision(
    coordinator: Coordinator, request: Request, scores: Scores, fault: str, transaction: Transaction
) -> Decision:
    nanos = left(transaction, (f"request:{request.id}",))
    room = request.budget if nanos is None else USD.from_nanos(nanos)
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
        room,
    )
    return Decision(
        kind="route",
        by="supervisor",
        rule=f"value per expected cost under what is left; {scores.rule}",
        chosen=tuple(c.name for c in considered if c.verdict == "chosen"),
        candidates=considered,
        left=room,
        note=fault,
    )


def _plan(coordinator: Coordinator, decision: Decision) -> Plan:
    """Return the plan: chosen specialists start with their own handler.

    Specialists for which the budget has no room start with their first free fallback.
    """
    steps: list[Step] = []
    for considered in decision.candidates:
        chain = coordinator.chains[considered.name]
        if considered.verdict == "chosen":
            steps.append(Step(name=considered.name, allowance=chain.specialist.cap))
        elif considered.verdict == "budget":
            cut = f"the budget had no room for it: {considered.reason}"
            steps.append(Step(name=considered.name, chain_index=chain.first_free, allowance=USD(0), skip_reason=cut))
    return Plan(steps=tuple(steps))


async def _open(coordinator: Coordinator, request: Request, config: RunnableConfig) -> None:
    """Open the router's account. If a crash cut off paid calls of the router, mark these calls as unknown."""
    at = coordinator.clock()

    def work(transaction: Transaction) -> None:
        recover(transaction, request.session_id, checkpoint_ns=checkpoint_ns(config), at=at)
        open_account(transaction, Account(agent_scope(request, "supervisor"), request.budget.nanos))
        if coordinator.budget.total is not None:
            open_account(transaction, Account("global", None))

    await coordinator.commit(work, request)


async def _scores(
    coordinator: Coordinator, request: Request, config: RunnableConfig, *, paid: bool
) -> tuple[Scores, str]:
    """Return the router's scores and "", or empty scores and a fault that says why the router gave no scores.

    A fault of the router does not end the request. Raises interrupts, and errors that only a user can mend (an unknown
    price). Without `paid` every paid call of the router is refused.
    """
    if not request.text.strip():
        return _no_scores(NO_QUESTION), NO_QUESTION
    seconds = _routing_time(request, coordinator.router_timeout_seconds, now=coordinator.clock())
    scope = Scope(
        ledger=coordinator.ledger,
        session_id=request.session_id,
        request_id=request.id,
        agent="supervisor",
        checkpoint_ns=checkpoint_ns(config),
        scopes=(*scopes_of(request, coordinator.budget), agent_scope(request, "supervisor")),
        paid=paid,
        max_turns=ROUTING_MAX_TURNS,
        deadline=time.monotonic() + seconds,
        new_id=coordinator.new_id,
        clock=coordinator.clock,
        lease=lease_of(config),
        outer=outer_scope(request),
    )
    router = coordinator.router

    async def route() -> Scores:
        return _checked(await router.route(request.text, coordinator.candidates), coordinator.chains)

    try:
        with scope.enter(), forbid_unmetered(config):
            if is_ready(router, coordinator.candidates):
                end = await capture(route)  # brief arithmetic: going to the handler loop would take longer
            else:
                end = await run_on_handler_loop("supervisor", route, seconds=seconds)
    except TooManyAbandoned as error:
        return _no_scores(str(error)), f"the router was not asked: {error}"
    finally:
        scope.close()
    if end is not None and (scores := end.value) is not None:
        return scores, ""
    fault = f"the router gave no answer within {seconds:.3g} s" if end is None else _fault(end.error)
    return _no_scores(fault), fault


def _by_words(request: Request, coordinator: Coordinator, fault: str) -> Scores:
    """Return a score for each candidate, by the words that the candidate shares with the request.

    The supervisor uses these scores if the router gave no answer. Their `rule` begins with `fault`, which says why.
    """
    scores = by_words(request.text, coordinator.candidates)
    return replace(scores, rule=f"{fault}; {scores.rule}")


def _routing_time(request: Request, most: float, *, now: datetime) -> float:
    """Return the seconds for routing: `most`, or half of the request's time left, whichever is less.

    The other half is for the answers.
    """
    left, _ = time_for(request, 2 * most, now=now, last=True)
    return left / 2


def _checked(scores: object, known: Container[str]) -> Scores:
    """Return `scores` unchanged. Raises `TypeError` unless they are finite and choose only specialists in `known`."""
    if not isinstance(scores, Scores) or not all(map(isfinite, scores.by_name.values())):
        raise TypeError("a router returns Scores whose values are finite")
    if not all(name in known for name in scores.chosen):
        raise TypeError("a router chooses among the candidates")
    return scores


def _fault(error: BaseException | None) -> str:
    """Return why the router gave no scores, in words that quote neither the request nor a provider.

    `error` is what the router raised; None does not occur. If it is an interrupt, or one of Bursar's own errors but no
    refusal, it is raised again.
    """
    if isinstance(error, Refused):
        return f"the router was refused: {error}"
    if isinstance(error, KeyboardInterrupt | GraphBubbleUp | BursarError):
        raise error
    return f"the router failed: {type(error).__name__}"


def _no_scores(rule: str) -> Scores:
    return Scores(by_name={}, chosen=(), confidence=0.0, rule=rule)
