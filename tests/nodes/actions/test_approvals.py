"""A person approves an action by itself, in the middle of its run: it is done once, with what they were shown."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bursar import Ledger, Report, Task, action
from tests.support.approvals import approve, shown, unless_busy, verdicts
from tests.support.graphs import answer_of, ask, build, session, specialist


def test_an_action_is_approved_by_itself(ledger: Ledger) -> None:
    """The run stops in its middle; each of its actions has its own approval, and what was done is not repeated."""
    paid, looked = list[str](), list[str]()

    @action(irreversible=True, approval=True)
    def wire(to: str, cents: int) -> str:
        paid.append(to)
        return f"{cents} to {to}"

    @action(compensate=lambda call: None, approval=True)
    def reserve(what: str) -> str:
        paid.append(what)
        return what

    def transfer(task: Task) -> Report:
        looked.append(task.text)
        return Report(answer=f"{reserve('room')}, {wire('bob', 500)}")

    app = build(ledger, [specialist("transfer", transfer)], approvers=["ann"])
    result = ask(app)
    (request,) = shown(result)
    assert request.arguments["what"] == "room"
    result = app.invoke(approve(result), session())
    (request,) = shown(result)
    assert paid == ["room"]
    assert (request.arguments["to"], request.arguments["cents"]) == ("bob", 500)
    result = app.invoke(approve(result), session())
    assert answer_of(result) == "room, 500 to bob"
    assert paid == ["room", "bob"]
    assert len(looked) == 3
    assert verdicts(ledger) == ["asked", "approved", "used"] * 2


def test_an_action_that_changed_meanwhile_is_not_approved(ledger: Ledger) -> None:
    """A handler that asks for another amount when it runs again does not get it under the approval of the first."""
    paid, amounts = list[int](), iter((500, 5_000, 5_000))

    @action(irreversible=True, approval=True)
    def wire(cents: int) -> None:
        paid.append(cents)

    def transfer(task: Task) -> Report:
        wire(next(amounts))
        return Report(answer="done")

    app = build(ledger, [specialist("transfer", transfer)], approvers=["ann"])
    result = app.invoke(approve(ask(app)), session())
    assert paid == []
    assert "what was approved is not what would be done now" in result["gaps"][0]


def test_the_hundred_resume_an_action_once_and_agree(any_ledger: Ledger) -> None:
    """Of many that resume into one approved action, one does it; whoever ends at all ends with its result."""
    paid = list[str]()

    @action(irreversible=True, approval=True)
    def wire(to: str) -> str:
        paid.append(to)
        return "wired"

    def transfer(task: Task) -> Report:
        return Report(answer=wire("bob"))

    app = build(any_ledger, [specialist("transfer", transfer)], approvers=["ann"])
    answer = approve(ask(app))
    ready = threading.Barrier(16)

    def resume(number: int) -> Any:
        ready.wait()
        return unless_busy(app, answer)

    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(resume, range(16)))
    assert paid == ["bob"]
    assert answer_of(app.get_state(session()).values) == "wired"
    assert {answer_of(result) for result in results if result and "ending" in result} == {"wired"}
