"""A supervisor inside another's run, at its edges: leases elsewhere, actions, the caps of the session."""

from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import FakeListChatModel

from bursar import Budget, LeaseLost, Ledger, Price, Report, SQLAlchemySaver, Task, action, meter
from bursar.nodes.specialists.definition import deterministic
from bursar.state.money import USD
from tests.graphs.test_nested import in_function, team
from tests.support.bank import Bank
from tests.support.graphs import answer_of, ask, billed, build, free, priced, scripted, specialist, words


@pytest.mark.parametrize("is_taken_over", [False, True])
def test_it_pays_nothing_once_the_outer_lease_is_lost(ledger: Ledger, tmp_path: Path, is_taken_over: bool) -> None:
    """Also if the outer session and its lease are in another database than the ledger."""
    saver = SQLAlchemySaver(f"sqlite:///{tmp_path}/elsewhere.db")
    double = scripted(words(5))
    inner = team(ledger, priced(double), calls=1)

    def handler(task: Task) -> Report:
        if is_taken_over:
            with saver.own("s-1", take_over=True):
                pass
        return Report(answer=answer_of(inner.invoke({"messages": [("user", task.text)]})))

    app = build(ledger, [free("team", handler, ceiling="0.02")], checkpointer=saver)
    if is_taken_over:
        with pytest.raises(LeaseLost):
            ask(app, "burn")
        assert not double.calls
    else:
        assert answer_of(ask(app, "burn")) == "1 calls"
        assert billed(double) == USD("0.005").nanos


@pytest.mark.parametrize("is_deterministic", [False, True])
def test_under_a_deterministic_handler_it_does_no_action(ledger: Ledger, is_deterministic: bool) -> None:
    """What may move no money outside moves none inside; under a handler that may, the action is done."""
    bank = Bank()

    @action(irreversible=True)
    def pay(name: str) -> str:
        return bank.pay(name)

    inner = build(ledger, [free("leaf", lambda _: Report(answer=pay("rent")))], checkpointer=None)
    handler = in_function(inner)
    outer: Any = specialist("team", deterministic(handler), fallbacks=[]) if is_deterministic else free("team", handler)
    answer = answer_of(ask(build(ledger, [outer])))
    assert bank.done == ([] if is_deterministic else ["rent"])
    assert ("leaf by rule" in answer) is is_deterministic


def test_its_budget_changes_no_cap_of_the_outer_session(any_ledger: Ledger) -> None:
    """The inner supervisor's own session cap is wider; the session keeps the outer one, also for the next request."""
    double = scripted(*[words(5)] * 20)
    inner = build(
        any_ledger,
        [free("leaf", lambda task: Report(answer=priced(double).invoke(task.request_id).text), ceiling="0.01")],
        budget=Budget("0.03", per_session="5", per_tenant_day="50"),
        checkpointer=None,
    )
    budget = Budget("0.01", per_session="0.01", per_tenant_day="0.02")
    app = build(any_ledger, [free("team", in_function(inner), ceiling="0.01")], budget=budget)
    for text in ("one", "two", "three"):
        ask(app, text)
        assert any_ledger.spend("s-1").budget == USD("0.01")
    assert any_ledger.spend("s-1").spent == USD("0.01")
    assert billed(double) == USD("0.01").nanos
    assert any_ledger.verify()


def test_its_calls_are_counted_even_if_they_cost_nothing(any_ledger: Ledger) -> None:
    """The outer spend counts the calls of requests within requests; a later request begins at none."""
    local = meter(FakeListChatModel(responses=["yes"]), price=Price(input=0, output=0))
    leaf = free("leaf", lambda task: Report(answer=local.invoke(task.request_id).text))
    inner: Any = build(any_ledger, [leaf], checkpointer=None)
    middle: Any = build(any_ledger, [free("middle", inner)], checkpointer=None)
    app = build(any_ledger, [free("team", middle)])
    for text in ("one", "two"):
        spend = ask(app, text)["spend"]
        assert (spend.calls, spend.spent) == (1, USD(0))
    assert any_ledger.spend("s-1").calls == 2
