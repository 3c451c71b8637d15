"""The seam between a request and the specialists that may answer it, and the cascade of two routers."""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from langgraph.errors import GraphBubbleUp

from bursar.state.errors import ConfigurationError
from bursar.state.refusals import BudgetExceeded, ScopeClosed


@dataclass(frozen=True, slots=True)
class Candidate:
    """What a router may choose: a specialist's name, what it is for, and questions that it answers."""

    name: str
    description: str
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Scores:
    """How valuable each candidate is for one request.

    `by_name` has every candidate, 0..1. `chosen` holds those that fit, best first; empty means none of these.
    `confidence` (0..1) is that of the whole routing. `rule` says in one line why.
    """

    by_name: Mapping[str, float]
    chosen: tuple[str, ...]
    confidence: float
    rule: str


class Router(Protocol):
    """Scores the candidates for a request.

    A total function: it returns for any text (empty, long, any script) and any candidates, none included.
    What it does not understand, it answers with an empty `chosen`.
    One that is marked as `@deterministic` marks a handler is given no account: any paid call in it is refused.
    """

    async def route(self, text: str, candidates: Sequence[Candidate]) -> Scores: ...


@dataclass
class CascadeRouter:
    """Asks the free router first, and the model only where the free one is less sure than `threshold` (0..1).

    Of two answers the surer one holds. Where the model fails, or its call is refused for want of budget, the free
    scores hold and `rule` says so. Errors that a user must mend (an unknown price, a model outside a session)
    and interrupts pass through.
    """

    free: Router
    model: Router
    threshold: float = 0.5

    def __post_init__(self) -> None:
        check_threshold(self.threshold)

    async def route(self, text: str, candidates: Sequence[Candidate]) -> Scores:
        free = await self.free.route(text, candidates)
        if free.confidence >= self.threshold:
            return free
        asked = await attempt(self.model.route(text, candidates))
        if isinstance(asked, Exception):
            return replace(free, rule=f"{free.rule}; {failure(asked)}")
        unsure = f"free router unsure ({free.confidence:.2f} below {self.threshold:.2f})"
        if asked.confidence <= free.confidence:
            return replace(free, rule=f"{free.rule}; {unsure}, model no surer: {asked.rule}")
        return replace(asked, rule=f"{asked.rule}; {unsure}")


async def attempt(work: Coroutine[Any, Any, Scores]) -> Scores | Exception:
    """Run a model's part of a routing and return its error as a value: routing must not take the request down.

    Cancellation, interrupts and errors that only a user can mend are raised.
    """
    [result] = await asyncio.gather(work, return_exceptions=True)
    if isinstance(result, Scores | BudgetExceeded | ScopeClosed):
        return result
    if isinstance(result, GraphBubbleUp | ConfigurationError) or not isinstance(result, Exception):
        raise result
    return result


def failure(error: Exception) -> str:
    """One line for a rule. A provider's own message is left out: it may quote the request or a key."""
    if isinstance(error, BudgetExceeded | ScopeClosed):
        return f"model refused: {one_line(str(error))}"
    return f"model failed: {type(error).__name__}"


def check_threshold(value: float) -> None:
    """Raise `ConfigurationError` unless the value is in 0..1 (NaN is not)."""
    if not 0.0 <= value <= 1.0:
        raise ConfigurationError(f"a router's threshold must be from 0 to 1, not {value}")


def none_fit(candidates: Sequence[Candidate], *, confidence: float, rule: str) -> Scores:
    """The answer "none of these": zero for every candidate."""
    return Scores({c.name: 0.0 for c in candidates}, (), confidence, rule)


def excerpt(text: str, limit: int) -> str:
    """The text itself, or its first and last `limit / 2` characters: a question stands before or after a paste."""
    half = limit // 2
    return text if len(text) <= limit else f"{text[:half]} … {text[-half:]}"


def one_line(text: str, limit: int = 160) -> str:
    """The text with its white space folded, at most `limit` characters long."""
    folded = " ".join(text.split())
    return folded if len(folded) <= limit else folded[: limit - 1] + "…"
