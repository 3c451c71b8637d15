"""Extension point: a router scores the specialists that may answer a request. Here, too, is what routers share."""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from langgraph.errors import GraphBubbleUp

from bursar.nodes.isolation.captured import capture_call
from bursar.state.errors import ConfigurationError
from bursar.state.refusals import BudgetExceeded, ScopeClosed
from bursar.state.text import one_line

RULE_CHARACTERS = 160  # of somebody else's text in a rule


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

    A router may have two members more; the supervisor does without them where they are missing:

    `free = True`: it never pays. The supervisor opens no account for it, and any paid call inside it is refused.
    `ready(candidates) -> bool`: whether `route` would return at once, without waiting for anything. Then it runs where
    the request runs, with no deadline; otherwise it runs apart, under one. A `ready` that raises has said no.
    """

    async def route(self, text: str, candidates: Sequence[Candidate]) -> Scores: ...


def is_free(router: Router) -> bool:
    """Whether the router says of itself that it never pays."""
    return getattr(router, "free", False) is True  # a router may have a member `free` that is something else


def is_ready(router: Router, candidates: Sequence[Candidate]) -> bool:
    """Whether the router says that it would answer at once."""
    ready = getattr(router, "ready", None)
    return ready is not None and capture_call(ready, candidates).value is True


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
        return f"model refused: {one_line(str(error), RULE_CHARACTERS)}"
    return f"model failed: {type(error).__name__}"


def check_threshold(value: float) -> None:
    """Raise `ConfigurationError` unless the value is in 0..1 (NaN is not)."""
    if not 0.0 <= value <= 1.0:
        raise ConfigurationError(f"a router's threshold must be from 0 to 1, not {value}")


def none_fit(candidates: Sequence[Candidate], *, confidence: float, rule: str) -> Scores:
    """The answer "none of these": zero for every candidate."""
    return Scores({c.name: 0.0 for c in candidates}, (), confidence, rule)
