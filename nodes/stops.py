"""What keeps an agent from starting: a pause, or its own breaker. And what the end of its run says about it.

An agent's breaker counts what the agent does wrong itself: it raises, or has no answer by its own deadline. Refusals,
what a user's data break and what its provider does are not counted.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection

from bursar.checkpoints import breakers
from bursar.checkpoints.breakers import Caller
from bursar.checkpoints.pauses import pauses_of
from bursar.checkpoints.standing import Standing, standing
from bursar.nodes.coordinator import Coordinator, scopes_of
from bursar.nodes.specialist import Chain
from bursar.state.report import Fault, Limit, Outcome, Run
from bursar.state.session import Plan, Request, Step


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a specialist does not start with its own handler. `level` is where it starts, None if nothing may."""

    reason: str
    level: int | None


def standing_of(coordinator: Coordinator, request: Request, plan: Plan, connection: Connection) -> Standing:
    """What is left of the request's accounts, what is paused and which agents of the plan failed lately."""
    return standing(
        connection,
        scopes_of(request, coordinator.budget),
        pauses=pauses_of(request.tenant, *(step.name for step in plan.steps)),
        breakers=[breaker_of(step.name) for step in plan.steps],
        at=coordinator.clock(),
    )


def stops(
    coordinator: Coordinator, request: Request, plan: Plan, now: Standing, connection: Connection
) -> Mapping[str, Stop]:
    """Who of the plan does not start with its own handler. Afterwards the request has the probes that are free.

    Raises `Paused` where its tenant, or everything, is paused.
    """
    if (paused := now.refusal(pauses_of(request.tenant))) is not None:
        raise paused
    found: dict[str, Stop] = {}
    for step in sorted(plan.steps, key=lambda one: one.name):  # in this order, so that no two wait for each other
        chain = coordinator.chains[step.name]
        if (note := now.paused.get(f"agent:{step.name}")) is not None:
            found[step.name] = Stop(f"it is paused{f' ({note})' if note else ''}", _free_fallback(chain))
        elif step.level == 0 and not _claimed(coordinator, request, step, now, connection):
            found[step.name] = Stop("it failed in several sessions lately, so it is left alone for a while", 1)
    return found


def watched(request: Request, plan: Plan, now: Standing, connection: Connection) -> Plan:
    """The plan, marked where a breaker waits to hear of a run. A probe that is not made after all is given back."""
    steps: list[Step] = []
    for step in plan.steps:
        name = breaker_of(step.name)
        if step.level and name in now.breakers:
            breakers.released(connection, name, _caller(request))
        steps.append(step.model_copy(update={"watched": not step.level and name in now.breakers}))
    return plan.model_copy(update={"steps": tuple(steps)})


def why_paused(coordinator: Coordinator, request: Request, *names: str, connection: Connection) -> str | None:
    """Why none of these agents may start now, None if they may. Raises `Paused` for its tenant and for everything."""
    pauses = pauses_of(request.tenant, *names)
    now = standing(connection, (), pauses=pauses, breakers=(), at=coordinator.clock())
    if (paused := now.refusal(pauses[:2])) is not None:
        raise paused
    refusal = now.refusal(pauses)
    return None if refusal is None else str(refusal)


async def tell(coordinator: Coordinator, request: Request, step: Step, run: Run) -> None:
    """Tell the agent's breaker how its own run ended. Nothing is read or written where all was and is well."""
    at_fault = run.fault is Fault.HANDLER_ERROR or run.limit is Limit.DEADLINE
    if not at_fault and not step.watched:
        return
    name, caller, at = breaker_of(step.name), _caller(request), coordinator.clock()

    def work(connection: Connection) -> None:
        if at_fault:
            breakers.failed(connection, name, caller, at)
        elif run.outcome is Outcome.COMPLETED:
            breakers.succeeded(connection, name, caller, at)
        else:
            breakers.released(connection, name, caller)

    await coordinator.database.arun(work, durable=False, brief=True)


def breaker_of(agent: str) -> str:
    """The name of an agent's breaker."""
    return f"agent:{agent}"


def _claimed(coordinator: Coordinator, request: Request, step: Step, now: Standing, connection: Connection) -> bool:
    """Whether its breaker lets it start. An agent without a fallback always starts: nobody could answer for it."""
    breaker = now.breakers.get(breaker_of(step.name))
    if breaker is None or len(coordinator.chains[step.name].links) == 1:
        return True
    return breakers.claim(connection, breaker_of(step.name), _caller(request), coordinator.clock())


def _caller(request: Request) -> Caller:
    return Caller(request.id, request.tenant, request.session_id)


def _free_fallback(chain: Chain) -> int | None:
    return next((level for level, link in enumerate(chain.links) if level and not link.paid), None)
