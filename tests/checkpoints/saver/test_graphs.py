"""Real graphs on the saver: delta channels, forks, removal, threads and event loops."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.channels import DeltaChannel
from langgraph.graph import END, START, StateGraph
from sqlalchemy import func, select

from bursar.checkpoints.database.database import Database
from bursar.checkpoints.saver.saver import SQLAlchemySaver
from bursar.checkpoints.schema.saver_tables import checkpoints, task_writes

Graph = Any  # LangGraph leaves its own type partly unknown


def extend(state: list[str] | None, writes: Sequence[list[str]]) -> list[str]:
    """The texts so far, and what each write adds."""
    return [*(state or []), *chain.from_iterable(writes)]


class State(TypedDict):
    """Texts kept as deltas with a stored value every ten updates, and a plain counter."""

    texts: Annotated[list[str], DeltaChannel(extend, snapshot_frequency=10)]
    count: int


def answer(state: State) -> dict[str, Any]:
    """Answer the last text."""
    return {"texts": [f"re {state['texts'][-1]}"], "count": state.get("count", 0) + 1}


def graph_on(saver: SQLAlchemySaver) -> Graph:
    """A graph of one node on `saver`."""
    builder: Any = StateGraph(State)
    builder.add_node("answer", answer)
    builder.add_edge(START, "answer")
    builder.add_edge("answer", END)
    return builder.compile(checkpointer=saver)


def session(name: str, **more: str) -> RunnableConfig:
    """The config of a session."""
    return {"configurable": {"thread_id": name, **more}}


def talk(graph: Graph, config: RunnableConfig, turns: int, *, first: int = 0) -> list[str]:
    """Say `turns` numbered texts; return all texts that the session should then hold of them."""
    for turn in range(first, first + turns):
        graph.invoke({"texts": [str(turn)]}, config, durability="sync")
    return [text for turn in range(first, first + turns) for text in (str(turn), f"re {turn}")]


def texts(graph: Graph, config: RunnableConfig) -> list[str]:
    """What the session holds."""
    return graph.get_state(config).values.get("texts", [])


def rows(url: str) -> int:
    """How many checkpoints and writes are stored, hidden ones included."""
    counted = [select(func.count()).select_from(table) for table in (checkpoints, task_writes)]
    return Database.at(url).run(lambda connection: sum(connection.execute(count).scalar_one() for count in counted))


@pytest.mark.slow
def test_a_delta_channel_lasts_250_turns(url: str) -> None:
    """After 250 turns every text is there, from a saver that has just been opened, sync and async."""
    expected = talk(graph_on(SQLAlchemySaver(url)), session("s-1"), 250)
    reopened = graph_on(SQLAlchemySaver(url))
    assert texts(reopened, session("s-1")) == expected
    assert asyncio.run(reopened.aget_state(session("s-1"))).values["texts"] == expected


def test_history_is_what_the_base_class_reads_step_by_step(url: str) -> None:
    """The one-query history equals the walk over ancestors that LangGraph's base class makes."""
    saver = SQLAlchemySaver(url)
    talk(graph_on(saver), session("s-1"), 7)
    for found in saver.list(session("s-1")):
        fast = saver.get_delta_channel_history(config=found.config, channels=["texts", "count", "unknown"])
        slow = super(SQLAlchemySaver, saver).get_delta_channel_history(
            config=found.config, channels=["texts", "count", "unknown"]
        )
        assert fast == slow
        assert asyncio.run(saver.aget_delta_channel_history(config=found.config, channels=["texts"])) == {
            "texts": slow["texts"]
        }


def test_a_fork_and_its_origin_both_read_back(url: str) -> None:
    """Going on from an earlier checkpoint makes a branch of its own; the other branch is still readable."""
    graph = graph_on(SQLAlchemySaver(url))
    before = talk(graph, session("s-1"), 3)
    early = graph.get_state(session("s-1")).config
    origin = before + talk(graph, session("s-1"), 14, first=3)
    late = graph.get_state(session("s-1")).config
    edited = graph.update_state(early, {"texts": ["edit"]})
    graph.invoke({"texts": ["branch"]}, edited, durability="sync")
    assert texts(graph, session("s-1")) == [*before, "edit", "branch", "re branch"]
    assert texts(graph, late) == origin
    assert texts(graph, early) == before
    assert len(list(graph.get_state_history(session("s-1")))) == 17 * 3 + 1 + 2 + 1


@pytest.mark.parametrize("turns", [3, 17])
def test_pruning_keeps_what_a_delta_channel_is_rebuilt_from(url: str, turns: int) -> None:
    """After `keep_latest` one checkpoint is listed, all texts are there, the session goes on and is pruned again."""
    saver = SQLAlchemySaver(url)
    graph = graph_on(saver)
    expected = talk(graph, session("s-1"), turns)
    stored = rows(url)
    saver.prune(["s-1"])
    assert len(list(saver.list(session("s-1")))) == 1
    assert rows(url) < stored
    assert texts(graph, session("s-1")) == expected
    for more in range(4):
        expected += talk(graph, session("s-1"), 5, first=turns + 5 * more)
        saver.prune(["s-1"])
        assert texts(graph, session("s-1")) == expected
    assert rows(url) < 60  # hidden ancestors went when a newer stored value made them needless
    saver.delete_thread("s-1")
    assert rows(url) == 0


def test_deleting_a_run_keeps_later_runs_readable(url: str) -> None:
    """The checkpoints of the deleted run are gone from view; a later run still has the texts it had."""
    saver = SQLAlchemySaver(url)
    graph = graph_on(saver)
    expected: list[str] = []
    for run in ("r-1", "r-2", "r-3"):
        expected += talk(graph, session("s-1") | {"metadata": {"run": run}}, 2, first=len(expected))
    asked = {"r-2"}
    made = [found for found in saver.list(session("s-1")) if found.metadata.get("run") in asked]
    for found in made:
        assert found.parent_config is not None
        saver.put(
            found.parent_config, found.checkpoint, {**found.metadata, "run_id": "r-2"}, {}
        )  # as the LangGraph server marks them
    saver.delete_for_runs(["r-2"])
    assert all(saver.get_tuple(found.config) is None for found in made)
    assert {found.metadata.get("run") for found in saver.list(session("s-1"))} == {"r-1", "r-3"}
    assert texts(graph, session("s-1")) == expected
    saver.delete_for_runs(["r-2", "no such run"])
    assert texts(graph, session("s-1")) == expected


def test_a_copy_goes_its_own_way(url: str) -> None:
    """A copy, of a pruned session too, has the texts, and neither it nor its source sees what the other adds."""
    saver = SQLAlchemySaver(url)
    graph = graph_on(saver)
    expected = talk(graph, session("s-1"), 4)
    saver.prune(["s-1"])
    saver.copy_thread("s-1", "s-2")
    added = talk(graph, session("s-2"), 2, first=4)
    assert texts(graph, session("s-1")) == expected
    assert texts(graph, session("s-2")) == expected + added
    saver.delete_thread("s-1")
    assert texts(graph, session("s-2")) == expected + added


def test_threads_and_event_loops_share_one_saver(url: str) -> None:
    """Two threads that call sync methods and two event loops that call async ones lose nothing."""
    graph = graph_on(SQLAlchemySaver(url))

    async def talk_async(name: str) -> list[str]:
        for turn in range(12):
            await graph.ainvoke({"texts": [str(turn)]}, session(name), durability="sync")
        return (await graph.aget_state(session(name))).values["texts"]

    def talk_sync(name: str) -> list[str]:
        talk(graph, session(name), 12)
        return texts(graph, session(name))

    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(talk_sync, name) for name in ("a", "b")]
        running += [pool.submit(asyncio.run, talk_async(name)) for name in ("c", "d")]
        found = [future.result(timeout=60) for future in running]
    expected = [text for turn in range(12) for text in (str(turn), f"re {turn}")]
    assert found == [expected] * 4
