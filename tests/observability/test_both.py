"""LangSmith and OpenTelemetry at once, other observers beside them, and receivers that are down."""

import threading
from decimal import Decimal
from typing import Any

import pytest

from bursar import Ledger, Report, Task, meter
from tests.observability.scenario import chat
from tests.support.graphs import answer_of, ask, build, free
from tests.support.provider import Provider
from tests.support.tracing.langsmith_client import TracedServer, traced
from tests.support.tracing.langsmith_server import LangSmithServer
from tests.support.tracing.received_runs import NANO
from tests.support.tracing.telemetry import Remembered


def app_of(ledger: Ledger, provider: Provider, **settings: Any) -> Any:
    """A supervisor of a specialist that pays, and of one that fails after it has paid."""
    model = meter(chat(provider), max_output_tokens=100)

    async def food(task: Task) -> Report:
        return Report(answer=(await model.ainvoke(task.text)).text)

    def broken(task: Task) -> Report:
        model.invoke("before it breaks")
        raise ValueError("no")

    return build(ledger, [free("food", food), free("broken", broken)], **settings)


def test_both_tell_the_same(ledger: Ledger, provider: Provider, langsmith: TracedServer, telemetry: Remembered) -> None:
    """Costs, calls and outcomes are the same there, there, and in the ledger."""
    result = ask(app_of(ledger, provider))
    spent = result["spend"].spent.dollars
    calls = telemetry.doing("chat")
    told = sum((Decimal(str(span.attributes["bursar.cost_usd"])) for span in calls), Decimal(0)).quantize(NANO)
    assert langsmith.cost() == told == spent > 0
    assert {run.metadata.get("bursar.call_id") for run in langsmith.of_type("llm")} == {
        span.attributes["bursar.call_id"] for span in calls
    }
    outcomes = {(run.handler, run.outcome.value) for run in result["runs"]}
    agents = [run.metadata for run in langsmith.runs() if run.metadata.get("bursar.outcome")]
    assert {(one["bursar.handler"], one["bursar.outcome"]) for one in agents} == outcomes
    spans = telemetry.doing("invoke_agent")
    assert {(one.attributes["bursar.handler"], one.attributes["bursar.outcome"]) for one in spans} == outcomes


@pytest.mark.parametrize("asynchronous", [False, True])
def test_they_tell_the_same_of_a_coroutine(
    asynchronous: bool, ledger: Ledger, provider: Provider, langsmith: TracedServer, telemetry: Remembered
) -> None:
    """Under `invoke` and under `ainvoke`: one root, one trace, nothing pending."""
    import asyncio

    app = app_of(ledger, provider)
    question: Any = {"messages": [("user", "how much?")]}
    config: Any = {"configurable": {"thread_id": "s-1", "tenant": "acme"}}
    result = asyncio.run(app.ainvoke(question, config)) if asynchronous else app.invoke(question, config)
    assert len(telemetry.traces()) == len(langsmith.traces()) == 1, telemetry.tree() + langsmith.tree()
    assert langsmith.pending() == []
    assert langsmith.cost() == result["spend"].spent.dollars


def test_a_stream_is_told_as_an_answer_is(
    ledger: Ledger, provider: Provider, langsmith: TracedServer, telemetry: Remembered
) -> None:
    """`stream` with tokens: calls are streamed then, and cost the same."""
    app = app_of(ledger, provider)
    config: Any = {"configurable": {"thread_id": "s-1", "tenant": "acme"}}
    parts = list(app.stream({"messages": [("user", "how much?")]}, config, stream_mode=["messages", "custom"]))
    assert parts
    assert len(telemetry.traces()) == 1, telemetry.tree()
    assert langsmith.cost() == ledger.spend("s-1").spent.dollars > 0
    assert langsmith.pending() == []


def test_langsmiths_own_spans_are_in_the_same_trace(
    ledger: Ledger, provider: Provider, open_langsmith: type[LangSmithServer], telemetry: Remembered
) -> None:
    """LangSmith's SDK can write spans itself. With both, a request is still one trace."""
    with traced(open_langsmith(), LANGSMITH_OTEL_ENABLED="true"):
        assert answer_of(ask(app_of(ledger, provider)))
    assert telemetry.doing("invoke_workflow")
    assert len(telemetry.traces()) == 1, telemetry.tree()


class Ear:
    """An observer of the user's own, which writes down whom it heard of, and raises after that if it `fails`."""

    def __init__(self, *, fails: bool) -> None:
        self.heard: list[str] = []
        self._fails = fails

    def _hear(self, method: str) -> None:
        self.heard.append(method)
        if self._fails:
            raise ValueError(method)

    def request_started(self, *what: Any) -> None:
        self._hear("request_started")

    def decided(self, *what: Any) -> None:
        self._hear("decided")

    def run_started(self, *what: Any) -> None:
        self._hear("run_started")

    def turn(self, *what: Any) -> None:
        self._hear("turn")

    def call_ended(self, *what: Any) -> None:
        self._hear("call_ended")

    def run_ended(self, *what: Any) -> None:
        self._hear("run_ended")

    def request_ended(self, *what: Any) -> None:
        self._hear("request_ended")


@pytest.mark.parametrize("fails", [False, True])
def test_another_observer_hears_all_and_harms_nobody(
    fails: bool, ledger: Ledger, provider: Provider, langsmith: TracedServer, telemetry: Remembered
) -> None:
    """From the request's start to its end. If it raises, answer and traces are the same."""
    ear = Ear(fails=fails)
    result = ask(app_of(ledger, provider, observers=[ear]))
    assert answer_of(result)
    assert len(result["runs"]) == 3
    assert "request_started" in ear.heard
    if not fails:
        assert (ear.heard[0], ear.heard[-1]) == ("request_started", "request_ended")
        assert [ear.heard.count(name) for name in ("run_started", "run_ended", "turn", "call_ended")] == [3, 3, 2, 2]
        assert ear.heard.count("decided") >= 1
    assert len(telemetry.traces()) == len(langsmith.traces()) == 1
    assert langsmith.cost() == result["spend"].spent.dollars


class Hanging:
    """An observer that does not come back from its first call before the test ends."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.called = self.came_back = 0

    def run_started(self, *what: Any) -> None:
        self.called += 1
        if self.called == 1:
            self.released.wait(20)
            self.came_back += 1


def test_an_observer_that_hangs_costs_nobody_an_answer(ledger: Ledger, provider: Provider) -> None:
    """The answer is there while the observer still hangs."""
    hanging = Hanging()
    try:
        result = ask(app_of(ledger, provider, observers=[hanging]))
        assert answer_of(result)
        assert (hanging.called > 0, hanging.came_back) == (True, 0)
    finally:
        hanging.released.set()


@pytest.mark.parametrize("mode", ["hang", "500", "429"])
def test_langsmith_that_is_down_costs_nobody_an_answer(
    mode: Any, ledger: Ledger, provider: Provider, open_langsmith: type[LangSmithServer]
) -> None:
    """No request waits for it."""
    server = open_langsmith()
    server.mode = mode
    with traced(server):
        result = ask(app_of(ledger, provider))
        assert answer_of(result)
        assert server.runs() == []
        server.mode = "up"
        server.release()


def test_langsmith_that_takes_batches_alone_is_told_the_costs(
    ledger: Ledger, provider: Provider, open_langsmith: type[LangSmithServer]
) -> None:
    """An older server of one's own; feedback goes there by requests of its own, or not at all."""
    server = open_langsmith(multipart=False)
    with traced(server):
        result = ask(app_of(ledger, provider))
    assert server.cost() == result["spend"].spent.dollars > 0
    assert server.pending() == []
    assert {one.encoding for one in server.ingested()} == {""}
