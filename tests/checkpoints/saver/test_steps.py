"""A step of a running graph: its writes travel with its checkpoint, and nothing that is stored changes later."""

import asyncio
import copy
import operator
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import ChannelVersions, Checkpoint, CheckpointMetadata, empty_checkpoint
from langgraph.graph import END, START, StateGraph
from sqlalchemy import Connection

from bursar.checkpoints.database.connections import DriverConnection
from bursar.checkpoints.saver import commit_sharing as companions
from bursar.checkpoints.saver.commit_sharing import CommitSharing, PendingWrites
from bursar.checkpoints.saver.saver import SQLAlchemySaver
from bursar.checkpoints.saver.store import RowsToStore
from bursar.state.langgraph_private import RUNTIME

SESSION: RunnableConfig = {"configurable": {"thread_id": "s-1", "checkpoint_ns": ""}}


class Notes(TypedDict):
    """What each node notes."""

    notes: Annotated[list[str], operator.add]


def note(state: Notes) -> dict[str, list[str]]:
    """Add one more; what is there already is changed in place, which must not reach what is stored already."""
    made = {"notes": [str(len(state["notes"]))]}
    state["notes"].append("in place")
    return made


def graph_on(saver: SQLAlchemySaver, steps: int) -> Any:
    """So many nodes in a row."""
    builder: Any = StateGraph(Notes)
    names = [f"n{number}" for number in range(steps)]
    for before, name in zip([START, *names], names, strict=False):
        builder.add_node(name, note)
        builder.add_edge(before, name)
    builder.add_edge(names[-1], END)
    return builder.compile(checkpointer=saver)


@pytest.mark.parametrize("how", ["sync", "async"])
def test_a_step_is_one_transaction(url: str, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """A graph of ten nodes commits once for each checkpoint and not for each node's writes as well."""
    monkeypatch.setattr(companions, "PATIENCE_SECONDS", 30)  # however busy the machine is
    saver = SQLAlchemySaver(url)
    commits: list[object] = []
    commit = DriverConnection.commit

    def counting(held: DriverConnection) -> None:
        commits.append(held)
        commit(held)

    monkeypatch.setattr(DriverConnection, "commit", counting)
    graph = graph_on(saver, 10)
    if how == "sync":
        graph.invoke({"notes": []}, SESSION, durability="sync")
    else:
        asyncio.run(graph.ainvoke({"notes": []}, SESSION, durability="sync"))
    made = list(saver.list(SESSION))
    assert len(made) == 12  # the input, what it leads to, ten nodes
    reads = 2  # before the run, and the list
    assert len(commits) <= len(made) + reads
    assert [len(found.pending_writes or []) > 0 for found in made] == [False, *[True] * 11]


class AssertImmutable(SQLAlchemySaver):
    """Fails if a checkpoint reads differently than when it was stored, as LangGraph's own double in memory does."""

    seen: dict[str, Checkpoint]

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        self.check()
        before = copy.deepcopy(checkpoint["channel_values"])
        at = super().put(config, checkpoint, metadata, new_versions)
        found = self.get_tuple(at)
        assert found is not None
        assert found.checkpoint["channel_values"] == before
        self.seen[checkpoint["id"]] = found.checkpoint
        return at

    def check(self) -> None:
        """Every checkpoint reads as it did."""
        for found in self.list(SESSION):
            assert found.checkpoint == self.seen[found.checkpoint["id"]]


def test_nothing_stored_changes_later(url: str) -> None:
    """Nodes that change the state in place, a fork and an update leave every stored checkpoint as it was."""
    saver = AssertImmutable(url)
    saver.seen = {}
    graph = graph_on(saver, 4)
    graph.invoke({"notes": ["x" * 600]}, SESSION, durability="sync")
    early = list(graph.get_state_history(SESSION))[3].config
    graph.invoke(None, graph.update_state(early, {"notes": ["fork"]}), durability="sync")
    saver.check()


def running(**more: object) -> RunnableConfig:
    """A config as LangGraph passes it in a run: its writes are stored in the background."""
    return {"configurable": {**SESSION.get("configurable", {}), RUNTIME: object(), **more}}


def stored(saver: SQLAlchemySaver) -> list[Any]:
    """The writes at the session's latest checkpoint."""
    found = saver.get_tuple(SESSION)
    assert found is not None
    return [value for _, _, value in found.pending_writes or []]


def test_writes_without_a_companion_are_stored_when_it_returns(url: str) -> None:
    """Nobody needs to come: `put_writes` and `aput_writes` of a run have stored their writes when they return."""
    saver = SQLAlchemySaver(url)
    at = saver.put(SESSION, empty_checkpoint(), {}, {}).get("configurable", {})
    saver.put_writes(running(**at), [("a", 1)], "t-1")
    assert stored(saver) == [1]
    asyncio.run(saver.aput_writes(running(**at), [("a", 2)], "t-2"))
    assert stored(saver) == [1, 2]


def test_writes_that_wait_are_stored_with_the_next(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second task's writes take the first's along; so nobody waits longer for many tasks than for one."""
    monkeypatch.setattr(companions, "PATIENCE_SECONDS", 30)
    saver = SQLAlchemySaver(url)
    at = saver.put(SESSION, empty_checkpoint(), {}, {}).get("configurable", {})
    with ThreadPoolExecutor(6) as pool:
        tasks = [pool.submit(saver.put_writes, running(**at), [("a", number)], f"t-{number}") for number in range(6)]
        for task in tasks:
            task.result(timeout=20)
    assert stored(saver) == list(range(6))


def tell(monkeypatch: pytest.MonkeyPatch, left: threading.Event | asyncio.Event) -> None:
    """Set `left` when writes are left to wait."""
    leave = CommitSharing.leave

    def telling(of: CommitSharing, session: companions.Session, rows: RowsToStore) -> PendingWrites | None:
        parcel = leave(of, session, rows)
        left.set()
        return parcel

    monkeypatch.setattr(CommitSharing, "leave", telling)


def test_writes_outlive_the_failure_of_their_companion(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint that cannot be stored does not take with it the writes that travelled with it."""
    monkeypatch.setattr(companions, "PATIENCE_SECONDS", 30)
    saver = SQLAlchemySaver(url)
    at = saver.put(SESSION, empty_checkpoint(), {}, {}).get("configurable", {})
    left = threading.Event()
    tell(monkeypatch, left)
    waiting = threading.Thread(target=saver.put_writes, args=(running(**at), [("a", 1)], "t-1"))
    waiting.start()
    assert left.wait(timeout=20)

    def fail(_: Connection) -> None:
        raise RuntimeError("cannot be stored")

    taken = saver._companions.take(("s-1", "", None))  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(RuntimeError, match="cannot be stored"):
        saver._store(companions.StoreOperation(fail, True, False, taken=taken))  # pyright: ignore[reportPrivateUsage]
    waiting.join(timeout=20)
    assert stored(saver) == [1]


def test_writes_of_a_cancelled_caller_are_stored(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A coroutine that is cancelled while its writes wait for a companion has them stored all the same."""
    monkeypatch.setattr(companions, "PATIENCE_SECONDS", 30)
    saver = SQLAlchemySaver(url)
    at = saver.put(SESSION, empty_checkpoint(), {}, {}).get("configurable", {})

    async def cancel() -> None:
        left = asyncio.Event()
        tell(monkeypatch, left)
        task = asyncio.create_task(saver.aput_writes(running(**at), [("a", 1)], "t-1"))
        await left.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for storing in saver._companions._cancelled.copy():  # pyright: ignore[reportPrivateUsage]
            await storing

    asyncio.run(cancel())
    assert stored(saver) == [1]
