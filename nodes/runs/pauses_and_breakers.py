"""Pauses and breakers of agents: whether they let an agent start, and reports of runs to breakers.

The guardian asks for a whole plan (`start_blocks`), a specialist's node for its own run (`paused_link`,
`breaker_refusal`). The caller reads the facts first, in one statement (`standing_of`, `standing_of_link`), and decides
by them in the same transaction.

An agent's breaker counts only the agent's own faults: the agent raises, or has no answer by its own deadline. Refusals,
errors in a user's data and faults of the agent's provider are not counted. A fallback has a breaker too, the last
resort has none.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from bursar.checkpoints.ledger import circuit_breakers as breakers
from bursar.checkpoints.ledger.admission_facts import AdmissionFacts, RunLocation, pauses_of, read_admission_facts
from bursar.checkpoints.ledger.circuit_breakers import Caller
from bursar.checkpoints.ledger.transaction import Transaction
from bursar.nodes.context.coordinator import Coordinator, scopes_of
from bursar.nodes.context.outcome import RunVerdict
from bursar.nodes.specialists.chain import Chain, Link
from bursar.state.run import Fault, Limit, Outcome, Run
from bursar.state.session import Plan, Request, Step

LEFT_ALONE = "it failed in several sessions lately, so it is left alone for a while"


@dataclass(frozen=True, slots=True)
class StartBlock:
    """Why a specialist does not start with its own handler.

    `level` is the level of the fallback with which the specialist starts, None if the specialist may not start.
    """

    reason: str
    level: int | None


def standing_of(coordinator: Coordinator, request: Request, plan: Plan, transaction: Transaction) -> AdmissionFacts:
    """Return what is left of the request's accounts, what is paused, and which agents of the plan failed lately."""
    return read_admission_facts(
        transaction,
        scopes_of(request, coordinator.budget),
        pauses=pauses_of(request.tenant, *(step.name for step in plan.steps)),
        breakers=[breaker_of(step.specialist) for step in plan.steps],
        at=coordinator.clock(),
    )


def start_blocks(
    coordinator: Coordinator, request: Request, plan: Plan, now: AdmissionFacts, transaction: Transaction
) -> Mapping[str, StartBlock]:
    """Return a `StartBlock`, by name, for each specialist of the plan that may not start with its own handler.

    If the breaker of an agent is half open and its probe is free, the request takes the probe: the agent starts with
    its own handler. Raises `Paused` if the request's tenant, or everything, is paused.
    """
    if (paused := now.refusal(pauses_of(request.tenant))) is not None:
        raise paused
    found: dict[str, StartBlock] = {}
    # Race: two requests lock the same breakers. All lock in the order of names, so that no two wait for each other.
    for step in sorted(plan.steps, key=lambda one: one.name):
        chain = coordinator.all_chains[step.specialist]
        if (note := now.paused.get(f"agent:{step.specialist}")) is not None:
            found[step.name] = StartBlock(f"it is paused{f' ({note})' if note else ''}", _free_fallback(chain))
        elif step.chain_index == 0 and not _claimed(coordinator, request, step, now, transaction):
            found[step.name] = StartBlock(LEFT_ALONE, 1)
    return found


def mark_watched(
    coordinator: Coordinator, request: Request, plan: Plan, now: AdmissionFacts, transaction: Transaction
) -> Plan:
    """Return the plan with `watched` set on each step whose run must be reported to a breaker.

    The run of a step must be reported if the specialist starts with its own handler and its breaker counted faults
    lately. If a step starts with a fallback, and the request had taken the probe of the specialist's breaker, that
    probe is freed for another request.
    """
    at = coordinator.clock()
    steps: list[Step] = []
    for step in plan.steps:
        name = breaker_of(step.specialist)
        if step.chain_index and name in now.breakers:
            breakers.released(transaction, name, _caller(request), at)
        steps.append(step.model_copy(update={"watched": not step.chain_index and name in now.breakers}))
    return plan.model_copy(update={"steps": tuple(steps)})


def check_paused(coordinator: Coordinator, request: Request, transaction: Transaction) -> None:
    """Raise `Paused` if the request's tenant, or everything, is paused."""
    pauses = pauses_of(request.tenant)
    now = read_admission_facts(transaction, (), pauses=pauses, breakers=(), at=coordinator.clock())
    if (paused := now.refusal(pauses)) is not None:
        raise paused


def standing_of_link(
    coordinator: Coordinator, request: Request, link: Link, level: int, *, place: str, transaction: Transaction
) -> AdmissionFacts:
    """Return the facts that decide whether a run of `link` may begin. `place` is the run's `checkpoint_ns`.

    If the handler may pay, the facts say whether its agent is paused, whether the agent paid for the request at another
    place in the graph, and whether actions that an earlier try of this run did were undone or are being undone. If the
    link is a fallback but no last resort, the facts have the state of its breaker too. (The guardian has read the
    breaker of a specialist's own handler.) Raises `Paused` if the handler may pay and the request's tenant, or
    everything, is paused.
    """
    pauses = pauses_of(request.tenant, link.node) if link.paid else ()
    breakers = (link.breaker,) if level and not link.last else ()
    if not pauses and not breakers:
        return AdmissionFacts(None)
    here = RunLocation(request.session_id, request.id, link.agent, place) if link.paid else None
    now = read_admission_facts(transaction, (), pauses=pauses, breakers=breakers, at=coordinator.clock(), place=here)
    if (paused := now.refusal(pauses[:2])) is not None:
        raise paused
    return now


def paused_link(request: Request, link: Link, now: AdmissionFacts) -> RunVerdict | None:
    """Return the outcome of a run that may not begin because the link's agent is paused.

    If the agent is not paused, return None; the caller then goes on to the next check.
    """
    refusal = now.refusal(pauses_of(request.tenant, link.node)) if now.paused else None
    return None if refusal is None else RunVerdict(Outcome.FAILED, str(refusal), fault=Fault.POLICY)


def breaker_refusal(
    coordinator: Coordinator, request: Request, link: Link, now: AdmissionFacts, transaction: Transaction
) -> RunVerdict | None:
    """Return the outcome of a run that may not begin because the breaker of its link stops it.

    If the breaker lets the run begin, return None; the caller then starts the run. If that breaker is half open, the
    run is its probe.
    """
    if link.breaker not in now.breakers:
        return None
    # Race: other sessions ask at the same moment. `claim` locks the breaker's row, so that one of them has the probe.
    if breakers.claim(transaction, link.breaker, _caller(request), coordinator.clock()):
        return None
    return RunVerdict(Outcome.FAILED, LEFT_ALONE, fault=Fault.UNAVAILABLE)


async def report_to_breaker(coordinator: Coordinator, request: Request, link: Link, run: Run, *, watched: bool) -> None:
    """If the handler was at fault, or if its breaker is `watched`, report the end of the run to that breaker.

    Of a last resort nothing is reported, because a last resort has no breaker.
    """
    at_fault = run.fault is Fault.HANDLER_ERROR or run.limit is Limit.DEADLINE
    if link.last or not (at_fault or watched):
        return
    name, caller, at = link.breaker, _caller(request), coordinator.clock()

    def work(transaction: Transaction) -> None:
        if at_fault:
            breakers.failed(transaction, name, caller, at)
        elif run.outcome is Outcome.COMPLETED:
            breakers.succeeded(transaction, name, caller, at)
        else:
            breakers.released(transaction, name, caller, at)

    await coordinator.commit(work, request)


def breaker_of(agent: str) -> str:
    """Return the name of an agent's breaker."""
    return f"agent:{agent}"


def _claimed(
    coordinator: Coordinator, request: Request, step: Step, now: AdmissionFacts, transaction: Transaction
) -> bool:
    """Whether the breaker of the step's agent lets the agent start.

    If the breaker is half open and the result is True, the request has taken the breaker's probe. An agent without a
    fallback always starts, because no other handler could answer for it.
    """
    breaker = now.breakers.get(breaker_of(step.specialist))
    if breaker is None or len(coordinator.all_chains[step.specialist].links) == 1:
        return True
    return breakers.claim(transaction, breaker_of(step.specialist), _caller(request), coordinator.clock())


def _caller(request: Request) -> Caller:
    return Caller(request.id, request.tenant, request.session_id)


def _free_fallback(chain: Chain) -> int | None:
    return next((level for level, link in enumerate(chain.links) if level and not link.paid), None)
