"""`Specialist`: the record by which users define an agent."""

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
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
    """Whether `name` may be the name of a specialist or a gate."""
    return _NAME.fullmatch(name) is not None and name not in RESERVED


def deterministic(function: F) -> F:
    """Mark a handler as deterministic: it runs with a budget of zero, and any paid call inside it is refused."""
    setattr(function, _MARK, True)
    return function


def is_deterministic(handler: object) -> bool:
    """Whether the handler was marked `@deterministic`."""
    return getattr(handler, _MARK, False) is True


@dataclass(frozen=True, kw_only=True)
class Specialist:
    """An agent: its purpose, its handler, its limits of cost and time, and its fallbacks.

    `ceiling` and `expected_cost` are US dollars per run. If `expected_cost` is None, the ceiling is expected, or 0 for
    a `@deterministic` handler. `timeout` is in seconds. `max_turns` is the most paid calls of one run. `max_repeats` is
    how many times in a row its model may ask for the same tool call. `fallbacks` are asked in order:
    `@deterministic` functions, or names of other specialists. If the last of them is a name, the fallbacks of that
    specialist follow. `examples` are questions that the specialist answers; the router reads them. `value` multiplies
    the router's score; specialists with the highest product per expected cost are chosen first. `models` declares the
    chat models that the handler uses, so that a missing price is found when the graph is built. If a report's
    confidence is below `min_confidence` (0..1), its run completes, but the fallback is asked too. A person must approve
    each run of a specialist with `risk="high"`. Raises `ConfigurationError`, naming the specialist, for a bad field.
    """

    name: str
    description: str
    handler: Handler
    ceiling: Amount = "0.01"
    timeout: float = 30.0
    max_turns: int = 25
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
        self._check_lists()
        self._check_numbers()
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
        """Whether the specialist's own handler is marked `@deterministic`, so that every paid call of it is refused."""
        return is_deterministic(self.handler)

    def fault(self, what: str) -> ConfigurationError:
        """Return a `ConfigurationError` that names this specialist."""
        return ConfigurationError(f"specialist {self.name!r}: {what}")

    def _check_lists(self) -> None:
        if callable(self.fallbacks) or isinstance(self.fallbacks, str):
            raise self.fault("fallbacks is a list; write [rules]")
        if isinstance(self.examples, str):
            raise self.fault("examples is a list of questions; write [question]")
        if isinstance(self.models, BaseChatModel):
            raise self.fault("models is a list; write [model]")

    def _check_numbers(self) -> None:
        for name, number in (("timeout", self.timeout), ("min_confidence", self.min_confidence)):
            if isinstance(number, bool) or not isinstance(number, int | float):  # pyright: ignore[reportUnnecessaryIsInstance] - untyped code passes text
                raise self.fault(f"{name} is a number, not {number!r}")
        for name, number in (("max_turns", self.max_turns), ("max_repeats", self.max_repeats)):
            if not isinstance(number, int) or number < 1:  # pyright: ignore[reportUnnecessaryIsInstance] - as above
                raise self.fault(f"{name} must be at least 1")
        if not 0 < self.timeout <= MAX_TIMEOUT_SECONDS:
            raise self.fault(f"timeout must be above 0 and at most {MAX_TIMEOUT_SECONDS:.0f} seconds")
        if not 0 <= self.min_confidence <= 1:
            raise self.fault("min_confidence must be from 0 to 1")

    def _amount(self, name: str, amount: Amount) -> USD:
        try:
            value = USD(amount)
        except AmountError as error:
            raise self.fault(f"{name}: {error}") from None
        if value < ZERO:
            raise self.fault(f"{name} is negative")
        return value
