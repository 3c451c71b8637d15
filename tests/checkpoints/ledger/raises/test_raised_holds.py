"""The hold of a call in flight is raised in every account at once, or nowhere; on SQLite and on PostgreSQL."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from bursar.checkpoints.database.database import Database
from bursar.checkpoints.ledger import administration, postings, requests
from bursar.checkpoints.ledger.accounts import Account
from bursar.checkpoints.ledger.calls import Hold, Usage
from bursar.checkpoints.ledger.ledger import Ledger
from bursar.state.errors import LedgerError
from bursar.state.events import CallHoldRaised, Incident
from bursar.state.refusals import AccountClosed, BudgetExceeded

NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
TENANT, SESSION, REQUEST, AGENT = "tenant:acme:2026-11-23", "session:s-1", "request:r-1", "agent:r-1:tax"
SCOPES = (TENANT, SESSION, REQUEST, AGENT)
CAPS = {TENANT: None, SESSION: 10_000, REQUEST: 300, AGENT: 250}
HOLD = Hold("c-1", "s-1", "r-1", "tax", "ns", "hash", 0, "gpt", "prices-1", 100, SCOPES, NOW)
RAISED = replace(HOLD, amount=180)


@pytest.fixture
def books(any_ledger: Ledger) -> Ledger:
    """The call c-1 is held at 100 nano-dollars; its agent has 250, its request 300."""
    run = any_ledger.run
    run(requests.open_session, "s-1", "acme", at=NOW)
    accounts = [Account(scope, cap) for scope, cap in CAPS.items()]
    run(requests.open_request, "s-1", "r-1", accounts=accounts, text_hash="t", at=NOW)
    run(postings.hold, HOLD)
    return any_ledger


def balances(database: Database) -> dict[str, tuple[int, int]]:
    """Return what each account has spent and holds."""
    rows = database.run(lambda c: c.execute(text("SELECT scope, spent, held FROM bursar_accounts")).all())
    return {scope: (spent, held) for scope, spent, held in rows}


def hold_of(database: Database, call_id: str) -> int:
    """Return the hold in the call's row."""
    query = text("SELECT amount FROM bursar_calls WHERE call_id = :id")
    return int(database.run(lambda c: c.execute(query, {"id": call_id}).scalar_one()))


def test_a_raise_is_in_every_account_the_call_and_the_log(books: Ledger) -> None:
    """The call holds the new amount in all, and one event says so."""
    books.run(postings.raise_hold, HOLD, 180, at=NOW)
    assert balances(books.database) == dict.fromkeys(SCOPES, (0, 180))
    assert hold_of(books.database, "c-1") == 180
    events = [row.event for row in books.audit("s-1")]
    assert [(one.call_id, one.amount.nanos) for one in events if isinstance(one, CallHoldRaised)] == [("c-1", 180)]
    assert books.verify()


def test_a_raised_hold_is_raised_again_and_settled(books: Ledger) -> None:
    """Up to the last nano-dollar of the tightest account, and what it cost is booked in its place."""
    books.run(postings.raise_hold, HOLD, 180, at=NOW)
    books.run(postings.raise_hold, RAISED, 250, at=NOW)
    assert balances(books.database) == dict.fromkeys(SCOPES, (0, 250))
    books.run(postings.settle, "c-1", cost=230, usage=Usage(), response=None, at=NOW, session_id="s-1")
    assert balances(books.database) == dict.fromkeys(SCOPES, (230, 0))


def test_a_raise_that_does_not_fit_changes_nothing(books: Ledger) -> None:
    """The refusal names the outermost account without room, and no account, row or event is changed."""
    kinds = [row.kind for row in books.audit("s-1")]
    with pytest.raises(BudgetExceeded, match="request r-1") as refused:
        books.run(postings.raise_hold, HOLD, 301, at=NOW)
    assert refused.value.scope == REQUEST
    with pytest.raises(BudgetExceeded) as refused:
        books.run(postings.raise_hold, HOLD, 251, at=NOW)
    assert refused.value.scope == AGENT
    assert balances(books.database) == dict.fromkeys(SCOPES, (0, 100))
    assert hold_of(books.database, "c-1") == 100
    assert [row.kind for row in books.audit("s-1")] == kinds


@pytest.mark.parametrize("amount", [100, 99, -1])
def test_a_hold_is_only_raised(books: Ledger, amount: int) -> None:
    """An amount that is no more than the hold is refused."""
    with pytest.raises(LedgerError):
        books.run(postings.raise_hold, HOLD, amount, at=NOW)
    assert hold_of(books.database, "c-1") == 100


def test_a_hold_is_not_raised_twice_from_the_same_amount(books: Ledger) -> None:
    """Who does not know the hold as it stands raises nothing."""
    books.run(postings.raise_hold, HOLD, 180, at=NOW)
    with pytest.raises(LedgerError, match="cannot be raised"):
        books.run(postings.raise_hold, HOLD, 200, at=NOW)
    assert balances(books.database) == dict.fromkeys(SCOPES, (0, 180))


def test_only_a_call_in_flight_is_raised(books: Ledger) -> None:
    """A call that has ended keeps the hold with which it ended."""
    books.run(postings.void, "c-1", reason="refused", at=NOW)
    with pytest.raises(LedgerError, match="c-1 is void"):
        books.run(postings.raise_hold, HOLD, 180, at=NOW)
    assert balances(books.database) == dict.fromkeys(SCOPES, (0, 0))


def test_a_call_that_nobody_saw_end_is_charged_at_its_raised_hold(books: Ledger) -> None:
    """What a dead process left in flight is unknown at the hold as it stood, and is reconciled against that."""
    books.run(postings.raise_hold, HOLD, 180, at=NOW)
    assert books.run(postings.recover, "s-1", at=NOW) == 1
    assert balances(books.database) == dict.fromkeys(SCOPES, (180, 0))
    [open_hold] = books.open_holds()
    assert open_hold.amount.nanos == 180
    books.run(postings.reconcile, "c-1", cost=120, at=NOW)
    assert balances(books.database) == dict.fromkeys(SCOPES, (120, 0))


def test_no_hold_is_raised_in_a_session_that_an_incident_closed(books: Ledger) -> None:
    """A raise is money for a provider, as a hold is; once the incident is acknowledged it goes through."""
    books.run(administration.close, "s-1", Incident(what="something", closes=True), at=NOW)
    with pytest.raises(AccountClosed):
        books.run(postings.raise_hold, HOLD, 180, at=NOW)
    assert hold_of(books.database, "c-1") == 100
    books.run(administration.acknowledge, "s-1", note="seen", at=NOW)
    books.run(postings.raise_hold, HOLD, 180, at=NOW)
    assert hold_of(books.database, "c-1") == 180


def test_an_edited_hold_is_found(books: Ledger) -> None:
    """`verify` compares the row with the hold that the events say, the raised one."""
    books.run(postings.raise_hold, HOLD, 180, at=NOW)
    edit = "UPDATE bursar_calls SET amount = {}"
    books.database.run(lambda c: c.execute(text(edit.format(100))))
    assert "its hold is 100, its events say 180" in str(books.verify())
    books.database.run(lambda c: c.execute(text(edit.format(180))))
    assert books.verify()
