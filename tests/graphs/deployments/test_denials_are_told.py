"""An action that no person approves: its run ends, or its caller is told and goes on."""

from typing import Any

import pytest
from langgraph.types import Command

from bursar import Deny, Ledger, Report, Task, action
from bursar.nodes.specialists.definition import Function
from bursar.state.errors import ConfigurationError
from bursar.state.run import Fault
from tests.support.approvals import approve, shown
from tests.support.bank import Bank
from tests.support.graphs import answer_of, ask, build, first_run, session, specialist


def _payer(bank: Bank) -> Function:
    @action(irreversible=True, approval=True)
    def wire(name: str) -> str:
        return bank.pay(name)

    def payer(task: Task) -> Report:
        return Report(answer=f"I was told: {wire('bob')}")

    return payer


def _deny(result: Any) -> Command[Any]:
    (request,) = shown(result)
    return Command(resume=Deny(subject_hash=request.subject_hash, by="ann", reason="too dear"))


@pytest.mark.parametrize("malformed", [False, True])
def test_a_denial_is_told(any_ledger: Ledger, malformed: bool) -> None:
    """The action is not done, its caller gets the reason as a text, and the run completes; so for what is no answer."""
    bank = Bank()
    app = build(any_ledger, [specialist("a", _payer(bank))], approvers=["ann"], on_denied="tell")
    asked = ask(app)
    result = app.invoke(Command(resume="sure, why not") if malformed else _deny(asked), session())
    assert answer_of(result).startswith("I was told: ")
    assert "wire was not done, because it was not approved: " in answer_of(result)
    assert ("denied by ann: too dear" in answer_of(result)) is not malformed
    assert (result["gaps"], bank.done) == ([], [])
    assert any_ledger.verify("s-1")


def test_without_it_a_denial_ends_the_run(ledger: Ledger) -> None:
    """The default: the run has failed, and no fallback does it instead."""
    bank = Bank()
    app = build(ledger, [specialist("a", _payer(bank))], approvers=["ann"])
    result = app.invoke(_deny(ask(app)), session())
    assert first_run(result).fault is Fault.NOT_APPROVED
    assert bank.done == []


def test_what_is_approved_is_done(any_ledger: Ledger) -> None:
    """Telling denials changes nothing for an approval."""
    bank = Bank()
    app = build(any_ledger, [specialist("a", _payer(bank))], approvers=["ann"], on_denied="tell")
    result = app.invoke(approve(ask(app)), session())
    assert (answer_of(result), bank.done) == ("I was told: bob paid", ["bob"])


def test_there_are_two_ways(ledger: Ledger) -> None:
    """Anything else is refused when the graph is built."""
    with pytest.raises(ConfigurationError, match="on_denied is 'end' or 'tell'"):
        build(ledger, [specialist("a", _payer(Bank()))], on_denied="shrug")
