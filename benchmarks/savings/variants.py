"""The variants that are compared: which of the three ways to save are on."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.savings.learning import fold_of
from benchmarks.savings.records import AgentRun
from bursar import USD
from bursar.nodes.gateway.prices import price_of
from bursar.state.rules.pricing import Usage

MOST_CALLS, MOST_REPEATS, NO_LIMIT = 40, 3, 10**6  # three equal tool calls in a row are let pass, the fourth is not
CEILING_FACTOR = 3  # of the dearest success that is known: with less left, the gateway already shortens answers
NO_CEILING = USD("1000")


@dataclass(frozen=True, slots=True)
class Variant:
    """Which ways to save are on. Without `guard` no run is stopped; without `choice` the dear model is always asked;
    without `caching` a clock at the head of each prompt breaks what a cache could read.
    """

    name: str
    guard: bool = False
    choice: bool = False
    caching: bool = False


NOTHING = Variant("nothing")
GUARD = Variant("guard alone", guard=True)
CHOICE = Variant("model choice alone", choice=True)
CACHING = Variant("caching alone", caching=True)
ALL = Variant("all", guard=True, choice=True, caching=True)
VARIANTS = (NOTHING, GUARD, CHOICE, CACHING, ALL)


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one run: paid calls, equal tool calls in a row, and US dollars."""

    turns: int = NO_LIMIT
    repeats: int = NO_LIMIT
    ceiling: USD = NO_CEILING


UNLIMITED = Limits()
SANE_DEFAULT = Limits(turns=MOST_CALLS)  # what a careful framework does by itself: it counts calls


def guarded(run: AgentRun, known: Sequence[AgentRun]) -> Limits:
    """Return the limits of a guarded run: its ceiling is learned from its agent's successful runs in the other folds.

    An agent of which no success is known has no ceiling of its own: nothing says what its work costs.
    """
    fold = fold_of(run.name)
    costs = [
        cost(other) for other in known if other.agent == run.agent and other.is_success and fold_of(other.name) != fold
    ]
    ceiling = USD.from_nanos(CEILING_FACTOR * max(costs)) if costs else NO_CEILING
    return Limits(MOST_CALLS, MOST_REPEATS, ceiling)


def cost(run: AgentRun) -> int:
    """Return what the run costs at list prices without a cache, in nano-dollars."""
    price = price_of(run.model, run.seller)
    return sum(price.cost(Usage(call.prompt_tokens, call.completion_tokens)) for call in run.calls)
