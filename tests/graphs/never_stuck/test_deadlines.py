"""A handler, a router or a gate that hangs keeps no deadline from passing, and nobody else waiting."""

import asyncio
import threading
import time
from datetime import timedelta
from typing import Any

import pytest

from bursar import Fault, Ledger, Limit, Outcome, Task, Verdict
from bursar.nodes.isolation import workers as apart
from tests.support.clock import RunningClock, Stopwatch, wait_until
from tests.support.graphs import (
    QUESTION,
    answer_of,
    ask,
    build,
    first_run,
    free,
    rules,
    session,
)

WOKE: list[str] = []  # sessions whose handler slept to its end


def test_a_handler_may_stop_or_close_its_loop(ledger: Ledger) -> None:
    """It is not the coordinator's loop, and not the caller's: others on it go on."""
    inside = threading.Event()

    async def stops(task: Task) -> str:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0)
        inside.set()
        return "stopped"

    async def closes(task: Task) -> str:
        asyncio.get_running_loop().close()
        return "closed"

    async def waits(task: Task) -> str:
        await asyncio.to_thread(inside.wait, 20)
        return "waited"

    app = build(ledger, [free(f.__name__, f, timeout=20) for f in (stops, closes, waits)])
    apart = build(ledger, [free(f.__name__, f, timeout=20, apart=True) for f in (stops, closes, waits)])
    for result in (ask(app), asyncio.run(apart.ainvoke(QUESTION, session("s-2")))):
        assert {run.specialist: run.outcome.value for run in result["runs"] if run.level == 0} == {
            "stops": "completed",
            "closes": "failed",
            "waits": "completed",
        }


def _spin(task: Task) -> Any:
    while True:
        pass


async def _aspin(task: Task) -> Any:
    while True:
        pass


async def _asleep(task: Task) -> Any:
    time.sleep(5)  # noqa: ASYNC251 - that is the point
    WOKE.append(task.session_id)


async def _aspin_inside(task: Task) -> Any:
    await asyncio.gather(asyncio.sleep(0), _aspin(task))


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
@pytest.mark.parametrize("handler", [_spin, _aspin, _asleep, _aspin_inside])
def test_a_handler_that_blocks_its_thread_keeps_no_deadline_from_passing(
    handler: Any, way: str, ledger: Ledger
) -> None:
    """CPU-bound or asleep in a coroutine: at the deadline the fallback runs, and a sibling keeps its work."""
    apart_ = way == "ainvoke"  # on the caller's own loop it would keep the deadline from passing
    app = build(ledger, [free("a", handler, timeout=0.3, apart=apart_), free("b", lambda task: "fine")])
    WOKE.clear()
    result = ask(app) if way == "invoke" else asyncio.run(app.ainvoke(QUESTION, session()))
    assert WOKE == []  # the answer was there first
    run = first_run(result)
    assert (run.outcome, run.limit) == (Outcome.EXHAUSTED, Limit.DEADLINE)
    assert "a by rule" in answer_of(result)
    assert "fine" in answer_of(result)
    wait_until(lambda: apart.abandoned_count("a") == 0)


def test_others_are_served_while_a_coroutine_blocks_the_loop(ledger: Ledger, never: threading.Event) -> None:
    """Once the loop is found blocked, new runs have another one; the blocked run's deadline is not needed for that."""
    blocked = threading.Event()

    async def blocks(task: Task) -> Any:
        blocked.set()
        never.wait(60)

    async def quick(task: Task) -> str:
        return "quick"

    app = build(ledger, [free("a", blocks, timeout=300)])
    other = build(ledger, [free("b", quick, timeout=10)])
    threading.Thread(target=lambda: ask(app, name="s-blocked"), daemon=True).start()
    assert blocked.wait(60)
    outcomes = [first_run(ask(other, name=f"s-{number}"), "b").outcome.value for number in range(6)]
    assert outcomes[-1] == "completed"
    never.set()


def test_an_agent_that_always_hangs_is_not_started_for_ever(
    ledger: Ledger, never: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Handlers that sit in a call that does not return are counted, by agent; beyond the limit none is started."""
    monkeypatch.setattr(apart, "MAX_ABANDONED", 2)
    app = build(ledger, [free("hanging", lambda task: never.wait(60), timeout=2), free("b", lambda task: "fine")])
    results = [ask(app, name=f"s-{number}") for number in range(3)]
    assert [first_run(result, "hanging").outcome.value for result in results] == ["exhausted", "exhausted", "failed"]
    assert first_run(results[2], "hanging").fault is Fault.UNAVAILABLE
    assert all("fine" in answer_of(result) for result in results)


def test_fallbacks_share_what_is_left_of_the_requests_time(ledger: Ledger) -> None:
    """However long a chain is, the request ends by its deadline; the last resort has a little of its own."""

    def waits(name: str) -> Any:
        async def handler(task: Task) -> str:
            if name != "first":
                await asyncio.Event().wait()
            raise ValueError

        handler.__name__ = name
        return handler

    chain = [waits("second"), waits("third"), waits("fourth"), rules]
    app = build(ledger, [free("a", waits("first"), fallbacks=chain, timeout=30)], timeout=3)
    with Stopwatch() as took:
        result = ask(app)
    assert [(run.handler, run.limit) for run in result["runs"]] == [
        ("a", None),
        ("second", Limit.REQUEST_DEADLINE),
        ("third", Limit.REQUEST_DEADLINE),
        ("fourth", Limit.REQUEST_DEADLINE),
        ("rules", None),
    ]
    assert answer_of(result).startswith("a by rule")
    assert took.seconds > 2.9
    assert took.seconds < 50


def test_a_resume_begins_no_new_time(ledger: Ledger) -> None:
    """The deadline is of the request's opening: resumed after it, chains go to their ends at once."""
    clock, stops = RunningClock(), [KeyboardInterrupt()]

    def handler(task: Task) -> str:
        if stops:
            raise stops.pop()
        return "too late"

    app = build(ledger, [free("a", handler)], timeout=60, clock=clock)
    with pytest.raises(KeyboardInterrupt):
        ask(app)
    clock.ahead = timedelta(seconds=61)
    result = app.invoke(None, session())
    assert first_run(result).limit is Limit.REQUEST_DEADLINE
    assert answer_of(result).startswith("a by rule")


class _Hangs:
    """A router and a gate that never answer."""

    name = "gate"

    def __init__(self, never: threading.Event) -> None:
        self.never = never

    async def route(self, text: str, candidates: Any) -> Any:
        self.never.wait(60)

    def review_plan(self, request: Any, specialists: Any, *, now: Any) -> Verdict:
        return Verdict("allow")

    def review_answer(self, request: Any, answer: str, reports: Any, *, now: Any) -> Verdict:
        self.never.wait(60)
        return Verdict("allow")


def test_a_router_that_hangs_is_replaced_and_a_gate_that_hangs_has_denied(
    ledger: Ledger, never: threading.Event
) -> None:
    """The router's place takes a count of words, and the decision says so; the gate fails closed."""
    food, rent = free("food", lambda task: "secret"), free("rent", lambda task: "r")
    app = build(ledger, [food, rent], router=_Hangs(never), timeout=0.5)
    result = ask(app, "what about my food?")
    [route] = [decision for decision in result["decisions"] if decision.kind == "route"]
    assert route.chosen == ("food",)
    assert "the router gave no answer within 0.2" in route.rule
    assert "words: 1 of 2" in route.rule
    assert result["gaps"][0].startswith("routing: the router gave no answer")
    gated = build(ledger, [food], gate=_Hangs(never), timeout=0.5)
    result = ask(gated, name="s-2")
    assert result["ending"] == "refused"
    assert "secret" not in answer_of(result)
