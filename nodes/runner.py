"""One run of one handler: within its deadline, ceiling and turns, to exactly one outcome."""

import time
from functools import partial

from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphDrained, GraphInterrupt
from sqlalchemy import Connection

from bursar.nodes import failpoints
from bursar.nodes.coordinator import Coordinator, agent_scope, checkpoint_ns, scopes_of
from bursar.nodes.ended import Ended, within
from bursar.nodes.gateway.scope import Scope
from bursar.nodes.gateway.veto import guarded
from bursar.nodes.handlers import call
from bursar.nodes.specialist import Link
from bursar.nodes.tracing import agent_span
from bursar.state.errors import BudgetExceeded, DatabaseError, ScopeClosed
from bursar.state.events import RunEnded, clean
from bursar.state.money import USD
from bursar.state.report import Outcome, Report, Run, Task
from bursar.state.session import Request

# A handler that is a graph of its own: steps of its own limit, not of what the supervisor's graph has left.
STEPS_BESIDE_TURNS = 10
STEPS_PER_TURN = 4


async def run_link(
    coordinator: Coordinator, link: Link, task: Task, request: Request, *, level: int, config: RunnableConfig
) -> Run:
    """Run the handler to its outcome and write it to the books.

    Completed with its report; exhausted when a paid call was refused (also where the handler swallowed the refusal)
    or the deadline passed, with partial work attached if it returned any; failed with the exception's type and text,
    an exit or a cancellation of its own included. A LangGraph interrupt and a keyboard interrupt pass through: the
    run has not ended then.
    """
    scope = _scope(coordinator, link, request, config)
    started = time.monotonic()
    with agent_span(task.specialist, link.name, level) as span:
        try:
            end = await within(link.timeout, partial(_guarded_call, scope, link, task, config))
        finally:
            scope.close()
        outcome, reason = _judged(end, scope, link)
        seconds = time.monotonic() - started
        report, error = (None, None) if end is None else (end.value, end.error)
        run = Run(
            specialist=task.specialist,
            handler=link.name,
            level=level,
            outcome=outcome,
            report=report,
            reason=reason,
            seconds=seconds,
        )
        cost = await _end(coordinator, link, request, run, scope if isinstance(error, DatabaseError) else None)
        span.ended(outcome, reason, cost, scope.turns, error)
    failpoints.hit("before_node_end")
    return run.model_copy(update={"cost": cost})


def _judged(end: Ended[Report] | None, scope: Scope, link: Link) -> tuple[Outcome, str]:
    """The outcome and why. Raises the interrupts, which end no run."""
    if end is None:
        return Outcome.EXHAUSTED, f"no answer within {link.timeout:g} s"
    error = end.error
    if isinstance(error, KeyboardInterrupt | GraphInterrupt | GraphDrained):
        raise error
    if scope.refusal is not None:
        return Outcome.EXHAUSTED, clean(str(scope.refusal))
    if error is None:
        return Outcome.COMPLETED, ""
    if isinstance(error, BudgetExceeded | ScopeClosed):
        return Outcome.EXHAUSTED, clean(str(error))
    return Outcome.FAILED, _in_one_line(error)


def _scope(coordinator: Coordinator, link: Link, request: Request, config: RunnableConfig) -> Scope:
    return Scope(
        ledger=coordinator.ledger,
        session_id=request.session_id,
        request_id=request.id,
        agent=link.node,
        checkpoint_ns=checkpoint_ns(config),
        scopes=(*scopes_of(request, coordinator.budget), agent_scope(request, link.node)),
        paid=link.paid,
        max_turns=link.max_turns,
        deadline=time.monotonic() + link.timeout,
        new_id=coordinator.new_id,
        clock=coordinator.clock,
    )


async def _guarded_call(scope: Scope, link: Link, task: Task, config: RunnableConfig) -> Report:
    steps = STEPS_BESIDE_TURNS + STEPS_PER_TURN * link.max_turns
    with scope.enter(), guarded({**config, "recursion_limit": steps}):
        return await call(link.handler, task)


async def _end(coordinator: Coordinator, link: Link, request: Request, run: Run, lost: Scope | None) -> USD:
    """Write the outcome to the books; the cost is what the ledger charged to the agent's account.

    `lost` is the scope of a run whose books failed under it: calls that it could not settle are of unknown end.
    """
    books, at = coordinator.books, coordinator.clock()

    def work(connection: Connection) -> USD:
        if lost is not None:
            books.recover(lost.session_id, checkpoint_ns=lost.checkpoint_ns, at=at)(connection)
        charged = books.cost_of_agent(request.id, link.node)(connection) if link.paid else 0
        cost = USD.from_nanos(charged)
        ended = RunEnded(
            request_id=request.id,
            specialist=run.specialist,
            handler=run.handler,
            level=run.level,
            outcome=run.outcome,
            reason=run.reason,
            cost=cost,
            milliseconds=round(run.seconds * 1000),
        )
        books.record(request.session_id, ended, at=at)(connection)
        return cost

    return await coordinator.database.arun(work, durable=False, brief=True)


def _in_one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())[:300]
    return clean(f"{type(error).__name__}: {text}" if text else type(error).__name__)
