"""One run of one handler: within its deadline, ceiling and turns, to exactly one outcome."""

import sys
import time

from langchain_core.runnables import RunnableConfig

from bursar.checkpoints.leases import lease_of
from bursar.checkpoints.ledger.accounts import charged
from bursar.checkpoints.ledger.anchors import Head
from bursar.checkpoints.ledger.postings import record, recover
from bursar.checkpoints.ledger.transaction import Transaction
from bursar.nodes.actions.budget_raises import ask_for_run
from bursar.nodes.actions.compensate import conclude_actions
from bursar.nodes.context.coordinator import Coordinator, agent_scope, checkpoint_ns, outer_scope, scopes_of
from bursar.nodes.context.deadlines import books_until, time_for
from bursar.nodes.context.outcome import RunVerdict, deadline_verdict, log_failure, verdict_of
from bursar.nodes.gateway.network_guard import watch_network
from bursar.nodes.gateway.paid_calls.scope import Scope
from bursar.nodes.gateway.unmetered_guard import forbid_unmetered
from bursar.nodes.isolation.captured import Captured
from bursar.nodes.isolation.workers import TooManyAbandoned
from bursar.nodes.observers.base import RunContext
from bursar.nodes.observers.run_observers import RunObservers
from bursar.nodes.runs.handlers import call
from bursar.nodes.runs.priced_run import call_at_price
from bursar.nodes.specialists.approval_policy import ActionContext
from bursar.nodes.specialists.chain import Link
from bursar.nodes.specialists.covered_requests import CoveredRequests
from bursar.state.decision import Decision
from bursar.state.errors import DatabaseError
from bursar.state.events import RunEnded
from bursar.state.money import USD
from bursar.state.run import Fault, Outcome, Report, Run, Task
from bursar.state.session import Request
from bursar.state.text import clean, one_line

# A handler that is a graph has a step limit of its own, not the steps that the supervisor's graph has left.
STEPS_BESIDE_TURNS = 10
STEPS_PER_TURN = 4
TARGETS_CHARACTERS = 300  # of the names to which a report hands over
AGENT = "bursar_agent"  # in the metadata of all that an agent runs: whose tokens a stream gives


async def run_link(
    coordinator: Coordinator,
    link: Link,
    task: Task,
    request: Request,
    *,
    level: int,
    config: RunnableConfig,
    refusal: RunVerdict | None = None,
) -> tuple[Run, list[Decision]]:
    """Run the handler to exactly one outcome, log it, and return the run, and what its cascades and choices decided.

    The run is *completed* with its report. It is *exhausted* if it reached a limit: a paid call was refused for its
    money, turns or time (even if the handler swallowed the refusal), the deadline passed, or its graph ran out of
    steps; partial work is attached. Otherwise it is *failed*, also if the handler exits or cancels itself: the user
    reads the kind of the fault, the operator what the exception says. With `refusal` the handler is not called, and the
    refusal is the outcome. LangGraph's interrupts and a keyboard interrupt are raised: they end no run.
    """
    seconds, deadline = time_for(request, link.timeout, now=coordinator.clock(), last=link.last)
    scope = _scope(coordinator, link, request, config, seconds=seconds)
    if link.last and level:  # a tool agent (level 0) may open connections, a last resort may not
        _take_offline(scope)
    observers = _observers(coordinator, link, task, request, config, level=level)
    scope.observers = observers
    if scope.paid:  # a deterministic handler moves no money and does no action
        scope.acting = ActionContext(request, task.specialist, task.left, coordinator.approvals)
    started = time.monotonic()
    with observers:
        end: Captured[Report] | None = None
        if refusal is None and seconds > 0:
            end = await _attempt(scope, link, task, config, seconds=seconds)
            why = verdict_of(end, scope, seconds=seconds, deadline=deadline)
            why = await ask_for_run(coordinator, scope, link, why, config=config)
        else:
            why = refusal or deadline_verdict(seconds, deadline)
        if scope.acting is not None and (scope.acting.acted or why.fault is Fault.UNDONE):
            why = await conclude_actions(scope, why)
        run = Run(
            specialist=task.specialist,
            step=link.step,
            handler=link.name,
            level=level,
            outcome=why.outcome,
            report=_report(end, scope, link, task),
            reason=why.logged if coordinator.show_errors else why.reason,
            limit=why.limit,
            fault=why.fault,
            turns=scope.turns,
            seconds=time.monotonic() - started,
        )
        run = _weighed(run, link)
        error = None if end is None else end.error
        if isinstance(error, DatabaseError):
            await _recover(coordinator, scope)
        cost, head = await _end(coordinator, link, request, run, why, until=books_until(started + seconds, seconds))
        run = run.model_copy(update={"cost": cost}) if cost else run
        # After a crash here the node runs again, and its paid calls are replayed.
        sys.audit("bursar.failpoint", "before_node_end")
        observers.ended(run, error, head)
    return run, scope.decisions


def _observers(
    coordinator: Coordinator, link: Link, task: Task, request: Request, config: RunnableConfig, *, level: int
) -> RunObservers:
    chain = coordinator.chains.get(task.specialist)
    run = RunContext(
        request_id=request.id,
        session_id=request.session_id,
        specialist=task.specialist,
        step=link.step,
        handler=link.name,
        level=level,
        tenant=request.tenant,
        description="" if chain is None else chain.specialist.description,
        granted=task.left,
        question=task.text,
    )
    return RunObservers(coordinator.observers, run, config)


def _scope(coordinator: Coordinator, link: Link, request: Request, config: RunnableConfig, *, seconds: float) -> Scope:
    return Scope(
        ledger=coordinator.ledger,
        session_id=request.session_id,
        request_id=request.id,
        agent=link.agent,
        checkpoint_ns=checkpoint_ns(config),
        scopes=(*scopes_of(request, coordinator.budget), agent_scope(request, link.agent)),
        paid=link.paid,
        apart=link.apart,
        max_turns=link.max_turns,
        max_repeats=link.max_repeats,
        deadline=time.monotonic() + seconds,
        new_id=coordinator.new_id,
        clock=coordinator.clock,
        lease=lease_of(config),
        outer=outer_scope(coordinator, request),
        covers=None if link.price is None else CoveredRequests(link.name, link.price),
    )


def _take_offline(scope: Scope) -> None:
    scope.offline = True
    watch_network()


async def _attempt(
    scope: Scope, link: Link, task: Task, config: RunnableConfig, *, seconds: float
) -> Captured[Report] | None:
    steps = STEPS_BESIDE_TURNS + STEPS_PER_TURN * link.max_turns
    named = {**config.get("metadata", {}), AGENT: link.agent}
    try:
        with scope.enter(), forbid_unmetered({**config, "recursion_limit": steps, "metadata": named}):
            if link.price is not None:
                return await call_at_price(scope, link, task, link.price)
            return await call(link, task, seconds=seconds, keep=scope.keep)
    except TooManyAbandoned as error:
        return Captured(error=error)
    finally:
        scope.close()  # race: an abandoned handler runs on; from here on every paid call of it is refused


def _report(end: Captured[Report] | None, scope: Scope, link: Link, task: Task) -> Report | None:
    """Return the handler's report. If there is none, return what the handler kept so far, None if it kept nothing.

    If a last resort's report has no `as_of`, the task's time is written there.
    """
    report = None if end is None else end.value
    if report is None and (kept := scope.kept) is not None:
        report = kept if isinstance(kept, Report) else Report(answer=kept)
    if report is None or not link.last or report.as_of is not None:
        return report
    return report.model_copy(update={"as_of": task.now})


def _weighed(run: Run, link: Link) -> Run:
    """Return the run. If its report's confidence is below the specialist's `min_confidence`, mark it as unsure.

    Otherwise, if its report hands over, its reason says to whom.
    """
    report = run.report
    if run.outcome is not Outcome.COMPLETED or report is None:
        return run
    if report.confidence >= link.min_confidence:
        to = one_line(clean(", ".join(report.hands_to)), TARGETS_CHARACTERS)
        return run.model_copy(update={"reason": f"it hands over to {to}"}) if to else run
    reason = f"confidence {report.confidence:.2f} is below the {link.min_confidence:.2f} that is asked for"
    return run.model_copy(update={"unsure": True, "reason": reason})


async def _recover(coordinator: Coordinator, scope: Scope) -> None:
    """Mark those calls of the run as unknown whose end the ledger does not have, because the database failed.

    If another program locks the accounts of these calls in PostgreSQL, nothing is marked now, and the calls keep their
    holds until they are settled or marked later. Raises `DatabaseError` if SQLite's file is locked.
    """
    at, place = coordinator.clock(), scope.checkpoint_ns
    work = coordinator.ledger.bind(recover, scope.session_id, checkpoint_ns=place, at=at)
    try:
        await coordinator.database.arun(work, durable=False, brief=True, until=time.monotonic())
    except DatabaseError:
        if coordinator.database.dialect == "sqlite":
            raise  # SQLite's whole file is locked, so the outcome cannot be written either


async def _end(
    coordinator: Coordinator, link: Link, request: Request, run: Run, why: RunVerdict, *, until: float
) -> tuple[USD, Head]:
    """Write the outcome to the ledger. Return what the agent's account was charged, and the head of the log.

    If the operator reads more than the user, log it. `until` is when the write is given up, in seconds of
    `time.monotonic`.
    """
    at = coordinator.clock()
    if why.detail:
        log_failure(request, link.agent, why.detail)

    def work(transaction: Transaction) -> tuple[USD, Head]:
        cost = USD.from_nanos(charged(transaction, agent_scope(request, link.agent)) if link.paid else 0)
        ended = RunEnded(
            request_id=request.id,
            specialist=run.specialist,
            step=run.step,
            handler=run.handler,
            level=run.level,
            outcome=run.outcome,
            reason=why.detail or run.reason,
            cost=cost,
            milliseconds=round(run.seconds * 1000),
            limit=run.limit,
            fault=run.fault,
            turns=run.turns,
            unsure=run.unsure,
        )
        sequence, hash_ = record(transaction, request.session_id, ended, at=at)
        return cost, Head(session_id=request.session_id, sequence=sequence, hash=hash_)

    return await coordinator.database.arun(coordinator.ledger.bind(work), durable=False, brief=True, until=until)
