"""Actions and approvals in the books: every change is conditional, told by an event, and held against it."""

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest

from bursar.checkpoints.ledger import actions, approvals, requests
from bursar.checkpoints.ledger.actions import ActionIntent, ActionRecord
from bursar.checkpoints.ledger.approvals import ApprovalQuery, ApprovalRecord
from bursar.checkpoints.ledger.ledger import Ledger
from bursar.state.approval import ApprovalRequest
from bursar.state.errors import LedgerError
from bursar.state.money import USD
from bursar.state.refusals import NotApproved
from tests.checkpoints.conftest import NOW

HOUR = timedelta(hours=1)
RACERS = 12


def intent(attempt: str = "host|1|1|x", *, key: str = "k-1") -> ActionIntent:
    """A payment about to be made."""
    return ActionIntent(key, "s-1", "r-1", "payer", "payer:1", "pay", b'{"cents":5}', False, attempt, NOW + HOUR)


def asking(ledger: Ledger, *, until: datetime = NOW + HOUR) -> ApprovalQuery:
    """A question to a person."""
    request = ApprovalRequest(
        approval_id="",
        session_id="s-1",
        request_id="r-1",
        request="pay the rent",
        specialist="payer",
        what="payer runs",
        ceiling=USD("0.01"),
        expires_at=until,
    )
    return ApprovalQuery(request, "payer:1")


@pytest.fixture
def books(ledger: Ledger) -> Ledger:
    """A ledger with a session."""
    ledger.run(requests.open_session, "s-1", "acme", at=NOW)
    return ledger


def ask(ledger: Ledger, at: datetime = NOW) -> ApprovalRecord:
    """What stands for the question."""
    return ledger.run(approvals.ask, asking(ledger), at=at)[0]


def test_one_of_many_intends_claims_and_undoes(books: Ledger) -> None:
    """Of threads that do the same at the same moment one does it, and the log tells of one."""
    run, ready = books.run, threading.Barrier(RACERS)

    names = map("host|1|1|{}".format, itertools.count())

    def race(step: Callable[[str], object]) -> list[object]:
        own = [next(names) for _ in range(RACERS)]

        def one(number: int) -> object:
            ready.wait()
            return step(own[number])

        with ThreadPoolExecutor(RACERS) as pool:
            return list(pool.map(one, range(RACERS)))

    def deed() -> ActionRecord:
        found = run(actions.find, "k-1")
        assert found is not None
        return found

    assert race(lambda attempt: run(actions.intend, intent(attempt), at=NOW)).count(None) == 1
    assert run(actions.void, "k-1", attempt=deed().attempt, reason="not sent", at=NOW)
    before = deed()
    assert race(lambda a: run(actions.claim, before, attempt=a, until=NOW, at=NOW)).count(True) == 1
    assert run(actions.done, "k-1", attempt=deed().attempt, result=b"1", at=NOW)
    done = deed()
    assert race(lambda a: run(actions.undoing, done, attempt=a, until=NOW, at=NOW)).count(True) == 1
    kinds = [row.kind for row in books.audit("s-1")]
    assert kinds == ["action_intended", *["action_changed"] * 4]
    assert books.verify(), str(books.verify())


def test_one_of_many_uses_an_approval(books: Ledger) -> None:
    """Asked once however many ask, approved once however many approve, used once however many use it."""
    ready = threading.Barrier(RACERS)

    def one(number: int) -> bool:
        ready.wait()
        asked = ask(books)
        if asked.state == "waiting":
            books.run(approvals.answer, asked.approval_id, "approved", by=f"p{number}", at=NOW)
        try:
            books.run(approvals.use, asked.approval_id, at=NOW)
        except NotApproved:
            return False
        return True

    with ThreadPoolExecutor(RACERS) as pool:
        used = list(pool.map(one, range(RACERS)))
    verdicts = [row.event.model_dump()["verdict"] for row in books.audit("s-1")]
    assert used.count(True) == verdicts.count("used") == verdicts.count("approved")
    assert verdicts[:3] == ["asked", "approved", "used"]
    asked = ask(books)
    assert asked.attempt == verdicts.count("used") + 1
    assert books.verify(), str(books.verify())


def test_late_is_late(books: Ledger) -> None:
    """What waits expires when it is asked for, answered or used after its time."""
    run, late = books.run, NOW + 2 * HOUR
    first = ask(books)
    asked, _ = run(approvals.answer, first.approval_id, "approved", by="ann", at=late)
    assert (asked.state, "too late" in asked.reason) == ("expired", True)
    assert ask(books) == asked
    with pytest.raises(NotApproved, match="is expired"):
        run(approvals.use, first.approval_id, at=NOW)


def test_what_was_given_in_time_expires_too(books: Ledger) -> None:
    """Approved and not used in time."""
    first = ask(books)
    books.approve(first.approval_id, by="ann")
    with pytest.raises(NotApproved, match="too late"):
        books.run(approvals.use, first.approval_id, at=NOW + 2 * HOUR)
    assert ask(books, NOW + 2 * HOUR).state == "expired"
    assert books.verify(), str(books.verify())


@pytest.mark.parametrize(
    ("sql", "problem"),
    [
        ("UPDATE bursar_actions SET state = 'void'", "its state is 'void', its events say 'done'"),
        ("UPDATE bursar_actions SET arguments = NULL", "its arguments are not those"),
        ("UPDATE bursar_actions SET result = NULL", "its result is not the one"),
        ("UPDATE bursar_actions SET irreversible = NOT irreversible", "its irreversibility is True"),
        ("UPDATE bursar_actions SET key = 'k-2'", "no event tells of it"),
        ("DELETE FROM bursar_actions", "it is not in the books"),
        ("UPDATE bursar_approvals SET state = 'approved'", "it is 'approved' for"),
        ("UPDATE bursar_approvals SET subject_hash = 'x'", "its events say 'used' for"),
        ("UPDATE bursar_approvals SET approval_id = 'a-x'", "no event tells of it"),
        ("DELETE FROM bursar_approvals", "it is not in the books"),
    ],
)
def test_rows_that_were_changed_are_found(books: Ledger, execute: Callable[..., int], sql: str, problem: str) -> None:
    """Whoever makes an action undone, or an approval usable again, behind the ledger's back is told of."""
    run = books.run
    asked = ask(books)
    books.approve(asked.approval_id, by="ann")
    assert run(actions.intend, intent(), approval=asked.approval_id, at=NOW) is None
    assert run(actions.done, "k-1", attempt=intent().attempt, result=b"1", at=NOW)
    assert books.verify()
    assert execute(sql) == 1
    assert any(problem in one for one in books.verify("s-1").problems), books.verify("s-1").problems


def test_an_intent_without_its_approval_is_none(books: Ledger) -> None:
    """Intent and approval stand or fall in one transaction."""
    asked = ask(books)
    with pytest.raises(NotApproved, match="is waiting"):
        books.run(actions.intend, intent(), approval=asked.approval_id, at=NOW)
    assert books.run(actions.find, "k-1") is None
    assert books.verify(), str(books.verify())


def test_what_is_in_flight_is_not_settled_by_hand(books: Ledger) -> None:
    """An action that somebody may be at is left to them; a person settles it when its time is over."""
    books.run(actions.intend, intent(), at=NOW)
    with pytest.raises(LedgerError, match="it may still be in flight"):
        books.settle_action("k-1", done=True, by="ann", note="looked")
    with pytest.raises(LedgerError, match="no action k-2"):
        books.settle_action("k-2", done=True, by="ann", note="looked")
    books.clock = lambda: NOW + 2 * HOUR
    assert books.settle_action("k-1", done=True, by="ann", note="looked") == "done"
    assert books.verify(), str(books.verify())


def test_erasing_leaves_what_is_open(books: Ledger) -> None:
    """What waits for a person keeps what they must see; the rest goes, and the log stays whole."""
    run = books.run
    waiting = ask(books)
    run(actions.intend, intent(), at=NOW)
    assert books.erase("s-1") == 0
    run(actions.done, "k-1", attempt=intent().attempt, result=b'"secret"', at=NOW)
    books.deny(waiting.approval_id, by="ann")
    assert books.erase("s-1") == 2
    deed = run(actions.find, "k-1")
    assert deed is not None
    assert (deed.arguments, deed.result) == (None, None)
    assert books.verify(), str(books.verify())
