"""OpenTelemetry spans: which agent ran, why it ended, how long it took, at what cost. No-ops without an SDK."""

import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

from opentelemetry import trace
from opentelemetry.trace import Span, Status, StatusCode

from bursar.checkpoints.ledger.anchors import Head
from bursar.state.run import Outcome, Run

_tracer = trace.get_tracer("bursar")


def finish_span(span: Span, run: Run, error: BaseException | None, head: Head) -> None:
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
    if not span.is_recording():
        return
    why = run.limit or run.fault
    span.set_attributes(
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
        span.record_exception(error)
    if run.outcome is Outcome.FAILED:
        span.set_status(Status(StatusCode.ERROR, run.reason))


def _tell_langsmith(metadata: Mapping[str, str | int]) -> None:
    helpers = sys.modules.get("langsmith.run_helpers")  # it is loaded where LangSmith traces
    tree = None if helpers is None else helpers.get_current_run_tree()
    if tree is not None:
        tree.add_metadata(dict(metadata))


def agent_span(specialist: str, handler: str, level: int) -> AbstractContextManager[Span]:
    """The span `invoke_agent <specialist>` around one run; `level` 0 is its own handler, above it a fallback."""
    attributes = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": specialist,
        "bursar.handler": handler,
        "bursar.fallback_level": level,
    }
    span = _tracer.start_span(f"invoke_agent {specialist}", attributes=attributes)
    if not span.get_span_context().is_valid:  # there is neither an SDK nor a span around this one
        return nullcontext(span)
    return trace.use_span(span, end_on_exit=True)
