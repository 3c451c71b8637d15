"""Never overspend: whatever specialists want, try or swallow, the doubles' own books stay within the budget."""

import asyncio
from typing import Any

import pytest
from langchain_openai import ChatOpenAI

from bursar import Budget, Ledger, Report, Task, deterministic, meter
from bursar.nodes.gateway.meter import Price
from bursar.state.events import CallRefused, Decided
from bursar.state.money import USD
from bursar.state.refusals import BudgetExceeded
from bursar.testing import ScriptedModel
from tests.support.graphs import (
    NANOS_PER_WORD,
    answer_of,
    ask,
    billed,
    build,
    priced,
    rules,
    scripted,
    session,
    specialist,
    words,
)
from tests.support.provider import MODEL, RATES, Provider, Reply

CENT = 10_000_000
NAMES = ("a", "b", "c", "d", "e")


def _asks(model: Any) -> Any:
    async def handler(task: Task) -> Report:
        return Report(answer=f"{task.specialist} paid: {(await model.ainvoke([('user', task.text)])).text}")

    return handler


def _five(**settings: Any) -> tuple[list[ScriptedModel], list[Any]]:
    """Five specialists that want two cents each, with a double of their own."""
    models = [scripted(words(20)) for _ in NAMES]
    return models, [
        specialist(name, _asks(priced(model, words=20)), ceiling="0.02", **settings)
        for name, model in zip(NAMES, models, strict=True)
    ]


def test_five_that_want_two_cents_share_three_by_plan(any_ledger: Ledger) -> None:
    """One is admitted, four are cut before anything is sent: the answer names them, and the log says why."""
    models, specialists = _five(expected_cost="0.02")
    result = ask(build(any_ledger, specialists))
    assert billed(*models) == 2 * CENT == any_ledger.spend("s-1").spent.nanos
    for name in NAMES[1:]:
        assert f"{name}: the budget had no room for it: expects $0.02, $0.01 left" in answer_of(result)
    assert result["ending"] == "answered_with_gaps"
    [route] = [row.event.decision for row in any_ledger.audit("s-1") if isinstance(row.event, Decided)][:1]
    assert route.cut == NAMES[1:]
    assert all("expects $0.02, $0.01 left of the plan" in c.reason for c in route.candidates if c.verdict == "budget")
    assert [run.specialist for run in result["runs"] if run.report and "paid" in run.report.answer] == ["a"]


def test_five_that_want_two_cents_share_three_by_the_ledger(any_ledger: Ledger) -> None:
    """All five are admitted on what they say they expect; the ledger lets one through, and says why no other."""
    models, specialists = _five(expected_cost="0.001")
    result = ask(build(any_ledger, specialists))
    assert billed(*models) == 2 * CENT == any_ledger.spend("s-1").spent.nanos
    ends = {run.specialist: run for run in result["runs"] if run.level == 0}
    assert sorted(run.outcome for run in ends.values()) == ["completed", *["exhausted"] * 4]
    refused = [row.event for row in any_ledger.audit("s-1") if isinstance(row.event, CallRefused)]
    assert {event.agent for event in refused} == {name for name, run in ends.items() if run.outcome == "exhausted"}
    assert all(event.scope.startswith("request:") and event.amount == USD("0.02") for event in refused)
    for event in refused:
        assert f"{event.agent}: a call to gpt-4o-mini needs $0.02 and $0.01 is left" in answer_of(result)
        assert f"{event.agent} by rule" in answer_of(result)


def test_five_that_could_take_less_share_three_to_the_last_word(any_ledger: Ledger) -> None:
    """An answer is shortened to what is left of the budget, rather than refused."""
    models = [scripted(words(20)) for _ in NAMES]
    specialists = [
        specialist(name, _asks(priced(model, words=20, least=1)), ceiling="0.02", expected_cost="0.001")
        for name, model in zip(NAMES, models, strict=True)
    ]
    ask(build(any_ledger, specialists))
    assert billed(*models) == 3 * CENT == any_ledger.spend("s-1").spent.nanos


def test_a_real_client_is_billed_no_more_than_the_budget(any_ledger: Ledger, provider: Provider) -> None:
    """Five specialists stream and call one provider at once; its own books stay within the request's budget."""
    provider.default = Reply(text=words(2_000))
    model = meter(ChatOpenAI(model=MODEL, api_key=lambda: "none", base_url=provider.url))
    specialists = [specialist(name, _asks(model), ceiling="0.0008", expected_cost="0.0001") for name in NAMES]
    budget = Budget(USD.from_nanos(2_000 * RATES[MODEL][2]))
    app = build(any_ledger, specialists, budget=budget)
    ask(app)
    assert 0 < provider.billed <= budget.per_request.nanos
    assert provider.billed == any_ledger.spend("s-1").spent.nanos
    # Which of the five is cut, or given a lower cap, is a race; that they get less than five alone would is not.
    assert sum(bill.output_tokens for bill in provider.bills) < 5 * 512


@pytest.mark.parametrize(
    ("caps", "scope"), [({"per_session": "0.03"}, "session:s-1"), ({"per_tenant_day": "0.03"}, "tenant:acme")]
)
def test_session_and_tenant_are_caps_of_their_own(caps: dict[str, str], scope: str, ledger: Ledger) -> None:
    """Requests that each fit their own budget stop at what session or tenant has left, and are answered by rule."""
    model = scripted(words(20))
    app = build(
        ledger, [specialist("a", _asks(priced(model, words=20)), ceiling="0.02")], budget=Budget("0.03", **caps)
    )
    first, second = ask(app), ask(app, "and now?", "s-1" if "session" in scope else "s-2")
    assert answer_of(first).startswith("a paid")
    assert answer_of(second).startswith("a by rule")
    assert "the budget had no room for it: expects $0.02, $0.01 left" in answer_of(second)
    assert billed(model) == 2 * CENT
    model.check()


def test_a_request_has_a_budget_of_its_own_within_the_session(ledger: Ledger) -> None:
    """The next request of a session is granted anew, and the session's books add both up."""
    model = scripted(words(20), words(20))
    app = build(ledger, [specialist("a", _asks(priced(model, words=20)), ceiling="0.02")])
    assert [answer_of(ask(app, text))[:6] for text in ("one", "two")] == ["a paid", "a paid"]
    assert ledger.spend("s-1").spent == USD("0.04")


def test_a_deterministic_handler_cannot_pay(ledger: Ledger) -> None:
    """A last resort that calls a model is refused; the request is still answered, and nothing was sent."""
    model = scripted(words(20))
    paid = priced(model, words=20)

    @deterministic
    def sly(task: Task) -> Report:
        return Report(answer=paid.invoke(task.text).text)

    result = ask(build(ledger, [specialist("a", sly, fallbacks=[])]))
    assert result["runs"][0].outcome == "exhausted"
    assert "a is deterministic and may not call gpt-4o-mini" in answer_of(result)
    assert (billed(model), model.left) == (0, 1)


def test_a_swallowed_refusal_is_a_refusal_all_the_same(ledger: Ledger) -> None:
    """A handler that hides the refusal behind an answer, or behind an error of its own, is exhausted."""
    model = scripted(words(20))
    paid = priced(model, words=20)

    def hides(task: Task) -> Report:
        try:
            return Report(answer=paid.invoke(task.text).text)
        except BudgetExceeded:
            return Report(answer="half of it")

    def disguises(task: Task) -> Report:
        try:
            return Report(answer=paid.invoke(task.text).text)
        except BudgetExceeded:
            raise RuntimeError("no idea") from None

    async def groups(task: Task) -> Report:
        async with asyncio.TaskGroup() as group:
            asked = group.create_task(paid.ainvoke(task.text))
        return Report(answer=(await asked).text)

    app = build(
        ledger,
        [specialist(f.__name__, f, ceiling="0.01", expected_cost=0) for f in (hides, disguises, groups)],
    )
    result = ask(app)
    ends = {run.handler: run for run in result["runs"] if run.level == 0}
    assert {run.outcome for run in ends.values()} == {"exhausted"}
    assert all("needs $0.02 and $0.01 is left" in run.reason for run in ends.values())
    assert ends["hides"].report == Report(answer="half of it")
    assert billed(model) == 0


def test_turns_are_counted(ledger: Ledger) -> None:
    """The call after the last turn is refused, and what was paid for stays paid and named."""
    model = scripted("one", "two", "three")
    paid = priced(model, words=1)

    async def talks(task: Task) -> Report:
        return Report(answer=" ".join([(await paid.ainvoke(f"{n}")).text for n in range(3)]))

    result = ask(build(ledger, [specialist("a", talks, max_turns=2)]))
    assert "a: a has used its 2 turns; rules answered instead" in answer_of(result)
    assert billed(model) == 2 * NANOS_PER_WORD == result["spend"].spent.nanos


def test_an_unmetered_model_is_vetoed(ledger: Ledger) -> None:
    """A model that would escape the books is not called; its specialist has failed, and the answer says so."""
    model = scripted("free?")
    result = ask(build(ledger, [specialist("a", model)]))
    assert result["runs"][0].outcome == "failed"
    assert "is not metered" in answer_of(result)
    assert model.calls == []


def test_a_ceiling_of_nothing_pays_nothing(ledger: Ledger) -> None:
    """A specialist with a zero ceiling runs, and its first paid call is refused by its own account."""
    model = scripted(words(20))
    result = ask(build(ledger, [specialist("a", _asks(priced(model, words=20)), ceiling=0)]))
    assert (result["runs"][0].outcome, billed(model)) == ("exhausted", 0)


def test_a_cost_above_its_hold_does_not_stop_the_session(ledger: Ledger) -> None:
    """After a provider billed more than it promised, free specialists still answer, and the overrun is an incident."""

    def greedy(_: Any) -> Any:
        from langchain_core.messages import AIMessage

        return AIMessage("dear", usage_metadata={"input_tokens": 1, "output_tokens": 99, "total_tokens": 100})

    model = scripted(greedy)
    app = build(
        ledger,
        [specialist("a", _asks(priced(model, words=20)), ceiling="0.02"), specialist("b", rules, fallbacks=[])],
        budget=Budget("0.03", per_session="0.03"),
    )
    ask(app)
    second = ask(app, "and now?")
    assert answer_of(second).startswith("B\nb by rule")
    assert ledger.spend("s-1").spent == USD("0.099")
    assert "incident" in [row.kind for row in ledger.audit("s-1")]


def test_a_model_router_is_paid_from_the_same_budget(ledger: Ledger) -> None:
    """Routing by a model is a call like any other: in the request's spend, and refused where it does not fit."""
    from langchain_core.messages import AIMessage

    from bursar import ModelRouter

    def picks(_: Any) -> AIMessage:
        args = {"picks": [{"name": "a", "value": 0.9}], "confidence": 0.9}
        return AIMessage("", tool_calls=[{"name": "Routing", "args": args, "id": "t1"}])

    model = scripted(picks)
    router = ModelRouter(meter(model, price=Price(input=0, output=1_00), max_output_tokens=100))
    app = build(ledger, [specialist("a", rules, fallbacks=[]), specialist("b", rules, fallbacks=[])], router=router)
    result = ask(app)
    assert answer_of(result) == "a by rule"
    assert list(result["spend"].by_agent) == ["supervisor"]
    assert result["decisions"][0].left == USD("0.03") + USD.from_nanos(-result["spend"].spent.nanos)
    poor = build(ledger, [specialist("a", rules, fallbacks=[])], router=router, budget=Budget("0.001"))
    refused = ask(poor, name="s-2")
    assert refused["ending"] == "answered_with_gaps"
    assert refused["spend"].calls == 0
    assert session("s-2")
    model.check()
