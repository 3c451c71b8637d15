"""`kill -9` of a process whose specialist runs on a server at a price: what was settled is not run or paid again."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bursar.checkpoints.ledger.ledger import Ledger
from bursar.state.money import USD
from tests.crash.programs import forks
from tests.crash.programs.failpoints import NAMES
from tests.crash.programs.forks import Legs
from tests.crash.programs.langgraph_server import RemoteRun, langgraph_server
from tests.crash.programs.lines import ENVIRONMENT, ROOT

PRICE = USD("0.005")
# At each failpoint: how many runs the server sees in all, and how many of the prices stay unknown.
RUNS = {
    "before_hold": (1, 0),
    "after_hold": (1, 1),
    "after_send": (2, 1),
    "after_response": (2, 1),
    "after_settle": (1, 0),
    "before_node_end": (1, 0),
}


@pytest.fixture(scope="module")
def legs() -> Iterator[Legs]:
    """Runs a leg in a process of its own: its exit status and its answer."""
    with forks.legs("tests.crash.programs.legs") as made:
        yield made


@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_run_is_paid_for_once(legs: Legs, url: str, name: str) -> None:
    """Its report comes from the ledger. If nobody saw its end, it stays charged, and runs again within the ceiling."""
    with langgraph_server() as server:
        leg = {"database": url, "provider": server.url, "handler": "remote", "session": name}
        assert legs.run(**leg, start=True, failpoint=name) == (-signal.SIGKILL, None)
        status, answer = legs.run(**leg, start=False)
        assert status == 0
        assert answer == {"answer": "remote answer", "outcomes": ["completed"]}
        runs, unknown = RUNS[name]
        assert len(server.inputs) == runs
    ledger = Ledger(url)
    assert [hold.amount for hold in ledger.open_holds()] == [PRICE] * unknown
    assert ledger.spend(name).spent.nanos == PRICE.nanos * (1 + unknown)
    assert ledger.verify(name)
    ledger.database.close()


def test_killed_while_the_server_runs_its_price_stays_charged(legs: Legs, tmp_path: Path) -> None:
    """The price was held before the server heard of it, and is charged though nobody saw the end."""
    url, over = f"sqlite:///{tmp_path}/books.db", threading.Event()
    code = "import json, sys; from tests.crash.programs.legs import run; run(json.loads(sys.argv[1]))"
    with langgraph_server() as server:
        server.coming.append(RemoteRun(waits_for=over))
        leg = {"database": url, "provider": server.url, "handler": "remote", "session": "s-1"}
        arguments = [sys.executable, "-c", code, json.dumps({**leg, "start": True})]
        with subprocess.Popen(arguments, cwd=ROOT, env=ENVIRONMENT) as process:
            assert server.arrived.wait(60)
            process.kill()
        over.set()
        ledger = Ledger(url)
        assert ledger.spend("s-1").held == PRICE
        assert legs.run(**leg, start=False)[0] == 0
        assert len(server.inputs) == 2
    assert [(hold.state, hold.amount) for hold in ledger.open_holds()] == [("unknown", PRICE)]
    assert ledger.spend("s-1").spent == USD("0.01")
    assert ledger.verify()
    ledger.database.close()
