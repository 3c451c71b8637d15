"""The cascade: free first, the model only when the free router is unsure, and never down with the model."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from langgraph.errors import GraphBubbleUp

from bursar.nodes.routers.base import Candidate, Question, Scores
from bursar.nodes.routers.cascade import CascadeRouter
from bursar.state.errors import ConfigurationError, UnknownPrice
from bursar.state.refusals import BudgetExceeded, NoSession, ScopeClosed

CANDIDATES = (Candidate("tax", "Income tax"), Candidate("fraud", "Suspicious charges"))


@dataclass
class Fixed:
    """Answers with one name at one confidence, or raises; counts how often it was asked."""

    name: str = "tax"
    confidence: float = 0.5
    error: BaseException | None = None
    asked: list[str] = field(default_factory=list[str])

    async def route(self, text: str, candidates: Sequence[Candidate]) -> Scores:
        self.asked.append(text)
        if self.error is not None:
            raise self.error
        by_name = {c.name: float(c.name == self.name) for c in candidates}
        return Scores(by_name, (self.name,), self.confidence, f"fixed on {self.name}")


def routed(free: Fixed, model: Fixed, threshold: float = 0.5) -> Scores:
    return asyncio.run(CascadeRouter(free, model, threshold).route(Question("a question"), CANDIDATES))


@pytest.mark.parametrize("confidence", [0.5, 0.9, 1.0])
def test_a_sure_free_router_asks_no_model(confidence: float) -> None:
    """At or above the threshold the free scores hold and the model is not called."""
    model = Fixed("fraud", 1.0)
    scores = routed(Fixed("tax", confidence), model)
    assert scores.chosen == ("tax",)
    assert model.asked == []


def test_an_unsure_free_router_asks_the_model_once() -> None:
    """Below the threshold the model is asked once, and its surer answer holds with the reason it was asked."""
    model = Fixed("fraud", 0.8)
    scores = routed(Fixed("tax", 0.49), model)
    assert scores.chosen == ("fraud",)
    assert model.asked == ["a question"]
    assert scores.rule == "fixed on fraud; free router unsure (0.49 below 0.50)"


@pytest.mark.parametrize("confidence", [0.0, 0.2, 0.3])
def test_a_model_that_is_no_surer_changes_nothing(confidence: float) -> None:
    """Of two unsure answers the free one holds unless the model's is surer, and the rule quotes both."""
    scores = routed(Fixed("tax", 0.3), Fixed("fraud", confidence))
    assert (scores.chosen, scores.confidence) == (("tax",), 0.3)
    assert "fixed on tax" in scores.rule
    assert "model no surer: fixed on fraud" in scores.rule


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (BudgetExceeded("request has\n$0.001 left"), "model refused: request has $0.001 left"),
        (ScopeClosed("the run has ended"), "model refused: the run has ended"),
        (TimeoutError("key sk-123 timed out"), "model failed: TimeoutError"),
        (RuntimeError("boom"), "model failed: RuntimeError"),
    ],
)
def test_a_failed_or_refused_model_leaves_the_free_scores(error: Exception, why: str) -> None:
    """A model failure or a refused call falls back to the free scores; the rule says so and quotes no provider."""
    scores = routed(Fixed("tax", 0.1), Fixed(error=error))
    assert (scores.chosen, scores.confidence) == (("tax",), 0.1)
    assert scores.rule == f"fixed on tax; {why}"


@pytest.mark.parametrize(
    "error",
    [UnknownPrice("no price"), NoSession("outside"), GraphBubbleUp("interrupt"), asyncio.CancelledError()],
)
def test_what_a_router_must_not_hide_passes_through(error: BaseException) -> None:
    """A wrong setting, a model outside a session, an interrupt and a cancellation are raised."""
    with pytest.raises(type(error)):
        routed(Fixed("tax", 0.1), Fixed(error=error))


def test_cancelling_the_request_cancels_the_model_router() -> None:
    """A cancelled routing leaves no model call running behind it."""
    ended: list[str] = []

    class Hanging:
        async def route(self, text: str, candidates: Sequence[Candidate]) -> Scores:
            started.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(text)
            raise AssertionError("unreachable")

    started = asyncio.Event()

    async def scenario() -> None:
        task = asyncio.create_task(CascadeRouter(Fixed("tax", 0.1), Hanging()).route(Question("q"), CANDIDATES))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())
    assert ended == ["q"]


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_a_threshold_outside_0_to_1_is_refused(threshold: float) -> None:
    """A threshold that could never or always be met is a configuration error."""
    with pytest.raises(ConfigurationError, match="from 0 to 1"):
        CascadeRouter(Fixed(), Fixed(), threshold)
