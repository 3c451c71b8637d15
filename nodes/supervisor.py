"""The supervisor node: plans each round in steps (intake, routing, guardian, gate), and lets each wave start."""

import sys
from collections.abc import Mapping, Sequence

from langchain_core.messages import AnyMessage
from langchain_core.runnables import RunnableConfig
from langgraph.types import Overwrite, Send

from bursar.checkpoints.ledger.requests import read_history
from bursar.nodes.context.conversation import history
from bursar.nodes.context.coordinator import Coordinator, checkpoint_ns
from bursar.nodes.context.given_reports import reports_so_far
from bursar.nodes.isolation.sync_bridge import Update
from bursar.nodes.observers.request_observers import tell_opened
from bursar.nodes.observers.run_observers import tell_decision
from bursar.nodes.planning.gate import review_plan
from bursar.nodes.planning.guardian import guard
from bursar.nodes.planning.intake import intake, is_under_way
from bursar.nodes.planning.round_plan import joined, plan_of, shown
from bursar.nodes.planning.routing import RoundStart, route
from bursar.nodes.planning.waves import hand_overs, is_left, wave_of
from bursar.nodes.routers.base import NO_REPORTS, Question
from bursar.nodes.specialists.chain import first_node
from bursar.nodes.specialists.fan_out import sent
from bursar.state.decision import Decision
from bursar.state.events import Decided, Planned
from bursar.state.run import Report
from bursar.state.session import Plan, Request, SessionState


async def supervise(coordinator: Coordinator, state: SessionState, config: RunnableConfig) -> Update:
    """Open the request and plan its first round; when the node runs again, plan another round if no wave is left.

    If a crash or an interrupt cuts the node off, it runs again from its start: what is in the log by then, it reads
    back from there. So a round is decided once.
    """
    if is_under_way(state, config):
        return await _go_on(coordinator, state, config)
    opened = await intake(coordinator, state, config)
    if opened is None:
        return {}
    sys.audit("bursar.failpoint", "after_intake")
    question = _question(opened.request, opened.messages)
    start = RoundStart(1, Plan(), question, {}, place=checkpoint_ns(config))
    plan, decisions = await _plan(coordinator, opened.request, start, _of_round(opened.since, 1), config)
    return {**opened.update, "plan": plan, "decisions": Overwrite(decisions)}


async def _go_on(coordinator: Coordinator, state: SessionState, config: RunnableConfig) -> Update:
    """Plan the next round if it is due. Otherwise change nothing: what is left of the plan starts."""
    if wave_of(coordinator, state) or not is_left(coordinator, state):
        return {}
    request, before = state["request"], state["plan"]
    tell_opened(request)
    number = before.round + 1
    question = _question(request, state["messages"], reports=reports_so_far(state, before_round=number))
    place = checkpoint_ns(config)
    start = RoundStart(number, before, question, hand_overs(state), place=place)
    told = await coordinator.commit(
        lambda transaction: read_history(transaction, request.session_id, request.id), request
    )
    # A fork, or an edited state, is at another place: its round is planned by its own reports.
    since = [event for event in _of_round(told.since, number) if event.place == place]
    plan, decisions = await _plan(coordinator, request, start, since, config)
    return {"plan": plan, "decisions": decisions}


def _of_round(since: Sequence[Decided | Planned], number: int) -> Sequence[Decided | Planned]:
    return [event for event in since if event.round == number]


def _question(
    request: Request, messages: Sequence[AnyMessage], *, reports: Mapping[str, Report] = NO_REPORTS
) -> Question:
    return Question(request.text, history=history(messages), previous=request.previous, reports=reports)


async def _plan(
    coordinator: Coordinator,
    request: Request,
    start: RoundStart,
    since: Sequence[Decided | Planned],
    config: RunnableConfig,
) -> tuple[Plan, list[Decision]]:
    """Return the plan with the round that starts, and the round's decisions.

    `since` are the decisions and plans of the round that are in the log already: they are not made again.
    """
    made = {event.decision.kind: event.decision for event in since if isinstance(event, Decided)}
    logged = next((event for event in reversed(since) if isinstance(event, Planned)), None)
    routed = await route(coordinator, request, start, config, made=made.get("route"))
    decision = routed.decision
    tell_decision(request.id, decision, config)
    sys.audit("bursar.failpoint", "after_routing")
    plan = plan_of(coordinator, decision, start.before, number=start.number, texts=routed.texts)
    plan = plan.model_copy(
        update={
            "gaps": (*_strangers(coordinator, start), *_in_vain(start, decision), *routed.gaps, *plan.gaps),
            "denied": start.before.denied,
            "place": start.place,
        }
    )
    if not plan.steps and start.number > 1:
        return joined(start.before, plan), [decision]
    decisions, admitted = [decision], None
    if logged is not None:
        plan = plan.model_copy(update={"steps": logged.steps, "denied": logged.denied})
        admitted = made.get("admit")
    elif plan.steps:
        plan, admitted = await guard(coordinator, request, plan, config)
        tell_decision(request.id, admitted, config)
        sys.audit("bursar.failpoint", "after_admission")
    decisions += [] if admitted is None else [admitted]
    if (gate := coordinator.gate) is None:
        return joined(start.before, plan), decisions
    # The gate is asked about a request that no specialist fits, too: if it is prohibited, the answer says that.
    if (reviewed := made.get("policy")) is None:
        plan, reviewed = await review_plan(coordinator, gate, request, plan, decisions[-1])
        tell_decision(request.id, reviewed, config)
        sys.audit("bursar.failpoint", "after_gate")
    return joined(start.before, plan), [*decisions, reviewed]


def _strangers(coordinator: Coordinator, start: RoundStart) -> list[str]:
    """Return the gaps of hand-overs to what is no specialist."""
    named = ((step, name) for step, names in start.hand_overs.items() for name in names)
    return [
        f"{step} hands over to {shown(name)}, which is no specialist here"
        for step, name in named
        if name not in coordinator.chains
    ]


def _in_vain(start: RoundStart, decision: Decision) -> list[str]:
    """Return the gaps of hand-overs to specialists that do not run again: they had the same reports before."""
    why = {one.name: one.reason for one in decision.candidates if one.verdict == "unfit" and one.reason}
    named = ((step, name) for step, names in start.hand_overs.items() for name in names)
    return [f"{step} hands over to {name}: {why[name]}" for step, name in named if name in why]


def dispatch(coordinator: Coordinator, state: SessionState) -> list[str | Send]:
    """Return where each step starts that may start now, all in parallel; `report` if there is none."""
    chains = coordinator.all_chains
    ready = wave_of(coordinator, state)
    return [sent(first_node(chains[step.specialist], step), step) for step in ready] or ["report"]
