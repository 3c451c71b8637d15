"""`kill -9` at every failpoint of an action; the world outside keeps the true books, and lives on."""

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, cast

import pytest

from bursar.checkpoints.ledger.circuit_breakers import close_all
from bursar.checkpoints.ledger.ledger import Ledger
from bursar.nodes.gateway.failpoints import ACTION_NAMES
from tests.crash.world import World

KILLED = -signal.SIGKILL
ROOT = Path(__file__).parents[2]
Run = Callable[..., tuple[int, dict[str, Any] | None]]


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """One process that has imported everything; every leg is a fork of it. Gives its exit status and its answer."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.crash.action_legs"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:

        def run(**leg: Any) -> tuple[int, dict[str, Any] | None]:
            stdin, stdout = process.stdin, process.stdout
            assert stdin is not None
            assert stdout is not None
            stdin.write(json.dumps(leg) + "\n")
            stdin.flush()
            answer: dict[str, Any] | None = None
            while (line := stdout.readline()).startswith("{"):
                answer = cast("dict[str, Any]", json.loads(line))
            return int(line), answer

        yield run
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture
def world() -> Iterator[World]:
    """A world of the test's own."""
    world = World()
    yield world
    world.close()


@pytest.fixture(scope="module")
def postgres(new_postgres: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    """A PostgreSQL database for all of these tests; each has a session of its own."""
    with new_postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database URL, once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/books.db"
    found = str(request.getfixturevalue("postgres"))
    ledger = Ledger(found)
    ledger.run(close_all)  # agents that fail in three tests within a minute would start with their fallbacks
    ledger.database.close()
    return found


def _leg(database: str, world: World, **more: Any) -> dict[str, Any]:
    session = f"s-{uuid.uuid4().hex[:8]}"
    return {"database": database, "world": world.url, "session": session, "kind": "check", "fails": False, **more}


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
    run: Run, world: World, database: str, kind: str, name: str
) -> None:
    """Killed at the second action, the resumed request ends with both done, each once in the world outside."""
    leg = _leg(database, world, kind=kind)
    assert run(**leg, start=True, failpoint=f"{name}:2") == (KILLED, None)
    assert run(**leg, start=False) == (0, {"answer": "paid flight and hotel", "gaps": [], "waits": []})
    assert world.order == ["paid flight", "paid hotel"]
    ledger = Ledger(database)
    assert ledger.open_actions(leg["session"]) == []
    assert ledger.verify(leg["session"]), str(ledger.verify(leg["session"]))
    ledger.database.close()


@pytest.mark.parametrize("name", ACTION_NAMES)
def test_killed_in_a_request_that_fails_nothing_stays(run: Run, world: World, database: str, name: str) -> None:
    """Killed before or while what was done is undone, nothing stands in the end, and no payment is refunded twice."""
    leg = _leg(database, world, fails=True)
    assert run(**leg, start=True, failpoint=name) == (KILLED, None)
    status, answer = run(**leg, start=False)
    assert status == 0
    assert answer is not None
    assert answer["answer"].startswith("by rules alone")
    assert world.net == 0
    assert max(world.paid.values()) == 1
    assert world.order == ["paid flight", "paid hotel", "refunded hotel", "refunded flight"]
    ledger = Ledger(database)
    assert ledger.open_actions(leg["session"]) == []
    assert ledger.incidents(leg["session"]) == []
    assert ledger.verify(leg["session"]), str(ledger.verify(leg["session"]))
    ledger.database.close()


@pytest.mark.parametrize(("name", "paid"), [("after_intent", 0), ("after_effect", 1)])
def test_what_nobody_knows_is_not_done_again(run: Run, world: World, database: str, name: str, paid: int) -> None:
    """Without a check, an action that was cut off waits for a person; what was done before it is undone."""
    leg = _leg(database, world, kind="bare")
    assert run(**leg, start=True, failpoint=f"{name}:2") == (KILLED, None)
    status, answer = run(**leg, start=False)
    assert status == 0
    assert answer is not None
    assert "nobody knows whether pay was done" in answer["gaps"][0]
    assert world.order == ["paid flight", *["paid hotel"] * paid, "refunded flight"]
    ledger = Ledger(database)
    (deed,) = ledger.open_actions(leg["session"])
    assert deed.state == "in_doubt"
    assert [row.what for row in ledger.incidents(leg["session"])] == [
        f"action {deed.key}: nobody knows whether pay was done"
    ]
    assert ledger.settle_action(deed.key, done=bool(paid), by="ann", note="seen in the bank") in {"done", "void"}
    assert ledger.open_actions(leg["session"]) == []
    assert ledger.verify(leg["session"]), str(ledger.verify(leg["session"]))
    ledger.database.close()


def test_an_approval_outlives_its_process_and_is_good_for_one_run(run: Run, world: World, database: str) -> None:
    """Asked in one process, approved in another that dies: what comes after it asks anew, and pays once in all."""
    leg = _leg(database, world, approve=True)
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
    ledger = Ledger(database)
    assert ledger.verify(leg["session"]), str(ledger.verify(leg["session"]))
    ledger.database.close()
