"""At the cap a person is asked: they raise the request's budget once, and it goes on; or the fallback answers."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langgraph.types import Command, interrupt

from bursar import Approve, Budget, Deny, Ledger, Report, Task, deterministic
from bursar.state.approval import BudgetRaise
from bursar.state.events import CallHeld, RunEnded, ToppedUp
from bursar.state.money import USD
from bursar.state.refusals import BudgetExceeded
from tests.support.approvals import approve, approve_all, shown, unless_busy, verdicts
from tests.support.clock import RunningClock
from tests.support.graphs import (
    App,
    PayingRouter,
    answer_of,
    ask,
    build,
    free,
    priced,
    scripted,
    session,
    specialist,
    words,
)

ONCE = "the request's budget was raised once already"


def paying(model: Any, calls: int) -> Any:
    """A handler that makes so many paid calls."""

    def pay(task: Task) -> Report:
        for number in range(calls):
            model.invoke(f"{task.specialist} {number}")
        return Report(answer=f"{calls} calls, {task.left} to spend")

    return pay


def asking(ledger: Ledger, specialists: Any, **settings: Any) -> App:
    """A graph in which ann is asked at the cap."""
    return build(ledger, specialists, on_exhausted="ask", approvers=["ann"], **settings)


def stopped(ledger: Ledger, calls: int = 5, **settings: Any) -> tuple[App, Any]:
    """A graph whose router leaves three calls to an agent that wants some more, and the model's double."""
    double = scripted(*[words(5)] * 30)
    model = priced(double)
    router = PayingRouter(model)
    return asking(ledger, [free("a", paying(model, calls), ceiling="0.03")], router=router, **settings), double


def deny(result: Any, reason: str = "") -> Command[Any]:
    """The command by which ann denies the only raise that is asked for."""
    (asked,) = shown(result)
    return Command(resume=Deny(subject_hash=asked.subject_hash, by="ann", reason=reason))


async def _invoke(app: App, entered: Any) -> Any:
    return await asyncio.to_thread(app.invoke, entered, session())


async def _ainvoke(app: App, entered: Any) -> Any:
    return await app.ainvoke(entered, session())


async def _stream(app: App, entered: Any) -> Any:
    chunks = await asyncio.to_thread(lambda: [*app.stream(entered, session(), stream_mode="values")])
    return {k: v for chunk in chunks for k, v in chunk.items()}


async def _astream(app: App, entered: Any) -> Any:
    return {k: v async for chunk in app.astream(entered, session(), stream_mode="values") for k, v in chunk.items()}


@pytest.mark.parametrize("way", [_invoke, _ainvoke, _stream, _astream])
def test_it_asks_and_goes_on_where_it_stood(any_ledger: Ledger, way: Callable[[App, Any], Any]) -> None:
    """What was paid is not paid again; the books, the log and the result have the new budget."""
    app, double = stopped(any_ledger)

    async def talk() -> Any:
        result = await way(app, {"messages": [("user", "how much?")]})
        (asked,) = shown(result)
        request, agent = f"request:{asked.request_id}", f"agent:{asked.request_id}:a"
        assert asked.budget_raise == BudgetRaise(
            spent=USD("0.03"),
            budget=USD("0.03"),
            needs=USD("0.005"),
            amount=USD("0.015"),
            why="the next call of a needs $0.005, and $0.00 is left",
            accounts={request: USD("0.015"), agent: USD("0.015")},
        )
        assert (asked.specialist, asked.ceiling, asked.subject_hash) == ("a", USD("0.015"), asked.digest())
        assert not [row for row in any_ledger.audit("s-1") if isinstance(row.event, RunEnded)]
        return await way(app, approve(result))

    result = asyncio.run(talk())
    assert (answer_of(result), result["gaps"]) == ("5 calls, $0.03 to spend", [])
    assert len(double.calls) == 3 + 5
    assert (result["spend"].spent, result["spend"].budget) == (USD("0.04"), USD("0.045"))
    assert verdicts(any_ledger) == ["asked", "approved", "used"]
    topped = [row.event for row in any_ledger.audit("s-1") if isinstance(row.event, ToppedUp)]
    assert [event.amount for event in topped] == [USD("0.015")] * 2
    assert all(event.note.startswith("approved by ann: ") for event in topped)
    assert [row.event.outcome for row in any_ledger.audit("s-1") if isinstance(row.event, RunEnded)] == ["completed"]


def test_by_default_nobody_is_asked(ledger: Ledger) -> None:
    """The fallback answers."""
    model = priced(scripted(*[words(5)] * 30))
    app = build(ledger, [free("a", paying(model, 5), ceiling="0.03")], router=PayingRouter(model), approvers=["ann"])
    assert answer_of(ask(app)).startswith("a by rule")
    assert ledger.approvals() == []


def test_a_refusal_that_the_handler_swallows_is_asked_about(ledger: Ledger) -> None:
    """Its half answer is not taken for the answer."""
    double = scripted(*[words(5)] * 30)
    model = priced(double)

    def hides(task: Task) -> Report:
        try:
            return paying(model, 4)(task)
        except BudgetExceeded:
            return Report(answer="half of it")

    app = asking(ledger, [free("a", hides, ceiling="0.03")], router=PayingRouter(model))
    assert answer_of(app.invoke(approve(ask(app)), session())) == "4 calls, $0.03 to spend"
    assert len(double.calls) == 3 + 4


@pytest.mark.parametrize("approved", [True, False])
def test_before_a_specialist_is_cut_it_asks(any_ledger: Ledger, approved: bool) -> None:
    """Nothing was sent when it asks. Raised by what is lacking, both start; denied, the fallback answers."""
    double = scripted(*[words(5)] * 8)
    both = [specialist(name, paying(priced(double), 4), ceiling="0.02", expected_cost="0.02") for name in "ab"]
    app = asking(any_ledger, both)
    result = ask(app)
    (asked,) = shown(result)
    assert (asked.specialist, len(double.calls)) == ("b", 0)
    assert asked.budget_raise is not None
    assert asked.budget_raise.why == "the plan with b needs $0.04, and $0.03 is left"
    assert asked.budget_raise.accounts == {f"request:{asked.request_id}": USD("0.01")}
    result = app.invoke(approve(result) if approved else deny(result, "too dear"), session())
    assert "__interrupt__" not in result
    assert len(double.calls) == (8 if approved else 4)
    assert result["spend"].budget == USD("0.04" if approved else "0.03")
    if approved:
        assert result["gaps"] == []
    else:
        assert "; more budget was not approved: denied by ann: too dear; rules answered instead" in result["gaps"][0]


def _own_ceiling(ledger: Ledger, model: Any) -> App:
    return asking(ledger, [free("a", paying(model, 3), ceiling="0.01")])


def _both_at_once(ledger: Ledger, model: Any) -> App:
    return asking(ledger, [free("a", paying(model, 3), ceiling="0.01")], router=PayingRouter(model, 4))


def _turns(ledger: Ledger, model: Any) -> App:
    return asking(ledger, [free("a", paying(model, 3), ceiling="0.03", max_turns=2)], router=PayingRouter(model))


def _a_pause(ledger: Ledger, model: Any) -> App:
    def pauses(task: Task) -> Report:
        model.invoke("one")
        ledger.pause("agent:a")
        return paying(model, 5)(task)

    return asking(ledger, [free("a", pauses, ceiling="0.03")], router=PayingRouter(model))


def _an_incident(ledger: Ledger, model: Any) -> App:
    def greedy(_: Any) -> AIMessage:
        return AIMessage("dear", usage_metadata={"input_tokens": 1, "output_tokens": 8, "total_tokens": 9})

    dear = priced(scripted(greedy, words(5)))
    return asking(ledger, [free("a", paying(dear, 2), ceiling="0.03")], router=PayingRouter(model))


def _an_unpaid_handler(ledger: Ledger, model: Any) -> App:
    return asking(ledger, [specialist("a", deterministic(paying(model, 1)))])


def _above(**caps: str) -> Callable[[Ledger, Any], App]:
    def build_it(ledger: Ledger, model: Any) -> App:
        one = [free("a", paying(model, 4), ceiling="0.03")]
        return asking(ledger, one, budget=Budget("0.03", **caps), router=PayingRouter(model))

    return build_it


@pytest.mark.parametrize(
    "stops",
    [
        _own_ceiling,
        _both_at_once,
        _turns,
        _a_pause,
        _an_incident,
        _an_unpaid_handler,
        _above(per_session="0.03"),
        _above(per_tenant_day="0.03"),
        _above(total="0.03"),
        _above(per_session="0.034"),
    ],
)
def test_nobody_is_asked_if_more_budget_would_not_help(ledger: Ledger, stops: Callable[[Ledger, Any], App]) -> None:
    """The agent's own ceiling, its turns, a pause, what is above the request: the fallback answers at once."""
    result = ask(stops(ledger, priced(scripted(*[words(5)] * 30))))
    assert "a by rule" in answer_of(result)
    assert "budget was" not in answer_of(result)
    assert verdicts(ledger) == []


def test_it_asks_for_no_more_than_the_session_has(ledger: Ledger) -> None:
    """The raise is what is left above the request, and the person is told so; then the session's cap holds."""
    app, double = stopped(ledger, budget=Budget("0.03", per_session="0.036"))
    result = ask(app)
    (asked,) = shown(result)
    assert asked.budget_raise is not None
    assert asked.budget_raise.amount == USD("0.006")
    assert "session, tenant and all above have no more than $0.006 for it" in asked.budget_raise.why
    result = app.invoke(approve(result), session())
    assert "a by rule" in answer_of(result)
    assert len(double.calls) == 3 + 4
    assert ledger.spend("s-1").spent == USD("0.035")


def test_it_asks_once_a_request(any_ledger: Ledger) -> None:
    """Stopped again, it goes to the fallback and the answer says why; the next request may ask again."""
    model = priced(scripted(*[words(5)] * 30))

    def fails(task: Task) -> Report:
        paying(model, 5)(task)
        raise ValueError("no idea")

    chain = [free("a", fails, ceiling="0.03", fallbacks=["z"]), free("z", paying(model, 9), ceiling="0.03")]
    app = asking(any_ledger, chain, router=PayingRouter(model, names=("a",)))
    for text in ("one", "two"):
        result = app.invoke(approve(ask(app, text)), session())
        assert "__interrupt__" not in result
        assert f"{ONCE}; rules answered instead" in result["gaps"][0]
        assert result["spend"].spent == result["spend"].budget == USD("0.045")
    assert verdicts(any_ledger) == ["asked", "approved", "used"] * 2


@pytest.mark.parametrize(("more", "answered"), [(1, 2), (4, 0)])
def test_two_that_stop_together_share_one_raise(any_ledger: Ledger, more: int, answered: int) -> None:
    """Both ask and both are approved: one raise is made, and both go on if it has room for both."""
    double = scripted(*[words(5)] * 30)
    model = priced(double)
    waits = [threading.Barrier(2).wait] * 2

    def meets(task: Task) -> Report:
        paying(model, 3)(task)
        if waits:  # both stop when they have spent the budget together
            waits.pop()(30)
        return paying(model, more)(task)

    app = asking(any_ledger, [free(name, meets, ceiling="0.03") for name in "ab"])
    result = ask(app)
    assert {asked.specialist for asked in shown(result)} == {"a", "b"}
    result = app.invoke(approve_all(result), session())
    while "__interrupt__" in result:  # race: one may have asked again before the raise of the other was made
        result = app.invoke(None, session())
    assert result["spend"].budget == USD("0.045")
    assert len(double.calls) == min(6 + 2 * more, 9)
    assert [verdicts(any_ledger).count(end) for end in ("asked", "used", "refused")] == [2, 1, 1]
    assert [run.outcome for run in result["runs"] if run.level == 0].count("completed") == answered


@pytest.mark.parametrize("beside", [True, False])
def test_denied_the_fallback_answers(any_ledger: Ledger, beside: bool) -> None:
    """Denied in the graph or beside it: as without asking, and the answer says who denied and why."""
    app, double = stopped(any_ledger)
    result = ask(app)
    if beside:
        any_ledger.deny(any_ledger.approvals()[0].approval_id, by="ann", reason="too dear")
    result = app.invoke(None if beside else deny(result, "too dear"), session())
    assert answer_of(result).startswith("a by rule")
    assert "more budget was not approved: denied by ann: too dear; rules answered instead" in result["gaps"][0]
    assert len(double.calls) == 6
    assert result["spend"].budget == USD("0.03")
    assert verdicts(any_ledger) == ["asked", "denied"]


def test_a_late_answer_is_a_denial(ledger: Ledger) -> None:
    """After its time nothing is raised, and nobody is asked anew."""
    app, _ = stopped(ledger, clock=(clock := RunningClock()))
    answer = approve(ask(app))
    clock.ahead = timedelta(hours=2)
    result = app.invoke(answer, session())
    assert "more budget was not approved: the approval came too late" in result["gaps"][0]
    assert verdicts(ledger) == ["asked", "expired"]


def _by_eve(asked: Any) -> object:
    return Approve(subject_hash=asked.subject_hash, by="eve")


def _of_more(asked: Any) -> object:
    more = asked.budget_raise.model_copy(update={"amount": USD("0.02")})
    return Approve(subject_hash=asked.model_copy(update={"budget_raise": more}).digest(), by="ann")


@pytest.mark.parametrize(("answer", "why"), [(_by_eve, "eve may not"), (_of_more, "is not what would be done")])
def test_an_answer_that_does_not_hold_raises_nothing(ledger: Ledger, answer: Any, why: str) -> None:
    """From somebody who may not, or for another amount."""
    app, double = stopped(ledger)
    (asked,) = shown(ask(app))
    result = app.invoke(Command(resume=answer(asked)), session())
    assert why in result["gaps"][0]
    assert (len(double.calls), result["spend"].budget) == (6, USD("0.03"))


def test_what_is_no_answer_is_passed_by(ledger: Ledger) -> None:
    """A handler with an interrupt of its own goes on too; a word that is no answer leaves the question open."""
    double = scripted(*[words(5)] * 30)
    model = priced(double)

    def curious(task: Task) -> Report:
        colour = interrupt("which colour?")
        return Report(answer=f"{colour}: {paying(model, 5)(task).answer}")

    app = asking(ledger, [free("a", curious, ceiling="0.03")], router=PayingRouter(model))
    assert ask(app)["__interrupt__"][0].value == "which colour?"
    stopped_there = app.invoke(Command(resume="blue"), session())
    again = app.invoke(Command(resume="yes"), session())
    assert shown(again) == shown(stopped_there)
    assert app.invoke(approve(again), session())["__interrupt__"][0].value == "which colour?"
    assert answer_of(app.invoke(Command(resume="red"), session())) == "blue: 5 calls, $0.03 to spend"
    assert len(double.calls) == 3 + 5


def test_five_resumes_at_once_raise_once(any_ledger: Ledger) -> None:
    """However many resume with one approval, the caps rise by what was approved."""
    app, double = stopped(any_ledger)
    answer, ready = approve(ask(app)), threading.Barrier(5)

    def resume(_: int) -> Any:
        ready.wait()
        return unless_busy(app, answer)

    with ThreadPoolExecutor(5) as pool:
        assert any(map(bool, pool.map(resume, range(5))))
    assert len(double.calls) == 3 + 5
    assert verdicts(any_ledger) == ["asked", "approved", "used"]
    assert [row.kind for row in any_ledger.audit("s-1")].count("topped_up") == 2


def test_consent_and_a_raise_are_two_questions(ledger: Ledger) -> None:
    """A run of high risk that goes on is another run, for which consent is asked anew; the raise is made once."""
    double = scripted(*[words(5)] * 30)
    model = priced(double)
    risky = free("a", paying(model, 5), ceiling="0.03", risk="high")
    app = asking(ledger, [risky], router=PayingRouter(model))
    result = ask(app)
    asked: list[bool] = []
    while "__interrupt__" in result:
        asked.append(shown(result)[0].budget_raise is not None)
        result = app.invoke(approve(result), session())
    assert asked == [False, True, False]
    assert answer_of(result) == "5 calls, $0.03 to spend"
    assert len(double.calls) == 3 + 5


def test_an_inner_supervisor_asks_through_the_outer(any_ledger: Ledger) -> None:
    """It asks for its own budget, within what is left above it; the outer graph stops and is resumed."""
    double = scripted(*[words(5)] * 30)
    model = priced(double)
    inner = asking(
        any_ledger,
        [free("a", paying(model, 4), ceiling="0.02")],
        budget=Budget("0.02"),
        checkpointer=True,
        router=PayingRouter(model, 2),
    )
    app = build(any_ledger, [free("team", inner, ceiling="0.028")], budget=Budget("0.1"))
    result = ask(app)
    (asked,) = shown(result)
    assert asked.budget_raise is not None
    assert asked.budget_raise.amount == USD("0.008")
    result = app.invoke(approve(result), session())
    assert "a by rule" in answer_of(result)  # two calls fit the inner budget, one the raise
    assert len(double.calls) == 2 + 3
    assert any_ledger.spend("s-1").spent == USD("0.025")
    assert len([row for row in any_ledger.audit("s-1") if isinstance(row.event, CallHeld)]) == 5
