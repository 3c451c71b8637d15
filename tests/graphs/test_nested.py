"""A supervisor inside another's run: what it spends fits every account above it, and is charged and shown there."""

import asyncio
import subprocess
import sys
import threading
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from bursar.checkpoints.ledger.ledger import Ledger
from bursar.nodes.gateway.paid_calls.scope import charged_as
from bursar.nodes.specialists.definition import deterministic
from bursar.state.budget import Budget
from bursar.state.errors import ConfigurationError
from bursar.state.events import RequestOpened
from bursar.state.money import USD
from bursar.state.refusals import BudgetExceeded, ScopeClosed
from bursar.state.run import Report, Task
from tests.support.graphs import (
    App,
    RouteTo,
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

ROOT = Path(__file__).parents[2]
CALL = USD("0.005")  # five words


def burning(model: Any, calls: int = 1_000) -> Any:
    """A handler that makes so many paid calls, and stops where one is refused."""

    def burn(task: Task) -> Report:
        done = 0
        try:
            for number in range(calls):
                model.invoke(f"{task.text} {task.request_id} {number}")
                done += 1
        except BudgetExceeded:
            pass
        return Report(answer=f"{done} calls")

    return burn


def team(ledger: Ledger, model: Any, *, calls: int = 1_000, ceiling: str = "0.03", budget: str = "5") -> App:
    """A supervisor whose one specialist burns money, without a checkpointer of its own."""
    leaf = free("leaf", burning(model, calls), ceiling=ceiling, max_turns=1_000)
    return build(ledger, [leaf], budget=Budget(budget), checkpointer=None)


def in_function(inner: App, thread: str = "") -> Any:
    """The inner supervisor, called by a handler's own code; in a thread of its own if that has a name."""

    def handler(task: Task) -> Report:
        result = inner.invoke({"messages": [("user", task.text)]}, session(thread) if thread else None)
        return Report(answer=answer_of(result))

    return handler


async def _ask(app: App, text: str) -> Any:
    return await app.ainvoke({"messages": [("user", text)]}, session())


@pytest.mark.parametrize("way", ["graph", "function", "function with a thread"])
@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("caps", [{}, {"per_session": "0.03"}, {"total": "0.03"}], ids=str)
def test_it_spends_within_what_is_above_it(
    any_ledger: Ledger, way: str, asynchronous: bool, caps: dict[str, str]
) -> None:
    """Its own budget is wider. It spends all that the outer budget allows, and not a call more; the sums agree."""
    double = scripted(*[words(5)] * 50)
    inner = team(any_ledger, priced(double))
    handler = inner if way == "graph" else in_function(inner, "other" if way.endswith("thread") else "")
    app = build(any_ledger, [free("team", handler, ceiling="0.02")], budget=Budget("0.03", **caps))
    result = asyncio.run(_ask(app, "burn")) if asynchronous else ask(app, "burn")
    assert billed(double) == USD("0.02").nanos  # the ceiling of the outer specialist
    assert result["spend"].spent == USD("0.02")
    assert result["spend"].by_agent == {"leaf": USD("0.02")}
    assert [run.cost for run in result["runs"]] == [USD("0.02")]
    assert any_ledger.spend("s-1").spent == USD("0.02")
    assert any_ledger.verify()


def test_the_log_names_the_request_that_made_it(ledger: Ledger) -> None:
    """Both requests are in the outer session's log; the inner one names its parent."""
    inner = team(ledger, priced(scripted(words(5))), calls=1)
    ask(build(ledger, [free("team", inner)]))
    opened = [row.event for row in ledger.audit("s-1") if isinstance(row.event, RequestOpened)]
    assert [event.parent for event in opened] == [None, opened[0].request_id]
    assert [row.session_id for row in ledger.sessions()] == ["s-1"]


def test_three_levels_with_several_at_each(any_ledger: Ledger) -> None:
    """Eight leaves in four teams in two divisions share what the outermost request may spend."""
    double = scripted(*[words(5)] * 100)
    model = priced(double)
    app: Any = None
    for level, names in enumerate((("leaf-a", "leaf-b"), ("team-a", "team-b"), ("division-a", "division-b"))):
        handlers = [burning(model, 3) if app is None else app for _ in names]
        parts = [
            free(name, handler, ceiling="0.03", max_turns=100) for name, handler in zip(names, handlers, strict=True)
        ]
        app = build(any_ledger, parts, **({} if level == 2 else {"checkpointer": None, "budget": Budget("5")}))
    result = ask(app, "burn")
    assert 0 < billed(double) <= USD("0.03").nanos
    assert result["spend"].spent.nanos == billed(double) == any_ledger.spend("s-1").spent.nanos
    assert any_ledger.verify()


def test_a_request_may_make_several_and_a_later_one_begins_anew(any_ledger: Ledger) -> None:
    """Each request of the user has its budget; the session's cap counts them all."""
    double = scripted(*[words(5)] * 50)
    inner = team(any_ledger, priced(double), calls=2)

    def twice(task: Task) -> Report:
        answers = [answer_of(inner.invoke({"messages": [("user", f"{task.text} {part}")]})) for part in (1, 2)]
        return Report(answer=" and ".join(answers))

    app = build(any_ledger, [free("team", twice, ceiling="0.03")], budget=Budget("0.03", per_session="0.035"))
    assert answer_of(ask(app, "first")) == "2 calls and 2 calls"
    assert answer_of(ask(app, "second")).startswith("2 calls and leaf by rule")
    assert any_ledger.spend("s-1").spent == USD("0.035")
    assert any_ledger.verify()


def test_interrupted_inside_it_is_resumed_and_pays_nothing_twice(any_ledger: Ledger) -> None:
    """What the inner request paid for is answered from the ledger; `tests/crash/test_failpoints.py` kills for real."""
    double, stops = scripted(*[words(5)] * 3), [KeyboardInterrupt()]
    model = priced(double)

    def leaf(task: Task) -> Report:
        for number in range(3):
            model.invoke(f"{task.text} {number}")
            if number == 1 and stops:
                raise stops.pop()
        return Report(answer="done")

    inner = build(any_ledger, [free("leaf", leaf, ceiling="0.03")], checkpointer=None)
    app = build(any_ledger, [free("team", in_function(inner), ceiling="0.03")])
    with pytest.raises(KeyboardInterrupt):
        ask(app, "burn")
    result = app.invoke(None, session())
    assert answer_of(result) == "done"
    assert len(double.calls) == 3
    assert result["spend"].spent == USD("0.015")
    assert any_ledger.verify()


@pytest.mark.parametrize("pays_router", [False, True])
def test_inside_a_handler_without_money_it_has_none(ledger: Ledger, pays_router: bool) -> None:
    """A deterministic handler stays one, whatever it calls; a router that would pay is not asked."""
    double = scripted()
    model = priced(double)

    class Pays(RouteTo):
        async def route(self, text: str, candidates: Any) -> Any:
            await model.ainvoke("which one?")
            return await super().route(text, candidates)

    leaf = free("leaf", burning(model, 1), ceiling="0.03")
    inner = build(ledger, [leaf], checkpointer=None, router=Pays() if pays_router else RouteTo())
    app = build(ledger, [specialist("team", deterministic(in_function(inner)), fallbacks=[])])
    assert ("leaf" if pays_router else "leaf by rule") in answer_of(ask(app))
    assert not double.calls


@pytest.mark.slow
def test_the_first_sync_call_in_a_run_binds_nobody_to_that_run(tmp_path: Any) -> None:
    """It starts the process's loop for sync callers, which later serves other users: in a process of its own."""
    program = f"""
import asyncio
from bursar import Ledger
from tests.graphs.test_nested import answer_of, build, free, in_function, priced, scripted, session, team, words
ledger = Ledger("sqlite:///{tmp_path}/books.db")
inner = team(ledger, priced(scripted(words(5), words(5))), calls=1)
outer = build(ledger, [free("team", in_function(inner), ceiling="0.03")])
asyncio.run(outer.ainvoke({{"messages": [("user", "burn")]}}, session("s-1")))
print(answer_of(inner.invoke({{"messages": [("user", "burn")]}}, session("s-2"))))
print(ledger.spend("s-1").spent, ledger.spend("s-2").spent)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["1 calls", "$0.005 $0.005"], done.stderr


def test_it_is_resumed_only_where_it_was_made(any_ledger: Ledger) -> None:
    """What it spends is for the accounts there: elsewhere it is refused, and nothing is paid."""
    double, stops = scripted(*[words(5)] * 9), [KeyboardInterrupt()]
    model = priced(double)

    def leaf(task: Task) -> Report:
        model.invoke("one")
        if stops:
            raise stops.pop()
        model.invoke("two")
        return Report(answer="done")

    inner = build(any_ledger, [free("leaf", leaf, ceiling="0.03")])
    with pytest.raises(KeyboardInterrupt):
        inner.invoke({"messages": [("user", "burn")]}, session("mine"))

    def resumes(task: Task) -> str:
        return answer_of(inner.invoke(None, session("mine")))

    result = ask(build(any_ledger, [free("team", resumes, ceiling="0.03")], show_errors=True))
    assert "this request was made by itself; resume it there" in result["gaps"][0]
    assert (len(double.calls), any_ledger.spend("s-1").calls) == (1, 0)
    assert answer_of(inner.invoke(None, session("mine"))) == "done"
    assert any_ledger.verify()


def test_it_pays_nothing_after_the_outer_deadline(ledger: Ledger) -> None:
    """Though its own specialist has more time, and nobody could end its thread meanwhile."""
    double, over = scripted(*[words(5)] * 9), threading.Event()
    model = priced(double)

    def leaf(task: Task) -> Report:
        model.invoke("in time")
        over.wait(60)
        with pytest.raises(ScopeClosed):
            model.invoke("too late")
        return Report(answer="done")

    inner = build(ledger, [free("leaf", leaf, ceiling="0.03", timeout=60)], checkpointer=None)
    result = ask(build(ledger, [free("team", in_function(inner), ceiling="0.03", timeout=4)]))
    over.set()
    assert "no answer within 4 s" in result["gaps"][0]
    assert len(double.calls) == 1


def test_it_is_charged_to_the_path_on_whose_behalf_it_is_called(ledger: Ledger) -> None:
    """Also if its call is the first one on that path."""
    inner = team(ledger, priced(scripted(words(5))), calls=1)

    def handler(task: Task) -> str:
        with charged_as("helper"):
            return answer_of(inner.invoke({"messages": [("user", "burn")]}))

    result = ask(build(ledger, [free("team", handler, ceiling="0.03")]))
    assert answer_of(result) == "1 calls"
    assert result["spend"].spent == CALL
    assert ledger.verify()


def test_a_pause_of_the_outer_agent_stops_its_calls(ledger: Ledger) -> None:
    """As it stops that agent's own."""
    double = scripted(*[words(5)] * 9)
    model = priced(double)

    def leaf(task: Task) -> str:
        model.invoke("before")
        ledger.pause("agent:team")
        return model.invoke("after").text

    inner = build(ledger, [free("leaf", leaf, ceiling="0.03")], checkpointer=None)
    result = ask(build(ledger, [free("team", in_function(inner), ceiling="0.03")]))
    assert "agent team is paused" in answer_of(result)
    assert len(double.calls) == 1


def test_on_a_ledger_with_another_key_it_is_refused(any_url: str) -> None:
    """Two keys in one log would make it look edited."""
    one, other = Ledger(any_url, key=b"one"), Ledger(any_url, key=b"other")
    result = ask(
        build(one, [free("team", in_function(team(other, priced(scripted()))), ceiling="0.03")], show_errors=True)
    )
    assert "on another ledger" in result["gaps"][0]
    assert one.verify()
    one.close()


def test_on_another_ledger_it_is_refused(ledger: Ledger, tmp_path: Any) -> None:
    """Nobody could hold the outer accounts there; the fallback answers, and nothing is paid."""
    other, double = Ledger(f"sqlite:///{tmp_path}/other.db"), scripted()
    result = ask(build(ledger, [free("team", in_function(team(other, priced(double))))], show_errors=True))
    assert "on another ledger, where its budget does not hold" in result["gaps"][0]
    assert not double.calls
    other.close()


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_thread_that_a_run_left_behind_serves_others_afterwards(ledger: Ledger, asynchronous: bool) -> None:
    """A worker that a handler has started is charged to that run while it lasts, and to its own requests after it."""
    inner, jobs = team(ledger, priced(scripted(words(5), words(5))), calls=1), SimpleQueue[str]()
    answers = SimpleQueue[str]()

    def serve() -> None:
        while thread := jobs.get():
            given: Any = {"messages": [("user", "burn")]}
            ainvoke = inner.ainvoke(given, session(thread)) if asynchronous else None
            answers.put(answer_of(inner.invoke(given, session(thread)) if ainvoke is None else asyncio.run(ainvoke)))

    def handler(task: Task) -> str:
        threading.Thread(target=serve).start()
        jobs.put("s-2")
        return answers.get()

    app = build(ledger, [free("team", handler, ceiling="0.03")])
    assert ask(app)["spend"].spent == CALL
    jobs.put("s-3")
    assert answers.get() == "1 calls"
    jobs.put("")
    assert ledger.spend("s-3").spent == CALL
    assert ledger.spend("s-1").spent == CALL


def test_a_user_may_use_both_supervisors(ledger: Ledger) -> None:
    """The inner one asked by itself has its own budget and session."""
    inner = team(ledger, priced(scripted(words(5), words(5))), calls=1)
    ask(build(ledger, [free("team", inner)]))
    assert answer_of(inner.invoke({"messages": [("user", "burn")]}, session("s-2"))) == "1 calls"
    assert ledger.spend("s-2").budget is None
    with pytest.raises(ConfigurationError, match="ceiling"):
        team(ledger, priced(scripted()), ceiling="6")
