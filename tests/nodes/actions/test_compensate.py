"""What a run did is undone when the run fails, the last first; what cannot be undone comes last, or waits for help."""

import asyncio
import threading

import pytest

from bursar import ActionCall, Ledger, Report, Task, action
from bursar.nodes.actions import compensate as undoing
from tests.support.bank import Bank, app_of, states
from tests.support.clock import wait_until
from tests.support.graphs import QUESTION, answer_of, ask, rules, session


def test_a_failed_run_is_undone_the_last_first(ledger: Ledger) -> None:
    """What was done is taken back in reverse order before the fallback runs, and the answer says so."""
    bank = Bank()

    @action(compensate=bank.undo)
    def pay(name: str) -> str:
        return bank.pay(name)

    def payer(task: Task) -> Report:
        pay("flight")
        pay("hotel")
        raise ValueError("no seats")

    def helper(task: Task) -> Report:
        return Report(answer=f"{pay('train')}")

    result = ask(app_of(ledger, payer, fallbacks=[helper, rules]))
    assert bank.done == ["flight", "hotel", "not hotel", "not flight", "train"]
    assert "undone: pay, pay" in result["gaps"][0]
    assert states(ledger) == ["done", "done", "undoing", "undone", "undoing", "undone", "done"]


@pytest.mark.parametrize("apart", [False, True])
def test_coroutines_undo_and_fall_back_where_their_specialist_runs(ledger: Ledger, apart: bool) -> None:
    """On the caller's event loop; of a specialist that runs apart, on none of the caller's."""
    bank, loops = Bank(), dict[str, asyncio.AbstractEventLoop]()

    async def undo(call: ActionCall) -> None:
        loops["compensation"] = asyncio.get_running_loop()
        bank.undo(call)

    @action(compensate=undo)
    async def pay(name: str) -> str:
        return bank.pay(name)

    async def payer(task: Task) -> str:
        loops["handler"] = asyncio.get_running_loop()
        await pay("flight")
        raise ValueError("no seats")

    async def helper(task: Task) -> str:
        loops["fallback"] = asyncio.get_running_loop()
        return "helped"

    async def main() -> dict[str, bool]:
        result = await app_of(ledger, payer, fallbacks=[helper, rules], apart=apart).ainvoke(QUESTION, session())
        assert answer_of(result).startswith("helped")
        return {what: loop is asyncio.get_running_loop() for what, loop in loops.items()}

    assert asyncio.run(main()) == dict.fromkeys(["handler", "compensation", "fallback"], not apart)
    assert bank.done == ["flight", "not flight"]


def test_what_cannot_be_undone_is_last(ledger: Ledger) -> None:
    """After an irreversible action no other is done, and nothing of the run is undone: the answer says what stays."""
    bank = Bank()

    @action(compensate=bank.undo)
    def reserve(name: str) -> str:
        return bank.pay(name)

    @action(irreversible=True)
    def wire(name: str) -> str:
        return bank.pay(name)

    def payer(task: Task) -> Report:
        reserve("room")
        wire("bob")
        return Report(answer=reserve("car"))

    result = ask(app_of(ledger, payer))
    assert bank.done == ["room", "bob"]
    assert "reserve was not done: wire cannot be undone, and is the last action of a run" in result["gaps"][0]
    assert "wire cannot be undone, so what was done stays: wire, reserve" in result["gaps"][0]


def test_what_is_done_after_the_deadline_is_undone(ledger: Ledger) -> None:
    """A run left behind in the middle of an action: once that returns, it is undone, and the fallback has answered."""
    bank, go, undone = Bank(), threading.Event(), threading.Event()

    def undo(call: ActionCall) -> None:
        bank.undo(call)
        undone.set()

    @action(compensate=undo)
    def pay(name: str) -> str:
        go.wait(60)
        return bank.pay(name)

    def payer(task: Task) -> Report:
        return Report(answer=pay("bob"))

    result = ask(app_of(ledger, payer, timeout=4))
    assert "nobody knows whether pay was done" in result["gaps"][0]
    assert [deed.state for deed in ledger.open_actions()] == ["in_doubt"]
    go.set()
    assert undone.wait(60)
    wait_until(lambda: not ledger.open_actions())
    assert bank.done == ["bob", "not bob"]
    assert states(ledger) == ["in_doubt", "done", "undoing", "undone"]


@pytest.mark.parametrize("hangs", [True, False])
def test_a_compensation_that_fails_waits_for_a_person(
    ledger: Ledger, hangs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is an incident and an open action; the others are undone all the same; a person settles it by hand."""
    bank, never = Bank(), threading.Event()
    monkeypatch.setattr(undoing, "UNDO_SECONDS", 0.3)

    def broken(call: ActionCall) -> None:
        if hangs:
            never.wait(5)
        raise ConnectionError("the bank is closed")

    @action(compensate=bank.undo)
    def reserve(name: str) -> str:
        return bank.pay(name)

    @action(compensate=broken)
    def pay(name: str) -> str:
        return bank.pay(name)

    def payer(task: Task) -> Report:
        reserve("room")
        pay("bob")
        raise ValueError("no")

    result = ask(app_of(ledger, payer))
    never.set()
    assert bank.done == ["room", "bob", "not room"]
    assert "undone: reserve; not undone, a person must look: pay" in result["gaps"][0]
    (deed,) = ledger.open_actions()
    assert deed.state == "undoing"
    (row,) = ledger.incidents()
    assert ("no answer within 0.3 s" if hangs else "ConnectionError: the bank is closed") in row.what
    assert ledger.settle_action(deed.key, done=False, by="ann", note="refunded by hand") == "undone"
