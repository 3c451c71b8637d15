"""`langgraph dev` serves Genie offline, with Bursar's own checkpointer."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from langgraph.pregel.remote import RemoteException, RemoteGraph
from langgraph_sdk import get_sync_client
from langgraph_sdk.client import SyncLangGraphClient

from bursar.checkpoints.ledger.ledger import Ledger
from bursar.checkpoints.saver.saver import SQLAlchemySaver
from bursar.genie.app import open_genie
from bursar.genie.household.sample import sample_files

pytestmark = [pytest.mark.studio, pytest.mark.xdist_group("studio")]  # one server for all

ROOT = Path(__file__).parents[2]
START_SECONDS = 60
QUESTION = "What did I spend on groceries in March 2025?"
OFFLINE = {"LANGGRAPH_CLI_NO_ANALYTICS": "1", "LANGGRAPH_NO_VERSION_CHECK": "true", "LANGSMITH_TRACING": "false"}


@dataclass(frozen=True)
class Studio:
    """A running server: where it listens, the database it works on, and what it has logged."""

    url: str
    database: str
    log: Path


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """`langgraph dev` on the repository's `langgraph.json`, with the sample household in a database of its own."""
    folder = tmp_path_factory.mktemp("studio")  # the server leaves files where it is started
    shutil.copy(ROOT / "langgraph.json", folder)
    (folder / "genie").symlink_to(ROOT / "genie")
    made = Studio(f"http://127.0.0.1:{_free_port()}", f"sqlite:///{folder}/genie.db", folder / "log.txt")
    genie = open_genie(made.database)
    genie.import_files(sample_files())
    genie.close()
    command = [str(Path(sys.executable).parent / "langgraph"), "dev", "--no-browser", "--no-reload"]
    with made.log.open("wb") as log:
        server = subprocess.Popen(
            [*command, "--port", made.url.rpartition(":")[2]],
            cwd=folder,
            env={**os.environ, **OFFLINE, "BURSAR_DATABASE": made.database},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_until_ready(made, server)
        yield made
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_until_ready(studio: Studio, server: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert server.poll() is None, f"the server ended:\n{studio.log.read_text()}"
        try:
            if httpx.get(f"{studio.url}/ok", timeout=1).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.1)  # between two polls, within the deadline
    raise AssertionError(f"no server within {START_SECONDS} s:\n{studio.log.read_text()}")


@pytest.fixture
def client(studio: Studio) -> Iterator[SyncLangGraphClient]:
    """The SDK's client of the server."""
    with get_sync_client(url=studio.url) as client:
        yield client


def test_a_remote_graph_gets_answers_that_are_in_bursars_own_books(studio: Studio, client: SyncLangGraphClient) -> None:
    """Two requests of one session: answers, checkpoints and ledger are as for a local graph, and nothing blocked."""
    thread = client.threads.create()["thread_id"]
    genie = RemoteGraph("genie", sync_client=client)
    local = open_genie(studio.database)
    for question in (QUESTION, "Is there anything suspicious on my accounts?"):
        entered = {"messages": [{"role": "user", "content": question}]}
        remote = cast(
            "dict[str, Any]",
            genie.invoke(entered, {"configurable": {"thread_id": thread}}, durability="sync"),
        )
        here = local.ask(question, "local" + question)
        assert remote["messages"][-1]["content"] == here["messages"][-1].text
        assert [run["outcome"] for run in remote["runs"]] == [run.outcome.value for run in here["runs"]] != []
    local.close()

    checkpoint = SQLAlchemySaver(studio.database).get_tuple({"configurable": {"thread_id": thread}})
    assert checkpoint is not None
    assert checkpoint.checkpoint["channel_values"]["request"].session_id == thread
    ledger = Ledger(studio.database)
    row = next(row for row in ledger.sessions() if row.session_id == thread)
    assert (row.requests, row.outcome) == (2, remote["ending"])
    assert ledger.verify(thread)
    log = studio.log.read_text()
    assert "Blocking" not in log
    assert "Blocked" not in log


def test_studio_draws_the_graph_with_its_fallbacks(client: SyncLangGraphClient) -> None:
    """The picture that Studio shows is the local graph's."""
    remote = RemoteGraph("genie", sync_client=client).get_graph()
    genie = open_genie("sqlite://")
    local = genie.app.get_graph()
    genie.close()
    assert set(remote.nodes) == set(local.nodes)
    assert {(e.source, e.target, e.conditional) for e in remote.edges} == {
        (e.source, e.target, e.conditional) for e in local.edges
    }


def test_a_served_run_owns_its_session(studio: Studio, client: SyncLangGraphClient) -> None:
    """It takes the lease and frees it; while another process owns the session, the run is told so and does nothing."""
    thread = client.threads.create()["thread_id"]
    genie = RemoteGraph("genie", sync_client=client)
    entered = {"messages": [{"role": "user", "content": QUESTION}]}
    saver = SQLAlchemySaver(studio.database)
    genie.invoke(entered, {"configurable": {"thread_id": thread}}, durability="sync")
    with saver.own(thread) as owned:
        assert owned.lease.epoch == 2  # the first was the run's, which is over
        with pytest.raises(RemoteException, match="SessionBusy"):
            genie.invoke(entered, {"configurable": {"thread_id": thread}}, durability="sync")
    genie.invoke(entered, {"configurable": {"thread_id": thread}}, durability="sync")
    with saver.own(thread) as owned:
        assert owned.lease.epoch == 4
    ledger = Ledger(studio.database)
    assert next(row.requests for row in ledger.sessions() if row.session_id == thread) == 2
    told = [row.event.action for row in ledger.audit(thread) if row.event.kind == "lease"]
    assert told == ["taken", "released"] * 2
