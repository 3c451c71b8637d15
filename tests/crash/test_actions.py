"""`kill -9` at every failpoint of an action; the world outside keeps the true books, and lives on."""

import signal
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bursar.checkpoints.ledger.ledger import Ledger
from tests.crash.programs import forks
from tests.crash.programs.failpoints import ACTION_NAMES
from tests.crash.programs.world import World

KILLED = -signal.SIGKILL
Run = Callable[..., tuple[int, dict[str, Any] | None]]


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Runs a leg in a process of its own: its exit status and its answer."""
    with forks.legs("tests.crash.programs.action_legs") as legs:
        yield legs.run


@pytest.fixture
def world() -> Iterator[World]:
    """A world of the test's own."""
    world = World()
    yield world
    world.close()


def _leg(url: str, world: World, **more: Any) -> dict[str, Any]:
    session = f"s-{uuid.uuid4().hex[:8]}"
    return {"database": url, "world": world.url, "session": session, "kind": "check", "fails": False, **more}


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("check", "before_intent"),
        ("check", "after_intent"),
        ("check", "after_effect"),
        ("check", "after_result"),
        ("idempotent", "after_effect"),
    ],
)
def test_killed_while_it_acts_every_payment_is_made_once(
    run: Run, world: World, url: str, kind: str, name: str
) -> None:
    """Killed at the second action, the resumed request ends with both done, each once in the world outside."""
    leg = _leg(url, world, kind=kind)
    assert run(**leg, start=True, failpoint=f"{name}:2") == (KILLED, None)
    assert run(**leg, start=False) == (0, {"answer": "paid flight and hotel", "gaps": [], "waits": []})
    assert world.order == ["paid flight", "paid hotel"]
    ledger = Ledger(url)
    assert ledger.open_actions(leg["session"]) == []
    assert ledger.verify(leg["session"]), str(ledger.verify(leg["session"]))
    ledger.database.close()


@pytest.mark.parametrize("name", ACTION_NAMES)
def test_killed_in_a_request_that_fails_nothing_stays(run: Run, world: World, url: str, name: str) -> None:
    """Killed before or while what was done is undone, nothing stands in the end, and no payment is refunded twice."""
    leg = _leg(url, world, fails=True)
    assert run(**leg, start=True, failpoint=name) == (KILLED, None)
    status, answer = run(**leg, start=False)
    assert status == 0
    assert answer is not None
    assert answer["answer"].startswith("by rules alone")
    assert world.net == 0
    assert max(world.paid.values()) == 1
    assert world.order == ["paid flight", "paid hotel", "refunded hotel", "refunded flight"]
    ledger = Ledger(url)
    assert ledger.open_actions(leg["session"]) == []
    assert ledger.incidents(leg["session"]) == []
    assert ledger.verify(leg["session"]), str(ledger.verify(leg["session"]))
    ledger.database.close()


@pytest.mark.parametrize(("name", "paid"), [("after_intent", 0), ("after_effect", 1)])
def test_what_nobody_knows_is_not_done_again(run: Run, world: World, url: str, name: str, paid: int) -> None:
    """Without a check, an action that was cut off waits for a person; what was done before it is undone."""
    leg = _leg(url, world, kind="bare")
    assert run(**leg, start=True, failpoint=f"{name}:2") == (KILLED, None)
    status, answer = run(**leg, start=False)
    assert status == 0
    assert answer is not None
    assert "nobody knows whether pay was done" in answer["gaps"][0]
    assert world.order == ["paid flight", *["paid hotel"] * paid, "refunded flight"]
    ledger = Ledger(url)
    (deed,) = ledger.open_actions(leg["session"])
    assert deed.state == "in_doubt"
    assert [row.what for row in ledger.incidents(leg["session"])] == [
        f"action {deed.key}: nobody knows whether pay was done"
    ]
    assert ledger.settle_action(deed.key, done=bool(paid), by="ann", note="seen in the bank") in {"done", "void"}
    assert ledger.open_actions(leg["session"]) == []
    assert ledger.verify(leg["session"]), str(ledger.verify(leg["session"]))
    ledger.database.close()


def test_an_approval_outlives_its_process_and_is_good_for_one_run(run: Run, world: World, url: str) -> None:
    """Asked in one process, approved in another that dies: what comes after it asks anew, and pays once in all."""
    leg = _leg(url, world, approve=True)
    status, answer = run(**leg, start=True)
    assert status == 0
    assert answer is not None
    (shown,) = answer["waits"]
    assert world.order == []
    assert run(**leg, start=False, resume=shown, failpoint="after_effect:1") == (KILLED, None)
    status, answer = run(**leg, start=False)
    assert status == 0
    assert answer is not None
    (again,) = answer["waits"]
    assert again != shown
    assert world.order == ["paid flight"]
    assert run(**leg, start=False, resume=again) == (
        0,
        {"answer": "paid flight and hotel", "gaps": [], "waits": []},
    )
    assert world.order == ["paid flight", "paid hotel"]
    ledger = Ledger(url)
    assert ledger.verify(leg["session"]), str(ledger.verify(leg["session"]))
    ledger.database.close()
