"""`@action`: makes a function with a side effect an action."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from bursar.nodes.actions.call import KEY, ActionCallState, scope_of
from bursar.nodes.actions.perform_once import perform
from bursar.nodes.actions.registry import Action, Check, Compensation, declare
from bursar.nodes.gateway.paid_calls.flow import Flow, adrive, drive
from bursar.nodes.isolation.callables import is_async
from bursar.state.errors import ConfigurationError

F = TypeVar("F", bound=Callable[..., Any])


def action(
    *,
    compensate: Compensation | None = None,
    irreversible: bool = False,
    check: Check | None = None,
    idempotent: bool = False,
    approval: bool = False,
    key: Callable[..., str] | None = None,
    not_done_on: tuple[type[BaseException], ...] = (),
) -> Callable[[F], F]:
    """Make a sync or async function with a side effect an action, which is done once and whose result is kept.

    The intent is committed to the ledger before the function runs, and the result after. A run that is repeated after a
    crash, a retry or an interrupt gets the result again. The arguments must be plain values. The result should be plain
    too, because a repeated run gets what JSON makes of it. A parameter `idempotency_key: str = ""` gets the action's
    key, by which the service that the function calls can recognise the action; a model that calls the function as a
    tool does not see that parameter. The key is made of the session, the place in the graph, the name, the arguments,
    and how often the same call came before. If `key` is given, the key is made of the session, the name and what `key`
    returns for the arguments.

    If a run fails, its actions are undone by `compensate`, the last first. An `irreversible` action is the last of its
    run: no action is done after it, and once it is done nothing of the run is undone.

    If the process died, or the function raised an exception that is none of `not_done_on`, nobody knows whether the
    action was done. Then `check` asks the service. It returns `Happened(result)` if the action was done. It returns
    None if the action was not done; a repeated call then does the action. Without `check`, an `idempotent` action is
    done again under the same key, and any other action waits for a person (`bursar incidents`). `check` and
    `compensate` get an `ActionCall`. After a crash `compensate` may be called again with the same `ActionCall`.

    With `approval` a person must approve each call, as for a specialist of high risk. If an action is called outside a
    run, in a deterministic handler, or after its run's end, it raises `ActionRefused` and does nothing.

    Raises `ConfigurationError` unless exactly one of `compensate` and `irreversible` is given, for a generator, and for
    a sync function whose `check` or `compensate` is async.
    """
    if (compensate is None) != irreversible:
        raise ConfigurationError(
            "an action names how it is undone (compensate=) or says irreversible=True; one of them"
        )

    def decorate(function: F) -> F:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise ConfigurationError(f"{function.__name__} is a generator; an action returns its result")
        name = f"{function.__module__}.{function.__qualname__}"
        for helper in (compensate, check):
            if helper is not None and is_async(helper) and not is_async(function):
                raise ConfigurationError(f"{name} is sync, and so must be what checks it and undoes it")
        declared = Action(name, function, compensate, check, idempotent, approval, key, not_done_on)
        declare(declared)
        return cast(F, _wrapped(declared))

    return decorate


def _wrapped(declared: Action) -> Callable[..., Any]:
    function = declared.function
    signature = inspect.signature(function)
    shown = signature.replace(parameters=[p for p in signature.parameters.values() if p.name != KEY])

    def flow(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Flow[Any]:
        bound = shown.bind(*args, **{name: value for name, value in kwargs.items() if name != KEY})
        bound.apply_defaults()
        return perform(ActionCallState(declared, scope_of(declared), bound, takes_key=KEY in signature.parameters))

    if is_async(function):

        @wraps(function)
        async def asynchronous(*args: Any, **kwargs: Any) -> Any:
            return await adrive(flow(args, kwargs))

        wrapper: Any = asynchronous
    else:

        @wraps(function)
        def sync(*args: Any, **kwargs: Any) -> Any:
            return drive(flow(args, kwargs))

        wrapper = sync
    wrapper.__signature__ = shown
    wrapper.__annotations__ = {name: kind for name, kind in function.__annotations__.items() if name != KEY}
    return wrapper
