"""Checkpoints: single puts against LangGraph's own savers, and a graph of 20 steps under sync durability."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import importlib.util
import itertools
import operator
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Annotated, Any, TypedDict

from langgraph.checkpoint.base import BaseCheckpointSaver, empty_checkpoint
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph

from benchmarks.harness import Result, interleave
from benchmarks.postgres import a_postgres_database
from bursar import SQLAlchemySaver

STEPS = 20
TEXT = "What was spent, on what, and when? " * 14  # half a kilobyte

Saver = BaseCheckpointSaver[Any]
_numbers = itertools.count()


class Notes(TypedDict):
    """The state of the graph of 20 steps."""

    notes: Annotated[list[str], operator.add]


def put(saver: Saver, operations: int) -> None:
    """One checkpoint with one changed channel, and the writes of one task."""
    config: Any = {"configurable": {"thread_id": f"t-{next(_numbers)}", "checkpoint_ns": ""}}
    for number in range(operations):
        checkpoint = empty_checkpoint()
        version = saver.get_next_version(None, None)
        checkpoint["channel_values"] = {"messages": [TEXT]}
        checkpoint["channel_versions"] = {"messages": version}
        config = saver.put(config, checkpoint, {"source": "loop", "step": number}, {"messages": version})
        saver.put_writes(config, [("messages", [TEXT])], f"task-{number}")


def steps(saver: Saver) -> Callable[[int], None]:
    """Runs of a graph of 20 nodes in a row."""
    graph = StateGraph(Notes)
    names = [f"step_{number}" for number in range(STEPS)]
    for name in names:
        graph.add_node(name, lambda state: {"notes": [TEXT]})
    for before, after in itertools.pairwise((START, *names, END)):
        graph.add_edge(before, after)
    app = graph.compile(checkpointer=saver)

    def runs(operations: int) -> None:
        for _ in range(operations):
            config: Any = {"configurable": {"thread_id": f"g-{next(_numbers)}"}}
            state = app.invoke({"notes": []}, config, durability="sync")
            if len(state["notes"]) != STEPS:
                raise AssertionError(f"{len(state['notes'])} of {STEPS} steps are in the state")

    return runs


def run(*, smoke: bool) -> list[Result]:
    """Measure every saver that is there."""
    rounds, puts, runs = (1, 5, 1) if smoke else (10, 100, 10)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        savers: dict[str, Saver] = {
            "SQLAlchemySaver, SQLite": SQLAlchemySaver(f"sqlite:///{folder}/saver.db"),
            "InMemorySaver": InMemorySaver(),
        }
        if importlib.util.find_spec("langgraph.checkpoint.sqlite") is not None:
            from langgraph.checkpoint.sqlite import SqliteSaver  # pyright: ignore[reportMissingImports]

            savers["SqliteSaver"] = stack.enter_context(SqliteSaver.from_conn_string(f"{folder}/peer.db"))
        server = stack.enter_context(a_postgres_database())
        if server:
            savers["SQLAlchemySaver, PostgreSQL"] = SQLAlchemySaver(server)
        one = Result("saver, put and put_writes")
        one.rounds = interleave([(name, partial(put, s)) for name, s in savers.items()], rounds=rounds, operations=puts)
        graph = Result(f"saver, a graph of {STEPS} steps, sync durability")
        graph.rounds = interleave([(name, steps(s)) for name, s in savers.items()], rounds=rounds, operations=runs)
    peers = [name for name in savers if not name.startswith("SQLAlchemySaver")]
    for result in (one, graph):
        for ours in savers.keys() - peers:
            for peer in peers:
                result.compare(ours, peer)
                result.compare(ours, peer, what="wall")
    return [one, graph]
