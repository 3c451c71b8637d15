"""OpenTelemetry spans: one trace a request, by the conventions for generative AI. No-ops without an SDK.

`invoke_workflow` is around an invocation of the graph, `invoke_agent` around each run in it, and each call of a run is
a span in that. Decisions, refusals and approvals are events.
"""

import time
from collections.abc import Mapping
from typing import Any

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from bursar.checkpoints.ledger.anchors import Head
from bursar.nodes.observers.base import CallContext, CallEnd, RequestContext, RequestEnd, RunContext, anchor_attributes
from bursar.nodes.observers.opentelemetry_values import (
    AttributeValue,
    call_attributes,
    call_error,
    call_kind,
    call_name,
    dollars,
    error_type,
    exception_attributes,
    is_pause,
    refusal_attributes,
)
from bursar.state.approval import ApprovalRequest
from bursar.state.decision import Decision
from bursar.state.masking import mask_secrets
from bursar.state.run import Outcome, Run
from bursar.state.session import Request

TRACEPARENT = "traceparent"
NANOS_PER_SECOND = 1_000_000_000

_tracer = trace.get_tracer("bursar")
_propagator = TraceContextTextMapPropagator()
_AROUND = contexts.create_key("bursar.span")  # Bursar's own span around this code: an application may open others in it


class OpenTelemetryObserver:
    """An observer that writes one request as spans. If a request is resumed, its trace has a link to its first trace.

    Code of a run, and all that it calls, finds the run's span as the current one, in other threads and loops too. Spans
    hold no question and no answer. Texts of errors are there with known shapes of secrets masked.
    """

    def __init__(self) -> None:
        self._workflow: Span = trace.INVALID_SPAN
        self._runs: dict[tuple[str, int], tuple[Span, Any]] = {}
        self._scores: dict[str, float] = {}
        # Race: a handler may pay from several threads at once; each step on a dict or a set is one step.
        self._began: dict[str, int] = {}
        self._told: set[str] = set()

    def for_request(self, request: RequestContext) -> "OpenTelemetryObserver | None":
        """Return the observer of one request; None if there is neither an SDK nor a span around the request."""
        is_around = trace.get_current_span().get_span_context().is_valid
        return OpenTelemetryObserver() if is_around or has_sdk(trace.get_tracer_provider()) else None

    def request_started(self, request: RequestContext) -> None:
        """Start the span of the workflow, and make it the current one in all that runs inside the request."""
        attributes: dict[str, AttributeValue] = {
            "gen_ai.operation.name": "invoke_workflow",
            "gen_ai.workflow.name": request.graph,
            "gen_ai.conversation.id": request.session_id,
            "bursar.tenant": request.tenant,
        }
        span = _tracer.start_span(f"invoke_workflow {request.graph}", attributes=attributes)
        if span.get_span_context().is_valid:  # otherwise there is neither an SDK nor a span around this one
            self._workflow = span
            _enter(span)

    def trace(self) -> Mapping[str, str]:
        """Return the ids of the workflow's span, as W3C's header `traceparent`; nothing if there is no such span."""
        carrier: dict[str, str] = {}
        _propagator.inject(carrier, trace.set_span_in_context(self._workflow, Context()))
        return {TRACEPARENT: carrier[TRACEPARENT]} if TRACEPARENT in carrier else {}

    def request_opened(self, request: Request, resumed: bool) -> None:
        """Write the request's id. If it is resumed, link the span to that of the invocation which opened it."""
        span = self._workflow
        if not span.is_recording():
            return
        span.set_attributes({"bursar.request_id": request.id, "bursar.budget_usd": dollars(request.budget)})
        if request.parent:
            span.set_attribute("bursar.parent_request_id", request.parent)
        if resumed:
            span.set_attribute("bursar.resumed", True)
            if (link := _link_to(request.trace.get(TRACEPARENT, ""))) is not None:
                span.add_link(link.context)

    def decided(self, decision: Decision) -> None:
        """Add an event to the workflow's span."""
        if decision.kind == "route":
            self._scores.update({one.name: one.score for one in decision.candidates})
        if self._workflow.is_recording():
            self._workflow.add_event("bursar.decided", _decision_attributes(decision))

    def approval_asked(self, asked: ApprovalRequest) -> None:
        """Add an event to the span of the agent that waits for a person, or of the workflow."""
        self._around().add_event("bursar.approval_asked", _approval_attributes(asked))

    def approval_ended(self, asked: ApprovalRequest, verdict: str, by: str) -> None:
        """Add an event to the span of the agent that waited for a person, or of the workflow."""
        told = {**_approval_attributes(asked), "bursar.verdict": verdict, "bursar.by": by}
        self._around().add_event("bursar.approval_ended", told)

    def run_started(self, run: RunContext) -> None:
        """Start the span of the agent. The handler's own spans lie inside it."""
        attributes: dict[str, AttributeValue] = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": run.specialist,
            "gen_ai.conversation.id": run.session_id,
            "bursar.handler": run.handler,
            "bursar.fallback_level": run.level,
            "bursar.request_id": run.request_id,
            "bursar.tenant": run.tenant,
            "bursar.step": run.step,
            "bursar.granted_usd": dollars(run.granted),
        }
        if run.description:
            attributes["gen_ai.agent.description"] = run.description
        if (score := self._scores.get(run.specialist)) is not None:
            attributes["bursar.score"] = score
        span = _tracer.start_span(f"invoke_agent {run.specialist}", attributes=attributes)
        if span.get_span_context().is_valid:
            self._runs[run.step, run.level] = span, _enter(span)

    def run_ended(self, run: Run, error: BaseException | None, head: Head) -> None:
        """Write outcome, cost, paid calls and the head of the log to the span, and end the span.

        A failed run sets the span's status to error. The exception that the handler raised is recorded with its
        traceback, because the outcome has only one line of it.
        """
        span, token = self._runs.pop((run.step, run.level), (trace.INVALID_SPAN, None))
        if span.is_recording():
            _describe(span, run, error, head)
        _leave(span, token)

    def run_stopped(self, run: RunContext, error: BaseException) -> None:
        """End the span. What stopped the run is recorded as an error, unless the graph only waits for a person."""
        span, token = self._runs.pop((run.step, run.level), (trace.INVALID_SPAN, None))
        if span.is_recording():
            _describe_stop(span, error)
        _leave(span, token)

    def call_started(self, run: RunContext, call: CallContext) -> None:
        """Remember when the call was sent."""
        self._began[call.call_id] = time.time_ns()

    def call_ended(self, run: RunContext, call: CallContext, end: CallEnd) -> None:
        """Write the span of a paid call or an action; an event, if it was refused.

        A call that was told as unknown because its run had ended may end later: its span has ended, so it stays.
        """
        if end.state == "refused":
            self._refused(run, call, end)
            return
        began, now = self._began.pop(call.call_id, None), time.time_ns()
        if end.state != "replayed" and call.kind != "action":
            if call.call_id in self._told:
                return
            self._told.add(call.call_id)
        if began is None:
            began = now - (0 if end.at is None else _nanos(end.at.timestamp() - call.began.timestamp()))
        span = _tracer.start_span(
            call_name(call, end),
            context=self._parent(run),
            kind=call_kind(call),
            attributes=call_attributes(run, call, end),
            start_time=began,
        )
        if span.is_recording() and (error := call_error(end)) is not None:
            span.set_attribute("error.type", error)
            span.set_status(Status(StatusCode.ERROR, mask_secrets(end.reason) or error))
        span.end(now)

    def request_ended(self, end: RequestEnd) -> None:
        """Write how the request ended to the workflow's span, and end the span."""
        span = self._workflow
        if span.is_recording():
            span.set_attributes({"bursar.ending": end.ending, "bursar.gaps": len(end.gaps)})
            if end.spend is not None:
                span.set_attribute("bursar.spent_usd", dollars(end.spend.spent))
            if end.error is not None and end.ending == "stopped":
                _fail(span, end.error)
        span.end()

    def _refused(self, run: RunContext, call: CallContext, end: CallEnd) -> None:
        if end.error is not None and is_pause(end.error):  # a person is asked first
            return
        span = self._span_of(run)
        if span.is_recording():
            span.add_event("bursar.refused", refusal_attributes(call, end))

    def _parent(self, run: RunContext) -> Context | None:
        """Return the context of a call's span: that of the caller, or the run's if the caller has no span."""
        if trace.get_current_span().get_span_context().is_valid:
            return None
        return trace.set_span_in_context(self._span_of(run))

    def _span_of(self, run: RunContext) -> Span:
        """Return the span of a run; the workflow's, if it has none as a router has none."""
        span, _ = self._runs.get((run.step, run.level), (self._workflow, None))
        return span

    def _around(self) -> Span:
        around = contexts.get_value(_AROUND)
        return around if isinstance(around, Span) and around.is_recording() else self._workflow


def has_sdk(provider: object) -> bool:
    """Whether this provider of tracers or meters is one of an SDK. Those of OpenTelemetry's API do nothing."""
    return not type(provider).__module__.startswith(("opentelemetry.trace", "opentelemetry.metrics"))


def _enter(span: Span) -> Any:
    """Make the span the current one in this context, and return the token that undoes it."""
    return contexts.attach(contexts.set_value(_AROUND, span, trace.set_span_in_context(span)))


def _leave(span: Span, token: Any) -> None:
    if token is not None:
        contexts.detach(token)
        span.end()


def _link_to(traceparent: str) -> Link | None:
    """Return a link to the span of a `traceparent`; None if that names no span."""
    found = _propagator.extract({TRACEPARENT: traceparent}, Context())
    context = trace.get_current_span(found).get_span_context()
    return Link(context) if context.is_valid else None


def _nanos(seconds: float) -> int:
    return max(round(seconds * NANOS_PER_SECOND), 0)


def _decision_attributes(decision: Decision) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {
        "bursar.kind": decision.kind,
        "bursar.by": decision.by,
        "bursar.rule": mask_secrets(decision.rule),
        "bursar.chosen": decision.chosen,
        "bursar.left_usd": dollars(decision.left),
    }
    if decision.cut:
        attributes["bursar.cut"] = decision.cut
    if decision.note:
        attributes["bursar.note"] = mask_secrets(decision.note)
    if decision.stake is not None:
        attributes["bursar.stake_usd"] = dollars(decision.stake)
    if decision.gain is not None:
        attributes["bursar.gain"] = f"{decision.gain:f}"
    return attributes


def _approval_attributes(asked: ApprovalRequest) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {
        "bursar.approval_id": asked.approval_id,
        "gen_ai.agent.name": asked.specialist,
        "bursar.attempt": asked.attempt,
        "bursar.expires_at": asked.expires_at.isoformat(),
    }
    if asked.action is not None:
        attributes["bursar.action"] = asked.action
    if asked.ceiling is not None:
        attributes["bursar.ceiling_usd"] = dollars(asked.ceiling)
    return attributes


def _describe(span: Span, run: Run, error: BaseException | None, head: Head) -> None:
    why, report = run.limit or run.fault, run.report
    attributes: dict[str, AttributeValue] = {
        "bursar.outcome": run.outcome.value,
        "bursar.cost_usd": dollars(run.cost),
        "bursar.turns": run.turns,
        **anchor_attributes(head),
    }
    if why is not None:
        attributes["bursar.why"] = why.value
    if run.reason:
        attributes["bursar.reason"] = mask_secrets(run.reason)
    if report is not None and run.outcome is Outcome.COMPLETED:
        attributes |= {"bursar.confidence": report.confidence, "bursar.unsure": run.unsure}
    if run.outcome is Outcome.FAILED:
        attributes["error.type"] = error_type(error) if error is not None else why.value if why else "_OTHER"
        span.set_status(Status(StatusCode.ERROR, mask_secrets(run.reason)))
    span.set_attributes(attributes)
    if isinstance(error, Exception) and not is_pause(error):
        span.add_event("exception", exception_attributes(error))


def _describe_stop(span: Span, error: BaseException) -> None:
    span.set_attribute("bursar.stopped", "interrupted" if is_pause(error) else "stopped")
    if not is_pause(error):
        _fail(span, error)


def _fail(span: Span, error: BaseException) -> None:
    span.set_attribute("error.type", error_type(error))
    span.set_status(Status(StatusCode.ERROR, error_type(error)))
    span.add_event("exception", exception_attributes(error))
