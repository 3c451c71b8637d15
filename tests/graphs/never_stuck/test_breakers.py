"""Breakers in whole graphs: what opens none, what fallbacks have to do with them, and what the log says of them."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import timedelta
from itertools import islice
from typing import Any

import httpx
import pytest
from langchain_core.messages import AIMessage, BaseMessage
from langgraph.types import Command
from pydantic import BaseModel

from bursar import Deny, Ledger, Report, Specialist, Task, deterministic, priced
from bursar.nodes.specialists.definition import Handler
from bursar.state.circuit_breaker import RULE
from bursar.state.events import BreakerChanged
from bursar.state.run import Fault
from tests.support.clock import Clock
from tests.support.graphs import App, answer_of, ask, build, free, rules, scripted, session, specialist
from tests.support.graphs import priced as metered

SESSIONS = 2 * RULE.least_failing


class Flaky:
    """A handler that counts its sessions, and raises while it is broken."""

    def __init__(self, name: str, *, broken: bool = True) -> None:
        self.__name__ = name
        self.broken = broken
        self.asked: list[str] = []

    def __call__(self, task: Task) -> Report:
        self.asked.append(task.session_id)
        if self.broken:
            raise RuntimeError("a bug")
        return Report(answer=f"{self.__name__} answers")


class Argument(BaseModel):
    """What a tool takes."""

    number: int


def over_budget(task: Task) -> Report:
    """Asks for more than its ceiling has."""
    return Report(answer=metered(scripted(AIMessage("x")), words=1_000).invoke("x").text)


def unmetered(task: Task) -> Report:
    """Asks a model that no budget bounds: policy refuses it."""
    return Report(answer=scripted("x").invoke("x").text)


def misfit(task: Task) -> Report:
    """Gives a tool what does not fit."""
    return Report(answer=str(Argument.model_validate({"number": "seven"}).number))


def no_report(task: Task) -> Any:
    """Returns something else."""
    return 7


def changes(ledger: Ledger, *names: str) -> list[tuple[str, str, str]]:
    """What the logs of these sessions say of breakers: whose log, which breaker, what."""
    rows = [(name, row.event) for name in names for row in ledger.audit(name)]
    return [(name, e.breaker, e.change) for name, e in rows if isinstance(e, BreakerChanged)]


def of_chain(ledger: Ledger, clock: Clock, own: Handler, *fallbacks: Any, others: Sequence[Specialist] = ()) -> App:
    chained = Specialist(name="tax", description="Taxes", handler=own, expected_cost=0, fallbacks=fallbacks)
    return build(ledger, [chained, *others], clock=clock)


@pytest.mark.parametrize(
    ("handler", "end"),
    [(over_budget, "exhausted"), (unmetered, "failed"), (misfit, "failed"), (no_report, "failed")],
    ids=["budget", "policy", "tool arguments", "output"],
)
def test_refusals_and_misfits_open_no_breaker(any_ledger: Ledger, handler: Callable[[Task], Report], end: str) -> None:
    """In twice as many sessions as would open one: none is even marked."""
    app = build(any_ledger, [free("tax", handler)])
    for number in range(SESSIONS):
        [first, _] = ask(app, name=f"s-{number}")["runs"]
        assert first.outcome == end
        assert first.fault is not Fault.HANDLER_ERROR
    assert any_ledger.breakers() == []


def test_callers_that_are_cancelled_open_no_breaker(any_ledger: Ledger) -> None:
    """Their agents were at work, and did nothing wrong."""
    inside: asyncio.Queue[str] = asyncio.Queue()

    async def all_of_them() -> None:
        here = asyncio.get_running_loop()

        async def waits(task: Task) -> Report:
            here.call_soon_threadsafe(inside.put_nowait, task.session_id)
            await asyncio.sleep(600)
            return Report(answer="too late")

        app = build(any_ledger, [free("tax", waits, timeout=600)])
        entered: Any = {"messages": [("user", "now")]}
        tasks = [asyncio.create_task(app.ainvoke(entered, session(f"s-{number}"))) for number in range(SESSIONS)]
        for _ in tasks:
            await inside.get()
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ends)

    asyncio.run(all_of_them())
    assert any_ledger.breakers() == []


def test_people_who_deny_open_no_breaker(any_ledger: Ledger) -> None:
    """Denied in several sessions, and refused to one who is no approver."""
    app = build(any_ledger, [specialist("tax", Flaky("pay"), risk="high")], approvers=["ann"])
    for number in range(SESSIONS):
        stopped = ask(app, name=f"s-{number}")
        subject = stopped["__interrupt__"][0].value.subject_hash
        answer = Deny(subject_hash=subject, by="ann" if number % 2 else "eve", reason="no")
        [run] = app.invoke(Command(resume=answer), session(f"s-{number}"))["runs"]
        assert run.fault is Fault.NOT_APPROVED
    assert any_ledger.breakers() == []


def test_the_log_tells_of_every_change(any_ledger: Ledger) -> None:
    """Who opened it, who probed and failed, who probed and closed it: each in the log of its own session."""
    clock, own = Clock(), Flaky("own")
    app = of_chain(any_ledger, clock, own, rules)
    for number in range(4):
        ask(app, name=f"s-{number}")
    assert changes(any_ledger, "s-0", "s-1", "s-2", "s-3") == [("s-2", "agent:tax", "opened")]
    clock.now += timedelta(seconds=RULE.rest_seconds)
    ask(app, name="s-4")
    assert changes(any_ledger, "s-4") == [("s-4", "agent:tax", "probed"), ("s-4", "agent:tax", "opened")]
    clock.now += timedelta(seconds=2 * RULE.rest_seconds)
    own.broken = False
    assert answer_of(ask(app, name="s-5")) == "own answers"
    assert changes(any_ledger, "s-5") == [("s-5", "agent:tax", "probed"), ("s-5", "agent:tax", "closed")]
    assert own.asked == ["s-0", "s-1", "s-2", "s-4", "s-5"]
    assert any_ledger.verify()


def test_of_twenty_sessions_at_once_one_probes_the_model(any_ledger: Ledger) -> None:
    """While its call is on its way the others are answered by rule, and nothing of theirs is held or sent."""
    clock, others_ended = Clock(), threading.Event()

    def mended(messages: list[BaseMessage]) -> str:
        others_ended.wait(60)
        return "up again"

    down = [httpx.ReadError("cut")] * RULE.least_failing
    model = scripted(*down, mended, "well")
    chat = metered(model)
    app = build(any_ledger, [free("tax", lambda task: chat.invoke(task.text).text, timeout=100)], clock=clock)
    for number in range(RULE.least_failing):
        ask(app, name=f"s-{number}")
    clock.now += timedelta(seconds=RULE.rest_seconds)
    with ThreadPoolExecutor(20) as pool:
        asked = [pool.submit(ask, app, name=f"p-{number}") for number in range(20)]
        answers = [answer_of(end.result()) for end in islice(as_completed(asked), 19)]
        others_ended.set()
        answers += [answer_of(end.result()) for end in asked if answer_of(end.result()).startswith("up again")]
    assert [answer.startswith("tax by rule") for answer in answers] == [True] * 19 + [False]
    assert len(model.calls) == RULE.least_failing + 1
    names = [f"p-{number}" for number in range(20)]
    assert sorted(change for _, _, change in changes(any_ledger, *names)) == ["closed", "probed"]
    assert sum(row.kind == "call_held" for name in names for row in any_ledger.audit(name)) == 1
    assert answer_of(ask(app, name="after")) == "well"


def test_a_fallback_that_fails_is_left_alone_too(any_ledger: Ledger) -> None:
    """Its breaker opens by its own faults; then the next of the chain answers, until a probe finds it mended."""
    clock, own, helper = Clock(), Flaky("own"), Flaky("helper")
    app = of_chain(any_ledger, clock, own, helper, rules)
    for number in range(3):
        ask(app, name=f"s-{number}")
    assert [row.name for row in any_ledger.breakers()] == ["agent:tax", "agent:tax.helper"]
    result = ask(app, name="s-3")
    assert (own.asked, helper.asked) == (["s-0", "s-1", "s-2"],) * 2
    assert answer_of(result).startswith("tax by rule")
    assert [(run.handler, run.fault) for run in result["runs"]] == [("helper", Fault.UNAVAILABLE), ("rules", None)]
    assert "left alone" in result["runs"][0].reason
    clock.now += timedelta(seconds=RULE.rest_seconds)
    helper.broken = False
    assert "helper answers" in answer_of(ask(app, name="s-4"))
    assert changes(any_ledger, "s-4")[-1] == ("s-4", "agent:tax.helper", "closed")
    assert [row.name for row in any_ledger.breakers()] == ["agent:tax"]


def test_a_specialist_has_one_breaker_wherever_it_stands(ledger: Ledger) -> None:
    """Open by its own runs, it is passed over where it is another's fallback."""
    clock, own, helper = Clock(), Flaky("own"), Flaky("helper")
    other = free("helper", helper)
    app = of_chain(ledger, clock, own, "helper", others=[other])
    alone = build(ledger, [other], clock=clock)
    for number in range(3):
        ask(alone, name=f"s-{number}")
    assert [row.name for row in ledger.breakers()] == ["agent:helper"]
    result = ask(app, name="s-3")
    assert "s-3" not in helper.asked
    assert [run.fault for run in result["runs"] if run.handler == "helper"] == [Fault.UNAVAILABLE]


def test_the_last_resort_is_never_barred(any_ledger: Ledger) -> None:
    """However often it fails, it is asked again: there is nobody after it."""
    last = Flaky("last")
    app = of_chain(any_ledger, Clock(), Flaky("own"), deterministic(last))
    for number in range(SESSIONS):
        ask(app, name=f"s-{number}")
    assert len(last.asked) == SESSIONS
    assert [row.name for row in any_ledger.breakers()] == ["agent:tax"]


def test_a_priced_function_has_a_breaker(any_ledger: Ledger) -> None:
    """Broken connections open it; then it is not called, nothing is held, and the agent's own stays closed."""
    clock, asked = Clock(), list[str]()

    @priced("0.001")
    def quote(symbol: str) -> str:
        asked.append(symbol)
        raise httpx.ConnectError("down")

    app = of_chain(any_ledger, clock, lambda task: Report(answer=quote(task.session_id)), rules)
    for number in range(4):
        result = ask(app, name=f"s-{number}")
        assert result["runs"][0].fault is Fault.PROVIDER
    assert asked == ["s-0", "s-1", "s-2"]
    [row] = any_ledger.breakers()
    assert row.name.startswith("function:tests.graphs.never_stuck.test_breakers.")
    assert row.name.endswith("quote")
    assert any_ledger.spend("s-3").spent.nanos == 0
    assert changes(any_ledger, "s-2") == [("s-2", row.name, "opened")]


def test_what_a_priced_function_raises_else_is_its_own(ledger: Ledger) -> None:
    """A bug in it, and what nothing is owed for, open no breaker of it."""

    @priced("0.001", free_on=(ConnectionRefusedError,))
    def quote(symbol: str) -> str:
        raise ValueError if int(symbol[2:]) % 2 else ConnectionRefusedError

    app = of_chain(ledger, Clock(), lambda task: Report(answer=quote(task.session_id)), rules)
    for number in range(SESSIONS):
        ask(app, name=f"s-{number}")
    assert [row.name for row in ledger.breakers() if row.name.startswith("function:")] == []
