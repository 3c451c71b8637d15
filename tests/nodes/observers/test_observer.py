"""Observers of the user's own: what they are told, in which order, and that one that fails harms nobody."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from langgraph.config import get_stream_writer
from opentelemetry import trace

from bursar import Ledger, Observer, Report, Run, RunContext, Task
from bursar.checkpoints.ledger.anchors import Head
from bursar.nodes.observers.run_observers import RunObservers
from bursar.state.run import Outcome
from tests.support.graphs import answer_of, ask, build, free, priced, scripted, session
from tests.support.tracing.telemetry import Remembered

SECRET = "sk-a-key-that-must-not-leak"


@pytest.fixture
def ledger(tmp_path: Any) -> Iterator[Ledger]:
    """A ledger on a file."""
    ledger = Ledger(f"sqlite:///{tmp_path}/books.db")
    yield ledger
    assert ledger.verify()
    ledger.database.close()


@dataclass
class Notebook:
    """Writes down what it is told."""

    told: list[tuple[Any, ...]] = field(default_factory=list[tuple[Any, ...]])
    heads: list[Head] = field(default_factory=list[Head])

    def run_started(self, run: RunContext) -> None:
        assert run.request_id.startswith("r-")
        self.told.append(("started", run.session_id, run.specialist, run.handler, run.level))

    def turn(self, run: RunContext, number: int, model: str) -> None:
        self.told.append(("turn", run.handler, number, model))

    def run_ended(self, run: Run, error: BaseException | None, head: Head) -> None:
        self.told.append(("ended", run.handler, run.outcome, type(error)))
        self.heads.append(head)

    def run_stopped(self, run: RunContext, error: BaseException) -> None:
        self.told.append(("stopped", run.handler, type(error).__name__))


class Deaf:
    """Lacks the methods that a run which completes would call."""

    def run_stopped(self, *what: object) -> None:
        """Nothing stops here."""
        raise AssertionError


class Failing:
    """Fails in one of its methods, and counts how often it was called."""

    def __init__(self, method: str, error: BaseException) -> None:
        self.calls: list[str] = []
        self._method, self._error = method, error

    def _called(self, method: str) -> None:
        self.calls.append(method)
        if method == self._method:
            raise self._error

    def run_started(self, run: RunContext) -> None:
        self._called("run_started")

    def turn(self, run: RunContext, number: int, model: str) -> None:
        self._called("turn")

    def run_ended(self, run: Run, error: BaseException | None, head: Head) -> None:
        self._called("run_ended")


def test_a_run_that_completes_is_told_in_order(ledger: Ledger) -> None:
    """Started, a turn for each paid call, ended with the head of the log; what an observer lacks is not called."""
    model = priced(scripted("one two", "three"))

    async def food(task: Task) -> Report:
        await model.ainvoke("first")
        return Report(answer=(await model.ainvoke("second")).text)

    notebook: Any = Notebook()
    notebook, deaf = Notebook(), cast(Any, Deaf())
    ask(build(ledger, [free("food", food)], observers=[deaf, notebook]))
    assert notebook.told == [
        ("started", "s-1", "food", "food", 0),
        ("turn", "food", 1, "gpt-4o-mini"),
        ("turn", "food", 2, "gpt-4o-mini"),
        ("ended", "food", Outcome.COMPLETED, type(None)),
    ]
    [head] = notebook.heads
    [row] = [row for row in ledger.audit("s-1") if row.kind == "run_ended"]
    assert (head.session_id, head.sequence, head.hash) == ("s-1", row.sequence, row.hash)


def test_a_run_that_fails_is_told_with_its_error_and_its_fallback_after_it(ledger: Ledger) -> None:
    """The failed run ends with what its handler raised; the fallback is a run of its own, one level up."""

    def food(task: Task) -> Report:
        raise ValueError(SECRET)

    notebook = Notebook()
    ask(build(ledger, [free("food", food)], observers=[notebook]))
    assert notebook.told == [
        ("started", "s-1", "food", "food", 0),
        ("ended", "food", Outcome.FAILED, ValueError),
        ("started", "s-1", "food", "rules", 1),
        ("ended", "rules", Outcome.COMPLETED, type(None)),
    ]


def test_a_run_that_stopped_is_told_again_with_the_turns_that_the_ledger_answers(ledger: Ledger) -> None:
    """Cut off by an interrupt it has no end; replayed it starts again, and its paid call counts again."""
    model = priced(scripted("one"))
    cut = [KeyboardInterrupt()]

    async def food(task: Task) -> Report:
        answer = (await model.ainvoke("first")).text
        if cut:
            raise cut.pop()
        return Report(answer=answer)

    notebook = Notebook()
    app = build(ledger, [free("food", food)], observers=[notebook])
    with pytest.raises(KeyboardInterrupt):
        ask(app)
    begun = [("started", "s-1", "food", "food", 0), ("turn", "food", 1, "gpt-4o-mini")]
    assert notebook.told == [*begun, ("stopped", "food", "KeyboardInterrupt")]
    assert answer_of(app.invoke(None, session())) == "one"
    assert notebook.told[3:] == [*begun, ("ended", "food", Outcome.COMPLETED, type(None))]
    assert ledger.spend("s-1").calls == 1


@pytest.mark.parametrize("method", ["run_started", "turn", "run_ended"])
@pytest.mark.parametrize("error", [ValueError(SECRET), SystemExit(SECRET)], ids=["raises", "exits"])
def test_an_observer_that_raises_harms_nobody(
    method: str, error: BaseException, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged once, without its words, and hears no more of that run; of the next run it hears again."""
    model = priced(scripted("one", "two"))

    async def food(task: Task) -> Report:
        return Report(answer=(await model.ainvoke(task.text)).text)

    failing, notebook = Failing(method, error), Notebook()
    app = build(ledger, [free("food", food)], observers=[failing, notebook])
    heard = ["run_started", "turn", "run_ended"]
    expected = heard[: heard.index(method) + 1]
    for question in ("one", "two"):
        with caplog.at_level(logging.WARNING):
            caplog.clear()
            result = ask(app, question)
        assert answer_of(result) == question
        assert result["gaps"] == []
        [line] = [record.getMessage() for record in caplog.records if record.name.startswith("bursar")]
        assert "Failing" in line
        assert method in line
        assert SECRET not in caplog.text
    assert failing.calls == expected * 2
    assert [what[0] for what in notebook.told] == ["started", "turn", "ended"] * 2


def test_a_users_observer_is_told_inside_the_span_and_may_write_to_the_stream(
    ledger: Ledger, telemetry: Remembered
) -> None:
    """The agent's span is the current one when a run starts and ends, and LangGraph's stream is at hand."""

    class Tracing:
        def __init__(self) -> None:
            self.spans: list[int] = []

        def run_started(self, run: RunContext) -> None:
            self.spans.append(trace.get_current_span().get_span_context().span_id)
            get_stream_writer()({"mine": run.handler})

        def turn(self, run: RunContext, number: int, model: str) -> None: ...

        def run_ended(self, run: Run, error: BaseException | None, head: Head) -> None:
            self.spans.append(trace.get_current_span().get_span_context().span_id)

    tracing = Tracing()
    observers: list[Observer] = [tracing]
    app = build(ledger, [free("food", lambda task: "rice")], observers=observers)
    parts = list(app.stream({"messages": [("user", "food")]}, session(), stream_mode="custom"))
    [span] = telemetry.doing("invoke_agent")
    assert [trace.format_span_id(one) for one in tracing.spans] == [span.id] * 2
    assert [part.get("mine") or part["bursar"] for part in parts] == [*["decided"] * 2, "started", "food", "terminal"]


def test_a_run_outside_a_graph_has_no_stream(caplog: pytest.LogCaptureFixture) -> None:
    """The stream's observer is silent there, and is not dropped as one that failed; inside a graph it is heard."""
    run = RunContext(request_id="r-1", session_id="s-1", specialist="a", step="a", handler="a", level=0)
    with RunObservers((), run, {}) as observers:
        observers.turn(1, "model")
    assert caplog.records == []
