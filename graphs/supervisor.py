"""`build_supervisor`: make one compiled LangGraph graph of specialists, a budget, a ledger and a checkpointer."""

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from bursar.checkpoints.ledger.ledger import Ledger, random_id, utc_now
from bursar.checkpoints.saver.saver import LEDGER
from bursar.graphs.check_arguments import (
    check_approval,
    check_gate,
    check_kinds,
    check_money,
    check_observers,
    check_router,
)
from bursar.graphs.leased_graph import OwnedGraph
from bursar.nodes.context.coordinator import Coordinator
from bursar.nodes.gates.base import Gate
from bursar.nodes.gateway.scope import carry_scope
from bursar.nodes.isolation.sync_bridge import AsyncNode, EdgeFunction, NodeBody
from bursar.nodes.observers.base import Observer
from bursar.nodes.planning.gate import review_plan
from bursar.nodes.planning.guardian import guard
from bursar.nodes.planning.intake import intake
from bursar.nodes.report import report
from bursar.nodes.routers.base import Router
from bursar.nodes.routers.example_router import ExampleRouter, has_scikit_learn
from bursar.nodes.routers.word_overlap import WordOverlapRouter
from bursar.nodes.specialist_node import after, first_node, run_agent
from bursar.nodes.specialists.approval_policy import DEFAULT_SECONDS, Approvals, Approvers, MustApprove
from bursar.nodes.specialists.chain import Chain, chains_of
from bursar.nodes.specialists.definition import Specialist
from bursar.nodes.supervisor import supervise
from bursar.state.budget import Budget
from bursar.state.errors import ConfigurationError
from bursar.state.langgraph_private import DURABILITY
from bursar.state.session import SessionInput, SessionOutput, SessionState

# intake, supervisor, guardian, a gate, the longest chain, supervisor again, report, and a margin of as many.
BASE_STEPS = 8
MAX_REQUEST_SECONDS = 86_400.0

Supervisor = CompiledStateGraph[SessionState, None, SessionInput, SessionOutput]
Graph = StateGraph[SessionState, None, SessionInput, SessionOutput]


def build_supervisor(
    specialists: Sequence[Specialist],
    *,
    budget: Budget,
    ledger: Ledger,
    checkpointer: BaseCheckpointSaver[Any] | bool | None = None,
    router: Router | None = None,
    gate: Gate | None = None,
    timeout: float | None = None,
    require_approval: MustApprove = (),
    approvers: Approvers | None = None,
    approval_seconds: float = DEFAULT_SECONDS,
    observers: Sequence[Observer] = (),
    name: str = "bursar",
    clock: Callable[[], datetime] | None = None,
    new_id: Callable[[], str] | None = None,
) -> Supervisor:
    """Wire the specialists under one supervisor and one budget, and return a `CompiledStateGraph`.

    If there is no router, `ExampleRouter` routes by the specialists' examples if scikit-learn is installed, otherwise
    `WordOverlapRouter` routes by the words that a specialist shares with the request; both are free and offline. A
    gate, if given, reviews the plan and the answer. Without a checkpointer nothing can be resumed, but every budget
    applies. Runs use `durability="sync"` unless the caller says otherwise: under LangGraph's default, nodes that had
    finished before a hard kill run again.

    A request has `timeout` seconds from its opening, which its router, specialists and fallbacks share; a resume does
    not begin them anew. When they are over, each specialist that has not answered goes to its last resort at once.
    Before a specialist of high risk runs, or a specialist or task that `require_approval` selects, the graph stops with
    an interrupt. A person among the `approvers` answers within `approval_seconds`. If the answer is a denial or late,
    or nobody may approve, the specialist does not run, and neither do its fallbacks. `observers` get the events of each
    run, as the stream, OpenTelemetry and LangSmith do. `clock` returns the present time, `new_id` a unique id.

    Raises `ConfigurationError` if an argument is not of its kind. Raises it also, and names the specialist, if names
    repeat, a ceiling exceeds the request's budget, or a fallback chain is missing, is cyclic, names an unknown
    specialist or does not end in a deterministic handler. Raises `UnknownPrice` if a declared model has no price.
    """
    check_kinds(specialists, budget, ledger)
    chains = chains_of(specialists)
    check_money(chains, budget)
    check_router(router)
    check_gate(gate, chains)
    check_observers(observers)
    check_approval(chains, require_approval, checkpointer)
    if timeout is not None and not 0 < timeout <= MAX_REQUEST_SECONDS:
        raise ConfigurationError(f"timeout must be above 0 and at most {MAX_REQUEST_SECONDS} seconds")
    coordinator = Coordinator(
        chains=chains,
        budget=budget,
        ledger=ledger,
        router=router or _default_router(),
        gate=gate,
        clock=clock or utc_now,
        new_id=new_id or random_id,
        timeout=timeout,
        approvals=Approvals(approvers, approval_seconds),
        must_approve=require_approval,
        observers=tuple(observers),
    )
    return _compile(coordinator, checkpointer, name)


def with_coordinator(app: Supervisor, coordinator: Coordinator) -> Supervisor:
    """Return a copy of `app` with another coordinator. A coordinator has the arguments of `build_supervisor`.

    The copy has the same name, checkpointer and configuration. A drill puts faults into a graph in this way.
    """
    return _compile(coordinator, app.checkpointer, app.name).with_config(app.config)  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]


def coordinator_of(app: Supervisor) -> Coordinator:
    """Return the coordinator of `app`. Raises `ConfigurationError` if `build_supervisor` did not make the graph."""
    coordinator = _built.get(app.builder)
    if coordinator is None:
        raise ConfigurationError("this graph was not made by build_supervisor")
    return coordinator


def _compile(coordinator: Coordinator, checkpointer: BaseCheckpointSaver[Any] | bool | None, name: str) -> Supervisor:
    graph = _wire(coordinator)
    _built[graph] = coordinator
    compiled: Supervisor = graph.compile(checkpointer=checkpointer, name=name)  # pyright: ignore[reportUnknownMemberType]
    longest = max(len(chain.links) for chain in coordinator.chains.values())
    # Without a checkpointer of its own LangGraph must not be told to wait for one.
    durability: dict[str, object] = {DURABILITY: "sync"} if checkpointer else {}
    compiled.__class__ = OwnedGraph  # LangGraph compiles to its own class; this one adds no state
    configurable = {**durability, LEDGER: coordinator.ledger}
    return compiled.with_config(recursion_limit=2 * (BASE_STEPS + longest), configurable=configurable)


# Kept beside the graphs, because LangGraph's class has no room for it. A graph's copies and configurations share a
# builder.
_built: WeakKeyDictionary[object, Coordinator] = WeakKeyDictionary()


def _default_router() -> Router:
    return ExampleRouter() if has_scikit_learn() else WordOverlapRouter()


def _wire(coordinator: Coordinator) -> Graph:
    """Return the graph: START → intake → supervisor → guardian (→ gate) → specialists and their fallbacks → supervisor
    → report → END.
    """
    graph = StateGraph(SessionState, input_schema=SessionInput, output_schema=SessionOutput)
    _add(graph, "intake", partial(intake, coordinator))
    # Deferred, so that it runs once when every branch has ended, however long their fallback chains are.
    _add(graph, "supervisor", partial(supervise, coordinator), defer=True)
    _add(graph, "guardian", partial(guard, coordinator))
    _add(graph, "report", partial(report, coordinator))
    graph.add_edge(START, "intake")
    graph.add_edge("intake", "supervisor")
    graph.add_conditional_edges("supervisor", EdgeFunction("plan", _to_guardian), ["guardian", "report"])
    last = "guardian"
    if (gate := coordinator.gate) is not None:
        _add(graph, gate.name, partial(review_plan, coordinator, gate))
        graph.add_edge(last, gate.name)
        last = gate.name
    firsts = {chain.links[level].node for chain in coordinator.chains.values() for level in chain.entries}
    graph.add_conditional_edges(
        last, EdgeFunction("dispatch", partial(_dispatch, coordinator)), [*sorted(firsts), "report"]
    )
    for chain in coordinator.chains.values():
        _wire_chain(graph, coordinator, chain)
    graph.add_edge("report", END)
    return graph


def _wire_chain(graph: Graph, coordinator: Coordinator, chain: Chain) -> None:
    for level, link in enumerate(chain.links):
        _add(graph, link.node, partial(run_agent, coordinator, chain, level))
        following = [following.node for following in chain.links[level + 1 : level + 2]]
        graph.add_conditional_edges(
            link.node, EdgeFunction("outcome", partial(after, chain, level)), [*following, "supervisor"]
        )


def _to_guardian(state: SessionState) -> str:
    """Return the node after the supervisor: `guardian` on the first pass if the plan has steps, otherwise `report`."""
    return "guardian" if state["plan"].steps and len(state["decisions"]) == 1 else "report"


def _dispatch(coordinator: Coordinator, state: SessionState) -> list[str]:
    """Return the first node of each planned step, which all run in parallel; `report` if there are no steps."""
    return [first_node(coordinator.chains[step.name], step) for step in state["plan"].steps] or ["report"]


def _add(graph: Graph, name: str, body: NodeBody[SessionState], *, defer: bool = False) -> None:
    graph.add_node(name, AsyncNode(name, body, carry=carry_scope), defer=defer)  # pyright: ignore[reportUnknownMemberType]
