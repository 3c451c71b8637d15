"""A specialist: the record users write, and the chain of handlers that serves it."""

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Literal, TypeAlias, TypeVar

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import Runnable

from bursar.state.errors import AmountError, ConfigurationError
from bursar.state.money import USD, ZERO, Amount
from bursar.state.run import Report, Task

# What a handler may return besides a report is listed in `handlers.report_of`.
Function: TypeAlias = Callable[[Task], Any] | Callable[[Task], Awaitable[Any]]
Risk: TypeAlias = Literal["low", "high"]
Handler: TypeAlias = Function | Runnable[Any, Any]
F = TypeVar("F", bound=Callable[[Task], Report] | Callable[[Task], Awaitable[Report]])

RESERVED = frozenset({"intake", "supervisor", "guardian", "report"})
MAX_TIMEOUT_SECONDS = 3600.0
NAME_RULE = (
    f"a name is a letter, then letters, digits, '_' or '-', 64 at most, and none of {', '.join(sorted(RESERVED))}"
)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_MARK = "__bursar_deterministic__"


def is_name(name: str) -> bool:
    """Whether this may be the name of a specialist or a gate."""
    return _NAME.fullmatch(name) is not None and name not in RESERVED


def deterministic(function: F) -> F:
    """Mark a handler as deterministic: it runs with a zero budget, any paid call inside it is refused."""
    setattr(function, _MARK, True)
    return function


def is_deterministic(handler: object) -> bool:
    """Whether the handler was marked `@deterministic`."""
    return getattr(handler, _MARK, False) is True


@dataclass(frozen=True, kw_only=True)
class Specialist:
    """An agent: what it is for, how it answers, what it may cost and take, and who answers when it cannot.

    `ceiling` and `expected_cost` are US dollars per run; without an expected cost the ceiling counts, and nothing for
    a `@deterministic` handler. `timeout` is in seconds, `max_turns` counts paid calls of one run. `fallbacks` are tried
    in order: `@deterministic` functions, or names of other specialists; a name at the end goes on with that one's own
    chain. `value` weighs the router's score; `models` declares the chat models the handler uses, so that a missing
    price is found when the graph is built. `max_repeats` is how often its model may ask for one and the same tool call
    in a run. A run whose report is less confident than `min_confidence` (0..1) completes, and its fallback is asked all
    the same. Each run of one of high `risk` must be approved by a person. Raises `ConfigurationError`, naming the
    specialist, for a bad field.
    """

    name: str
    description: str
    handler: Handler
    ceiling: Amount = "0.01"
    timeout: float = 30.0
    max_turns: int = 8
    fallbacks: Sequence[Function | str] = ()
    examples: Sequence[str] = ()
    expected_cost: Amount | None = None
    value: Amount = 1
    models: Sequence[BaseChatModel] = ()
    max_repeats: int = 3
    min_confidence: float = 0.0
    risk: Risk = "low"
    cap: USD = field(init=False, repr=False)
    expects: USD = field(init=False, repr=False)
    weight: Decimal = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not is_name(self.name):
            raise self.fault(NAME_RULE)
        if not callable(self.handler) and not hasattr(self.handler, "ainvoke"):
            raise self.fault(f"the handler must be a function, a Runnable or a compiled graph, not {self.handler!r}")
        if not 0 < self.timeout <= MAX_TIMEOUT_SECONDS:
            raise self.fault(f"timeout must be above 0 and at most {MAX_TIMEOUT_SECONDS:.0f} seconds")
        for name, number in (("max_turns", self.max_turns), ("max_repeats", self.max_repeats)):
            if number < 1:
                raise self.fault(f"{name} must be at least 1")
        if not 0 <= self.min_confidence <= 1:
            raise self.fault("min_confidence must be from 0 to 1")
        if self.risk not in ("low", "high"):
            raise self.fault(f"risk is 'low' or 'high', not {self.risk!r}")
        cap = self._amount("ceiling", self.ceiling)
        expects = ZERO if self.deterministic else cap
        if self.expected_cost is not None:
            expects = self._amount("expected_cost", self.expected_cost)
        if expects > cap:
            raise self.fault(f"expected_cost {expects} is above its ceiling {cap}")
        object.__setattr__(self, "cap", ZERO if self.deterministic else cap)
        object.__setattr__(self, "expects", expects)
        object.__setattr__(self, "weight", self._amount("value", self.value).dollars)

    @property
    def deterministic(self) -> bool:
        """Whether its own handler makes no paid call: a tool agent."""
        return is_deterministic(self.handler)

    def fault(self, what: str) -> ConfigurationError:
        """The error that names this specialist."""
        return ConfigurationError(f"specialist {self.name!r}: {what}")

    def _amount(self, name: str, amount: Amount) -> USD:
        try:
            value = USD(amount)
        except AmountError as error:
            raise self.fault(f"{name}: {error}") from None
        if value < ZERO:
            raise self.fault(f"{name} is negative")
        return value


@dataclass(frozen=True, slots=True)
class Link:
    """One handler of a chain, with its limits; `node` is its name in the graph; the chain ends at the `last`.

    `breaker` names the one that counts its faults: a specialist has one, wherever it stands in for another. `paid`:
    it may make paid calls. `awaited`: it runs on an event loop.
    """

    node: str
    name: str
    handler: Handler
    ceiling: USD
    timeout: float
    max_turns: int
    max_repeats: int
    expects: USD
    min_confidence: float
    breaker: str
    high_risk: bool = False
    last: bool = False
    paid: bool = field(init=False)
    awaited: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "paid", not is_deterministic(self.handler))
        object.__setattr__(self, "awaited", is_awaited(self.handler))


@dataclass(frozen=True, slots=True)
class Chain:
    """A specialist's own handler and, after it, its fallbacks: level 0, 1, … The last is deterministic."""

    specialist: Specialist
    links: tuple[Link, ...]

    @property
    def first_free(self) -> int:
        """The level of the first handler that makes no paid call."""
        return next(level for level, link in enumerate(self.links) if not link.paid)

    @property
    def entries(self) -> tuple[int, ...]:
        """The levels at which a plan may start it: its own handler, its next one, and the free ones of the guardian."""
        free = next((level for level, link in enumerate(self.links) if level and not link.paid), 0)
        return tuple(sorted({0, min(1, len(self.links) - 1), self.first_free, free}))


def chains_of(specialists: Sequence[Specialist]) -> dict[str, Chain]:
    """Every specialist's chain, in their order.

    Raises `ConfigurationError`, naming the specialist, when names repeat or a chain is missing, cyclic, names an
    unknown specialist, or does not end in a deterministic handler.
    """
    if not specialists:
        raise ConfigurationError("a supervisor needs at least one specialist")
    by_name: dict[str, Specialist] = {}
    for specialist in specialists:
        if specialist.name in by_name:
            raise specialist.fault("the name is used twice")
        by_name[specialist.name] = specialist
    return {name: _chain(specialist, by_name) for name, specialist in by_name.items()}


def _chain(specialist: Specialist, by_name: Mapping[str, Specialist]) -> Chain:
    if not specialist.fallbacks and not specialist.deterministic:
        raise specialist.fault("it has no fallbacks; end its chain in a @deterministic handler")
    _refuse_cycles(specialist, by_name, path=(specialist.name,))
    links = [_link(specialist, specialist.name)]
    pending = list(specialist.fallbacks)
    while pending:
        fallback = pending.pop(0)
        if isinstance(fallback, str):
            other = by_name[fallback]
            links.append(_link(other, f"{specialist.name}.{other.name}"))
            if not pending:
                pending = list(other.fallbacks)
        else:
            links.append(_function_link(specialist, fallback))
    if links[-1].paid:
        raise specialist.fault(f"its chain ends in {links[-1].name!r}, which is not @deterministic")
    nodes = [link.node for link in links]
    if len(set(nodes)) < len(nodes):
        raise specialist.fault(f"a handler stands twice in its chain: {', '.join(link.name for link in links)}")
    return Chain(specialist, (*links[:-1], replace(links[-1], last=True)))


def _link(specialist: Specialist, node: str) -> Link:
    return Link(
        node=node,
        name=specialist.name,
        handler=specialist.handler,
        ceiling=specialist.cap,
        timeout=specialist.timeout,
        max_turns=specialist.max_turns,
        max_repeats=specialist.max_repeats,
        expects=specialist.expects,
        min_confidence=specialist.min_confidence,
        breaker=f"agent:{specialist.name}",
        high_risk=specialist.risk == "high",
    )


def _function_link(specialist: Specialist, function: Function) -> Link:
    """A fallback that is a function: it has the limits of the specialist that names it."""
    name, own = handler_name(function), _link(specialist, "")
    free = is_deterministic(function)
    return replace(
        own,
        node=f"{specialist.name}.{name}",
        breaker=f"agent:{specialist.name}.{name}",
        name=name,
        handler=function,
        ceiling=ZERO if free else own.ceiling,
        high_risk=specialist.risk == "high" and not free,
        expects=ZERO if free else own.expects,
    )


def _refuse_cycles(specialist: Specialist, by_name: Mapping[str, Specialist], *, path: tuple[str, ...]) -> None:
    for fallback in specialist.fallbacks:
        if not isinstance(fallback, str):
            continue
        if fallback not in by_name:
            raise specialist.fault(f"its fallback {fallback!r} is no specialist of this graph")
        if fallback in path:
            raise by_name[path[0]].fault(f"its fallback chain is cyclic: {' → '.join((*path, fallback))}")
        _refuse_cycles(by_name[fallback], by_name, path=(*path, fallback))


def handler_name(handler: object) -> str:
    """A handler's name in decisions and in the picture of the graph."""
    name = getattr(handler, "__name__", None) or getattr(handler, "name", None) or type(handler).__name__
    return re.sub(r"[^A-Za-z0-9_-]+", "_", str(name)).strip("_") or "handler"


def is_awaited(handler: Handler) -> bool:
    """Whether the handler runs on an event loop: a Runnable, or what gives a coroutine."""
    return isinstance(handler, Runnable) or is_async(handler)


def is_async(handler: object) -> bool:
    """Whether calling the handler gives a coroutine."""
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(getattr(handler, "__call__", None))  # noqa: B004
