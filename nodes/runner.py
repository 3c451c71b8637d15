"""One run of one handler: within its deadline, ceiling and turns, to exactly one outcome."""

import asyncio
import time
from collections.abc import Awaitable

from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphBubbleUp
from sqlalchemy import Connection

from bursar.nodes.coordinator import Coordinator, agent_scope, checkpoint_ns, scopes_of
from bursar.nodes.handlers import call
from bursar.nodes.scope import Scope
from bursar.nodes.specialist import Link
from bursar.nodes.tracing import agent_span
from bursar.nodes.veto import guarded
from bursar.state.errors import Refused
from bursar.state.events import RunEnded
from bursar.state.money import USD
from bursar.state.report import Outcome, Report, Run, Task
from bursar.state.session import Request


class DeadlinePassed(Exception):
    """The handler did not return in time. What still runs of it cannot spend: its scope is closed."""


async def run_link(
    coordinator: Coordinator, link: Link, task: Task, request: Request, *, level: int, config: RunnableConfig
) -> Run:
    """Run the handler to its outcome and write it to the books.

    Completed with its report; exhausted when a paid call was refused (also where the handler swallowed the refusal)
    or the deadline passed, with partial work attached if it returned any; failed with the exception's type and text.
    A LangGraph interrupt passes through: the run has not ended then.
    """
    scope = _scope(coordinator, link, request, config)
    started = time.monotonic()
    report: Report | None = None
    with agent_span(task.specialist, link.name, level) as span:
        try:
            report = await _before_deadline(link.timeout, _guarded_call(scope, link, task, config))
            outcome, reason = Outcome.COMPLETED, ""
            if scope.refusal is not None:
                outcome, reason = Outcome.EXHAUSTED, str(scope.refusal)
        except DeadlinePassed:
            outcome, reason = Outcome.EXHAUSTED, f"no answer within {link.timeout:g} s"
        except Refused as refusal:
            outcome, reason = Outcome.EXHAUSTED, str(refusal)
        except GraphBubbleUp:
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the specialist boundary: a fault becomes an outcome
            outcome, reason = Outcome.FAILED, _in_one_line(error)
        finally:
            scope.close()
        seconds = time.monotonic() - started
        cost = await _end(coordinator, link, request, task.specialist, (level, outcome, reason, seconds))
        span.ended(outcome, reason, cost, scope.turns)
    return Run(
        specialist=task.specialist,
        handler=link.name,
        level=level,
        outcome=outcome,
        report=report,
        reason=reason,
        cost=cost,
        seconds=seconds,
    )


def _scope(coordinator: Coordinator, link: Link, request: Request, config: RunnableConfig) -> Scope:
    return Scope(
        ledger=coordinator.ledger,
        session_id=request.session_id,
        request_id=request.id,
        agent=link.node,
        checkpoint_ns=checkpoint_ns(config),
        scopes=(*scopes_of(request), agent_scope(request, link.node)),
        paid=link.paid,
        max_turns=link.max_turns,
        deadline=time.monotonic() + link.timeout,
        new_id=coordinator.new_id,
        clock=coordinator.clock,
    )


async def _guarded_call(scope: Scope, link: Link, task: Task, config: RunnableConfig) -> Report:
    with scope.enter(), guarded(config):
        return await call(link.handler, task)


async def _before_deadline(seconds: float, work: Awaitable[Report]) -> Report:
    """The result of `work`, or `DeadlinePassed` at the deadline: one that swallows its cancellation is left behind."""
    running = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({running}, timeout=seconds)
    except asyncio.CancelledError:
        running.cancel()
        raise
    if not done:
        running.cancel()
        running.add_done_callback(_forget)
        raise DeadlinePassed
    return running.result()


def _forget(left_behind: "asyncio.Future[Report]") -> None:
    """Take the late result or exception of a run that was left behind, so that asyncio does not report it as lost."""
    if not left_behind.cancelled():
        left_behind.exception()


async def _end(
    coordinator: Coordinator, link: Link, request: Request, specialist: str, ending: tuple[int, Outcome, str, float]
) -> USD:
    """Write the outcome to the books; the cost is what the ledger charged to the agent's account."""
    level, outcome, reason, seconds = ending
    books, at = coordinator.books, coordinator.clock()

    def work(connection: Connection) -> USD:
        charged = books.cost_of_agent(request.id, link.node)(connection) if link.paid else 0
        cost = USD.from_nanos(charged)
        ended = RunEnded(
            request_id=request.id,
            specialist=specialist,
            handler=link.name,
            level=level,
            outcome=outcome,
            reason=reason,
            cost=cost,
            milliseconds=round(seconds * 1000),
        )
        books.record(request.session_id, ended, at=at)(connection)
        return cost

    return await coordinator.database.arun(work)


def _in_one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
