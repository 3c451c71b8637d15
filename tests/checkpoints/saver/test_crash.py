"""`kill -9` between a node's writes and the next checkpoint. Run as a script, this file is the process that dies."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, TypedDict

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import ChannelVersions, Checkpoint, CheckpointMetadata
from langgraph.graph import END, START, StateGraph

from bursar.checkpoints.saver.saver import SQLAlchemySaver

SESSION: RunnableConfig = {"configurable": {"thread_id": "s-1", "checkpoint_ns": ""}}


class State(TypedDict):
    """The path of the journal in which nodes note that they ran, and the texts."""

    journal: str
    text: str


class Dying(SQLAlchemySaver):
    """Kills its process instead of storing the checkpoint after `second`, once the writes of `second` are stored."""

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        if metadata.get("step") == 2:
            for _ in range(10_000):  # LangGraph stores writes in the background
                found = self.get_tuple(config)
                if found is not None and found.pending_writes:
                    os.kill(os.getpid(), signal.SIGKILL)
        return super().put(config, checkpoint, metadata, new_versions)


def graph_on(saver: SQLAlchemySaver) -> Any:
    """Three nodes in a row; each notes its name in the journal and adds it to the text."""

    builder: Any = StateGraph(State)  # LangGraph leaves its own type partly unknown

    def node(name: str) -> None:
        def run(state: State) -> dict[str, str]:
            with Path(state["journal"]).open("a") as journal:
                journal.write(f"{name}\n")
            return {"text": f"{state['text']} {name}"}

        builder.add_node(name, run)

    for name in ("first", "second", "third"):
        node(name)
    builder.add_edge(START, "first")
    builder.add_edge("first", "second")
    builder.add_edge("second", "third")
    builder.add_edge("third", END)
    return builder.compile(checkpointer=saver)


@pytest.mark.slow
def test_a_run_killed_before_its_checkpoint_goes_on_from_its_writes(url: str, tmp_path: Path) -> None:
    """The node whose writes were stored does not run again; the rest does, and the answer is whole."""
    journal = tmp_path / "journal"
    died = subprocess.run(
        [sys.executable, __file__, url, str(journal)], capture_output=True, text=True, timeout=60, check=False
    )
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert journal.read_text().split() == ["first", "second"]
    saver = SQLAlchemySaver(url)
    head = saver.get_tuple(SESSION)
    assert head is not None
    assert ("text", "start first second") in [(channel, value) for _, channel, value in head.pending_writes or []]

    result = graph_on(saver).invoke(None, SESSION, durability="sync")

    assert result["text"] == "start first second third"
    assert journal.read_text().split() == ["first", "second", "third"]


if __name__ == "__main__":
    graph_on(Dying(sys.argv[1])).invoke({"journal": sys.argv[2], "text": "start"}, SESSION, durability="sync")
