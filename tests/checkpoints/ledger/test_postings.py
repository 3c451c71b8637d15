"""Money in the books: holds, settlements, and what the books refuse."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import text

from bursar.checkpoints.database.database import Database
from bursar.checkpoints.ledger import postings, requests
from bursar.checkpoints.ledger.accounts import Account, charged, left, open_account
from bursar.checkpoints.ledger.calls import Hold, Usage, replayable
from bursar.checkpoints.ledger.ledger import Ledger
from bursar.checkpoints.ledger.spend import spend_of
from bursar.checkpoints.ledger.transaction import Transaction
from bursar.state.errors import LedgerError
from bursar.state.events import Incident
from bursar.state.money import USD
from bursar.state.refusals import BudgetExceeded

NOW = datetime(2026, 11, 23, 9, 30, 0, 123456, tzinfo=UTC)
CENT = 10_000_000  # nano-dollars
TENANT, SESSION, REQUEST, AGENT = "tenant:acme:2026-11-23", "session:s-1", "request:r-1", "agent:r-1:tax"
SCOPES = (TENANT, SESSION, REQUEST, AGENT)
HOLD = Hold("c-1", "s-1", "r-1", "tax", "ns", "hash", 0, "gpt", "prices-1", 2 * CENT, SCOPES, NOW)


@pytest.fixture
def books(ledger: Ledger) -> Ledger:
    """Session s-1 and request r-1 are open: $0.03 for the request, $0.025 for its agent, $1 for the session."""
    run = ledger.run
    run(requests.open_session, "s-1", "acme", at=NOW)
    caps = {TENANT: None, SESSION: 100 * CENT, REQUEST: 3 * CENT}
    accounts = [Account(scope, cap) for scope, cap in caps.items()]
    run(requests.open_request, "s-1", "r-1", accounts=accounts, text_hash="t", at=NOW)
    run(open_account, Account(AGENT, 25 * CENT // 10))
    return ledger


def balances(database: Database) -> dict[str, tuple[int, int]]:
    rows = database.run(lambda c: c.execute(text("SELECT scope, spent, held FROM bursar_accounts")).all())
    return {scope: (spent, held) for scope, spent, held in rows}


def state_of(database: Database, call_id: str) -> str:
    query = text("SELECT state FROM bursar_calls WHERE call_id = :id")
    return str(database.run(lambda c: c.execute(query, {"id": call_id}).scalar_one()))


def kinds(ledger: Ledger) -> list[str]:
    return [row.kind for row in ledger.audit("s-1")]


def test_hold_reserves_in_every_account(books: Ledger) -> None:
    """A hold is charged to each account of the call, outermost to innermost."""
    books.run(postings.hold, HOLD)
    assert balances(books.database) == dict.fromkeys(SCOPES, (0, 2 * CENT))
    assert books.run(left, SCOPES) == CENT // 2


@pytest.mark.parametrize("cost", [0, CENT, 2 * CENT])
def test_settle_puts_the_cost_in_place_of_the_hold(books: Ledger, cost: int) -> None:
    """After a settlement nothing is held, the cost is spent in every account, and the answer is replayable."""
    books.run(postings.hold, HOLD)
    usage = Usage(100, 20, 30, 4, 5)
    books.run(postings.settle, "c-1", cost=cost, usage=usage, response=b"\x00answer", at=NOW)
    assert balances(books.database) == dict.fromkeys(SCOPES, (cost, 0))
    kept = books.run(replayable, "s-1", "ns", "hash", 0)
    assert kept is not None
    assert (kept.answer, kept.call_id) == (b"\x00answer", "c-1")
    tokens = "SELECT input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens, cost"
    row = books.database.run(lambda c: c.execute(text(f"{tokens} FROM bursar_calls")).one())
    assert tuple(row) == (100, 20, 30, 4, 5, cost)


def test_void_frees_the_hold(books: Ledger) -> None:
    """A voided call owes nothing, and its answer is not replayable."""
    books.run(postings.hold, HOLD)
    books.run(postings.void, "c-1", reason="429", at=NOW)
    assert balances(books.database) == dict.fromkeys(SCOPES, (0, 0))
    assert books.run(replayable, "s-1", "ns", "hash", 0) is None
    assert books.spend("s-1").calls == 0


def test_unknown_stays_charged_until_reconciled(books: Ledger) -> None:
    """A call of unknown end is spent at its hold; reconciling leaves exactly what it cost."""
    books.run(postings.hold, HOLD)
    books.run(postings.mark_unknown, "c-1", reason="cut off", at=NOW)
    assert balances(books.database) == dict.fromkeys(SCOPES, (2 * CENT, 0))
    assert books.spend("s-1").unknown == 1
    books.run(postings.reconcile, "c-1", cost=CENT // 3, at=NOW)
    assert balances(books.database) == dict.fromkeys(SCOPES, (CENT // 3, 0))
    assert books.spend("s-1").unknown == 0
    assert books.verify()


def test_refusal_names_the_account_with_figures(books: Ledger) -> None:
    """A hold that does not fit is refused in words that a user can check, and nothing is held by it."""
    books.run(postings.hold, HOLD)
    before = balances(books.database)
    with pytest.raises(BudgetExceeded, match=r"^request r-1: \$0\.02 asked, \$0\.01 of \$0\.03 left$") as refused:
        books.run(postings.hold, replace(HOLD, call_id="c-2"))
    assert refused.value.scope == REQUEST
    assert balances(books.database) == before
    assert kinds(books) == ["request_opened", "call_held"]


def test_refusal_names_the_outermost_account(books: Ledger) -> None:
    """When several accounts have no room, the outermost is named, wherever its row lies in the table."""
    with pytest.raises(BudgetExceeded) as refused:
        books.run(postings.hold, replace(HOLD, amount=200 * CENT))
    assert refused.value.scope == SESSION
    with pytest.raises(BudgetExceeded, match="agent tax of request r-1") as refused:
        books.run(postings.hold, replace(HOLD, amount=26 * CENT // 10))
    assert refused.value.scope == AGENT


def test_refusal_is_recorded(books: Ledger) -> None:
    """A refused call leaves an event with its account and reason, and no charge."""
    books.run(postings.refuse, HOLD, scope=REQUEST, reason="request r-1: no room\x00\ud800")
    last = books.audit("s-1")[-1].as_dict()
    assert (last["kind"], last["scope"], last["amount"]) == ("call_refused", REQUEST, "0.020000000")
    assert books.spend("s-1").spent == USD(0)


def test_hold_of_what_is_left_exactly_fits(books: Ledger) -> None:
    """The bound is inclusive: the last nano-dollar may be held, one more may not."""
    everything = (SESSION, REQUEST)
    books.run(postings.hold, replace(HOLD, amount=3 * CENT, scopes=everything))
    with pytest.raises(BudgetExceeded, match=r"\$0\.000000001 asked, \$0\.00 of \$0\.03 left"):
        books.run(postings.hold, replace(HOLD, call_id="c-2", amount=1, scopes=everything))


def test_cost_above_the_hold_is_booked_in_full_as_an_incident(books: Ledger) -> None:
    """What the provider billed beyond the hold is charged and recorded, and further holds are refused."""
    books.run(postings.hold, HOLD)
    books.run(postings.settle, "c-1", cost=5 * CENT, usage=Usage(), response=None, at=NOW)
    assert balances(books.database) == dict.fromkeys(SCOPES, (5 * CENT, 0))
    incident = books.audit("s-1")[-1].event
    assert isinstance(incident, Incident)
    assert incident.what == "cost $0.05, above its hold of $0.02; booked in full"
    assert books.run(left, [REQUEST]) == -2 * CENT
    with pytest.raises(BudgetExceeded, match=r"\$0\.00 of \$0\.03 left"):
        books.run(postings.hold, replace(HOLD, call_id="c-2", amount=1))
    assert books.verify()


ENDINGS: dict[str, Callable[[Transaction], object]] = {
    "settled": lambda t: postings.settle(t, "c-1", cost=1, usage=Usage(), response=None, at=NOW),
    "void": lambda t: postings.void(t, "c-1", reason="x", at=NOW),
    "unknown": lambda t: postings.mark_unknown(t, "c-1", reason="x", at=NOW),
}


@pytest.mark.parametrize("first", ENDINGS)
@pytest.mark.parametrize("second", ENDINGS)
def test_a_call_ends_once(books: Ledger, first: str, second: str) -> None:
    """A call that has ended cannot end again: the books refuse by name, and nothing changes."""
    books.run(postings.hold, HOLD)
    books.run(ENDINGS[first])
    before = balances(books.database), kinds(books)
    with pytest.raises(LedgerError, match=f"call c-1 is {first}, so it cannot be"):
        books.run(ENDINGS[second])
    assert (balances(books.database), kinds(books)) == before
    assert state_of(books.database, "c-1") == first


def test_only_unknown_calls_are_reconciled(books: Ledger) -> None:
    """A call in flight and a settled one cannot be reconciled, and the error says what to do."""
    books.run(postings.hold, HOLD)
    with pytest.raises(LedgerError, match="resume its session first"):
        books.reconcile("c-1", "0.01")
    books.run(postings.settle, "c-1", cost=1, usage=Usage(), response=None, at=NOW)
    with pytest.raises(LedgerError, match="call c-1 is settled, so it cannot be reconciled"):
        books.reconcile("c-1", "0.01")
    with pytest.raises(LedgerError, match="call c-9 is not in the books"):
        books.reconcile("c-9", "0.01")


def test_opening_again_grants_nothing(books: Ledger) -> None:
    """A request opened again on resume keeps its cap and its spend, and its opening is told once."""
    books.run(postings.hold, HOLD)
    larger = [Account(SESSION, None), Account(REQUEST, 900 * CENT)]
    books.run(requests.open_session, "s-1", "other", at=NOW)
    books.run(requests.open_request, "s-1", "r-1", accounts=larger, text_hash="t", at=NOW)
    books.run(open_account, Account(AGENT, 900 * CENT))
    assert books.run(left, [REQUEST]) == CENT
    assert books.run(left, [AGENT]) == CENT // 2
    assert kinds(books) == ["request_opened", "call_held"]
    assert books.sessions()[0].tenant == "acme"


def test_a_request_belongs_to_one_session(books: Ledger) -> None:
    """A request id is used once, so no session can spend another's budget by naming it."""
    books.run(requests.open_session, "s-2", "acme", at=NOW)
    with pytest.raises(LedgerError, match="request r-1 belongs to another session"):
        books.run(requests.open_request, "s-2", "r-1", accounts=[], text_hash="t", at=NOW)
    with pytest.raises(LedgerError, match="request r-1 belongs to another session"):
        books.run(requests.close_request, "s-2", "r-1", outcome="completed", at=NOW)


def test_close_request_tells_the_charge_once(books: Ledger) -> None:
    """A request is closed once, with what it was charged; its first outcome stays."""
    books.run(postings.hold, HOLD)
    books.run(requests.close_request, "s-1", "r-1", outcome="completed", at=NOW)
    books.run(requests.close_request, "s-1", "r-1", outcome="failed", at=NOW)
    closed = [row.as_dict() for row in books.audit("s-1") if row.kind == "request_closed"]
    assert [(row["outcome"], row["spent"]) for row in closed] == [("completed", "0.020000000")]
    assert books.sessions()[0].outcome == "completed"
    with pytest.raises(LedgerError, match="no request r-9"):
        books.run(requests.close_request, "s-1", "r-9", outcome="completed", at=NOW)


def test_recover_marks_what_was_left_held(books: Ledger) -> None:
    """Recovering a session turns its held calls unknown at their hold, once; other sessions keep theirs."""
    run = books.run
    run(requests.open_session, "s-2", "acme", at=NOW)
    run(postings.hold, replace(HOLD, amount=CENT))
    run(postings.hold, replace(HOLD, call_id="c-2", amount=CENT, scopes=(SESSION, REQUEST)))
    run(postings.hold, replace(HOLD, call_id="c-3", session_id="s-2", request_id="r-2", scopes=(TENANT,)))
    assert run(postings.recover, "s-1", at=NOW) == 2
    assert run(postings.recover, "s-1", at=NOW) == 0
    assert [state_of(books.database, c) for c in ("c-1", "c-2", "c-3")] == ["unknown", "unknown", "held"]
    assert balances(books.database)[REQUEST] == (2 * CENT, 0)
    assert balances(books.database)[TENANT] == (CENT, 2 * CENT)
    assert books.verify()


def test_spend_by_agent_and_model(books: Ledger) -> None:
    """Spend adds up settled and unknown calls by agent and model, and says what is held and left."""
    run = books.run
    run(postings.hold, replace(HOLD, amount=CENT))
    run(postings.settle, "c-1", cost=CENT // 2, usage=Usage(), response=None, at=NOW)
    nested = replace(HOLD, call_id="c-2", agent="tax → reader", model="mini", amount=CENT // 2)
    run(postings.hold, nested)
    run(postings.mark_unknown, "c-2", reason="cut off", at=NOW)
    run(postings.hold, replace(HOLD, call_id="c-3", amount=CENT))
    spend = run(spend_of, REQUEST)
    assert (str(spend), str(spend.held), spend.calls, spend.unknown) == ("$0.01 of $0.03", "$0.01", 3, 1)
    assert spend.by_agent == {"tax": USD("0.005"), "tax → reader": USD("0.005")}
    assert spend.by_model == {"gpt": USD("0.005"), "mini": USD("0.005")}
    assert spend.left == USD("0.01")
    assert run(charged, "agent:r-1:tax") == 2 * CENT
    assert run(charged, "agent:r-1:nobody") == 0
    for unknown in ("request:r-9", "session:s-9", "tenant:acme", ""):
        with pytest.raises(LedgerError, match="in the books"):
            run(spend_of, unknown)


def test_replay_key_has_four_parts(books: Ledger) -> None:
    """An answer is replayed under its own session, place, request and occurrence only."""
    books.run(postings.hold, HOLD)
    books.run(postings.settle, "c-1", cost=1, usage=Usage(), response=b"a", at=NOW)
    for other in (("s-2", "ns", "hash", 0), ("s-1", "n", "hash", 0), ("s-1", "ns", "h", 0), ("s-1", "ns", "hash", 1)):
        assert books.run(replayable, *other) is None


def test_left_is_the_least_of_the_capped(books: Ledger) -> None:
    """What is left is the least over accounts that have a cap; None where none has."""
    assert books.run(left, [TENANT, SESSION]) == 100 * CENT
    assert books.run(left, [TENANT]) is None
    assert books.run(left, []) is None


@pytest.mark.parametrize("amount", [-1, 0.5, True, 10**15 + 1, "1"])
def test_no_amount_but_whole_nano_dollars(books: Ledger, amount: int) -> None:
    """A float, a bool, a negative or an absurd amount is refused as a hold, a cost and a cap; nothing is booked."""
    books.run(postings.hold, HOLD)
    before = balances(books.database)
    with pytest.raises(LedgerError, match="whole number of nano-dollars"):
        books.run(postings.hold, replace(HOLD, call_id="c-2", amount=amount))
    with pytest.raises(LedgerError, match="whole number of nano-dollars"):
        books.run(postings.settle, "c-1", cost=amount, usage=Usage(), response=None, at=NOW)
    with pytest.raises(LedgerError, match="whole number of nano-dollars"):
        books.run(open_account, Account("agent:r-1:new", amount))
    assert balances(books.database) == before


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"call_id": "c-1"}, "call c-1 is already in the books"),
        ({"call_id": ""}, "a call id is 1 to 200 printable characters"),
        ({"scopes": ()}, "one or more accounts"),
        ({"scopes": (REQUEST, REQUEST)}, "each once"),
        ({"scopes": (REQUEST, "agent:r-1:new")}, "no account for agent new of request r-1"),
        ({"session_id": "s-9"}, "no session 's-9'"),
        ({"at": NOW.replace(tzinfo=None)}, "needs its time zone"),
    ],
)
def test_bad_holds_change_nothing(books: Ledger, changed: dict[str, object], message: str) -> None:
    """A hold that makes no sense is refused in one line and leaves no trace in accounts, calls or log."""
    books.run(postings.hold, replace(HOLD, amount=1))
    before = balances(books.database), kinds(books)
    bad = replace(replace(HOLD, call_id="c-2", amount=1), **changed)  # pyright: ignore[reportArgumentType]
    with pytest.raises(LedgerError, match=message):
        books.run(postings.hold, bad)
    assert (balances(books.database), kinds(books)) == before
    assert len(books.open_holds()) == 1


@pytest.mark.parametrize("name", ["", "a\x00b", "a\nb", "x" * 201, "\ud800"])
def test_ids_are_printable(ledger: Ledger, name: str) -> None:
    """Ids that a database or a terminal cannot show are refused before anything is written."""
    for work in (
        ledger.bind(requests.open_session, name, "acme", at=NOW),
        ledger.bind(requests.open_session, "s-1", name, at=NOW),
    ):
        with pytest.raises(LedgerError, match="printable"):
            ledger.database.run(work)
    assert ledger.sessions() == []


def test_times_are_kept_exactly_in_utc(books: Ledger) -> None:
    """A time in another zone comes back as the same instant, to the microsecond."""
    abroad = datetime(2026, 11, 23, 23, 59, 59, 999999, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    books.run(postings.record, "s-1", Incident(what="x"), at=abroad)
    row = books.audit("s-1")[-1]
    assert (row.at, row.at.utcoffset()) == (abroad, timedelta(0))


def test_ten_threads_never_hold_more_than_the_cap(books: Ledger) -> None:
    """Ten threads that each want $0.004 of one $0.03 get it seven times between them, never an eighth."""
    start = threading.Barrier(10)
    granted: list[str] = []

    def ask(number: int) -> None:
        start.wait()
        for attempt in range(2):
            wanted = replace(HOLD, call_id=f"c-{number}-{attempt}", amount=4 * CENT // 10, scopes=(SESSION, REQUEST))
            try:
                books.run(postings.hold, wanted)
            except BudgetExceeded:
                return
            granted.append(wanted.call_id)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(granted) == 7
    assert balances(books.database)[REQUEST] == (0, 28 * CENT // 10)
    assert books.verify()


def test_sessions_that_share_accounts_do_not_deadlock(ledger: Ledger) -> None:
    """Sessions whose calls touch the same accounts, named in any order, all come through, also while recovering."""
    shared = ("global", TENANT, "tenant:acme:all")
    for scope in shared:
        ledger.run(open_account, Account(scope, None))

    def spend(number: int) -> None:
        run, name = ledger.run, f"s-{number}"
        run(requests.open_session, name, "acme", at=NOW)
        scopes = shared if number % 2 else shared[::-1]
        for step in range(12):
            call_id = f"{name}-{step}"
            run(postings.hold, replace(HOLD, call_id=call_id, session_id=name, amount=10, scopes=scopes))
            if step % 3:
                run(postings.settle, call_id, cost=7, usage=Usage(), response=None, at=NOW)
        assert run(postings.recover, name, at=NOW) == 4

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(spend, range(6)))
    assert balances(ledger.database) == dict.fromkeys(shared, (6 * (8 * 7 + 4 * 10), 0))
    assert ledger.verify()


def test_tasks_of_several_loops_share_a_ledger(books: Ledger) -> None:
    """One books serves callers of several event loops at once; every call is booked."""

    async def spend(loop: int) -> None:
        async def one(number: int) -> None:
            call_id = f"c-{loop}-{number}"
            await books.arun(postings.hold, replace(HOLD, call_id=call_id, amount=1000))
            await books.arun(postings.settle, call_id, cost=1, usage=Usage(), response=None, at=NOW)

        await asyncio.gather(*(one(number) for number in range(8)))

    def run_loop(loop: int) -> None:
        asyncio.run(spend(loop))

    threads = [threading.Thread(target=run_loop, args=(loop,)) for loop in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert balances(books.database) == dict.fromkeys(SCOPES, (24, 0))
    assert books.verify()
