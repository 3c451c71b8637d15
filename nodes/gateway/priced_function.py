"""`@priced`: every call of a function that costs money goes hold → run → settle, as a model's call does."""

import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from hashlib import sha256
from typing import Any, ParamSpec, TypeVar, cast

from pydantic_core import PydanticSerializationError, to_json

from bursar.nodes.gateway.paid_calls.admission import AdmissionRequest, GrantedCall, seconds_left
from bursar.nodes.gateway.paid_calls.flow import Flow, Invoke, adrive, drive
from bursar.nodes.gateway.paid_calls.scope import Scope, current_scope
from bursar.nodes.gateway.providers.base import Failure
from bursar.nodes.gateway.providers.failures import failure_of
from bursar.nodes.gateway.send_with_retries import PaidCall, purchase, send_once
from bursar.nodes.isolation.callables import is_async
from bursar.state.errors import AmountError, ConfigurationError
from bursar.state.money import USD, ZERO, Amount
from bursar.state.refusals import NoSession
from bursar.state.rules.calls import fixed_offer
from bursar.state.rules.pricing import Bill

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])

JSON_TYPES = (dict, list, str, int, float, bool, type(None))


def priced(
    price: Amount | Callable[[Any], Amount],
    *,
    at_most: Amount | None = None,
    free_on: tuple[type[BaseException], ...] = (),
) -> Callable[[F], F]:
    """Put a sync or async function that costs `price` US dollars per call behind the gateway.

    The price is held before the function runs and settled when the function returns. If the price depends on the
    result, `price` is a function of the result, and `at_most` is held; a price above `at_most` is booked in full, as an
    incident. If the function raises one of `free_on`, nothing is owed. If it raises another exception, the call stays
    charged at its hold, as unknown, until the call is reconciled. If the result is plain JSON, the ledger keeps it: a
    run that is repeated gets the result again without paying, if the JSON of the arguments is the same. A call with any
    other result is paid for each time.

    The function has a breaker, as a model has. Timeouts, broken connections and 5xx that the function raises are
    counted as faults.

    Raises `ConfigurationError` for a bad price or for a generator. A call raises `NoSession` outside any session, and
    `BudgetExceeded` if its price does not fit the budget.
    """
    hold = _hold(price, at_most)
    cost_of = price if callable(price) else None

    def decorate(function: F) -> F:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise ConfigurationError(f"{function.__name__} is a generator; price a function that returns its result")
        name = f"{function.__module__}.{function.__qualname__}"

        def priced_call(send: Invoke[Any], arguments: object) -> _FunctionCall:
            scope = _scope(name)
            key = _key(name, arguments)
            offer = fixed_offer(name, f"given {hold}", hold.nanos, f"function:{name}")
            claim = AdmissionRequest(scope, key, scope.next_occurrence(key), (offer,))
            return _FunctionCall(claim, send, cost_of, free_on)

        if is_async(function):

            @wraps(function)
            async def asynchronous(*args: Any, **kwargs: Any) -> Any:
                send: Invoke[Any] = Invoke(_never, lambda: function(*args, **kwargs))
                return await adrive(purchase(priced_call(send, (args, kwargs))))

            return cast(F, asynchronous)

        @wraps(function)
        def sync(*args: Any, **kwargs: Any) -> Any:
            send: Invoke[Any] = Invoke(lambda: function(*args, **kwargs), _anever)
            return drive(purchase(priced_call(send, (args, kwargs))))

        return cast(F, sync)

    return decorate


@dataclass(slots=True)
class _FunctionCall(PaidCall[Any]):
    """A paid call of a priced function.

    `cost_of` returns the price of a result; if `cost_of` is None, the price is the hold. After an exception in
    `free_on` nothing is owed.
    """

    sending: Invoke[Any]
    cost_of: Callable[[Any], Amount] | None
    free_on: tuple[type[BaseException], ...]

    def send(self, granted: GrantedCall) -> Flow[Any]:
        return send_once(self.sending)

    def bill(self, granted: GrantedCall, result: Any) -> Bill:
        return Bill(granted.hold.amount if self.cost_of is None else _nanos(self.cost_of(result)))

    def failure(self, granted: GrantedCall, error: BaseException) -> Failure:
        """Return what is owed after an error of the function, and whether the error counts for the function's breaker.

        Only a timeout, a broken connection or a 5xx counts: it is a fault of the service that the function calls. Every
        other error is the function's own. The function is not called again.
        """
        name, scope = type(error).__name__, self.claim.scope
        if isinstance(error, self.free_on):
            return Failure("nothing", retry=False, reason=name)
        read = failure_of(error, answered=False, now=scope.clock(), seconds_left=seconds_left(scope))
        return Failure("unknown", retry=False, reason=name, at_fault=read.at_fault)

    def write(self, result: Any) -> bytes | None:
        """Return the result as JSON for the ledger to keep. If JSON would change it, return None: it is not kept."""
        return json.dumps(result).encode() if _is_json(result) else None

    def read(self, answer: bytes) -> Any:
        return json.loads(answer)


def _hold(price: object, at_most: Amount | None) -> USD:
    if callable(price) == (at_most is None):
        raise ConfigurationError("a price that is a function needs at_most, a fixed price takes none")
    try:
        hold = USD(cast(Amount, price) if at_most is None else at_most)
    except AmountError as error:
        raise ConfigurationError(f"price: {error}") from None
    if hold < ZERO:
        raise ConfigurationError(f"price: {hold} is negative")
    return hold


def _nanos(amount: Amount) -> int:
    cost = USD(amount)
    if cost < ZERO:
        raise AmountError(f"the price of a call is negative: {cost}")
    return cost.nanos


def _scope(name: str) -> Scope:
    scope = current_scope()
    if scope is None:
        raise NoSession(f"{name} is priced and was called outside any session; call it in a specialist's handler")
    return scope


def _key(name: str, arguments: object) -> str:
    try:
        written = to_json(arguments, fallback=repr, inf_nan_mode="constants")
    except (PydanticSerializationError, UnicodeEncodeError):
        written = repr(arguments).encode("utf-8", "backslashreplace")
    return sha256(f"priced {name}\n".encode() + written).hexdigest()


def _is_json(value: object) -> bool:
    if type(value) not in JSON_TYPES or value != value:  # NaN differs from itself
        return False
    if isinstance(value, dict):
        entries = cast("dict[object, object]", value)
        return all(type(key) is str and _is_json(held) for key, held in entries.items())
    return not isinstance(value, list) or all(map(_is_json, cast("list[object]", value)))


def _never() -> object:
    raise AssertionError("an async function is driven from async code")


async def _anever() -> object:
    raise AssertionError("a sync function is driven from sync code")
