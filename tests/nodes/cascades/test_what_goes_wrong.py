"""Rungs that are refused, that raise, or whose check raises; and what does not build."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from bursar import Budget, Cascade, ConfigurationError, Ledger, Report, Specialist, Task, deterministic, standalone
from bursar.checkpoints.ledger.circuit_breakers import close_all, open_each
from bursar.nodes.gateway.providers.base import model_breaker
from bursar.state.money import USD
from tests.support.clock import Clock
from tests.support.graphs import answer_of, ask, build, free, priced, scripted, specialist, words


class Sum(BaseModel):
    """A structured answer."""

    total: int


@deterministic
def by_rule(task: Task) -> Report:
    """Answer by rule."""
    return Report(answer="by rule", confidence=0.2)


def raises(task: Task) -> Report:
    """Fail."""
    raise ValueError("a secret")


def never_accepted(report: Report) -> bool:
    """Accept nothing."""
    return False


def cascade_of(result: Any) -> list[tuple[str, bool | None, tuple[str, ...]]]:
    """Return of each decision of a cascade the rung, whether it was accepted, and what was chosen."""
    return [(one.rung, one.accepted, one.chosen) for one in result["decisions"] if one.kind == "cascade"]


def test_a_paused_rung_is_passed_over(any_ledger: Ledger) -> None:
    """The next rung that is worth it is asked, and the run completes without a gap."""
    middle, dear = scripted(), scripted(words(5))
    rungs = {"rules": by_rule, "middle": priced(middle), "dear": priced(dear)}
    any_ledger.pause("agent:middle", by="ops")
    result = ask(build(any_ledger, [free("a", Cascade(rungs, accept=0.9, stake="50"), ceiling="0.03")]))
    assert (answer_of(result), result["gaps"]) == (words(5), [])
    assert cascade_of(result) == [
        ("rules", False, ("middle",)),
        ("middle", None, ("dear",)),
        ("dear", True, ("dear",)),
    ]
    assert not middle.calls
    assert "middle" not in {row.rung for row in any_ledger.gains()}
    assert any_ledger.verify()


def test_an_open_breaker_of_the_dear_model_leaves_the_best_answer(any_ledger: Ledger) -> None:
    """The cheap answer is given with a gap; once the breaker is closed, the dear model is asked."""
    dear = scripted(words(5))
    model = priced(dear)
    client = model.terms.client
    breaker = model_breaker(client.name, client.seller, client.base_url)
    app = build(any_ledger, [free("a", Cascade([by_rule, model], accept=0.9, stake="50"), ceiling="0.03")])
    any_ledger.run(open_each, [breaker], any_ledger.clock() + timedelta(days=1))
    result = ask(app)
    assert answer_of(result).startswith("by rule")
    assert "gave no answer" in result["gaps"][0]
    assert not dear.calls
    any_ledger.run(close_all)
    assert answer_of(ask(app, name="s-2")) == words(5)


def test_a_rung_that_the_budget_does_not_bear_is_not_asked(any_ledger: Ledger) -> None:
    """It is worth it, and there is no room; with room, it is asked."""
    dear = scripted(words(5))
    cascade = Cascade({"rules": by_rule, "dear": priced(dear)}, accept=0.9, stake="50", prices={"dear": "0.02"})
    poor = ask(build(any_ledger, [free("a", cascade, ceiling="0.019")]))
    assert poor["gaps"] == [
        "a: its check did not accept this answer; the budget had no room for dear: expects $0.02, $0.019 left"
    ]
    assert not dear.calls
    assert answer_of(ask(build(any_ledger, [free("a", cascade, ceiling="0.02")]), name="s-2")) == words(5)


def test_a_call_that_is_refused_for_its_budget_ends_the_rung_alone(any_ledger: Ledger) -> None:
    """Learned prices may be too low: then the gateway refuses, and the run completes with the answer that there is."""
    dear = scripted()
    cascade = Cascade({"rules": by_rule, "dear": priced(dear)}, accept=0.9, stake="50", prices={"dear": "0.001"})
    result = ask(build(any_ledger, [free("a", cascade, ceiling="0.002")]))
    assert [run.outcome for run in result["runs"]] == ["completed"]
    assert answer_of(result).startswith("by rule")
    assert cascade_of(result) == [("rules", False, ("dear",)), ("dear", None, ())]
    assert not dear.calls


def test_a_rung_that_raises_is_passed_over(any_ledger: Ledger) -> None:
    """Its reason is in the decision, without what the exception says."""
    result = ask(build(any_ledger, [free("a", Cascade([raises, by_rule], accept=0.1, stake=0))]))
    assert (answer_of(result), result["gaps"]) == ("by rule", [])
    [first, _] = [one for one in result["decisions"] if one.kind == "cascade"]
    assert first.candidates[0].reason == "it gave no answer: it failed (ValueError)"


def test_if_no_rung_answers_the_fallback_does(any_ledger: Ledger) -> None:
    """The last error is that of the run."""
    result = ask(build(any_ledger, [specialist("a", Cascade({"x": raises}, accept=0.1, stake=0), expected_cost=0)]))
    assert [(run.handler, run.outcome, run.fault) for run in result["runs"]] == [
        ("a", "failed", "handler_error"),
        ("rules", "completed", None),
    ]


def test_a_check_that_raises_accepts_nothing(any_ledger: Ledger) -> None:
    """The answer is given, and the gap says that its check failed."""

    def broken(report: Report) -> bool:
        raise KeyError("x")

    result = ask(build(any_ledger, [free("a", Cascade([by_rule], accept=broken, stake=0))]))
    assert result["gaps"] == ["a: its check failed: it failed (KeyError)"]
    assert answer_of(result).startswith("by rule")


@pytest.mark.parametrize(("opinion", "way"), [("Yes.", ("cheap",)), ("no", ("dear",))])
def test_a_second_opinion_is_charged_to_the_check(any_ledger: Ledger, opinion: str, way: tuple[str, ...]) -> None:
    """A model says yes or no about question and answer."""
    cheap, dear, judge = scripted(words(2)), scripted(*[words(3)] * (way == ("dear",))), scripted(opinion, "yes")
    rungs = {"cheap": priced(cheap), "dear": priced(dear)}
    cascade = Cascade(rungs, accept=priced(judge), stake="50")
    result = ask(build(any_ledger, [free("a", cascade, ceiling="0.03")]))
    assert cascade_of(result)[0][2] == way
    assert "a → check" in {row.name for row in any_ledger.costs()}
    assert "how much for food?" in str(judge.calls[0].messages[-1].content)
    assert any_ledger.verify()


def test_a_schema_is_a_check(any_ledger: Ledger) -> None:
    """The structured answer, or the JSON of the answer, must fit."""

    def odd(task: Task) -> dict[str, str]:
        return {"total": "many"}

    def written(task: Task) -> str:
        return '{"total": 7}'

    result = ask(build(any_ledger, [free("a", Cascade({"odd": odd, "written": written}, accept=Sum, stake=0))]))
    assert cascade_of(result) == [("odd", False, ("written",)), ("written", True, ("written",))]


def test_a_specialist_has_its_own_ceiling(any_ledger: Ledger) -> None:
    """What it spends is charged to its name, up to its ceiling, as the first rung and as a later one."""
    double = scripted(words(5), words(5))
    model = priced(double)

    async def twice(task: Task) -> str:
        assert task.specialist == "helper"
        await model.ainvoke("one")
        return (await model.ainvoke("two")).text

    helper = Specialist(name="helper", description="helps", handler=twice, ceiling="0.007")
    ladders: list[list[Any]] = [[helper, raises], [by_rule, helper]]
    for number, rungs in enumerate(ladders):
        cascade = Cascade(rungs, accept=never_accepted, stake="50")
        result = ask(build(any_ledger, [specialist("a", cascade, ceiling="0.03", expected_cost=0)]), name=f"s-{number}")
        assert len(double.calls) == number + 1
        [judged] = [one for one in result["decisions"] if one.kind == "cascade" and one.rung == "helper"]
        assert "$0.002 is left of agent:" in judged.candidates[0].reason
        assert judged.candidates[0].reason.endswith("a → helper")
    assert {row.name for row in any_ledger.costs()} == {"a → helper"}


def test_a_cascade_inside_a_cascade(any_ledger: Ledger) -> None:
    """Each decides for itself; calls are charged to the path."""
    cheap, dear = scripted(words(2)), scripted(words(5))
    inner = Cascade({"cheap": priced(cheap), "dear": priced(dear)}, accept=lambda r: len(r.answer) > 15, stake="50")
    outer = Cascade({"rules": by_rule, "models": inner}, accept=0.9, stake="50")
    result = ask(build(any_ledger, [free("a", outer, ceiling="0.03")]))
    assert answer_of(result) == words(5)
    assert {row.name for row in any_ledger.costs()} == {"a → models → cheap", "a → models → dear"}
    assert {(row.specialist, row.rung) for row in any_ledger.gains()} == {
        ("a", "rules"),
        ("a", "models"),
        ("a → models", "cheap"),
        ("a → models", "dear"),
    }


def test_a_supervisor_is_a_rung(any_ledger: Ledger) -> None:
    """Its request is charged to the outer accounts, and its answer is judged as any other."""
    double = scripted(words(5))
    model = priced(double)

    async def leaf(task: Task) -> str:
        return (await model.ainvoke(task.text)).text

    inner = build(any_ledger, [free("leaf", leaf, ceiling="0.02")], checkpointer=None, budget=Budget("0.02"))
    outer = Cascade({"rules": by_rule, "team": inner}, accept=0.9, stake="50")
    result = ask(build(any_ledger, [free("a", outer, ceiling="0.03")]))
    assert answer_of(result) == words(5)
    assert result["spend"].spent == USD("0.005")
    assert any_ledger.verify()


def test_in_a_standalone_block_it_works_too() -> None:
    """Its decisions are in the block's log."""
    cheap, dear = scripted(words(2)), scripted(words(5))
    cascade = Cascade({"cheap": priced(cheap), "dear": priced(dear)}, accept=lambda r: len(r.answer) > 15, stake="50")
    given = Task(
        text="?", specialist="a", session_id="s", request_id="r", tenant="t", now=Clock().now, left=USD("0.03")
    )
    ledger = Ledger("sqlite://")
    with standalone("0.03", ledger) as block:
        report = asyncio.run(cascade(given))
        assert report.answer == words(5)
        assert [row.rung for row in ledger.gains()] == ["cheap", "dear"]
    assert block.spend.spent == USD("0.007")


@pytest.mark.parametrize(
    ("rungs", "settings", "what"),
    [
        ([], {}, "1 to 16 rungs"),
        ([by_rule, by_rule], {}, "two rungs are named 'by_rule'"),
        ({"model": priced(scripted()), "rules": by_rule}, {}, "'rules' costs less than 'model'"),
        ({"a": raises, "b": raises}, {"prices": {"a": "2", "b": "1"}}, "'b' costs less than 'a'"),
        ([raises], {"prices": {"b": "1"}}, "a price for 'b'"),
        ([raises], {"prices": {"raises": "-1"}}, "is negative"),
        ([raises], {"prior": 2}, "prior is from 0 to 1"),
        ([raises], {"gain": {"": "x"}}, "gain is a number"),
        ([raises], {"stake": -1}, "is negative"),
        ([raises], {"accept": 2}, "the confidence to accept"),
        ([raises], {"accept": scripted()}, "accept is a model that is not metered"),
        ([scripted()], {}, "a model that is not metered"),
        (["text"], {}, "a model, a function, a graph or a specialist"),
        ({"a → b": raises}, {}, "no arrow"),
    ],
)
def test_what_does_not_build(rungs: Any, settings: Mapping[str, Any], what: str) -> None:
    """The message names the cascade and the rung."""
    given: dict[str, Any] = {"accept": 0.5, "stake": 1, **settings}
    with pytest.raises(ConfigurationError, match=what):
        Cascade(rungs, **given)


def test_a_specialist_that_waits_for_others_is_no_rung() -> None:
    """Nor is one that a person must approve, or one with a price of its own."""
    for more in ({"risk": "high"}, {"needs": ["b"]}, {"price": "0.01"}):
        given: dict[str, Any] = {"name": "helper", "description": "helps", "handler": raises, **more}
        helper = Specialist(**given)
        with pytest.raises(ConfigurationError, match="rung 'helper'"):
            Cascade([helper], accept=0.5, stake=1)
