"""Checks of the arguments of `build_supervisor`: each fault is one sentence that says what to write instead."""

from collections.abc import Iterable, Mapping, Sequence
from inspect import iscoroutinefunction

from bursar.checkpoints.ledger.ledger import Ledger
from bursar.nodes.composers.base import Composer
from bursar.nodes.context.coordinator import Coordinator
from bursar.nodes.gates.base import Gate
from bursar.nodes.gateway.meter import require_price
from bursar.nodes.observers.base import AnyObserver
from bursar.nodes.routers.base import Router
from bursar.nodes.specialists.approval_policy import MustApprove
from bursar.nodes.specialists.chain import Chain, chains_of
from bursar.nodes.specialists.definition import NAME_RULE, Specialist, is_name
from bursar.state.budget import Budget
from bursar.state.errors import ConfigurationError, UnknownPrice
from bursar.state.money import USD, ZERO, AmountError

MAX_REQUEST_SECONDS = 86_400.0
MAX_ROUNDS = 10
HEARD = ("run_started", "turn", "run_ended", "run_stopped", "for_request")


def checked_chains(specialists: Sequence[Specialist], budget: Budget, ledger: Ledger) -> dict[str, Chain]:
    """Return the chains of the specialists by name.

    Raises `ConfigurationError` unless these are `Specialist` records with proper chains, a `Budget` that has room for
    each ceiling, and a `Ledger`. Raises `UnknownPrice` if a declared model has no price.
    """
    _check_kinds(specialists, budget, ledger)
    chains = chains_of(specialists)
    _check_money(chains, budget)
    return chains


def _check_kinds(specialists: Iterable[object], budget: object, ledger: object) -> None:
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


def check_coordinator(coordinator: Coordinator, checkpointer: object) -> None:
    """Raise `ConfigurationError` unless router, gate and composer have the methods that they are called by.

    Raise it too if a person must approve or raise something, and the graph cannot wait for that.
    """
    _check_router(coordinator.router)
    _check_gate(coordinator.gate, coordinator.chains)
    _check_composer(coordinator.composer)
    _check_approval(coordinator.chains, coordinator.must_approve, checkpointer)
    if coordinator.asks and coordinator.approvals.nobody:
        raise ConfigurationError("on_exhausted='ask' asks a person; say who may answer with approvers=[…]")
    if coordinator.asks and not checkpointer:
        raise ConfigurationError("on_exhausted='ask' waits for a person; give the graph a checkpointer to wait with")


def _check_router(router: Router) -> None:
    """Raise `ConfigurationError` unless the router has a `route`."""
    if not callable(getattr(router, "route", None)):
        raise ConfigurationError(f"router: {_kind(router)} has no route(text, candidates), which a router has")


def _check_composer(composer: Composer | None) -> None:
    """Raise `ConfigurationError` unless the composer is None, or has a coroutine `compose` and a proper `share`."""
    if composer is None:
        return
    if isinstance(composer, type) or not iscoroutinefunction(getattr(composer, "compose", None)):
        raise ConfigurationError(
            f"composer: {_kind(composer)} has no async compose(question, reports, gaps), which a composer has"
        )
    try:
        share = USD(getattr(composer, "share", ZERO))
    except AmountError as error:
        raise ConfigurationError(f"composer: share: {error}") from None
    if share < ZERO:
        raise ConfigurationError(f"composer: its share {share} is negative")


def _check_gate(gate: Gate | None, chains: Mapping[str, Chain]) -> None:
    """Raise `ConfigurationError` unless the gate is None, or has a proper name, `review_plan` and `review_answer`.

    Raise it too if a specialist has the gate's name.
    """
    if gate is None:
        return
    name = getattr(gate, "name", None)
    if not isinstance(name, str) or not is_name(name):
        raise ConfigurationError(f"gate {name!r}: {NAME_RULE}")
    if name in chains:
        raise ConfigurationError(f"gate {name!r}: a specialist has that name already")
    for member in ("review_plan", "review_answer"):
        if not callable(getattr(gate, member, None)):
            raise ConfigurationError(f"gate {name!r} has no {member}, which a gate has")


def checked_observers(observers: Iterable[AnyObserver]) -> tuple[AnyObserver, ...]:
    """Return the observers. Raises `ConfigurationError` unless each has at least one method of `Observer`.

    Raises it too if one of these methods is a coroutine function.
    """
    if not isinstance(observers, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance] - untyped code passes one
        raise ConfigurationError("observers is a list; write [observer]")
    for one in observers:
        methods = [method for name in HEARD if callable(method := getattr(one, name, None))]
        if not methods:
            raise ConfigurationError(f"observer {_kind(one)} has none of {', '.join(HEARD)}, so it would hear nothing")
        if any(map(iscoroutinefunction, methods)):
            raise ConfigurationError(f"observer {_kind(one)}: a method is a coroutine; write def, not async def")
    return tuple(observers)


def _check_money(chains: Mapping[str, Chain], budget: Budget) -> None:
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


def _check_approval(chains: Mapping[str, Chain], required: MustApprove, checkpointer: object) -> None:
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


def checked_timeout(seconds: float | None) -> float | None:
    """Return a request's time. Raises `ConfigurationError` unless it is None, or above 0 and at most a day."""
    if seconds is not None and not 0 < seconds <= MAX_REQUEST_SECONDS:
        raise ConfigurationError(f"timeout must be above 0 and at most {MAX_REQUEST_SECONDS} seconds")
    return seconds


def checked_rounds(rounds: int) -> int:
    """Return how many rounds a request may take. Raises `ConfigurationError` unless it is from 1 to `MAX_ROUNDS`."""
    if isinstance(rounds, bool) or not isinstance(rounds, int) or not 1 <= rounds <= MAX_ROUNDS:  # pyright: ignore[reportUnnecessaryIsInstance] - untyped code passes text
        raise ConfigurationError(f"rounds is a whole number from 1 to {MAX_ROUNDS}, not {rounds!r}")
    return rounds


def is_asking(on_exhausted: object) -> bool:
    """Whether a person is asked at the cap. Raises `ConfigurationError` unless it is "fall_back" or "ask"."""
    if on_exhausted not in ("fall_back", "ask"):
        raise ConfigurationError(f"on_exhausted is 'fall_back' or 'ask', not {on_exhausted!r}")
    return on_exhausted == "ask"


def _kind(value: object) -> str:
    return value.__name__ if isinstance(value, type) else type(value).__name__
