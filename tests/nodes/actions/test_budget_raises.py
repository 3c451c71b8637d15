"""A raise of a request's budget in the ledger: once, however many try, with the log and the caps in one transaction."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from bursar.checkpoints.ledger import administration, approvals, requests
from bursar.checkpoints.ledger.accounts import Account, cap_of, open_account
from bursar.checkpoints.ledger.approvals import ApprovalQuery
from bursar.checkpoints.ledger.ledger import Ledger, utc_now
from bursar.state.approval import RAISE, ApprovalRequest, BudgetRaise
from bursar.state.money import USD
from bursar.state.refusals import NotApproved

NOW = utc_now()
CENT = 10_000_000
REQUEST, AGENT = "request:r-1", "agent:r-1:a"
ONCE = "raised once already"


def question(place: str = "a:1", minutes: int = 60) -> ApprovalQuery:
    """A raise by a cent that the node at `place` asks for."""
    wanted = BudgetRaise(
        spent=USD("0.03"),
        budget=USD("0.03"),
        needs=USD("0.005"),
        amount=USD("0.01"),
        why="the next call needs $0.005, and $0.00 is left",
        accounts={REQUEST: USD("0.01"), AGENT: USD("0.01")},
    )
    shown = ApprovalRequest(
        approval_id="",
        session_id="s-1",
        request_id="r-1",
        request="how much?",
        specialist="a",
        action=RAISE,
        what="raise it",
        budget_raise=wanted,
        expires_at=NOW + timedelta(minutes=minutes),
    )
    return ApprovalQuery(shown, place)


def asked(ledger: Ledger, place: str = "a:1", minutes: int = 60) -> str:
    """Ask for a raise, and have ann approve it; the approval's id."""
    made, _ = ledger.run(approvals.ask, question(place, minutes), at=NOW)
    ledger.run(approvals.answer, made.approval_id, "approved", by="ann", at=NOW)
    return made.approval_id


def caps(ledger: Ledger) -> list[int | None]:
    """The caps of the request and the agent."""
    return [ledger.read(cap_of, scope) for scope in (REQUEST, AGENT)]


@pytest.fixture
def books(any_ledger: Ledger) -> Ledger:
    """A ledger with one request of $0.03, of which one agent may spend $0.02."""
    any_ledger.run(requests.open_session, "s-1", "acme", at=NOW)
    accounts = [Account("session:s-1", None), Account(REQUEST, 3 * CENT)]
    any_ledger.run(requests.open_request, "s-1", "r-1", accounts=accounts, text_hash="t", at=NOW)
    any_ledger.run(open_account, Account(AGENT, 2 * CENT))
    return any_ledger


def test_of_many_that_use_one_approval_one_raises(books: Ledger) -> None:
    """The others change nothing; asked again, the same question has its answer."""
    approval = asked(books)

    def try_it(_: int) -> bool:
        try:
            books.run(administration.raise_budget, approval, at=NOW)
        except NotApproved:
            return False
        return True

    with ThreadPoolExecutor(5) as pool:
        assert sum(pool.map(try_it, range(5))) == 1
    assert caps(books) == [4 * CENT, 3 * CENT]
    again, _ = books.run(approvals.ask, question(), at=NOW)
    assert (again.approval_id, again.state) == (approval, "used")


def test_of_two_approvals_of_a_request_one_raises(books: Ledger) -> None:
    """The second is refused whole: no cap and no event of it is left; then it is withdrawn with the reason."""
    first, second = asked(books), asked(books, "b:1")
    books.run(administration.raise_budget, first, at=NOW)
    with pytest.raises(NotApproved, match=ONCE):
        books.run(administration.raise_budget, second, at=NOW)
    assert caps(books) == [4 * CENT, 3 * CENT]
    assert books.spend("s-1").budget is None
    books.run(approvals.withdraw, second, administration.RAISED_ONCE, at=NOW)
    books.run(approvals.withdraw, first, "too late to withdraw", at=NOW)
    ends = {one.approval_id: one.state for one in books.read(approvals.raises_of, "s-1", "r-1")}
    assert ends == {first: "used", second: "refused"}


@pytest.mark.parametrize(("late", "answer"), [(True, "approved"), (False, "denied"), (False, "asked")])
def test_what_is_not_approved_in_time_raises_nothing(books: Ledger, late: bool, answer: str) -> None:
    """Waiting, denied or late: the caps stay."""
    made, _ = books.run(approvals.ask, question(), at=NOW)
    if answer != "asked":
        books.run(approvals.answer, made.approval_id, answer, by="ann", at=NOW)
    with pytest.raises(NotApproved):
        books.run(administration.raise_budget, made.approval_id, at=NOW + timedelta(hours=2 if late else 0))
    assert caps(books) == [3 * CENT, 2 * CENT]


def test_an_erased_question_raises_nothing(books: Ledger) -> None:
    """Nobody can say any more what was approved."""
    approval = asked(books)
    books.erase("s-1")
    with pytest.raises(NotApproved, match="not in the books any more"):
        books.run(administration.raise_budget, approval, at=NOW)
    assert caps(books) == [3 * CENT, 2 * CENT]
