"""`kill -9` of real processes at every failpoint; the provider, in a process that lives on, has the true books."""

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
from tests.crash.programs.lines import ENVIRONMENT, ROOT
from tests.support.provider import Provider, Reply

KILLED = -signal.SIGKILL
SESSION = "s-1"
# How many requests reach the provider in all, of two that the handler makes: what nobody saw the end of is sent again.
SENT = {
    "before_hold": 2,
    "after_hold": 2,
    "after_send": 3,
    "after_response": 3,
    "after_settle": 2,
    "before_node_end": 2,
}


@pytest.fixture(scope="module")
def legs() -> Iterator[Legs]:
    """Runs a leg in a process of its own: its exit status and its answer."""
    with forks.legs("tests.crash.programs.legs") as made:
        yield made


@pytest.mark.parametrize("handler", ["plain", "stream", "inside", "inside a function"])
@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_lost_or_paid_twice(legs: Legs, provider: Provider, url: str, name: str, handler: str) -> None:
    """Charged is at least billed at the kill; what was settled is not sent again; reconciled, the books are equal."""
    leg = {"database": url, "provider": provider.url, "handler": handler, "session": f"{name}-{handler}"}
    status, answer = legs.run(**leg, start=True, failpoint=name)
    assert (status, answer) == (KILLED, None)
    ledger = Ledger(url)
    spend = ledger.spend(leg["session"])
    at_kill = [bill.nanos for bill in provider.bills]
    assert (spend.spent + spend.held).nanos >= sum(at_kill)

    status, answer = legs.run(**leg, start=False)

    assert status == 0
    assert answer == {"answer": "all is well; all is well", "outcomes": ["completed"]}
    assert len(provider.requests) == SENT[name]
    assert ledger.spend(leg["session"]).spent.nanos >= provider.billed
    # The one call in flight was the first of the session: it was billed first, or not at all.
    for hold in ledger.open_holds():
        if hold.session_id == leg["session"]:
            assert hold.state == "unknown"
            ledger.reconcile(hold.call_id, USD.from_nanos(at_kill[0] if at_kill else 0))
    assert ledger.spend(leg["session"]).spent.nanos == provider.billed
    assert ledger.verify(leg["session"])
    ledger.database.close()


@pytest.mark.parametrize("handler", ["plain", "stream"])
def test_killed_from_outside_while_the_answer_is_on_its_way(
    legs: Legs, provider: Provider, tmp_path: Path, handler: str
) -> None:
    """The provider has billed and holds its answer back; the process is killed; the call stays charged at its hold."""
    gate = threading.Event()
    provider.will(Reply(waits_for=gate))
    url = f"sqlite:///{tmp_path}/books.db"
    code = "import json, sys; from tests.crash.programs.legs import run; run(json.loads(sys.argv[1]))"
    leg = {"database": url, "provider": provider.url, "session": SESSION, "handler": handler, "calls": 2}
    arguments = [sys.executable, "-c", code, json.dumps({**leg, "start": True})]
    with subprocess.Popen(arguments, cwd=ROOT, env=ENVIRONMENT) as process:
        assert provider.arrived.wait(60)
        process.kill()
    gate.set()
    ledger = Ledger(url)
    spend = ledger.spend(SESSION)
    assert spend.held.nanos >= provider.billed > 0

    status, answer = legs.run(**leg, start=False)

    assert status == 0
    assert answer is not None
    assert answer["outcomes"] == ["completed"]
    assert len(provider.requests) == 3
    (lost,) = ledger.open_holds()
    ledger.reconcile(lost.call_id, USD.from_nanos(provider.bills[0].nanos))
    assert ledger.spend(SESSION).spent.nanos == provider.billed
    assert ledger.verify(SESSION)
    ledger.database.close()


@pytest.mark.parametrize("changing", [False, True])
def test_eight_legs_pay_for_three_calls_at_most(legs: Legs, provider: Provider, tmp_path: Path, changing: bool) -> None:
    """An agent limited to three calls dies in every leg, also with prompts that differ each time: turns are counted."""
    url = f"sqlite:///{tmp_path}/books.db"
    leg = {"database": url, "provider": provider.url, "calls": 3, "max_turns": 3}
    for number in range(8):
        more = {"changing": f" in leg {number}"} if changing else {}
        legs.run(**leg, start=number == 0, failpoint="after_response", **more)
    status, answer = legs.run(**leg, start=False, **({"changing": " in the end"} if changing else {}))
    assert status == 0
    assert answer is not None
    assert answer["answer"].startswith("by rules alone")
    assert len(provider.bills) == 3
    ledger = Ledger(url)
    assert ledger.spend(SESSION).calls == 3
    assert ledger.spend(SESSION).spent.nanos >= provider.billed
    ledger.database.close()
