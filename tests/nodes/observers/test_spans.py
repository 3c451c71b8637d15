"""OpenTelemetry's spans in one process: what hangs where, what is linked, and that no secret is in them."""

from collections.abc import Iterator
from contextvars import copy_context
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from opentelemetry import trace

from bursar import Ledger, Report, Task
from bursar.nodes.observers.base import RequestContext, RequestEnd
from bursar.nodes.observers.opentelemetry import OpenTelemetryObserver
from bursar.nodes.observers.opentelemetry_values import exception_attributes
from bursar.state.masking import MOST_CHARACTERS
from bursar.state.money import USD
from bursar.state.session import Request
from tests.support.clock import NOON
from tests.support.graphs import ask, build, free, priced, scripted
from tests.support.tracing.telemetry import Remembered

KEY = "sk-a-key-that-must-not-leak"
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A ledger on a file."""
    ledger = Ledger(f"sqlite:///{tmp_path}/books.db")
    yield ledger
    ledger.database.close()


def request(**trace: str) -> Request:
    """A request that an earlier invocation opened."""
    return Request(id="r-1", session_id="s-1", tenant="acme", text="?", opened_at=NOON, budget=USD(1), trace=trace)


@pytest.mark.parametrize("header", ["", "nonsense", f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01"])
def test_ids_of_no_span_are_not_linked(header: str, telemetry: Remembered) -> None:
    """An older session, or another observer, may have left anything there."""
    resume(request(traceparent=header))
    resume(request())
    for span in telemetry.doing("invoke_workflow"):
        assert span.attributes["bursar.resumed"] is True
        assert span.links == ()


def test_a_resume_is_linked_to_the_span_that_opened_the_request(telemetry: Remembered) -> None:
    """By W3C's header."""
    resume(request(traceparent=f"00-{TRACE}-{SPAN}-01"))
    [span] = telemetry.doing("invoke_workflow")
    assert [(link.trace, link.span) for link in span.links] == [(TRACE, SPAN)]


def resume(request: Request) -> None:
    """Let an observer hear of an invocation that resumes the request."""

    def work() -> None:
        observer = OpenTelemetryObserver()
        observer.request_started(RequestContext(graph="bursar", session_id="s-1", tenant="acme", resumes=True))
        observer.request_opened(request, resumed=True)
        observer.request_ended(RequestEnd(request_id="r-1", ending="answered"))

    copy_context().run(work)


def test_an_exception_is_told_without_its_secrets() -> None:
    """Neither its message nor its stack trace has them; of a long trace the end is kept."""

    def deep(level: int) -> None:
        if not level:
            raise ValueError(f"no such key: {KEY}")
        try:
            deep(level - 1)
        except ValueError as error:
            raise ValueError(f"{level} {KEY}") from error

    with pytest.raises(ValueError, match=KEY) as raised:
        deep(60)
    told = exception_attributes(raised.value)
    assert told["exception.type"] == "ValueError"
    assert KEY not in str(told)
    stack = str(told["exception.stacktrace"])
    assert len(stack) <= MOST_CHARACTERS
    assert stack.endswith("ValueError: 60 ***\n")


class Foreign(BaseCallbackHandler):
    """A handler which makes spans as other instrumentations of LangChain do: in the current context, never current."""

    def __init__(self) -> None:
        self.spans: dict[UUID, Any] = {}

    def on_chain_start(
        self, serialized: Any, inputs: Any, *, run_id: UUID, parent_run_id: UUID | None = None, **more: Any
    ) -> None:
        above = self.spans.get(parent_run_id) if parent_run_id else None
        context = None if above is None else trace.set_span_in_context(above)
        self.spans[run_id] = trace.get_tracer("foreign").start_span(str(more.get("name")), context=context)

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **more: Any) -> None:
        self.spans[run_id].end()


def test_beside_another_instrumentation_it_is_one_trace(ledger: Ledger, telemetry: Remembered) -> None:
    """Both see the same root, whoever's spans are current."""
    app = build(ledger, [free("food", lambda task: "rice"), free("rent", lambda task: "1200")])
    app.invoke({"messages": [("user", "?")]}, {"configurable": {"thread_id": "s-1"}, "callbacks": [Foreign()]})
    assert len(telemetry.spans()) > len(telemetry.doing("invoke_agent")) + 1
    assert len(telemetry.traces()) == 1, telemetry.tree()
    assert [span.name for span in telemetry.roots()] == ["invoke_workflow bursar"]


def test_calls_are_in_spans_that_the_handler_opens(ledger: Ledger, telemetry: Remembered) -> None:
    """A call hangs under the caller's own span, and a refusal is the agent's event nevertheless."""
    model = priced(scripted("one two"))

    def food(task: Task) -> Report:
        with trace.get_tracer("an application").start_as_current_span("mine"):
            return Report(answer=model.invoke("?").text)

    ask(build(ledger, [free("food", food)]))
    [call] = telemetry.doing("chat")
    assert [span.name for span in telemetry.above(call)] == ["mine", "invoke_agent food", "invoke_workflow bursar"]
    assert call.attributes["bursar.cost_usd"] == 0.002
    assert not [span for span in telemetry.spans() if span.status == "ERROR"]
