"""OpenTelemetry's metrics: without spans too, and with a ledger that cannot be read."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.metrics import NoOpMeterProvider

from bursar import Ledger, Report, Task
from bursar.checkpoints.ledger.ledger import Ledger as LedgerClass
from bursar.nodes.observers import opentelemetry, opentelemetry_metrics
from bursar.nodes.observers.base import RequestContext
from bursar.nodes.observers.opentelemetry import OpenTelemetryObserver, has_sdk
from bursar.nodes.observers.opentelemetry_metrics import OpenTelemetryMetricsObserver
from bursar.state.errors import LedgerError
from tests.support.graphs import ask, build, free, priced, scripted
from tests.support.tracing.telemetry import Remembered

CONTEXT = RequestContext(graph="bursar", session_id="s-1", tenant="acme")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A ledger on a file."""
    ledger = Ledger(f"sqlite:///{tmp_path}/books.db")
    yield ledger
    ledger.database.close()


def test_there_are_metrics_without_a_provider_of_spans(
    ledger: Ledger, telemetry: Remembered, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then no span is made, and calls and runs are counted all the same."""
    monkeypatch.setattr(opentelemetry.trace, "get_tracer_provider", trace.ProxyTracerProvider)
    assert OpenTelemetryObserver().for_request(CONTEXT) is None
    model = priced(scripted("one two"))
    ask(build(ledger, [free("food", lambda task: Report(answer=model.invoke("?").text))]))
    assert telemetry.spans() == []
    [cost] = telemetry.points("bursar.cost")
    assert (cost.value, cost.attributes["gen_ai.agent.name"]) == (0.002, "food")
    [run] = telemetry.points("bursar.runs")
    assert (run.value, run.attributes["bursar.outcome"], run.attributes["bursar.why"]) == (1, "completed", "")


def test_without_an_sdk_nobody_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    """The API's own providers do nothing, so a request has no observer for them."""
    assert not has_sdk(trace.NoOpTracerProvider())
    monkeypatch.setattr(opentelemetry_metrics.metrics, "get_meter_provider", NoOpMeterProvider)
    assert OpenTelemetryMetricsObserver().for_request(CONTEXT) is None


def test_a_run_that_raises_is_counted_by_its_fault(ledger: Ledger, telemetry: Remembered) -> None:
    """And its duration says which error it was."""

    def food(task: Task) -> Report:
        raise KeyError("no")

    ask(build(ledger, [free("food", food)]))
    counted = {
        point.attributes["bursar.outcome"]: point.attributes["bursar.why"] for point in telemetry.points("bursar.runs")
    }
    assert counted == {"failed": "handler_error", "completed": ""}
    errors = {point.attributes.get("error.type") for point in telemetry.points("gen_ai.invoke_agent.duration")}
    assert errors == {"KeyError", None}


def test_breakers_that_cannot_be_read_have_no_state(
    ledger: Ledger, telemetry: Remembered, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever reads metrics gets the others, and the log says what is missing."""
    ask(build(ledger, [free("food", lambda task: "rice")]))

    def fail(self: Ledger) -> None:
        raise LedgerError("the file is gone")

    monkeypatch.setattr(LedgerClass, "breakers", fail)
    caplog.set_level(logging.DEBUG, "bursar")
    points = telemetry.all_points()
    assert "bursar.runs" in {point.metric for point in points}
    assert "bursar.breaker.state" not in {point.metric for point in points}
    assert "LedgerError" in caplog.text
    assert "the file is gone" not in caplog.text
