"""Caps: of the whole ledger, those that follow the configuration, those that are topped up, and a closed account."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from bursar.checkpoints.ledger import postings, requests
from bursar.checkpoints.ledger.accounts import Account, left, open_account
from bursar.checkpoints.ledger.calls import Hold, Usage, replayable, turns
from bursar.checkpoints.ledger.ledger import Ledger
from bursar.state.budget import Budget
from bursar.state.errors import AmountError, ConfigurationError, LedgerError
from bursar.state.events import Acknowledged, Incident, RequestOpened, ToppedUp
from bursar.state.money import USD
from bursar.state.refusals import AccountClosed, BudgetExceeded

NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
CENT = 10_000_000
GLOBAL, TENANT, SESSION = "global", "tenant:acme:2026-11-23", "session:s-1"
SCOPES = (GLOBAL, TENANT, SESSION, "request:r-1", "agent:r-1:tax")
HOLD = Hold("c-1", "s-1", "r-1", "tax", "ns", "hash", 0, "gpt", "prices-1", CENT, SCOPES, NOW)


def open_request(
    ledger: Ledger,
    request: str = "r-1",
    *,
    total: int | None = None,
    tenant: int | None = None,
    session: int | None = None,
) -> None:
    """Open a request of $0.03 whose wider accounts have these caps in cents, none by default."""
    run = ledger.run
    run(requests.open_session, "s-1", "acme", at=NOW)
    wide = {GLOBAL: total, TENANT: tenant, SESSION: session}
    accounts = [Account(scope, None if cap is None else cap * CENT) for scope, cap in wide.items()]
    accounts.append(Account(f"request:{request}", 3 * CENT))
    run(requests.open_request, "s-1", request, accounts=accounts, text_hash="t", at=NOW)
    run(open_account, Account(f"agent:{request}:tax", 2 * CENT))


def hold(ledger: Ledger, call: str, request: str = "r-1", amount: int = CENT) -> None:
    scopes = (*SCOPES[:3], f"request:{request}", f"agent:{request}:tax")
    wanted = replace(HOLD, call_id=call, request_id=request, amount=amount, scopes=scopes)
    ledger.run(postings.hold, wanted)


def test_the_total_is_checked_first(ledger: Ledger) -> None:
    """A cap of the whole ledger is the outermost account: it is named before any other that has no room."""
    open_request(ledger, total=1, tenant=1, session=1)
    hold(ledger, "c-1")
    with pytest.raises(BudgetExceeded, match=r"^global: \$0\.01 asked, \$0\.00 of \$0\.01 left$") as refused:
        hold(ledger, "c-2")
    assert refused.value.scope == GLOBAL


def test_the_total_is_an_amount_above_a_request() -> None:
    """The whole ledger's cap is given by name, and no smaller than what one request may spend."""
    assert Budget("0.03", total="100").total == USD(100)
    assert Budget("0.03").total is None
    with pytest.raises(ConfigurationError, match=r"total \$0\.02 is below per_request \$0\.03"):
        Budget("0.03", total="0.02")


@pytest.mark.parametrize(("first", "then"), [(1, 2), (2, 1), (None, 1), (1, None)])
@pytest.mark.parametrize(("which", "scope"), [("total", GLOBAL), ("tenant", TENANT), ("session", SESSION)])
def test_wide_caps_follow_the_configuration(
    ledger: Ledger, which: str, scope: str, first: int | None, then: int | None
) -> None:
    """A new request brings session, tenant's day and ledger to the caps of the day, up or down; spend stays."""
    open_request(ledger, "r-1", **{which: first})
    hold(ledger, "c-1")
    open_request(ledger, "r-2", **{which: then})
    assert ledger.run(left, [scope]) == (None if then is None else (then - 1) * CENT)
    opened = [row.event for row in ledger.audit("s-1") if isinstance(row.event, RequestOpened)]
    assert [event.caps[scope] for event in opened] == [
        None if cap is None else USD.from_nanos(cap * CENT) for cap in (first, then)
    ]
    assert ledger.verify()


def test_a_cap_below_what_is_spent_refuses_and_verifies(ledger: Ledger) -> None:
    """A cap lowered below what was spent leaves no room; that is no fault of the books."""
    open_request(ledger, session=5)
    hold(ledger, "c-1", amount=2 * CENT)
    open_request(ledger, "r-2", session=1)
    with pytest.raises(BudgetExceeded, match=r"session s-1: \$0\.01 asked, \$0\.00 of \$0\.01 left"):
        hold(ledger, "c-2", "r-2")
    assert ledger.verify()


def test_a_resume_changes_no_cap(ledger: Ledger) -> None:
    """A request opened again, under another configuration, changes neither its own cap nor any other."""
    open_request(ledger, total=5, tenant=5, session=5)
    open_request(ledger, total=9, tenant=9, session=9)
    for scope, cap in {GLOBAL: 5, TENANT: 5, SESSION: 5, "request:r-1": 3, "agent:r-1:tax": 2}.items():
        assert ledger.run(left, [scope]) == cap * CENT
    assert ledger.verify()


def test_a_top_up_lets_an_exhausted_request_go_on(ledger: Ledger) -> None:
    """The accounts that a refusal names can be given more, by name or id; each grant is in the log."""
    open_request(ledger)
    hold(ledger, "c-1", amount=2 * CENT)
    with pytest.raises(BudgetExceeded) as refused:
        hold(ledger, "c-2", amount=2 * CENT)
    assert ledger.top_up("r-1", "0.02", note="asked by the owner") == refused.value.scope == "request:r-1"
    with pytest.raises(BudgetExceeded) as refused:
        hold(ledger, "c-2", amount=2 * CENT)
    assert ledger.top_up(refused.value.scope, "0.02") == "agent:r-1:tax"
    hold(ledger, "c-2", amount=2 * CENT)
    grants = [row.event for row in ledger.audit("s-1") if isinstance(row.event, ToppedUp)]
    assert [(grant.scope, grant.amount, grant.note) for grant in grants] == [
        ("request:r-1", USD("0.02"), "asked by the owner"),
        ("agent:r-1:tax", USD("0.02"), ""),
    ]
    assert ledger.spend("s-1").held == USD("0.04")
    assert ledger.verify()


def test_a_top_up_stays_on_top(ledger: Ledger) -> None:
    """What a session was topped up by is added to whatever cap the configuration gives it later."""
    open_request(ledger, session=1)
    ledger.top_up("s-1", "0.02")
    assert ledger.run(left, [SESSION]) == 3 * CENT
    open_request(ledger, "r-2", session=2)
    assert ledger.run(left, [SESSION]) == 4 * CENT
    assert ledger.verify()


def test_top_ups_that_make_no_sense(ledger: Ledger) -> None:
    """What has no cap, is shared by sessions, is unknown or ambiguous is not topped up, and the error says why."""
    open_request(ledger, tenant=5)
    open_request(ledger, "s-1")
    for account, why in {
        SESSION: "session s-1 has no cap",
        "s-1": "'s-1' may be request:s-1 or session:s-1; write one of them",
        TENANT: "tenant acme on 2026-11-23 is shared by sessions; change its cap in the budget",
        "r-9": "no request, session or account 'r-9'",
    }.items():
        with pytest.raises(LedgerError, match=why):
            ledger.top_up(account, 1)
    for amount, error in {"0": LedgerError, "-1": LedgerError, "x": AmountError}.items():
        with pytest.raises(error):
            ledger.top_up("r-1", amount)
    assert ledger.verify()


def test_a_forged_top_up_is_found(ledger: Ledger, execute: Callable[..., int]) -> None:
    """A cap that was raised, or a grant that was made, behind the log's back is found."""
    open_request(ledger, session=2, tenant=9)
    execute("UPDATE bursar_accounts SET cap = cap + 5, granted = 5 WHERE scope = 'request:r-1'")
    assert "request r-1: topped up by 5 nano-dollars, its events say 0" in ledger.verify("s-1").problems
    execute("UPDATE bursar_accounts SET cap = 7, granted = 0 WHERE scope <> 'request:r-1'")
    problems = ledger.verify().problems
    assert "session s-1: its cap is 7 nano-dollars; no request was opened with that" in problems
    assert "tenant acme on 2026-11-23: its cap is 7 nano-dollars; no request was opened with that" in problems


def overrun(ledger: Ledger) -> None:
    """A call that cost $0.04 on a hold of $0.01."""
    hold(ledger, "c-1")
    ledger.run(postings.settle, "c-1", cost=4 * CENT, usage=Usage(), response=b"x", at=NOW)


def test_an_overrun_closes_the_session(ledger: Ledger) -> None:
    """A cost above its hold is booked in full; no call of the session is held until a person acknowledged it."""
    open_request(ledger, session=100)
    overrun(ledger)
    assert ledger.spend("s-1").spent == USD("0.04")
    open_request(ledger, "r-2", session=100)
    with pytest.raises(
        AccountClosed, match=r"session s-1 is closed by an incident \(call c-1: cost \$0\.04"
    ) as refused:
        hold(ledger, "c-2", "r-2")
    assert isinstance(refused.value, BudgetExceeded)
    assert refused.value.scope == SESSION
    assert ledger.run(left, ["request:r-2"]) == 3 * CENT
    assert [(row.call_id, row.closes, row.note) for row in ledger.incidents()] == [("c-1", True, None)]
    assert "above its hold of $0.01" in ledger.acknowledge("s-1", "the provider ignores max_tokens; reported")
    hold(ledger, "c-2", "r-2")
    (row,) = ledger.incidents("s-1")
    assert (row.closes, row.note) == (False, "the provider ignores max_tokens; reported")
    kinds = [type(one.event) for one in ledger.audit("s-1")]
    assert kinds.index(Incident) < kinds.index(Acknowledged)
    assert ledger.verify()


def test_what_was_paid_for_can_be_replayed_while_closed(ledger: Ledger) -> None:
    """A closed session still reads its answers and ends the calls that were in flight."""
    open_request(ledger)
    hold(ledger, "c-0")
    overrun(ledger)
    kept = ledger.run(replayable, "s-1", "ns", "hash", 0)
    assert kept is not None
    assert kept.answer == b"x"
    ledger.run(postings.settle, "c-0", cost=1, usage=Usage(), response=None, at=NOW)
    assert ledger.verify()


def test_reconciling_above_the_hold_closes_too(ledger: Ledger) -> None:
    """It does not matter how an overrun comes to light."""
    open_request(ledger)
    hold(ledger, "c-1")
    ledger.run(postings.mark_unknown, "c-1", reason="cut off", at=NOW)
    ledger.reconcile("c-1", "0.02")
    with pytest.raises(AccountClosed):
        hold(ledger, "c-2", amount=0)
    assert ledger.verify()


def test_only_what_is_closed_is_acknowledged(ledger: Ledger) -> None:
    """An open session, an unknown one and an empty note are refused; other sessions stay as they are."""
    open_request(ledger)
    ledger.run(postings.record, "s-1", Incident(what="the provider was slow"), at=NOW)
    with pytest.raises(LedgerError, match="session s-1 is open"):
        ledger.acknowledge("s-1", "seen")
    for ask in (lambda: ledger.acknowledge("s-9", "seen"), lambda: ledger.incidents("s-9")):
        with pytest.raises(LedgerError, match="no session s-9"):
            ask()
    overrun(ledger)
    with pytest.raises(LedgerError, match="needs a note"):
        ledger.acknowledge("s-1", " ")
    assert [row.closes for row in ledger.incidents()] == [True, False]


def test_a_session_opened_behind_the_log_is_found(ledger: Ledger, execute: Callable[..., int]) -> None:
    """Clearing the incident in the database, or setting one, disagrees with the events."""
    open_request(ledger)
    overrun(ledger)
    execute("UPDATE bursar_sessions SET incident = NULL")
    assert ledger.verify().problems == ("session s-1: it is open to paid calls, its events say closed",)
    execute("UPDATE bursar_sessions SET incident = 'x'")
    ledger.acknowledge("s-1", "seen")
    execute("UPDATE bursar_sessions SET incident = 'x'")
    assert ledger.verify().problems == ("session s-1: it is closed to paid calls, its events say open",)


def test_turns_are_counted_over_all_runs(ledger: Ledger) -> None:
    """Every call that was sent counts for the agent whose business caused it, whatever became of it; a void one not."""
    open_request(ledger)
    run = ledger.run
    for number, agent in enumerate(["tax", "tax", "tax", "tax → reader", "taxes", "tax"]):
        wanted = replace(HOLD, call_id=f"c-{number}", agent=agent, amount=1, request_hash=f"prompt {number}")
        run(postings.hold, wanted)
    run(postings.settle, "c-0", cost=1, usage=Usage(), response=b"x", at=NOW)
    run(postings.void, "c-1", reason="429", at=NOW)
    assert run(postings.recover, "s-1", at=NOW) == 4
    assert run(turns, "r-1", "tax") == 4
    assert run(turns, "r-1", "tax → reader") == 1
    assert run(turns, "r-1", "taxes") == 1
    assert run(turns, "r-2", "tax") == 0
