"""The composer's step: one answer of several reports, within the request's budget and deadline."""

from collections.abc import Mapping, Sequence

from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphBubbleUp

from bursar.checkpoints.ledger.accounts import left
from bursar.nodes.context.coordinator import Coordinator
from bursar.nodes.context.deadlines import time_for
from bursar.nodes.context.outcome import for_two_readers, log_failure
from bursar.nodes.context.paid_steps import open_step, step_scope
from bursar.nodes.gateway.unmetered_guard import forbid_unmetered
from bursar.nodes.isolation.captured import Captured
from bursar.nodes.isolation.workers import TooManyAbandoned, run_coroutine
from bursar.nodes.routers.base import Question
from bursar.nodes.runs.run import AGENT
from bursar.nodes.specialists.definition import is_deterministic
from bursar.state.decision import Decision
from bursar.state.errors import BadOutput
from bursar.state.money import USD, ZERO
from bursar.state.refusals import Refused
from bursar.state.run import Report
from bursar.state.session import Request

COMPOSER = "composer"  # its agent in the books and in streams


async def compose(
    coordinator: Coordinator,
    request: Request,
    question: Question,
    reports: Mapping[str, Report],
    gaps: Sequence[str],
    *,
    config: RunnableConfig,
) -> tuple[Report | None, Decision]:
    """Ask the composer for one answer. Return its report, None if it gave none, and the decision that says so.

    The decision's `note` is why there is none, in words for the user. A crash that repeats the step pays for no call
    twice. Raises interrupts.
    """
    composed, fault = await _asked(coordinator, request, question, reports, gaps, config=config)
    spent = await coordinator.commit(lambda transaction: left(transaction, (f"request:{request.id}",)), request)
    return composed, Decision(
        kind="answer",
        by=COMPOSER,
        rule="one answer of several reports" if composed is not None else "the answers one after the other",
        chosen=tuple(reports),
        left=request.budget if spent is None else max(USD.from_nanos(spent), ZERO),
        note=fault,
    )


async def _asked(
    coordinator: Coordinator,
    request: Request,
    question: Question,
    reports: Mapping[str, Report],
    gaps: Sequence[str],
    *,
    config: RunnableConfig,
) -> tuple[Report | None, str]:
    composer = coordinator.composer
    assert composer is not None
    paid = not is_deterministic(composer)
    if paid:
        await open_step(coordinator, request, COMPOSER, config)
    seconds, _ = time_for(request, coordinator.composer_timeout_seconds, now=coordinator.clock(), last=False)
    if seconds <= 0:
        return None, "the composer had no time left"
    scope = step_scope(coordinator, request, COMPOSER, config, seconds=seconds, paid=paid)
    named = {**config.get("metadata", {}), AGENT: COMPOSER}

    async def composed() -> Report:
        report = await composer.compose(question, dict(reports), tuple(gaps))
        if not isinstance(report, Report):  # pyright: ignore[reportUnnecessaryIsInstance] - untyped code returns another
            raise BadOutput(f"a composer returns a Report, not {type(report).__name__}")
        if not report.answer.strip():
            raise BadOutput("the composer's answer is empty")
        return report

    try:
        with scope.enter(), forbid_unmetered({**config, "metadata": named}):
            end = await run_coroutine(COMPOSER, composed, seconds=seconds)
    except TooManyAbandoned as error:
        end = Captured[Report](error=error)
    finally:
        scope.close()
    if end is None:
        return None, f"the composer gave no answer within {seconds:.3g} s"
    return end.value, "" if end.value is not None else _fault(coordinator, request, end.error)


def _fault(coordinator: Coordinator, request: Request, error: BaseException | None) -> str:
    if isinstance(error, Refused):
        return f"the composer was refused: {error}"
    if isinstance(error, KeyboardInterrupt | GraphBubbleUp):
        raise error
    error = error or RuntimeError()
    reason, detail = for_two_readers(f"the composer failed: {type(error).__name__}", error, request.id, COMPOSER)
    log_failure(request, COMPOSER, detail)
    return detail if coordinator.show_errors else reason
