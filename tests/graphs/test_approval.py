"""A person approves what is of high risk: once, what they were shown, while it holds; else it is not done."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from langgraph.types import Command

from bursar import ApprovalRequest, Approve, Deny, Ledger, Report, Task
from bursar.nodes.specialists.approval_policy import Approvals
from bursar.state.errors import ConfigurationError, LedgerError
from bursar.state.events import RunStarted
from bursar.state.refusals import NotApproved
from bursar.state.run import Fault
from tests.support.approvals import Teller, approve, risky, shown, unless_busy, verdicts
from tests.support.clock import RunningClock
from tests.support.graphs import App, RouteTo, answer_of, ask, build, rules, session, specialist

EXPIRED = timedelta(hours=2)


async def _invoke(app: App, entered: Any) -> Any:
    return await asyncio.to_thread(app.invoke, entered, session())


async def _ainvoke(app: App, entered: Any) -> Any:
    return await app.ainvoke(entered, session())


async def _stream(app: App, entered: Any) -> Any:
    def read() -> Any:
        merged: dict[str, Any] = {}
        for chunk in app.stream(entered, session(), stream_mode="values"):
            merged.update(chunk)
        return merged

    return await asyncio.to_thread(read)


async def _astream(app: App, entered: Any) -> Any:
    merged: dict[str, Any] = {}
    async for chunk in app.astream(entered, session(), stream_mode="values"):
        merged.update(chunk)
    return merged


@pytest.mark.parametrize("way", [_invoke, _ainvoke, _stream, _astream])
def test_it_waits_and_then_runs_once(ledger: Ledger, way: Callable[[App, Any], Any]) -> None:
    """However the graph is called: it stops before the specialist, siblings keep their work, it runs when approved."""
    teller, calls = Teller(), list[str]()

    def other(task: Task) -> Report:
        calls.append(task.text)
        return Report(answer="looked up")

    app = build(ledger, [*risky(teller), specialist("other", other)], approvers=["ann"])

    async def talk() -> Any:
        result = await way(app, {"messages": [("user", "pay the rent")]})
        (request,) = shown(result)
        assert isinstance(request, ApprovalRequest)
        assert (request.specialist, request.request, request.attempt) == ("transfer", "pay the rent", 1)
        assert request.subject_hash == request.digest()
        assert str(request.ceiling) == "$0.01"
        assert teller.paid == []
        return await way(app, approve(result))

    result = asyncio.run(talk())
    assert (teller.paid, calls, result["gaps"]) == (["transfer"], ["pay the rent"], [])
    assert answer_of(result) == "Other\nlooked up\n\nTransfer\ntransfer paid"
    assert verdicts(ledger) == ["asked", "approved", "used"]
    assert [row.kind for row in ledger.audit("s-1")].count(RunStarted.model_fields["kind"].default) == 2


def test_several_are_asked_at_once_and_answered_one_by_one(ledger: Ledger) -> None:
    """Each has its own question; an answer to one leaves the others waiting, and asks nothing twice."""
    teller = Teller()
    app = build(ledger, risky(teller, "rent", "tax"), approvers=["ann"])
    asked = {one.value.specialist: one for one in ask(app)["__interrupt__"]}
    assert set(asked) == {"rent", "tax"}

    answer = Approve(subject_hash=asked["tax"].value.subject_hash, by="ann")
    result = app.invoke(Command(resume={asked["tax"].id: answer}), session())
    assert teller.paid == ["tax"]
    assert [request.specialist for request in shown(result)] == ["rent"]
    assert verdicts(ledger).count("asked") == 2

    result = app.invoke(Command(resume=Deny(subject_hash=shown(result)[0].subject_hash, by="ann")), session())
    assert teller.paid == ["tax"]
    assert result["gaps"] == ["rent: not approved: denied by ann; nothing answered in its place"]


def test_denied_neither_it_nor_a_fallback_runs(ledger: Ledger) -> None:
    """A denial ends the chain: no fallback does what a person did not want; the answer and the log say so."""
    teller = Teller()

    def another_way(task: Task) -> Report:
        return teller.handler(task)

    chain = specialist("transfer", teller.handler, risk="high", fallbacks=[another_way, rules])
    app = build(ledger, [chain], approvers=["ann"])
    (request,) = shown(ask(app))
    told = {"verdict": "deny", "subject_hash": request.subject_hash, "by": "bob", "reason": "too dear"}
    result = app.invoke(Command(resume=told), session())
    assert teller.paid == []
    assert result["gaps"] == ["transfer: not approved: denied by bob: too dear; nothing answered in its place"]
    (run,) = result["runs"]
    assert run.fault is Fault.NOT_APPROVED
    assert verdicts(ledger) == ["asked", "denied"]


def _by_eve(shown: ApprovalRequest) -> object:
    return {"verdict": "approve", "subject_hash": shown.subject_hash, "by": "eve"}


def _unnamed(shown: ApprovalRequest) -> object:
    return {"verdict": "approve", "subject_hash": shown.subject_hash}


def _owner(request: ApprovalRequest, by: str) -> bool:
    return by == f"owner of {request.specialist}"


def _rent(task: Task) -> bool:
    return "rent" in task.text


def _raises(task: Task) -> bool:
    raise KeyError(task.text)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (_by_eve, "eve may not"),
        (Approve(subject_hash="0" * 64, by="ann"), "what was approved is not what would be done now"),
        (_unnamed, "an answer is Approve"),
        (True, "an answer is Approve"),
        ("yes", "an answer is Approve"),
    ],
)
def test_an_answer_that_does_not_hold_is_refused(ledger: Ledger, answer: Any, why: str) -> None:
    """Somebody who may not, a hash of something else, or what is no answer: nothing runs, and the answer says why."""
    teller = Teller()
    app = build(ledger, risky(teller), approvers=["ann"])
    (request,) = shown(ask(app))
    result = app.invoke(Command(resume=answer(request) if callable(answer) else answer), session())
    assert teller.paid == []
    assert why in result["gaps"][0]
    assert verdicts(ledger) == ["asked", "refused"]


def test_a_changed_amount_needs_another_approval(ledger: Ledger) -> None:
    """What was approved for one ceiling does not hold in a program that has another."""
    teller = Teller()
    chain = {"fallbacks": ["transfer", rules]}

    def look(task: Task) -> Report:
        raise ValueError("asks the other")

    def program(ceiling: str) -> App:
        helper = specialist("transfer", teller.handler, risk="high", ceiling=ceiling)
        return build(ledger, [specialist("look", look, **chain), helper], approvers=["ann"], router=RouteTo(("look",)))

    answer = approve(ask(program("0.01")))
    result = program("0.02").invoke(answer, session())
    assert teller.paid == []
    assert "what was approved is not what would be done now" in result["gaps"][0]
    assert verdicts(ledger) == ["asked", "asked", "refused"]


def test_a_late_answer_is_refused(ledger: Ledger) -> None:
    """After its time an approval does nothing, whether it is given in the graph or beside it."""
    clock, teller = RunningClock(), Teller()
    app = build(ledger, risky(teller), approvers=["ann"], clock=clock)
    answer = approve(ask(app))
    clock.ahead = EXPIRED
    result = app.invoke(answer, session())
    assert teller.paid == []
    assert "the approval came too late" in result["gaps"][0]
    assert verdicts(ledger) == ["asked", "expired"]


def test_an_approval_that_was_given_in_time_is_not_used_late(ledger: Ledger) -> None:
    """Given in time, and used too late: it has expired."""
    clock, teller = RunningClock(), Teller()
    app = build(ledger, risky(teller), approvers=["ann"], clock=clock)
    ask(app)
    ledger.approve(ledger.approvals()[0].approval_id, by="ann")
    clock.ahead = EXPIRED
    result = app.invoke(None, session())
    assert teller.paid == []
    assert "too late" in result["gaps"][0]


def test_the_ledger_takes_answers_from_elsewhere(ledger: Ledger) -> None:
    """Approved or denied beside the graph, it goes on when it is resumed, in any process; answered twice is refused."""
    teller = Teller()
    app = build(ledger, risky(teller), approvers=["ann"])
    for name in ("s-1", "s-2"):
        ask(app, name=name)
    one, two = ledger.approvals()
    assert ledger.approvals("s-2") == [two]
    assert ledger.approve(one.approval_id, by="ann").state == "approved"
    with pytest.raises(NotApproved, match="is approved; it was answered before"):
        ledger.approve(one.approval_id, by="ann")
    ledger.deny(two.approval_id, by="ann", reason="no")
    with pytest.raises(LedgerError, match="no approval a-none"):
        ledger.approve("a-none", by="ann")
    with pytest.raises(LedgerError, match="the name of who gives it"):
        ledger.approve(one.approval_id, by=" ")
    assert ledger.approvals() == []
    assert app.invoke(None, session(one.session_id))["gaps"] == []
    assert "denied by ann: no" in app.invoke(None, session(two.session_id))["gaps"][0]
    assert teller.paid == ["transfer"]


def test_who_approves_elsewhere_must_be_an_approver_too(ledger: Ledger) -> None:
    """The command line asks for a name; whether that person may approve is decided where it is used."""
    teller = Teller()
    app = build(ledger, risky(teller), approvers=_owner)
    for name in ("s-1", "s-2"):
        ask(app, name=name)
    for asked, by in zip(ledger.approvals(), ("eve", "owner of transfer"), strict=True):
        ledger.approve(asked.approval_id, by=by)
        result = app.invoke(None, session(asked.session_id))
        assert (result["gaps"] == []) == (by != "eve")
    assert teller.paid == ["transfer"]


def test_no_approver_means_no(ledger: Ledger) -> None:
    """Without approvers, or with a predicate that raises, nothing of high risk runs; without them nobody is asked."""
    teller = Teller()
    result = ask(build(ledger, risky(teller)))
    assert "nobody may give it" in result["gaps"][0]

    def broken(request: ApprovalRequest, by: str) -> bool:
        raise KeyError(by)

    app = build(ledger, risky(teller), approvers=broken)
    result = app.invoke(approve(ask(app, name="s-2")), session("s-2"))
    assert "ann may not approve it" in result["gaps"][0]
    assert teller.paid == []
    assert ledger.approvals() == []


@pytest.mark.parametrize("required", [["transfer"], _rent, _raises])
def test_what_must_be_approved_may_be_named(ledger: Ledger, required: Any) -> None:
    """By name, or by a predicate of the task; one that raises asks, to be safe."""
    teller = Teller()
    app = build(ledger, [specialist("transfer", teller.handler)], require_approval=required, approvers=["ann"])
    result = ask(app, "pay the rent")
    assert teller.paid == []
    assert app.invoke(approve(result), session())["gaps"] == []
    assert teller.paid == ["transfer"]


def test_a_graph_that_cannot_wait_does_not_build(ledger: Ledger) -> None:
    """Approval without a checkpointer, a strange name, a bad setting: one clear error."""
    teller = Teller()
    with pytest.raises(ConfigurationError, match="transfer: a person must approve it, and nothing can wait"):
        build(ledger, risky(teller), checkpointer=None, approvers=["ann"])
    plain = [specialist("transfer", teller.handler)]
    with pytest.raises(ConfigurationError, match="without a checkpointer"):
        build(ledger, plain, checkpointer=None, require_approval=["transfer"])
    with pytest.raises(ConfigurationError, match="require_approval names 'rent'"):
        build(ledger, plain, require_approval=["rent"])
    with pytest.raises(ConfigurationError, match="write \\[name\\]"):
        build(ledger, plain, approvers="ann")
    with pytest.raises(ConfigurationError, match="approval_seconds"):
        Approvals(["ann"], 0)
    with pytest.raises(ConfigurationError, match="risk is 'low' or 'high'"):
        specialist("transfer", teller.handler, risk="medium")
    build(ledger, plain, checkpointer=None)


def test_a_hundred_resumes_run_it_once(any_ledger: Ledger) -> None:
    """However many resume with one approval at the same moment, it runs once; others are asked anew, or too late."""
    teller, ready = Teller(), threading.Barrier(20)
    app = build(any_ledger, risky(teller), approvers=["ann"])
    answer = approve(ask(app))

    def resume(number: int) -> Any:
        if number < ready.parties:
            ready.wait()
        return unless_busy(app, answer)

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(resume, range(100)))
    assert teller.paid == ["transfer"]
    assert verdicts(any_ledger).count("approved") == verdicts(any_ledger).count("used") == 1


def test_an_answer_to_an_earlier_request_is_no_answer(any_ledger: Ledger) -> None:
    """Sent again when the same is asked for anew, it approves nothing: it was bound to the first."""
    teller = Teller()
    app = build(any_ledger, risky(teller), approvers=["ann"])
    first = approve(ask(app))
    assert answer_of(app.invoke(first, session())) == "transfer paid"
    ask(app)
    result = app.invoke(first, session())
    assert teller.paid == ["transfer"]
    assert "what was approved is not what would be done now" in result["gaps"][0]
    assert verdicts(any_ledger) == ["asked", "approved", "used", "asked", "refused"]
