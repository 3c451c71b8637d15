"""`build_supervisor`: make one compiled LangGraph graph of specialists, a budget, a ledger and a checkpointer."""

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Literal, cast

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.store.base import BaseStore
from langgraph.types import TracePolicy

from bursar.checkpoints.ledger.ledger import Ledger, random_id, utc_now
from bursar.checkpoints.saver.saver import LEDGER
from bursar.graphs.check_arguments import (
    check_coordinator,
    checked_chains,
    checked_observers,
    checked_rounds,
    checked_timeout,
    is_asking,
)
from bursar.graphs.leased_graph import BUILT, OwnedGraph
from bursar.graphs.schemas import Schemas, schemas_of
from bursar.nodes.composers.base import Composer
from bursar.nodes.context.coordinator import Coordinator
from bursar.nodes.gates.base import Gate
from bursar.nodes.gateway.paid_calls.scope import carry_scope
from bursar.nodes.isolation.sync_bridge import AsyncNode, EdgeFunction, NodeBody
from bursar.nodes.observers.base import AnyObserver
from bursar.nodes.observers.summaries import state_changed, state_seen
from bursar.nodes.planning.routing import MOST_AT_ONCE
from bursar.nodes.report import after_report, report
from bursar.nodes.routers.base import Router
from bursar.nodes.routers.example_router import ExampleRouter, has_scikit_learn
from bursar.nodes.routers.word_overlap import WordOverlapRouter
from bursar.nodes.specialist_node import after, run_agent
from bursar.nodes.specialists.approval_policy import DEFAULT_SECONDS, Approvals, Approvers, MustApprove, OnDenied
from bursar.nodes.specialists.chain import Chain, former_chains_of
from bursar.nodes.specialists.definition import Specialist
from bursar.nodes.supervisor import dispatch, supervise
from bursar.state.budget import Budget
from bursar.state.errors import ConfigurationError
from bursar.state.langgraph_private import DURABILITY
from bursar.state.session import SessionInput, SessionOutput, SessionState

STEPS_BESIDE_CHAIN = 2  # of a wave: supervisor and report

SUMMARIES = TracePolicy(process_inputs=state_seen, process_outputs=state_changed)

Supervisor = OwnedGraph
Graph = StateGraph[SessionState, Any, SessionInput, SessionOutput]


def build_supervisor(
    specialists: Sequence[Specialist],
    *,
    budget: Budget,
    ledger: Ledger,
    checkpointer: BaseCheckpointSaver[Any] | bool | None = None,
    router: Router | None = None,
    gate: Gate | None = None,
    composer: Composer | None = None,
    timeout: float | None = None,
    rounds: int = 1,
    require_approval: MustApprove = (),
    approvers: Approvers | None = None,
    approval_seconds: float = DEFAULT_SECONDS,
    on_denied: OnDenied = "end",
    on_exhausted: Literal["fall_back", "ask"] = "fall_back",
    observers: Sequence[AnyObserver] = (),
    context_schema: type[Any] | None = None,
    state_schema: type[Any] | None = None,
    store: BaseStore | None = None,
    show_errors: bool = False,
    name: str = "bursar",
    clock: Callable[[], datetime] | None = None,
    new_id: Callable[[], str] | None = None,
) -> Supervisor:
    """Wire the specialists under one supervisor and one budget, and return a `CompiledStateGraph`.

    Without a router, `ExampleRouter` routes by examples if scikit-learn is installed, otherwise `WordOverlapRouter` by
    words. A gate reviews plan and answer; a composer joins several answers. Without a checkpointer nothing can be
    resumed. A request has up to `rounds` rounds, after each of which the router may choose again, and `timeout`
    seconds; then last resorts answer. Before a specialist of high risk, or what `require_approval` selects, the graph
    stops with an interrupt, which one of `approvers` answers within `approval_seconds`. If that is denied or late,
    neither the specialist nor its fallbacks run; an action that is denied ends its run or, with `on_denied="tell"`,
    tells its caller. With `on_exhausted="ask"` an approver is asked once for more if the budget stops a specialist.
    With `show_errors` answers quote exceptions. Tasks have `store`, `context=` and the keys of `state_schema`.

    Raises `ConfigurationError` if an argument or a chain is not as it must be, `UnknownPrice` if a model has no price.
    """
    chains, schemas = checked_chains(specialists, budget, ledger), schemas_of(state_schema, context_schema)
    coordinator = Coordinator(
        chains=chains,
        budget=budget,
        ledger=ledger,
        router=router or _default_router(),
        gate=gate,
        composer=composer,
        clock=clock or utc_now,
        new_id=new_id or random_id,
        timeout=checked_timeout(timeout),
        approvals=Approvals(approvers, approval_seconds, on_denied),
        must_approve=require_approval,
        asks=is_asking(on_exhausted),
        observers=checked_observers(observers),
        input_keys=schemas.keys,
        rounds=checked_rounds(rounds),
        show_errors=show_errors,
        former=former_chains_of(specialists),
    )
    check_coordinator(coordinator, checkpointer)
    return _compile(coordinator, schemas, checkpointer, store=store, name=name)


def with_coordinator(app: Supervisor, coordinator: Coordinator) -> Supervisor:
    """Return a copy of `app` with another coordinator. A coordinator has the arguments of `build_supervisor`.

    The copy has the same name, checkpointer and configuration. A drill puts faults into a graph in this way.
    """
    made = app.builder
    schemas = Schemas(made.state_schema, made.input_schema, made.output_schema, made.context_schema)
    copy = _compile(coordinator, schemas, app.checkpointer, store=app.store, name=app.name)  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
    return copy.with_config(app.config)


def coordinator_of(app: Supervisor) -> Coordinator:
    """Return the coordinator of `app`. Raises `ConfigurationError` if `build_supervisor` did not make the graph."""
    coordinator = BUILT.get(app.builder)
    if coordinator is None:
        raise ConfigurationError("this graph was not made by build_supervisor")
    return coordinator


def _compile(
    coordinator: Coordinator,
    schemas: Schemas,
    checkpointer: BaseCheckpointSaver[Any] | bool | None,
    *,
    store: BaseStore | None,
    name: str,
) -> Supervisor:
    if store is not None and not isinstance(store, BaseStore):  # pyright: ignore[reportUnnecessaryIsInstance] - untyped code passes one
        raise ConfigurationError(f"store is a BaseStore, not {type(store).__name__}")
    graph = _wire(coordinator, schemas)
    BUILT[graph] = coordinator
    compiled = cast("Supervisor", graph.compile(checkpointer=checkpointer, store=store, name=name))  # pyright: ignore[reportUnknownMemberType]
    # Without a checkpointer of its own LangGraph must not be told to wait for one.
    durability: dict[str, object] = {DURABILITY: "sync"} if checkpointer else {}
    compiled.__class__ = OwnedGraph  # LangGraph compiles to its own class; this one adds no state
    configurable = {**durability, LEDGER: coordinator.ledger}
    return compiled.with_config(recursion_limit=_most_steps(coordinator), configurable=configurable)


def _most_steps(coordinator: Coordinator) -> int:
    """Return the most supersteps of a request, with a margin: in each round each step may be a wave of its own."""
    longest = max(len(chain.links) for chain in coordinator.all_chains.values())
    most_waves = MOST_AT_ONCE + len(coordinator.chains)
    return 2 * coordinator.rounds * most_waves * (STEPS_BESIDE_CHAIN + longest)


def _default_router() -> Router:
    return ExampleRouter() if has_scikit_learn() else WordOverlapRouter()


def _wire(coordinator: Coordinator, schemas: Schemas) -> Graph:
    """Return the graph: START → supervisor → a wave of specialists → their fallbacks → report → END, or supervisor."""
    graph: Graph = StateGraph(
        schemas.state, context_schema=schemas.context, input_schema=schemas.input, output_schema=schemas.output
    )
    _add(graph, "supervisor", partial(supervise, coordinator))
    # Deferred, so that it runs once when every branch has ended, however long their fallback chains are. It is the only
    # deferred node: a second one would let the answer be composed before the next wave.
    _add(graph, "report", partial(report, coordinator), defer=True)
    graph.add_edge(START, "supervisor")
    firsts = {chain.links[level].node for chain in coordinator.all_chains.values() for level in chain.entries}
    graph.add_conditional_edges(
        "supervisor", EdgeFunction("dispatch", partial(dispatch, coordinator)), [*sorted(firsts), "report"]
    )
    for chain in coordinator.all_chains.values():
        _wire_chain(graph, coordinator, chain)
    graph.add_conditional_edges("report", EdgeFunction("next", partial(after_report, coordinator)), ["supervisor", END])
    return graph


def _wire_chain(graph: Graph, coordinator: Coordinator, chain: Chain) -> None:
    for level, link in enumerate(chain.links):
        _add(graph, link.node, partial(run_agent, coordinator, chain, level))
        following = [following.node for following in chain.links[level + 1 : level + 2]]
        graph.add_conditional_edges(
            link.node, EdgeFunction("outcome", partial(after, chain, level)), [*following, "report"]
        )


def _add(graph: Graph, name: str, body: NodeBody[SessionState], *, defer: bool = False) -> None:
    graph.add_node(name, AsyncNode(name, body, carry=carry_scope), defer=defer, trace_policy=SUMMARIES)  # pyright: ignore[reportUnknownMemberType]
