"""OpenTelemetry spans: which agent ran, why it ended, how long it took, at what cost. No-ops without an SDK."""

from collections.abc import Generator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.trace import Span, Status, StatusCode

from bursar.state.report import Outcome, Run

_tracer = trace.get_tracer("bursar")


class AgentSpan:
    """The span of one run, told how the run ended."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def ended(self, run: Run, error: BaseException | None) -> None:
        """Write outcome, cost and paid calls to the span; a failed run sets its status to error.

        What the handler raised is recorded with its traceback, which the outcome's one line leaves out.
        """
        if not self._span.is_recording():
            return
        why = run.limit or run.fault
        self._span.set_attributes(
            {
                "bursar.outcome": run.outcome.value,
                "bursar.cost_usd": f"{run.cost.dollars:f}",
                "bursar.turns": run.turns,
                **({"bursar.why": why.value} if why else {}),
                **({"bursar.reason": run.reason} if run.reason else {}),
            }
        )
        if isinstance(error, Exception):
            self._span.record_exception(error)
        if run.outcome is Outcome.FAILED:
            self._span.set_status(Status(StatusCode.ERROR, run.reason))


@contextmanager
def agent_span(specialist: str, handler: str, level: int) -> Generator[AgentSpan]:
    """The span `invoke_agent <specialist>` around one run; `level` 0 is its own handler, above it a fallback."""
    attributes = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": specialist,
        "bursar.handler": handler,
        "bursar.fallback_level": level,
    }
    with _tracer.start_as_current_span(f"invoke_agent {specialist}", attributes=attributes) as span:
        yield AgentSpan(span)
