"""A supervisor on another ledger inside a run: the run's price bounds it here, and its own budgets there."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bursar.checkpoints.ledger.ledger import Ledger
from bursar.nodes.gateway.paid_calls.scope import current_scope
from bursar.nodes.runs.handlers import save_partial
from bursar.state.budget import Budget
from bursar.state.events import LeaseChanged, RequestOpened, RunEnded
from bursar.state.money import USD, ZERO
from bursar.state.run import Report, Task
from tests.support.graphs import (
    App,
    answer_of,
    ask,
    billed,
    build,
    free,
    priced,
    scripted,
    session,
    specialist,
    words,
)

CALL = USD("0.005")  # five words
QUESTION: Any = {"messages": [("user", "burn")]}


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Ledger]:
    """Another ledger, in a database of its own."""
    made = Ledger(f"sqlite:///{tmp_path}/other.db")
    yield made
    made.close()


def team(ledger: Ledger, double: Any, *, budget: str = "0.02", calls: int = 1, **settings: Any) -> App:
    """A supervisor whose one specialist makes so many calls of $0.005."""
    model = priced(double)

    def leaf(task: Task) -> Report:
        said = [model.invoke(f"{task.request_id} {number}").text for number in range(calls)]
        return Report(answer=f"{len(said)} calls")

    return build(ledger, [free("leaf", leaf, ceiling=budget, max_turns=99)], budget=Budget(budget), **settings)


def calling(inner: App, *threads: str) -> Any:
    """A handler that asks the inner supervisor once in each of these sessions; "" is a new session."""

    def handler(task: Task) -> str:
        configs = [session(name) if name else None for name in threads]
        return ", ".join(answer_of(inner.invoke(QUESTION, config)) for config in configs)

    return handler


@pytest.mark.parametrize("way", ["graph", "function", "a session of its own"])
def test_it_is_charged_there_and_its_price_here(any_ledger: Ledger, other: Ledger, way: str) -> None:
    """Both books verify; the inner request is nobody's child, and its calls are in its own ledger alone."""
    double = scripted(*[words(5)] * 9)
    inner = team(other, double, calls=2)
    handler = inner if way == "graph" else calling(inner, "mine" if way != "function" else "")
    result = ask(build(any_ledger, [specialist("team", handler, price="0.02")]))
    assert answer_of(result) == "2 calls"
    assert result["spend"].spent == any_ledger.spend("s-1").spent == USD("0.02")
    assert any_ledger.spend("s-1").calls == 1
    [inside] = other.sessions()
    assert (inside.spent, inside.requests) == (USD("0.01"), 1)
    assert inside.session_id == ("mine" if way == "a session of its own" else "s-1")
    log = [row.event for row in other.audit(inside.session_id)]
    assert [event.parent for event in log if isinstance(event, RequestOpened)] == [None]
    owned = [event.action for event in log if isinstance(event, LeaseChanged)]
    assert owned[:1] == (["taken"] if way == "a session of its own" else [])
    assert any_ledger.verify()
    assert other.verify()


def test_its_own_budget_ends_it(ledger: Ledger, other: Ledger) -> None:
    """It spends what it may there, and no more."""
    double = scripted(*[words(5)] * 99)
    result = ask(build(ledger, [specialist("team", team(other, double, calls=99), price="0.02")]))
    assert "leaf by rule" in answer_of(result)
    assert billed(double) == USD("0.02").nanos == other.spend("s-1").spent.nanos
    assert other.verify()


def test_without_a_price_it_is_refused(ledger: Ledger, other: Ledger) -> None:
    """Nothing would bound it; nothing is paid or opened."""
    double = scripted()
    result = ask(build(ledger, [specialist("team", team(other, double))], show_errors=True))
    assert "on another ledger, where its budget does not hold; give both the same Ledger, or team a price" in str(
        result["gaps"]
    )
    assert (double.calls, other.sessions()) == ([], [])


def test_a_budget_above_the_price_is_refused(ledger: Ledger, other: Ledger) -> None:
    """It could spend more there than is held here. Both amounts are named; as high as the price it may be."""
    double = scripted(words(5))
    result = ask(
        build(ledger, [specialist("team", team(other, double, budget="0.021"), price="0.02")], show_errors=True)
    )
    assert "whose budget of $0.021 a request is above the price $0.02 of the run" in str(result["gaps"])
    assert (double.calls, other.sessions()) == ([], [])
    result = ask(build(ledger, [specialist("team", team(other, double, budget="0.02"), price="0.02")]), name="s-2")
    assert answer_of(result) == "1 calls"


def test_the_price_bounds_all_requests_of_a_run_together(ledger: Ledger, other: Ledger) -> None:
    """Two of half the price fit, a third does not."""
    double = scripted(*[words(5)] * 9)
    inner = team(other, double, budget="0.01")
    app = build(ledger, [specialist("team", calling(inner, "one", "two"), price="0.02")])
    assert answer_of(ask(app)) == "1 calls, 1 calls"
    more = build(ledger, [specialist("team", calling(inner, "a", "b", "c"), price="0.02")], show_errors=True)
    result = ask(more, name="s-2")
    assert "budget of $0.01 a request beside the $0.02 of its other requests is above the price" in str(result["gaps"])
    assert [row.session_id for row in other.sessions() if row.requests] == ["b", "a", "two", "one"]


def test_a_request_that_a_user_made_is_not_resumed_beyond_the_price(ledger: Ledger, other: Ledger) -> None:
    """Its budget was given for a user's account, not for this run's."""
    stops, double = [KeyboardInterrupt()], scripted(*[words(5)] * 9)
    model = priced(double)

    def leaf(task: Task) -> str:
        model.invoke("one")
        if stops:
            raise stops.pop()
        return model.invoke("two").text

    inner = build(other, [free("leaf", leaf, ceiling="0.03")], budget=Budget("0.03"))
    with pytest.raises(KeyboardInterrupt):
        inner.invoke(QUESTION, session("mine"))

    def resumes(task: Task) -> str:
        return answer_of(inner.invoke(None, session("mine")))

    result = ask(build(ledger, [specialist("team", resumes, price="0.02")], show_errors=True))
    assert "budget of $0.03 a request is above the price $0.02" in str(result["gaps"])
    assert len(double.calls) == 1
    assert answer_of(inner.invoke(None, session("mine"))) == words(5)
    assert other.verify()


def test_it_ends_with_the_run_that_it_is_in(ledger: Ledger, other: Ledger) -> None:
    """Its own specialists have more time; they end, and pay nothing more, at the outer deadline."""
    over, left = threading.Event(), list[float]()
    double = scripted(*[words(5)] * 9)
    model = priced(double)

    def leaf(task: Task) -> str:
        scope = current_scope()
        assert scope is not None
        assert scope.deadline is not None
        left.append(scope.deadline - time.monotonic())
        over.wait(60)
        return model.invoke("too late").text

    inner = build(other, [free("leaf", leaf, ceiling="0.02", timeout=60)], budget=Budget("0.02"))
    result = ask(build(ledger, [specialist("team", calling(inner, "mine"), price="0.02", timeout=4)]))
    over.set()
    assert "no answer within 4 s" in result["gaps"][0]
    assert 0 < left[0] <= 4
    assert double.calls == []


def test_a_supervisor_inside_it_is_charged_there(ledger: Ledger, other: Ledger) -> None:
    """On the other ledger, the run of one supervisor inside another's is its child as ever."""
    double = scripted(*[words(5)] * 9)
    middle = build(
        other,
        [free("middle", team(other, double, checkpointer=None), ceiling="0.02")],
        budget=Budget("0.02"),
        checkpointer=None,
    )
    result = ask(build(ledger, [specialist("team", middle, price="0.02")]))
    assert answer_of(result) == "1 calls"
    opened = [row.event for row in other.audit("s-1") if isinstance(row.event, RequestOpened)]
    assert [event.parent for event in opened] == [None, opened[0].request_id]
    assert other.spend("s-1").spent == CALL
    assert other.verify()


def test_a_pause_of_an_agent_here_is_none_of_its_namesake_there(ledger: Ledger, other: Ledger) -> None:
    """Each ledger has its own pauses."""
    other.pause("agent:team")
    double = scripted(words(5))
    result = ask(build(ledger, [specialist("team", team(other, double), price="0.02")]))
    assert answer_of(result) == "1 calls"
    ledger.pause("agent:team")
    result = ask(build(ledger, [specialist("team", team(other, double), price="0.02")]), name="s-2")
    assert "it is paused" in answer_of(result)
    assert result["spend"].spent == ZERO


def test_in_one_database_under_two_keys_a_price_does_not_help(any_url: str) -> None:
    """Two keys in one log would make it look edited."""
    one, another = Ledger(any_url, key=b"one"), Ledger(any_url, key=b"other")
    result = ask(build(one, [specialist("team", team(another, scripted()), price="0.02")], show_errors=True))
    assert "on another ledger" in result["gaps"][0]
    assert one.verify()
    one.close()


@pytest.mark.parametrize("raised", [False, True])
def test_a_raise_inside_does_not_raise_the_price(ledger: Ledger, other: Ledger, raised: bool) -> None:
    """A person may top the inner request up meanwhile; what it is billed stays within the price that is held here."""
    double = scripted(*[words(5)] * 9)
    model = priced(double)

    def leaf(task: Task) -> Report:
        if raised:
            other.top_up(task.request_id, "1")
            other.top_up(f"agent:{task.request_id}:leaf", "1")
        said: list[str] = []
        for number in range(9):
            said.append(model.invoke(f"{task.request_id} {number}").text)
            save_partial(f"{len(said)} calls")
        return Report(answer="all")

    inner = build(other, [free("leaf", leaf, ceiling="0.01", max_turns=99)], budget=Budget("0.01"))
    result = ask(build(ledger, [specialist("team", inner, price="0.01")]))
    assert "needs $0.005 and $0.00 is left" in answer_of(result)
    assert billed(double) == USD("0.01").nanos == other.spend("s-1").spent.nanos
    assert ledger.spend("s-1").spent == USD("0.01")
    assert other.verify()


def test_a_price_is_for_another_ledger_alone(ledger: Ledger) -> None:
    """On the same ledger its calls are charged one by one, so a price would fill the account before them."""
    double = scripted(words(5), words(5))
    result = ask(build(ledger, [specialist("team", team(ledger, double), price="0.02")]))
    assert "it failed with an error" in str(result["gaps"])
    said = [row.event.reason for row in ledger.audit("s-1") if isinstance(row.event, RunEnded)]
    assert "give it no price: what the supervisor spends is charged to its account" in said[0]
    assert not double.calls
    assert answer_of(ask(build(ledger, [free("team", team(ledger, double), ceiling="0.02")]), name="s-2")) == "1 calls"
