"""The chain of handlers that serves a specialist: its own handler, then its fallbacks, then its last resort."""

import re
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace

from bursar.nodes.isolation.callables import is_awaited
from bursar.nodes.specialists.definition import Function, Handler, Specialist, is_deterministic
from bursar.nodes.specialists.sync_graphs import runs_in_sync_code_alone
from bursar.state.decision import Step
from bursar.state.errors import ConfigurationError
from bursar.state.money import USD, ZERO
from bursar.state.rules.plans import arrange


@dataclass(frozen=True, slots=True)
class Link:
    """One handler of a chain, with its limits. `node` is its name in the graph; `last` marks the last resort.

    While it runs, `step` is the planned step that it runs for, and `suffix` tells that step from the specialist's
    others. Its agent has both, so accounts, calls and log tell two runs of one node apart.

    `breaker` names the breaker that counts the handler's faults. A specialist that is also a fallback of others has one
    breaker in all chains. `expects` is what a run is expected to cost; if the link `learns`, only until its first run
    has completed. If there is a `price`, each run is charged it. If `paid`, the handler may make paid calls. If
    `awaited`, it runs on an event loop; if `apart` too, on one of Bursar's own.
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
    learns: bool = False
    price: USD | None = None
    high_risk: bool = False
    last: bool = False
    apart: bool = False
    step: str = ""
    suffix: str = ""
    paid: bool = field(init=False)
    awaited: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "paid", not is_deterministic(self.handler))
        object.__setattr__(self, "awaited", is_awaited(self.handler) and not runs_in_sync_code_alone(self.handler))

    @property
    def agent(self) -> str:
        """The name under which the handler is charged."""
        return f"{self.node}{self.suffix}"

    def of_step(self, step: Step) -> "Link":
        """Return the link as it runs for the step."""
        link = copy(self)  # not `replace`, which would look through the handler again
        object.__setattr__(link, "step", step.name)
        object.__setattr__(link, "suffix", step.suffix)
        return link


@dataclass(frozen=True, slots=True)
class Chain:
    """A specialist's own handler (level 0) and its fallbacks (level 1, 2, …). The last link is deterministic."""

    specialist: Specialist
    links: tuple[Link, ...]

    @property
    def first_free(self) -> int:
        """The level of the first handler that makes no paid call."""
        return next(level for level, link in enumerate(self.links) if not link.paid)

    @property
    def entries(self) -> tuple[int, ...]:
        """The levels at which a plan may start the chain.

        They are the specialist's own handler, its first fallback, its first handler that makes no paid call, and its
        first fallback that makes no paid call.
        """
        free = next((level for level, link in enumerate(self.links) if level and not link.paid), 0)
        return tuple(sorted({0, min(1, len(self.links) - 1), self.first_free, free}))


def first_node(chain: Chain, step: Step) -> str:
    """Return the node at which a planned step starts."""
    return chain.links[min(step.chain_index, len(chain.links) - 1)].node


def chains_of(specialists: Sequence[Specialist]) -> dict[str, Chain]:
    """Return the chain of every specialist by the specialist's name, in the order of the specialists.

    Raises `ConfigurationError`, naming the specialist, if names repeat, if a need is unknown or cyclic, or if a chain
    is missing, is cyclic, names an unknown specialist or does not end in a deterministic handler.
    """
    if not specialists:
        raise ConfigurationError("a supervisor needs at least one specialist")
    by_name: dict[str, Specialist] = {}
    for specialist in specialists:
        if specialist.name in by_name:
            raise specialist.fault("the name is used twice")
        by_name[specialist.name] = specialist
    _check_needs(by_name)
    return {name: _chain(specialist, by_name) for name, specialist in by_name.items()}


def _check_needs(by_name: Mapping[str, Specialist]) -> None:
    """Raise `ConfigurationError` if a specialist needs one that does not exist, or, by way of others, itself."""
    for specialist in by_name.values():
        if (strange := next((need for need in specialist.needs if need not in by_name), None)) is not None:
            raise specialist.fault(f"it needs {strange!r}, which is no specialist of this graph")
    _, cyclic = arrange(tuple(by_name), {name: tuple(one.needs) for name, one in by_name.items()})
    if cyclic:
        name, need = cyclic[0]
        raise by_name[name].fault(f"it needs {need!r}, which needs it in turn; a plan has no cycles")


def former_chains_of(specialists: Sequence[Specialist]) -> dict[str, Chain]:
    """Return the chain of each specialist by each of its former names, as if it still had that name.

    Steps of sessions that began under such a name find their nodes, accounts and paid answers in it. Raises
    `ConfigurationError` if a former name is a specialist's name, or is given twice.
    """
    by_name = {specialist.name: specialist for specialist in specialists}
    former: dict[str, Chain] = {}
    for specialist in specialists:
        for name in specialist.was:
            if name in by_name or name in former:
                raise specialist.fault(f"its former name {name!r} is taken by another specialist")
            former[name] = _chain(replace(specialist, name=name, was=()), by_name)
    return former


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
        learns=specialist.learns,
        price=specialist.run_price,
        high_risk=specialist.risk == "high",
        apart=specialist.apart,
    )


def _function_link(specialist: Specialist, function: Function) -> Link:
    """Return the link of `function`, a fallback of `specialist`. The link has the limits of that specialist.

    A deterministic function has a ceiling of 0 and needs no approval.
    """
    name, own = handler_name(function), _link(specialist, "")
    free = is_deterministic(function)
    learns = not free and specialist.expected_cost is None
    return replace(
        own,
        node=f"{specialist.name}.{name}",
        breaker=f"agent:{specialist.name}.{name}",
        name=name,
        handler=function,
        price=None,
        learns=learns,
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
    """Return a handler's name in decisions and in the picture of the graph."""
    name = getattr(handler, "__name__", None) or getattr(handler, "name", None) or type(handler).__name__
    return re.sub(r"[^A-Za-z0-9_-]+", "_", str(name)).strip("_") or "handler"
