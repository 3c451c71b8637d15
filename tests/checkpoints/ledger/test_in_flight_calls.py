"""The state *sent*: seen at once by the process that sent, soon by others, and no reason to free anything."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from bursar.checkpoints.ledger import postings, requests
from bursar.checkpoints.ledger.accounts import Account
from bursar.checkpoints.ledger.calls import Hold, Usage
from bursar.checkpoints.ledger.ledger import Ledger
from bursar.checkpoints.ledger.spend import ChargedCall, charged_calls
from bursar.state.errors import LedgerError
from bursar.state.money import USD

NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
LATER = NOW + timedelta(seconds=2)
SCOPES = ("session:s-1", "request:r-1")


def hold(number: int, at: datetime = NOW) -> Hold:
    return Hold(f"c-{number}", "s-1", "r-1", "tax", "ns", f"h-{number}", 0, "gpt", "p", 10, SCOPES, at)


@pytest.fixture
def books(ledger: Ledger) -> Ledger:
    """A ledger with one session, one request, and call c-1 on its way."""
    run = ledger.run
    run(requests.open_session, "s-1", "acme", at=NOW)
    accounts = [Account(scope, 100) for scope in SCOPES]
    run(requests.open_request, "s-1", "r-1", accounts=accounts, text_hash="t", at=NOW)
    run(postings.hold, hold(1))
    ledger.in_flight.begin("c-1", NOW)
    return ledger


def in_the_table(ledger: Ledger) -> dict[str, str]:
    rows = ledger.database.run(lambda c: c.execute(text("SELECT call_id, state FROM bursar_calls")).all())
    return {call_id: state for call_id, state in rows}  # noqa: C416 - rows are not pairs to the type checker


def shown(ledger: Ledger) -> dict[str, str]:
    return {one.call_id: one.state for one in ledger.open_holds()}


def test_who_sends_sees_it_at_once_and_without_a_commit(books: Ledger) -> None:
    """Before anything else is written the call is shown as sent, by every ledger of the process."""
    assert in_the_table(books) == {"c-1": "held"}
    assert shown(books) == shown(Ledger(books.database)) == {"c-1": "sent"}


def test_a_call_that_lasts_is_written_with_what_is_written_next(books: Ledger) -> None:
    """The next hold of anyone, two seconds later, tells other processes too; sums and log stay as they were."""
    spend = books.spend("s-1")
    books.run(postings.hold, hold(2, LATER))
    assert in_the_table(books) == {"c-1": "sent", "c-2": "held"}
    assert books.spend("s-1").held == spend.held + USD.from_nanos(10)
    assert books.anchor("s-1").heads[0].held == USD.from_nanos(20)
    assert books.verify(), str(books.verify())


def test_a_brief_call_is_never_written_as_sent(books: Ledger) -> None:
    """A call that is answered at once costs its two commits and no statement more."""
    books.run(postings.hold, hold(2))
    assert in_the_table(books)["c-1"] == "held"


@pytest.mark.parametrize("how", ["settled", "void", "unknown"])
def test_a_sent_call_ends_as_a_held_one_does(books: Ledger, how: str) -> None:
    """It can be settled, voided or lost, once; nothing is held afterwards."""
    run = books.run
    run(postings.hold, hold(2, LATER))
    run(postings.void, "c-2", reason="429", at=LATER)
    with pytest.raises(LedgerError, match="call c-1 is sent, so it cannot be reconciled; it may still be in flight"):
        books.reconcile("c-1", "0.001")
    end = {
        "settled": books.bind(postings.settle, "c-1", cost=4, usage=Usage(1, 2), response=b"x", at=LATER),
        "void": books.bind(postings.void, "c-1", reason="429", at=LATER),
        "unknown": books.bind(postings.mark_unknown, "c-1", reason="cut off", at=LATER),
    }[how]
    books.database.run(end)
    assert in_the_table(books)["c-1"] == how
    assert books.spend("s-1").held.nanos == 0
    with pytest.raises(LedgerError, match=f"call c-1 is {how}"):
        books.database.run(end)
    assert books.verify()


def test_the_call_of_a_dead_process_is_unknown_whether_it_was_seen_to_be_sent_or_not(books: Ledger) -> None:
    """Recovery frees neither: held only says that nobody wrote down that it was sent."""
    run = books.run
    run(postings.hold, hold(2, LATER))
    assert in_the_table(books) == {"c-1": "sent", "c-2": "held"}
    assert run(postings.recover, "s-1", at=LATER) == 2
    assert shown(books) == {"c-1": "unknown", "c-2": "unknown"}
    assert books.spend("s-1").spent.nanos == 20
    assert books.verify()


@pytest.mark.parametrize("unknown", [False, True])
def test_charged_calls_are_those_that_cost_something(books: Ledger, unknown: bool) -> None:
    """A settled call at its cost, and one of unknown end at its hold; not one that is on its way."""
    assert books.run(charged_calls, "r-1") == []
    if unknown:
        books.run(postings.mark_unknown, "c-1", reason="timeout", at=NOW)
    else:
        books.run(postings.settle, "c-1", cost=7, usage=Usage(), response=None, at=NOW)
    cost = USD.from_nanos(10 if unknown else 7)
    assert books.run(charged_calls, "r-1") == [ChargedCall("c-1", "tax", "gpt", unknown, cost, NOW)]
