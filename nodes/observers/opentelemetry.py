"""OpenTelemetry spans: which agent ran, why it ended, how long it took, at what cost. No-ops without an SDK."""

from contextlib import AbstractContextManager

from opentelemetry import trace
from opentelemetry.trace import Span, Status, StatusCode

from bursar.checkpoints.ledger.anchors import Head
from bursar.nodes.observers.base import RunContext, anchor_attributes
from bursar.state.run import Outcome, Run

_tracer = trace.get_tracer("bursar")


class OpenTelemetryObserver:
    """An observer that puts the span `invoke_agent <specialist>` around one run. Each run has its own observer."""

    def __init__(self) -> None:
        self._span: Span | None = None
        self._around: AbstractContextManager[Span] | None = None

    def run_started(self, run: RunContext) -> None:
        """Start the span. The handler's own spans lie inside it."""
        attributes = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": run.specialist,
            "bursar.handler": run.handler,
            "bursar.fallback_level": run.level,
        }
        span = _tracer.start_span(f"invoke_agent {run.specialist}", attributes=attributes)
        if span.get_span_context().is_valid:  # otherwise there is neither an SDK nor a span around this one
            self._span = span
            self._around = trace.use_span(span, end_on_exit=True)
            self._around.__enter__()

    def run_ended(self, run: Run, error: BaseException | None, head: Head) -> None:
        """Write outcome, cost, paid calls and the head of the log to the span, and end the span.

        A failed run sets the span's status to error. The exception that the handler raised is recorded with its
        traceback, because the outcome has only one line of it.
        """
        if self._span is not None and self._span.is_recording():
            _describe(self._span, run, error, head)
        self._end(None)

    def run_stopped(self, run: RunContext, error: BaseException) -> None:
        """End the span with the exception that stopped the run."""
        self._end(error)

    def _end(self, error: BaseException | None) -> None:
        around, self._around = self._around, None
        if around is None:
            return
        if error is None:
            around.__exit__(None, None, None)
        else:
            around.__exit__(type(error), error, error.__traceback__)


def _describe(span: Span, run: Run, error: BaseException | None, head: Head) -> None:
    why = run.limit or run.fault
    span.set_attributes(
        {
            "bursar.outcome": run.outcome.value,
            "bursar.cost_usd": f"{run.cost.dollars:f}",
            "bursar.turns": run.turns,
            **anchor_attributes(head),
            **({"bursar.why": why.value} if why else {}),
            **({"bursar.reason": run.reason} if run.reason else {}),
        }
    )
    if isinstance(error, Exception):
        span.record_exception(error)
    if run.outcome is Outcome.FAILED:
        span.set_status(Status(StatusCode.ERROR, run.reason))
