"""Checks of the arguments of `build_supervisor`: each fault is one sentence that says what to write instead."""

from collections.abc import Iterable, Mapping
from inspect import iscoroutinefunction

from bursar.checkpoints.ledger.ledger import Ledger
from bursar.nodes.gates.base import Gate
from bursar.nodes.gateway.meter import require_price
from bursar.nodes.observers.base import Observer
from bursar.nodes.routers.base import Router
from bursar.nodes.specialists.approval_policy import MustApprove
from bursar.nodes.specialists.chain import Chain
from bursar.nodes.specialists.definition import NAME_RULE, Specialist, is_name
from bursar.state.budget import Budget
from bursar.state.errors import ConfigurationError, UnknownPrice

HEARD = ("run_started", "turn", "run_ended", "run_stopped")


def check_kinds(specialists: Iterable[object], budget: object, ledger: object) -> None:
    """Raise `ConfigurationError` unless these are `Specialist` records, a `Budget` and a `Ledger`."""
    if isinstance(specialists, Specialist):
        raise ConfigurationError("specialists is a list; write [specialist]")
    for one in specialists:
        if not isinstance(one, Specialist):
            raise ConfigurationError(f"a supervisor takes Specialist records, not {_kind(one)}; write Specialist(…)")
    if not isinstance(budget, Budget):
        raise ConfigurationError(f'budget is a Budget, not {_kind(budget)}; write Budget("0.03")')
    if not isinstance(ledger, Ledger):
        raise ConfigurationError(f"ledger is a Ledger, not {_kind(ledger)}; write Ledger(url)")


def check_router(router: Router | None) -> None:
    """Raise `ConfigurationError` unless the router has a `route`."""
    if router is not None and not callable(getattr(router, "route", None)):
        raise ConfigurationError(f"router: {_kind(router)} has no route(text, candidates), which a router has")


def check_gate(gate: Gate | None, chains: Mapping[str, Chain]) -> None:
    """Raise `ConfigurationError` unless the gate is None, or has a proper name, `review_plan` and `review_answer`.

    Raise it too if a specialist has the gate's name, or if one of the two methods is a coroutine function.
    """
    if gate is None:
        return
    name = getattr(gate, "name", None)
    if not isinstance(name, str) or not is_name(name):
        raise ConfigurationError(f"gate {name!r}: {NAME_RULE}")
    if name in chains:
        raise ConfigurationError(f"gate {name!r}: a specialist has that name already")
    for member in ("review_plan", "review_answer"):
        review = getattr(gate, member, None)
        if not callable(review):
            raise ConfigurationError(f"gate {name!r} has no {member}, which a gate has")
        if iscoroutinefunction(review):
            raise ConfigurationError(f"gate {name!r}: {member} is a coroutine; write def, not async def")


def check_observers(observers: Iterable[Observer]) -> None:
    """Raise `ConfigurationError` unless each of `observers` has at least one method of `Observer`.

    Raise it too if one of these methods is a coroutine function.
    """
    if not isinstance(observers, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance] - untyped code passes one
        raise ConfigurationError("observers is a list; write [observer]")
    for one in observers:
        methods = [method for name in HEARD if callable(method := getattr(one, name, None))]
        if not methods:
            raise ConfigurationError(f"observer {_kind(one)} has none of {', '.join(HEARD)}, so it would hear nothing")
        if any(map(iscoroutinefunction, methods)):
            raise ConfigurationError(f"observer {_kind(one)}: a method is a coroutine; write def, not async def")


def check_money(chains: Mapping[str, Chain], budget: Budget) -> None:
    """Raise `ConfigurationError` if a ceiling is above the request's budget, `UnknownPrice` if a model has no price."""
    for chain in chains.values():
        specialist = chain.specialist
        if specialist.cap > budget.per_request:
            raise specialist.fault(f"its ceiling {specialist.cap} exceeds the request budget {budget.per_request}")
        for model in specialist.models:
            try:
                require_price(model)
            except UnknownPrice as error:
                raise UnknownPrice(str(specialist.fault(str(error)))) from None


def check_approval(chains: Mapping[str, Chain], required: MustApprove, checkpointer: object) -> None:
    """Raise `ConfigurationError` if `required` contains a name that is no specialist's, or is a text, not a collection.

    Raise it too if a person must approve something but there is no checkpointer: the graph could not stop and wait.
    """
    if isinstance(required, str):
        raise ConfigurationError("require_approval is a collection of names, or a function; write [name] for one")
    if not callable(required) and (strange := sorted(set(required) - chains.keys())):
        raise ConfigurationError(f"require_approval names {strange[0]!r}, which is no specialist of this graph")
    risky = next((name for name, chain in chains.items() if chain.specialist.risk == "high"), None)
    if not checkpointer and (risky is not None or callable(required) or required):
        name = risky or (", ".join(required) if not callable(required) else "require_approval")
        raise ConfigurationError(
            f"{name}: a person must approve it, and nothing can wait for that without a checkpointer"
        )


def _kind(value: object) -> str:
    return value.__name__ if isinstance(value, type) else type(value).__name__
