"""Under `ainvoke` and `astream` coroutines run on the caller's event loop, with what the application made there."""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest

from bursar import Ledger, Report, Task
from bursar.checkpoints.ledger.circuit_breakers import close_all
from bursar.nodes.gates.base import Verdict
from bursar.nodes.isolation.workers import abandoned_count
from bursar.nodes.routers.base import Candidate, Scores
from bursar.state.errors import BursarError, ConfigurationError
from bursar.state.refusals import ScopeClosed
from bursar.state.run import Limit, Outcome
from bursar.state.session import Request
from tests.support.clock import wait_until
from tests.support.graphs import (
    QUESTION,
    answer_of,
    ask,
    billed,
    build,
    first_run,
    free,
    priced,
    scripted,
    session,
    specialist,
)

WHO: ContextVar[str] = ContextVar("who", default="nobody")
Call = Callable[[Any], Awaitable[Any]]


async def _ainvoke(app: Any) -> Any:
    return await app.ainvoke(QUESTION, session())


async def _astream(app: Any) -> Any:
    return [part async for part in app.astream(QUESTION, session(), stream_mode="values")][-1]


@dataclass
class Seen:
    """The loops on which a handler ran."""

    loops: list[asyncio.AbstractEventLoop]

    async def handler(self, task: Task) -> str:
        self.loops.append(asyncio.get_running_loop())
        return "fine"


@pytest.mark.parametrize("call", [_ainvoke, _astream])
@pytest.mark.parametrize("apart", [False, True])
def test_a_coroutine_runs_on_the_callers_loop_unless_apart(ledger: Ledger, call: Call, apart: bool) -> None:
    """Its running loop is the one that awaits the graph; with `apart` it is another."""
    seen = Seen([])

    async def main() -> tuple[Any, bool]:
        result = await call(build(ledger, [free("a", seen.handler, apart=apart)]))
        return result, seen.loops == [asyncio.get_running_loop()]

    result, is_callers = asyncio.run(main())
    assert first_run(result).outcome is Outcome.COMPLETED
    assert is_callers is not apart


def test_a_sync_call_blocks_no_loop_of_the_caller(ledger: Ledger) -> None:
    """Also in a cell of a notebook, in whose thread a loop is running: the coroutine has a loop of Bursar's own."""
    seen = Seen([])

    async def main() -> bool:
        ask(build(ledger, [free("a", seen.handler)]))
        return asyncio.get_running_loop() in seen.loops

    assert not asyncio.run(main())
    assert len(seen.loops) == 1


def test_apart_is_true_or_false() -> None:
    """Anything else is refused in one line when the specialist is made."""
    with pytest.raises(ConfigurationError, match="specialist 'a': apart is True or False, not 'yes'"):
        free("a", lambda task: "fine", apart="yes")


class Waits:
    """A router and gate of an application, which wait for what the application made on its loop."""

    name = "house_rules"

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.queue: asyncio.Queue[str] = asyncio.Queue()
        self.event = asyncio.Event()

    async def handler(self, task: Task) -> str:
        async with self.lock:
            return await self.queue.get()

    async def route(self, text: str, candidates: Sequence[Candidate]) -> Scores:
        await self.event.wait()
        return Scores({c.name: 1.0 for c in candidates}, ("a",), 1.0, "mine")

    async def review_plan(self, request: Request, specialists: tuple[str, ...], *, now: datetime) -> Verdict:
        await self.event.wait()
        return Verdict("allow")

    async def review_answer(
        self, request: Request, answer: str, reports: Mapping[str, Report], *, now: datetime
    ) -> Verdict:
        async with self.lock:
            return Verdict("allow_with_changes", text=f"{answer}!")


def test_locks_events_and_queues_of_the_application_work(ledger: Ledger) -> None:
    """In the handler, the router and the gate, while each has to wait for another task of the application."""

    async def main() -> str:
        mine = Waits()
        app = build(ledger, [free("a", mine.handler)], router=mine, gate=mine)

        async def application() -> None:
            async with mine.lock:
                mine.event.set()
                await mine.queue.put("from the queue")

        result, _ = await asyncio.gather(_ainvoke(app), application())
        return answer_of(result)

    assert asyncio.run(main()) == "from the queue!"


@pytest.mark.parametrize("wrong", ["raises", "no verdict", "hangs"])
def test_a_gate_that_is_a_coroutine_and_fails_denies(ledger: Ledger, wrong: str) -> None:
    """It raises, returns no verdict, or gives none in time: nothing runs."""

    class Fails(Waits):
        async def review_plan(self, request: Request, specialists: tuple[str, ...], *, now: datetime) -> Any:
            if wrong == "hangs":
                await asyncio.Event().wait()
            if wrong == "raises":
                raise ValueError("broken")

    async def main() -> Any:
        return await _ainvoke(build(ledger, [free("a", Seen([]).handler)], gate=Fails(), timeout=1))

    result = asyncio.run(main())
    assert result["ending"] == "refused"
    assert result["runs"] == []


def test_at_the_deadline_it_is_cancelled_and_can_pay_no_more(any_ledger: Ledger) -> None:
    """A call within the deadline is paid; one from its cleanup afterwards is refused. It may await in its cleanup."""
    model = scripted("one", "two")
    paying, late, cleaned_up = priced(model), list[BaseException](), asyncio.Event()

    async def handler(task: Task) -> str:
        await paying.ainvoke("now")
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.1)  # the reaper looks in the meantime: a cleanup is not cancelled again
            try:
                await paying.ainvoke("late")
            except BursarError as error:
                late.append(error)
            cleaned_up.set()
        return "never"

    async def main() -> Any:
        result = await _ainvoke(build(any_ledger, [specialist("a", handler, timeout=4.0)]))
        await cleaned_up.wait()
        return result

    result = asyncio.run(main())
    assert (first_run(result).outcome, first_run(result).limit) == (Outcome.EXHAUSTED, Limit.DEADLINE)
    assert answer_of(result).startswith("a by rule")
    assert [type(error) for error in late] == [ScopeClosed]
    assert any_ledger.spend("s-1").spent.nanos == billed(model) > 0
    wait_until(lambda: abandoned_count("a") == 0)


def test_one_that_swallows_its_cancellation_is_left_behind(ledger: Ledger) -> None:
    """The node goes on to the fallback; the coroutine counts as abandoned until it ends."""

    async def main() -> tuple[Any, int]:
        go = asyncio.Event()

        async def handler(task: Task) -> str:
            while not go.is_set():
                try:
                    await go.wait()
                except asyncio.CancelledError:
                    continue
            return "late"

        result = await _ainvoke(build(ledger, [free("stubborn", handler, timeout=0.1)]))
        count = abandoned_count("stubborn")
        go.set()
        return result, count

    result, count = asyncio.run(main())
    assert first_run(result, "stubborn").limit is Limit.DEADLINE
    assert answer_of(result).startswith("stubborn by rule")
    assert count == 1
    wait_until(lambda: abandoned_count("stubborn") == 0)


def test_cancelling_the_request_cancels_the_handler(any_ledger: Ledger) -> None:
    """And closes its scope; the session goes on afterwards."""
    ends: list[type[BaseException]] = []

    async def main() -> Any:
        begun = asyncio.Event()

        async def handler(task: Task) -> str:
            if begun.is_set():
                return "fine"
            begun.set()
            try:
                await asyncio.Event().wait()
            except BaseException as error:
                ends.append(type(error))
                raise
            return "never"

        app = build(any_ledger, [free("a", handler)])
        request = asyncio.create_task(_ainvoke(app))
        await begun.wait()
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        return await app.ainvoke(None, session())

    assert answer_of(asyncio.run(main())) == "fine"
    assert ends == [asyncio.CancelledError]
    wait_until(lambda: abandoned_count("a") == 0)


@pytest.mark.parametrize("raised", [ValueError("broken"), SystemExit(3), asyncio.CancelledError(), GeneratorExit()])
def test_what_it_raises_is_the_runs_fault_alone(ledger: Ledger, raised: BaseException) -> None:
    """Exits and cancellations of its own too: the loop, the request and a sibling go on."""

    async def handler(task: Task) -> str:
        raise raised

    seen = Seen([])
    result = asyncio.run(_ainvoke(build(ledger, [free("a", handler), free("b", seen.handler)])))
    assert first_run(result).outcome is Outcome.FAILED
    assert first_run(result, "b").outcome is Outcome.COMPLETED


def test_context_variables_reach_the_handler_and_stay_there(ledger: Ledger) -> None:
    """It sees what its caller set; what it sets, its caller does not see."""

    async def handler(task: Task) -> str:
        was = WHO.get()
        WHO.set("the handler")
        return was

    async def main() -> tuple[str, str]:
        WHO.set("the caller")
        result = await _ainvoke(build(ledger, [free("a", handler)]))
        return answer_of(result), WHO.get()

    assert asyncio.run(main()) == ("the caller", "the caller")


def test_a_supervisor_inside_a_handler_runs_on_the_same_loop(any_ledger: Ledger) -> None:
    """Awaited there, it is charged to the outer run. A sync call there would block the loop, and is refused by name."""
    model = scripted("one")
    paying, loops = priced(model), list[asyncio.AbstractEventLoop]()

    async def pays(task: Task) -> str:
        loops.append(asyncio.get_running_loop())
        return (await paying.ainvoke("now")).text

    inner = build(any_ledger, [specialist("inner", pays)])

    async def outer(task: Task) -> str:
        with pytest.raises(BursarError, match="use ainvoke or astream there"):
            inner.invoke(QUESTION, session("s-inside"))
        loops.append(asyncio.get_running_loop())
        return answer_of(await inner.ainvoke(QUESTION, session("s-inside")))

    async def main() -> tuple[Any, bool]:
        result = await _ainvoke(build(any_ledger, [specialist("a", outer)]))
        return result, loops == [asyncio.get_running_loop()] * 2

    result, is_callers = asyncio.run(main())
    assert answer_of(result) == "one"
    assert is_callers
    assert result["spend"].spent.nanos == billed(model) > 0


@pytest.fixture
def warned() -> Iterator[tuple[threading.Event, list[str]]]:
    """An event that is set with the first warning in Bursar's log, and the warnings."""
    event, texts = threading.Event(), list[str]()

    class Hears(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            texts.append(record.getMessage())
            event.set()

    hears = Hears(logging.WARNING)
    logging.getLogger("bursar").addHandler(hears)
    yield event, texts
    logging.getLogger("bursar").removeHandler(hears)


@pytest.mark.parametrize("where", ["itself", "a task of it"])
def test_one_that_keeps_the_loop_busy_is_named_with_its_stack(
    ledger: Ledger, warned: tuple[threading.Event, list[str]], where: str
) -> None:
    """Once, in the log; also if a task blocks that it started. Its answer still counts."""
    event, texts = warned
    ledger.run(close_all)

    async def hogs_the_loop() -> str:
        assert event.wait(20)
        return "slow"

    async def handler(task: Task) -> str:
        return await (hogs_the_loop() if where == "itself" else asyncio.create_task(hogs_the_loop()))

    result = asyncio.run(_ainvoke(build(ledger, [free("hog", handler, timeout=60)])))
    assert answer_of(result) == "slow"
    assert len(texts) == 1
    assert "agent hog keeps its caller's event loop busy" in texts[0]
    assert "in hogs_the_loop" in texts[0]


def test_code_of_the_application_that_blocks_the_loop_names_no_agent(
    ledger: Ledger, warned: tuple[threading.Event, list[str]]
) -> None:
    """An agent that only waits meanwhile is not blamed."""
    event, texts = warned

    async def main() -> Any:
        begun, go = asyncio.Event(), asyncio.Event()

        async def handler(task: Task) -> str:
            begun.set()
            await go.wait()
            return "fine"

        request = asyncio.create_task(_ainvoke(build(ledger, [free("a", handler, timeout=60)])))
        await begun.wait()
        event.wait(0.8)  # the application's own code blocks the loop
        go.set()
        return await request

    assert answer_of(asyncio.run(main())) == "fine"
    assert texts == []
