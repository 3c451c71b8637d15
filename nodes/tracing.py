"""OpenTelemetry spans: which agent ran, why it ended, how long it took, at what cost. No-ops without an SDK."""

import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.trace import Span, Status, StatusCode

from bursar.checkpoints.books.anchors import Head
from bursar.state.report import Outcome, Run

_tracer = trace.get_tracer("bursar")


class AgentSpan:
    """The span of one run, told how the run ended."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def ended(self, run: Run, error: BaseException | None, head: Head) -> None:
        """Write outcome, cost and paid calls to the span; a failed run sets its status to error.

        `head` of the session's log goes there too, and to LangSmith where it traces: an anchor that lies outside the
        database. What the handler raised is recorded with its traceback, which the outcome's one line leaves out.
        """
        anchor = {
            "bursar.session_id": head.session_id,
            "bursar.audit_sequence": head.sequence,
            "bursar.audit_head": head.hash,
        }
        _tell_langsmith(anchor)
        if not self._span.is_recording():
            return
        why = run.limit or run.fault
        self._span.set_attributes(
            {
                "bursar.outcome": run.outcome.value,
                "bursar.cost_usd": f"{run.cost.dollars:f}",
                "bursar.turns": run.turns,
                **anchor,
                **({"bursar.why": why.value} if why else {}),
                **({"bursar.reason": run.reason} if run.reason else {}),
            }
        )
        if isinstance(error, Exception):
            self._span.record_exception(error)
        if run.outcome is Outcome.FAILED:
            self._span.set_status(Status(StatusCode.ERROR, run.reason))


def _tell_langsmith(metadata: Mapping[str, str | int]) -> None:
    helpers = sys.modules.get("langsmith.run_helpers")  # it is loaded where LangSmith traces
    tree = None if helpers is None else helpers.get_current_run_tree()
    if tree is not None:
        tree.add_metadata(dict(metadata))


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
