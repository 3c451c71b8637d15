"""`Specialist`: the record by which users define an agent."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, TypeAlias, TypeVar

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import Runnable

from bursar.nodes.specialists.remote_graph import has_remote_graph, retries_remote_graph
from bursar.state.errors import AmountError, ConfigurationError
from bursar.state.money import USD, ZERO, Amount
from bursar.state.run import Report, Task

# What a handler may return besides a report is listed in `handlers.report_of`.
Function: TypeAlias = Callable[[Task], Any] | Callable[[Task], Awaitable[Any]]
Risk: TypeAlias = Literal["low", "high"]
Handler: TypeAlias = Function | Runnable[Any, Any]
F = TypeVar("F", bound=Callable[[Task], Report] | Callable[[Task], Awaitable[Report]])

RESERVED = frozenset({"intake", "supervisor", "guardian", "report", "composer"})
MAX_TIMEOUT_SECONDS = 3600.0
DEFAULT_CEILING = "0.01"
FIRST_SHARE = 4  # a run is expected to cost this part of its ceiling before any run has completed
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

    `ceiling`, `expected_cost` and `price` are US dollars per run. If `expected_cost` is None, the median of the last 50
    completed runs in the ledger is expected, or a quarter of the ceiling before there are any; 0 for a `@deterministic`
    handler. `price` is for a handler that spends where no ledger sees it, such as a `RemoteGraph`, which must have one:
    the most that one run costs, retries on the other side included. The price is held in full before the handler is
    called and charged in full after it, however the run ends; it is the expected cost too. If `ceiling` is None, it is
    the price, or $0.01 without a price.

    `timeout` is in seconds. `max_turns` is the most paid calls of one run. `max_repeats` is how many times in a row its
    model may ask for the same tool call. `fallbacks` are asked in order: `@deterministic` functions, or names of other
    specialists. If the last of them is a name, the fallbacks of that specialist follow. `examples` are questions that
    the specialist answers; the router reads them. `value` multiplies the router's score; specialists with the highest
    product per expected cost are chosen first. `models` declares the chat models that the handler uses, so that a
    missing price is found when the graph is built. If a report's confidence is below `min_confidence` (0..1), its run
    completes, but the fallback is asked too. A person must approve each run of a specialist with `risk="high"`. `was`
    are former names: the specialist takes over their steps in sessions that began before it was renamed. `needs` are
    specialists that run before this one, whose reports its task has; `{"research": "optional"}` lets it run without
    that report. If `apart`, its coroutines run on an event loop of Bursar's own under `ainvoke` and `astream` too: if
    they block, they block no deadline, but they cannot use what the application made on its own loop. Raises
    `ConfigurationError`, naming the specialist, for a bad field.
    """

    name: str
    description: str
    handler: Handler
    ceiling: Amount | None = None
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
    price: Amount | None = None
    was: Sequence[str] = ()
    needs: Sequence[str] | Mapping[str, str] = ()
    apart: bool = False
    cap: USD = field(init=False, repr=False)
    expects: USD = field(init=False, repr=False)
    learns: bool = field(init=False, repr=False)
    run_price: USD | None = field(init=False, repr=False)
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
        if not isinstance(self.apart, bool):  # pyright: ignore[reportUnnecessaryIsInstance] - untyped code passes text
            raise self.fault(f"apart is True or False, not {self.apart!r}")
        self._check_price()
        price = None if self.price is None else self._amount("price", self.price)
        cap = self._amount("ceiling", DEFAULT_CEILING) if price is None else price
        if self.ceiling is not None:
            cap = self._amount("ceiling", self.ceiling)
        if price is not None and price > cap:
            raise self.fault(f"its price {price} is above its ceiling {cap}")
        expects = USD.from_nanos(-(-cap.nanos // FIRST_SHARE)) if price is None else price
        if self.deterministic:
            expects = ZERO
        if self.expected_cost is not None:
            expects = self._amount("expected_cost", self.expected_cost)
        if expects > cap:
            raise self.fault(f"expected_cost {expects} is above its ceiling {cap}")
        object.__setattr__(self, "cap", ZERO if self.deterministic else cap)
        object.__setattr__(self, "expects", expects)
        # Without an expected cost of its own it expects what its last runs cost, and `expects` before there are any.
        object.__setattr__(self, "learns", self.expected_cost is None and price is None and not self.deterministic)
        object.__setattr__(self, "run_price", price)
        object.__setattr__(self, "weight", self._amount("value", self.value).dollars)

    @property
    def deterministic(self) -> bool:
        """Whether the specialist's own handler is marked `@deterministic`, so that every paid call of it is refused."""
        return is_deterministic(self.handler)

    @property
    def optional_needs(self) -> tuple[str, ...]:
        """The specialists that it needs, and without whose reports it runs all the same."""
        return tuple(self.needs) if isinstance(self.needs, Mapping) else ()

    def fault(self, what: str) -> ConfigurationError:
        """Return a `ConfigurationError` that names this specialist."""
        return ConfigurationError(f"specialist {self.name!r}: {what}")

    def _check_lists(self) -> None:
        if callable(self.fallbacks) or isinstance(self.fallbacks, str):
            raise self.fault("fallbacks is a list; write [rules]")
        if isinstance(self.examples, str):
            raise self.fault("examples is a list of questions; write [question]")
        if isinstance(self.was, str):
            raise self.fault("was is a list of former names; write [name]")
        if strange := next((name for name in self.was if not is_name(name)), None):
            raise self.fault(f"{strange!r} was no name of it: {NAME_RULE}")
        if isinstance(self.needs, str):
            raise self.fault("needs is a list of names; write [name]")
        if isinstance(self.needs, Mapping) and (odd := next((w for w in self.needs.values() if w != "optional"), None)):
            raise self.fault(f"a need is 'optional' or in a plain list, not {odd!r}")
        if self.name in self.needs:
            raise self.fault("it needs itself")
        if isinstance(self.models, BaseChatModel):
            raise self.fault("models is a list; write [model]")

    def _check_price(self) -> None:
        if any(map(has_remote_graph, self.fallbacks)):
            raise self.fault("a RemoteGraph is no fallback by itself; make it a specialist with a price, and name that")
        if self.price is None:
            if has_remote_graph(self.handler):
                raise self.fault(
                    "a RemoteGraph spends where no ledger sees it; declare the most that one run costs, such as "
                    'price="0.02"'
                )
        elif self.deterministic:
            raise self.fault("a @deterministic handler pays nothing, so it takes no price")
        elif self.expected_cost is not None:
            raise self.fault("each of its runs costs its price, so it takes no expected_cost")
        elif retries_remote_graph(self.handler):
            raise self.fault(
                "each retry of a RemoteGraph is another bill, and the price is for one; leave the retries out, and "
                "name a fallback"
            )

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
