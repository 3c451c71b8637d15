"""Pauses and breakers of agents: what keeps an agent from starting, and what its breaker hears of its run's end.

The guardian asks for a whole plan (`start_blocks`), a node for its own run (`paused_link`, `breaker_refusal`). Each
reads the facts first, in one statement, and decides by them in the same transaction.

An agent's breaker counts what the agent does wrong itself: it raises, or has no answer by its own deadline. Refusals,
what a user's data break and what its provider does are not counted. A fallback has one too, but not the last resort.
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
    """Why a specialist does not start with its own handler. `level` is where it starts, None if nothing may."""

    reason: str
    level: int | None


def standing_of(coordinator: Coordinator, request: Request, plan: Plan, transaction: Transaction) -> AdmissionFacts:
    """What is left of the request's accounts, what is paused and which agents of the plan failed lately."""
    return read_admission_facts(
        transaction,
        scopes_of(request, coordinator.budget),
        pauses=pauses_of(request.tenant, *(step.name for step in plan.steps)),
        breakers=[breaker_of(step.name) for step in plan.steps],
        at=coordinator.clock(),
    )


def start_blocks(
    coordinator: Coordinator, request: Request, plan: Plan, now: AdmissionFacts, transaction: Transaction
) -> Mapping[str, StartBlock]:
    """Who of the plan does not start with its own handler. Afterwards the request has the probes that are free.

    Raises `Paused` where its tenant, or everything, is paused.
    """
    if (paused := now.refusal(pauses_of(request.tenant))) is not None:
        raise paused
    found: dict[str, StartBlock] = {}
    for step in sorted(plan.steps, key=lambda one: one.name):  # in this order, so that no two wait for each other
        chain = coordinator.chains[step.name]
        if (note := now.paused.get(f"agent:{step.name}")) is not None:
            found[step.name] = StartBlock(f"it is paused{f' ({note})' if note else ''}", _free_fallback(chain))
        elif step.chain_index == 0 and not _claimed(coordinator, request, step, now, transaction):
            found[step.name] = StartBlock(LEFT_ALONE, 1)
    return found


def mark_watched(
    coordinator: Coordinator, request: Request, plan: Plan, now: AdmissionFacts, transaction: Transaction
) -> Plan:
    """The plan, marked where a breaker waits to hear of a run. A probe that is not made after all is given back."""
    at = coordinator.clock()
    steps: list[Step] = []
    for step in plan.steps:
        name = breaker_of(step.name)
        if step.chain_index and name in now.breakers:
            breakers.released(transaction, name, _caller(request), at)
        steps.append(step.model_copy(update={"watched": not step.chain_index and name in now.breakers}))
    return plan.model_copy(update={"steps": tuple(steps)})


def check_paused(coordinator: Coordinator, request: Request, transaction: Transaction) -> None:
    """Raises `Paused` where the request's tenant, or everything, is paused."""
    pauses = pauses_of(request.tenant)
    now = read_admission_facts(transaction, (), pauses=pauses, breakers=(), at=coordinator.clock())
    if (paused := now.refusal(pauses)) is not None:
        raise paused


def standing_of_link(
    coordinator: Coordinator, request: Request, link: Link, level: int, *, place: str, transaction: Transaction
) -> AdmissionFacts:
    """The facts that decide whether a run at `place` may begin.

    Of a handler that may pay: whether it is paused, had paid elsewhere, and was being undone. Of a fallback: what its
    breaker saw; the guardian has asked the breakers of those that it starts itself. Raises `Paused` if the request's
    tenant, or everything, is paused.
    """
    pauses = pauses_of(request.tenant, link.node) if link.paid else ()
    breakers = (link.breaker,) if level and not link.last else ()
    if not pauses and not breakers:
        return AdmissionFacts(None)
    here = RunLocation(request.session_id, request.id, link.node, place) if link.paid else None
    now = read_admission_facts(transaction, (), pauses=pauses, breakers=breakers, at=coordinator.clock(), place=here)
    if (paused := now.refusal(pauses[:2])) is not None:
        raise paused
    return now


def paused_link(request: Request, link: Link, now: AdmissionFacts) -> RunVerdict | None:
    """The outcome of a run that a pause of its agent does not let begin; None if it may."""
    refusal = now.refusal(pauses_of(request.tenant, link.node)) if now.paused else None
    return None if refusal is None else RunVerdict(Outcome.FAILED, str(refusal), fault=Fault.POLICY)


def breaker_refusal(
    coordinator: Coordinator, request: Request, link: Link, now: AdmissionFacts, transaction: Transaction
) -> RunVerdict | None:
    """The outcome of a run that its breaker does not let begin. None if it may: as the probe, if it is half open."""
    if link.breaker not in now.breakers:
        return None
    # Other sessions may ask at the same moment: `claim` locks the breaker's row, so that one of them has the probe.
    if breakers.claim(transaction, link.breaker, _caller(request), coordinator.clock()):
        return None
    return RunVerdict(Outcome.FAILED, LEFT_ALONE, fault=Fault.UNAVAILABLE)


async def report_to_breaker(coordinator: Coordinator, request: Request, link: Link, run: Run, *, watched: bool) -> None:
    """Tell the agent's breaker how a run ended: only if the agent was at fault, or its breaker is watched."""
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
    """The name of an agent's breaker."""
    return f"agent:{agent}"


def _claimed(
    coordinator: Coordinator, request: Request, step: Step, now: AdmissionFacts, transaction: Transaction
) -> bool:
    """Whether its breaker lets it start. An agent without a fallback always starts: nobody could answer for it."""
    breaker = now.breakers.get(breaker_of(step.name))
    if breaker is None or len(coordinator.chains[step.name].links) == 1:
        return True
    return breakers.claim(transaction, breaker_of(step.name), _caller(request), coordinator.clock())


def _caller(request: Request) -> Caller:
    return Caller(request.id, request.tenant, request.session_id)


def _free_fallback(chain: Chain) -> int | None:
    return next((level for level, link in enumerate(chain.links) if level and not link.paid), None)
