"""Extension point: a router scores the specialists for a request. This file also has what the routers share."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol, Self

from langgraph.errors import GraphBubbleUp

from bursar.nodes.isolation.captured import capture_call
from bursar.state.errors import ConfigurationError
from bursar.state.refusals import BudgetExceeded, ScopeClosed
from bursar.state.run import Report, Turn
from bursar.state.text import one_line

RULE_CHARACTERS = 160  # of a foreign text that a rule quotes
NO_REPORTS: Mapping[str, Report] = MappingProxyType({})


class Question(str):
    """The text of a request, as a router gets it, with the conversation so far.

    `history` are the turns before, oldest first. `previous` are the specialists that answered last in this session, in
    the order of their answers. `reports` are the reports of this request's earlier rounds, by step.
    """

    history: tuple[Turn, ...]
    previous: tuple[str, ...]
    reports: Mapping[str, Report]

    def __new__(
        cls,
        text: str,
        *,
        history: Sequence[Turn] = (),
        previous: Sequence[str] = (),
        reports: Mapping[str, Report] = NO_REPORTS,
    ) -> Self:
        question = super().__new__(cls, text)
        question.history, question.previous, question.reports = tuple(history), tuple(previous), reports
        return question

    def map(self, change: Callable[[str], str]) -> "Question":
        """Return the question with `change` applied to its text and to each turn before; without `reports`."""
        turns = [turn.model_copy(update={"text": change(turn.text)}) for turn in self.history]
        return Question(change(self), history=turns, previous=self.previous)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A specialist as a router sees it: its name, its description, and questions that it answers."""

    name: str
    description: str
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Scores:
    """The value of each candidate for one request.

    `by_name` has every candidate, 0..1. `chosen` has the candidates that fit, best first; empty means that none fits.
    `confidence` (0..1) is how sure the router is of its choice as a whole. `rule` says in one line why.

    `order` has what a chosen candidate waits for, beside its specialist's own needs: its task has their reports. If
    `done`, no further round follows this one. To run one candidate several times at once, `chosen` names it as
    `research[1]`, `research[2]`, …, eight times at most, and `texts` has for each of these names what its task asks.
    """

    by_name: Mapping[str, float]
    chosen: tuple[str, ...]
    confidence: float
    rule: str
    order: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])
    done: bool = False
    texts: Mapping[str, str] = field(default_factory=dict[str, str])


class Router(Protocol):
    """What scores the candidates for a request.

    A router must return `Scores` for any text (empty, long, any script) and any candidates, none included. If it does
    not understand the text, the `chosen` of its `Scores` is empty. The text is a `Question`, a `str` that knows the
    conversation so far; a router of its own may take it for a plain `str`.

    If a supervisor takes several `rounds`, the router is asked again after each, with the reports so far, until it says
    `done` or chooses none.

    A router may have two more members:

    `free = True`: the router never pays. The supervisor opens no account for it and refuses any paid call inside it.

    `ready(candidates) -> bool`: whether `route` would return at once, without waiting. If True, `route` has no
    deadline. If False, or if `ready` raises, `route` is a task of its own, with a deadline.
    """

    async def route(self, question: Question, candidates: Sequence[Candidate], /) -> Scores: ...


def is_free(router: Router) -> bool:
    """Whether the router has `free = True`, which says that the router never pays."""
    return getattr(router, "free", False) is True  # `CascadeRouter.free` is a router


def is_ready(router: Router, candidates: Sequence[Candidate]) -> bool:
    """Whether the router has a `ready` that returns True: `route` would return at once.

    If `ready` is missing or raises, the result is False.
    """
    ready = getattr(router, "ready", None)
    return ready is not None and capture_call(ready, candidates).value is True


async def attempt(work: Coroutine[Any, Any, Scores]) -> Scores | Exception:
    """Await `work`, a model's routing. Return its scores, or its error, so that the error does not end the request.

    Some errors are raised all the same: cancellations and interrupts; refusals other than `BudgetExceeded` and
    `ScopeClosed`; and `ConfigurationError`, because only a user can mend it.
    """
    [result] = await asyncio.gather(work, return_exceptions=True)
    if isinstance(result, Scores | BudgetExceeded | ScopeClosed):
        return result
    if isinstance(result, GraphBubbleUp | ConfigurationError) or not isinstance(result, Exception):
        raise result
    return result


def failure(error: Exception) -> str:
    """Return in words, for the `rule` of the scores, why the model gave no scores.

    A provider's own message is left out: it may quote the request or a key.
    """
    if isinstance(error, BudgetExceeded | ScopeClosed):
        return f"model refused: {one_line(str(error), RULE_CHARACTERS)}"
    return f"model failed: {type(error).__name__}"


def check_threshold(value: float) -> None:
    """Raise `ConfigurationError` unless the value is in 0..1 (NaN is not)."""
    if not 0.0 <= value <= 1.0:
        raise ConfigurationError(f"a router's threshold must be from 0 to 1, not {value}")


def none_fit(candidates: Sequence[Candidate], *, confidence: float, rule: str) -> Scores:
    """Return the scores that mean "none of these": zero for every candidate."""
    return Scores({c.name: 0.0 for c in candidates}, (), confidence, rule)
