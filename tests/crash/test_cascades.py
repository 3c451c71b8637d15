"""`kill -9` between the rungs of a cascade: nothing is paid twice, and the way that was taken is taken again."""

import signal
from collections.abc import Iterator

import pytest

from bursar.checkpoints.ledger import postings, requests
from bursar.checkpoints.ledger.ledger import Ledger
from bursar.state.decision import Decision
from bursar.state.events import Decided
from bursar.state.money import USD, ZERO
from tests.crash.programs import forks
from tests.crash.programs.forks import Legs
from tests.support.provider import DEAR_MODEL, MODEL, Provider

KILLED = -signal.SIGKILL
WAY = [["cheap", False, "dear"], ["dear", True, "dear"]]
BEFORE = ("before_hold", "after_hold", "after_send", "after_response", "after_settle", "before_rung_decision")
# From here on the first decision is in the log.
AFTER = ("after_rung_decision", *(f"{name}:2" for name in BEFORE), "after_rung_decision:2", "before_node_end")
UNSEEN = ("after_send", "after_response")  # nobody saw the call's end: it stays charged, and is sent again


@pytest.fixture(scope="module")
def legs() -> Iterator[Legs]:
    """Runs a leg in a process of its own: its exit status and its answer."""
    with forks.legs("tests.crash.programs.cascades.legs") as made:
        yield made


def learn_that_it_is_not_worth_it(ledger: Ledger) -> None:
    """Let another session's log have sixty dear answers that were not accepted: the gain falls from 0.3 to 0.075."""
    ledger.run(requests.open_session, "other", "acme", at=ledger.clock())
    decision = Decision(
        kind="cascade", by="spending", rule="x", left=ZERO, rung="dear", accepted=False, cost=USD("0.006")
    )
    for number in range(60):
        ledger.run(postings.record, "other", Decided(request_id=f"r-{number}", decision=decision), at=ledger.clock())


def settle_unseen(ledger: Ledger, provider: Provider, session: str, *, sent: bool) -> None:
    """Reconcile the call whose end nobody saw with what the provider billed for it first; 0 if it was not sent."""
    for hold in ledger.open_holds():
        if hold.session_id == session:
            bill = next(bill.nanos for bill in provider.bills if bill.model == hold.model)
            ledger.reconcile(hold.call_id, USD.from_nanos(bill if sent else 0))


@pytest.mark.slow
@pytest.mark.parametrize("name", [*BEFORE, *AFTER])
def test_the_same_way_is_taken_and_nothing_is_paid_twice(legs: Legs, provider: Provider, url: str, name: str) -> None:
    """Killed anywhere, the cascade goes on where it was, even if by now the dear rung would not be worth it."""
    leg = {"database": url, "provider": provider.url, "session": f"s-{name}"}
    assert legs.run(**leg, start=True, failpoint=name) == (KILLED, None)
    ledger = Ledger(url)
    if name in AFTER:
        learn_that_it_is_not_worth_it(ledger)

    status, answer = legs.run(**leg, start=False)

    assert (status, answer) == (0, {"answer": "all is well", "gaps": [], "way": WAY})
    place, _, second = name.partition(":")
    again = [DEAR_MODEL if second else MODEL] if place in UNSEEN else []
    assert sorted(body["model"] for body in provider.requests) == sorted([MODEL, DEAR_MODEL, *again])
    logged = [row.event.decision for row in ledger.audit(leg["session"]) if isinstance(row.event, Decided)]
    assert [[one.rung, one.accepted, *one.chosen] for one in logged if one.kind == "cascade"] == WAY
    settle_unseen(ledger, provider, leg["session"], sent=place in UNSEEN)
    assert ledger.spend(leg["session"]).spent.nanos == provider.billed
    assert ledger.verify()
    ledger.close()


@pytest.mark.slow
def test_what_was_learned_is_used_where_nothing_was_decided(legs: Legs, provider: Provider, url: str) -> None:
    """Killed before its first decision, the cascade weighs by what is known when it runs again."""
    leg = {"database": url, "provider": provider.url, "session": "s-fresh"}
    assert legs.run(**leg, start=True, failpoint="before_rung_decision") == (KILLED, None)
    ledger = Ledger(url)
    learn_that_it_is_not_worth_it(ledger)
    status, answer = legs.run(**leg, start=False)
    assert status == 0
    assert answer is not None
    assert answer["way"] == [["cheap", False]]
    assert "asking dear was not worth $0.006 at a stake of $0.04" in answer["gaps"][0]
    assert [body["model"] for body in provider.requests] == [MODEL]
    ledger.close()
