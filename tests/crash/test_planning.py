"""`kill -9` inside the supervisor's node: it runs again, and neither decides, nor pays, nor asks anything twice."""

import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bursar.checkpoints.ledger.ledger import Ledger
from bursar.state.events import Decided, Planned
from bursar.state.money import USD
from tests.crash.programs import forks
from tests.crash.programs.failpoints import PLANNING_NAMES
from tests.crash.programs.forks import Legs
from tests.support.provider import Provider

KILLED = -signal.SIGKILL
NOON = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
# How many requests of the router's two reach the provider in all: what nobody saw the end of is sent again.
SENT = {"after_send": 3, "after_response": 3}
OF_A_CALL = ("before_hold", "after_hold", "after_send", "after_response", "after_settle", "after_settle:2")


@pytest.fixture(scope="module")
def legs() -> Iterator[Legs]:
    """Runs a leg in a process of its own: its exit status and its answer."""
    with forks.legs("tests.crash.programs.planning_legs") as made:
        yield made


@pytest.mark.parametrize("name", [*PLANNING_NAMES, *OF_A_CALL])
def test_a_request_is_planned_once(legs: Legs, provider: Provider, url: str, name: str) -> None:
    """Clock, deadline, tenant and decisions are those of the first try, half an hour later and without the tenant."""
    leg = {"database": url, "provider": provider.url, "session": f"s-{name}"}
    first = {**leg, "now": NOON.isoformat(), "more": {"tenant": "acme"}}
    assert legs.run(**first, start=True, failpoint=name) == (KILLED, None)
    at_kill = [bill.nanos for bill in provider.bills]

    status, answer = legs.run(**leg, start=False, now=(NOON + timedelta(minutes=30)).isoformat())

    assert status == 0
    assert answer is not None
    assert answer["answers"] == ["acme at 12:00"] * 2
    assert answer["decisions"] == ["route", "admit", "policy"]
    assert answer["gaps"] == ["out: it is denied"]
    assert answer["deadline"] == (NOON + timedelta(hours=1)).isoformat()
    assert len(provider.requests) == SENT.get(name, 2)
    ledger = Ledger(url)
    rows = ledger.audit(leg["session"])
    kinds = [row.kind for row in rows]
    assert (kinds.count("request_opened"), kinds.count("policy_verdict")) == (1, 2)  # of the plan, and of the answer
    decided = [row.event.decision.kind for row in rows if isinstance(row.event, Decided)]
    assert decided == ["route", "admit", "policy"]
    plans = [row.event for row in rows if isinstance(row.event, Planned)]
    assert [plan.by for plan in plans] == ["guardian", "one_out"]
    assert {step.name for step in plans[-1].steps} == {"here", "there"}
    for hold in ledger.open_holds():
        if hold.session_id == leg["session"]:
            ledger.reconcile(hold.call_id, USD.from_nanos(at_kill[0] if at_kill else 0))
    assert ledger.spend(leg["session"]).spent.nanos == provider.billed
    assert ledger.verify(leg["session"])
    ledger.close()


@pytest.mark.parametrize("name", [f"{place}:2" for place in ("after_routing", "after_admission", "after_gate")])
def test_a_second_round_is_planned_once(legs: Legs, provider: Provider, url: str, name: str) -> None:
    """Killed while it plans the second round, the supervisor's node neither decides that anew nor the first one."""
    leg: dict[str, Any] = {"database": url, "provider": provider.url, "session": f"s-{name}", "rounds": 2}
    first = {**leg, "now": NOON.isoformat(), "more": {"tenant": "acme"}}
    assert legs.run(**first, start=True, failpoint=name) == (KILLED, None)

    status, answer = legs.run(**leg, start=False, now=(NOON + timedelta(minutes=30)).isoformat())

    assert status == 0
    assert answer is not None
    assert answer["answers"] == ["acme at 12:00"] * 4
    assert answer["decisions"] == ["route", "admit", "policy"] * 2
    assert answer["gaps"] == ["out: it is denied"]
    assert len(provider.requests) == 4
    ledger = Ledger(url)
    rows = ledger.audit(leg["session"])
    decided = [row.event.decision.kind for row in rows if isinstance(row.event, Decided)]
    assert decided == ["route", "admit", "policy"] * 2
    assert [row.event.round for row in rows if isinstance(row.event, Planned)] == [1, 1, 2, 2]
    assert ledger.spend(leg["session"]).spent.nanos == provider.billed
    assert ledger.verify(leg["session"])
    ledger.close()
