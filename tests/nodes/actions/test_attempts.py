"""An attempt whose end nobody saw: it is checked, tried again under its key, waited for, or left to a person."""

from datetime import timedelta

import pytest

from bursar import Ledger, Report, Task, action
from bursar.checkpoints.ledger import actions, requests
from bursar.checkpoints.ledger.actions import ActionIntent
from bursar.state.errors import LedgerError
from tests.support.bank import Bank, app_of, by_name, states
from tests.support.graphs import answer_of, ask


def test_an_error_that_says_nothing_happened_is_believed(ledger: Ledger) -> None:
    """`not_done_on` leaves nothing to undo, and a handler that tries again means the same call."""
    bank = Bank()
    bank.instead = [ConnectionRefusedError("closed")]

    @action(irreversible=True, not_done_on=(ConnectionRefusedError,))
    def pay(name: str, idempotency_key: str = "") -> str:
        return bank.pay(name, idempotency_key)

    def payer(task: Task) -> Report:
        try:
            return Report(answer=pay("bob"))
        except ConnectionRefusedError:
            return Report(answer=pay("bob"))

    assert answer_of(ask(app_of(ledger, payer))) == "bob paid"
    assert states(ledger) == ["void", "intended", "done"]
    assert ledger.open_actions() == []


@pytest.mark.parametrize("happened", [True, False])
def test_a_check_finds_out(ledger: Ledger, happened: bool) -> None:
    """After any other error the outside is asked: what happened is undone with its run, what did not is not."""
    bank = Bank()
    (bank.after if happened else bank.instead).append(TimeoutError("no answer"))

    @action(compensate=bank.undo, check=bank.look)
    def pay(name: str, idempotency_key: str = "") -> str:
        return bank.pay(name, idempotency_key)

    def payer(task: Task) -> Report:
        return Report(answer=pay("bob"))

    result = ask(app_of(ledger, payer))
    assert "it failed with an error (reference " in result["gaps"][0]
    assert bank.done == (["bob", "not bob"] if happened else [])
    assert states(ledger) == (["in_doubt", "done", "undoing", "undone"] if happened else ["in_doubt", "void"])


def test_in_doubt_it_is_not_done_again(ledger: Ledger) -> None:
    """Without a check, what may have happened is refused the second time, and waits for a person."""
    bank = Bank()
    bank.after = [TimeoutError("no answer")]

    @action(irreversible=True)
    def pay(name: str) -> str:
        return bank.pay(name)

    def payer(task: Task) -> Report:
        try:
            return Report(answer=pay("bob"))
        except TimeoutError:
            return Report(answer=pay("bob"))

    result = ask(app_of(ledger, payer))
    assert bank.done == ["bob"]
    assert "nobody knows whether pay was done" in result["gaps"][0]
    (deed,) = ledger.open_actions("s-1")
    assert any(deed.key in row.what for row in ledger.incidents())
    with pytest.raises(LedgerError, match="a name and a note"):
        ledger.settle_action(deed.key, done=True, by="", note="")
    assert ledger.settle_action(deed.key, done=True, by="ann", note="the bank says so") == "done"
    with pytest.raises(LedgerError, match="is done, so it cannot be settled"):
        ledger.settle_action(deed.key, done=False, by="ann", note="again")


def test_an_idempotent_action_is_tried_again_under_its_key(ledger: Ledger) -> None:
    """The outside knows it by its key, so that a second attempt changes nothing there."""
    bank = Bank()
    bank.after = [TimeoutError("no answer")]

    @action(irreversible=True, idempotent=True)
    def pay(name: str, idempotency_key: str = "") -> str:
        return bank.pay(name, idempotency_key)

    def payer(task: Task) -> Report:
        try:
            return Report(answer=pay("bob"))
        except TimeoutError:
            return Report(answer=pay("bob"))

    assert answer_of(ask(app_of(ledger, payer))) == "bob paid"
    assert len(bank.keys) == 2
    assert len(set(bank.keys)) == 1


def test_an_attempt_of_another_host_has_its_time(ledger: Ledger) -> None:
    """What another machine intended is waited for until its time is over; then its check says what became of it."""
    bank = Bank()

    @action(irreversible=True, check=bank.look, key=by_name)
    def pay(name: str, idempotency_key: str = "") -> str:
        return bank.pay(name, idempotency_key)

    def payer(task: Task) -> Report:
        return Report(answer=pay("bob"))

    app = app_of(ledger, payer, timeout=0.5)
    at = ledger.clock()
    ledger.run(requests.open_session, "s-1", "acme", at=at)

    def elsewhere(until: timedelta) -> None:
        ledger.run(actions.intend, _intent(ledger, until), at=at)

    elsewhere(timedelta(hours=1))
    assert "its result did not come in time" in ask(app)["gaps"][0]
    assert bank.done == []


def _intent(ledger: Ledger, until: timedelta) -> ActionIntent:
    import hashlib
    import json

    name = f"{__name__}.test_an_attempt_of_another_host_has_its_time.<locals>.pay"
    key = hashlib.sha256(json.dumps(["given", "s-1", name, "bob"]).encode()).hexdigest()
    return ActionIntent(
        key=key,
        session_id="s-1",
        request_id="r-0",
        agent="payer",
        checkpoint_ns="elsewhere",
        name=name,
        arguments=b'{"name":"bob"}',
        irreversible=True,
        attempt="another-host|1|1|x",
        until=ledger.clock() + until,
    )
