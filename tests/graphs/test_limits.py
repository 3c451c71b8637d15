"""Every run ends in one outcome that a machine can read, at its limits, and tells of itself while it goes on."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import create_react_agent  # pyright: ignore[reportDeprecated, reportUnknownVariableType]

from bursar import Budget, Fault, Ledger, Limit, Outcome, Report, Task, Verdict, deterministic, save_partial
from bursar.nodes.isolation import workers as apart
from bursar.state.run import MAX_REPORT_BYTES
from tests.support.graphs import (
    RouteTo,
    answer_of,
    ask,
    billed,
    build,
    free,
    priced,
    rules,
    scripted,
    session,
    specialist,
    words,
)

QUESTION: Any = {"messages": [("user", "how much?")]}


@pytest.fixture
def never() -> Iterator[threading.Event]:
    """An event that is not set before the test ends."""
    event = threading.Event()
    yield event
    event.set()


def _ended(result: Any, name: str = "a") -> Any:
    return next(run for run in result["runs"] if run.specialist == name and run.level == 0)


def _asker(model: Any, times: int = 1) -> Callable[[Task], Any]:
    def handler(task: Task) -> str:
        return " ".join(model.invoke(f"{task.text} {number}").text for number in range(times))

    return handler


def test_a_limit_is_named(ledger: Ledger) -> None:
    """Money, ceiling and turns are told apart by a word, in the run and in the log."""
    dear, turning = priced(scripted(words(5)), words=20), priced(scripted("x", "x", "x"), words=1)
    app = build(
        ledger,
        [
            free("budget", _asker(priced(scripted(), words=40)), ceiling="0.03"),
            free("ceiling", _asker(dear), ceiling="0.005"),
            free("turns", _asker(turning, 3), max_turns=2),
        ],
    )
    result = ask(app)
    limits = {run.specialist: run.limit for run in result["runs"] if run.level == 0}
    # What the whole request cannot pay, the agent's account, capped at as much, cannot pay either.
    assert limits["budget"] in {Limit.BUDGET, Limit.CEILING}
    assert limits["ceiling"] is Limit.CEILING
    assert limits["turns"] is Limit.TURNS
    logged: dict[str, Any] = {
        event["specialist"]: event
        for row in ledger.audit("s-1")
        if row.kind == "run_ended" and (event := row.event.model_dump())["level"] == 0
    }
    assert {name: event["limit"] for name, event in logged.items()} == limits
    assert logged["turns"]["turns"] == 2


def test_a_fault_is_named(ledger: Ledger) -> None:
    """What raised, what wrote rubbish and what a provider broke are told apart by a word."""
    broken = priced(scripted(ValueError("the provider's words")))

    def dressed(task: Task) -> str:
        try:
            return broken.invoke(task.text).text
        except ValueError as error:
            raise RuntimeError("could not ask") from error

    def unreadable(task: Task) -> str:
        class Mute(Exception):
            def __str__(self) -> str:
                raise ValueError("no words")

        raise Mute

    def gives(make: Callable[[], Any]) -> Callable[[Task], Any]:
        return lambda task: make()

    handlers: dict[str, tuple[Any, Fault]] = {
        "raises": (gives(lambda: 1 / 0), Fault.HANDLER_ERROR),
        "mute": (unreadable, Fault.HANDLER_ERROR),
        "rubbish": (gives(object), Fault.BAD_OUTPUT),
        "yields": (gives(lambda: (part for part in "ab")), Fault.BAD_OUTPUT),
        "invalid": (gives(lambda: Report.model_validate({"answer": 3})), Fault.BAD_OUTPUT),
        "huge": (gives(lambda: Report(answer="x", data={"n": "x" * (MAX_REPORT_BYTES + 1)})), Fault.BAD_OUTPUT),
        "wide": (gives(lambda: Report(answer="x", sources=("y" * 1000,) * 2000)), Fault.BAD_OUTPUT),
        "provider": (dressed, Fault.PROVIDER),
    }
    result = ask(build(ledger, [specialist(name, h, expected_cost=0) for name, (h, _) in handlers.items()]))
    assert {run.specialist: run.fault for run in result["runs"] if run.level == 0} == {
        name: fault for name, (_, fault) in handlers.items()
    }
    assert _ended(result, "mute").reason == "Mute"
    assert all(f"{name} by rule" in answer_of(result) for name in handlers)


def test_a_coroutine_that_nobody_awaited_is_no_report(ledger: Ledger) -> None:
    """It is closed, and no warning is left for somebody else's turn."""

    async def later() -> str:
        return "x"

    async def handler(task: Task) -> Any:
        return later()

    run = _ended(ask(build(ledger, [free("a", handler)])))
    assert (run.fault, run.reason.endswith("not coroutine")) == (Fault.BAD_OUTPUT, True)


def test_an_awaitable_of_a_sync_function_is_awaited(ledger: Ledger) -> None:
    """A plain function may return a coroutine."""

    async def later() -> str:
        return "awaited"

    assert answer_of(ask(build(ledger, [free("a", lambda task: later())]))) == "awaited"


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
    for result in (ask(app), asyncio.run(app.ainvoke(QUESTION, session("s-2")))):
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
    time.sleep(1.5)  # noqa: ASYNC251 - that is the point


async def _aspin_inside(task: Task) -> Any:
    await asyncio.gather(asyncio.sleep(0), _aspin(task))


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
@pytest.mark.parametrize("handler", [_spin, _aspin, _asleep, _aspin_inside])
def test_a_handler_that_blocks_its_thread_keeps_no_deadline_from_passing(
    handler: Any, way: str, ledger: Ledger
) -> None:
    """CPU-bound or asleep in a coroutine: at the deadline the fallback runs, and a sibling keeps its work."""
    app = build(ledger, [free("a", handler, timeout=0.3), free("b", lambda task: "fine")])
    began = time.monotonic()
    result = ask(app) if way == "invoke" else asyncio.run(app.ainvoke(QUESTION, session()))
    took = time.monotonic() - began
    run = _ended(result)
    assert (run.outcome, run.limit) == (Outcome.EXHAUSTED, Limit.DEADLINE)
    assert "a by rule" in answer_of(result)
    assert "fine" in answer_of(result)
    assert took < 1.4, took
    until = time.monotonic() + 10
    while apart.abandoned_count("a") and time.monotonic() < until:
        time.sleep(0.02)
    assert apart.abandoned_count("a") == 0


def test_others_are_served_while_a_coroutine_blocks_the_loop(ledger: Ledger, never: threading.Event) -> None:
    """Once the loop is found blocked, new runs have another one; the blocked run's deadline is not needed for that."""
    blocked = threading.Event()

    async def blocks(task: Task) -> Any:
        blocked.set()
        never.wait(30)

    async def quick(task: Task) -> str:
        return "quick"

    app = build(ledger, [free("a", blocks, timeout=20)])
    other = build(ledger, [free("b", quick, timeout=0.5)])
    threading.Thread(target=lambda: ask(app, name="s-blocked"), daemon=True).start()
    assert blocked.wait(10)
    outcomes = [_ended(ask(other, name=f"s-{number}"), "b").outcome.value for number in range(6)]
    assert outcomes[-1] == "completed"
    never.set()


def test_an_agent_that_always_hangs_is_not_started_for_ever(
    ledger: Ledger, never: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Handlers that sit in a call that does not return are counted, by agent; beyond the limit none is started."""
    monkeypatch.setattr(apart, "MAX_ABANDONED", 2)
    app = build(ledger, [free("hanging", lambda task: never.wait(30), timeout=0.05), free("b", lambda task: "fine")])
    results = [ask(app, name=f"s-{number}") for number in range(3)]
    assert [_ended(result, "hanging").outcome.value for result in results] == ["exhausted", "exhausted", "failed"]
    assert _ended(results[2], "hanging").fault is Fault.UNAVAILABLE
    assert all("fine" in answer_of(result) for result in results)


def test_what_a_handler_has_so_far_is_kept(ledger: Ledger) -> None:
    """At its deadline, and where it fails, the run carries what the handler had said so far."""

    async def slow(task: Task) -> Any:
        save_partial("one half")
        save_partial(Report(answer="two halves", confidence=0.4))
        await asyncio.sleep(20)

    def broken(task: Task) -> Any:
        save_partial("broken off")
        raise ValueError

    @deterministic
    def no(task: Task) -> Report:
        raise ValueError

    app = build(ledger, [free("a", slow, timeout=0.1, fallbacks=[no]), free("b", broken, fallbacks=[no])])
    result = ask(app)
    assert (_ended(result).report.answer, _ended(result, "b").report.answer) == ("two halves", "broken off")
    assert "two halves" in answer_of(result)
    assert any("what it had is given" in gap for gap in result["gaps"])


def _looping_graph(model: Any) -> Any:
    def same(question: str) -> str:
        """Look it up."""
        return "nothing"

    return create_react_agent(model, [same])  # pyright: ignore[reportUnknownVariableType, reportDeprecated]


def _tool_call(number: int, question: str = "q") -> AIMessage:
    return AIMessage("", tool_calls=[{"name": "same", "args": {"question": question}, "id": f"c{number}"}])


@pytest.mark.filterwarnings("ignore:create_react_agent has been moved")
def test_the_same_tool_call_over_and_over_ends_the_run(ledger: Ledger) -> None:
    """A third call is served, the fourth is not, and no further call is paid; other arguments are another call."""
    loops = scripted(*(_tool_call(number) for number in range(8)))
    varies = scripted(*(_tool_call(number, f"q{number}") for number in range(5)), "found it")
    limits: dict[str, Any] = {"expected_cost": 0, "max_turns": 8}
    app = build(
        ledger,
        [
            specialist("a", _looping_graph(priced(loops, words=1)), **limits),
            specialist("b", _looping_graph(priced(varies, words=1)), **limits),
        ],
        budget=Budget("1"),
    )
    result = ask(app)
    assert (_ended(result).outcome, _ended(result).limit) == (Outcome.EXHAUSTED, Limit.LOOP)
    assert _ended(result).turns == len(loops.calls) == 4
    assert _ended(result, "b").outcome is Outcome.COMPLETED
    assert result["spend"].spent.nanos == billed(loops, varies)


def test_a_handler_that_swallows_a_loop_pays_for_no_further_call(ledger: Ledger) -> None:
    """The end of a loop stays, whatever the handler does with the exception."""
    model = scripted(*(_tool_call(number) for number in range(8)))
    chat = priced(model, words=1)

    def stubborn(task: Task) -> str:
        for number in range(8):
            try:
                chat.invoke(f"{number}")
            except BaseException:  # noqa: BLE001 - that is what it does
                continue
        return "never mind"

    run = _ended(ask(build(ledger, [specialist("a", stubborn, max_repeats=1)])))
    assert (run.limit, len(model.calls)) == (Limit.LOOP, 2)


def test_a_graph_that_takes_too_many_steps_is_exhausted(ledger: Ledger) -> None:
    """Its own recursion limit ends it, with the last thing that it said."""

    def on(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage(f"step {len(state['messages'])}")]}

    def again(state: MessagesState) -> str:
        return "on"

    graph = StateGraph(MessagesState)
    graph.add_node("on", on)  # pyright: ignore[reportUnknownMemberType]
    graph.add_edge(START, "on")
    graph.add_conditional_edges("on", again, ["on", END])
    run = _ended(ask(build(ledger, [free("a", graph.compile(), max_turns=1)])))  # pyright: ignore[reportUnknownMemberType]
    assert (run.outcome, run.limit) == (Outcome.EXHAUSTED, Limit.RECURSION)
    assert run.report.answer == "step 14"


def test_an_unsure_answer_is_asked_again_of_the_fallback(ledger: Ledger) -> None:
    """Below `min_confidence` the run has completed and its fallback is asked; the surest answer is given, and told."""

    @deterministic
    def surer(task: Task) -> Report:
        return Report(answer="surer", confidence=0.9)

    @deterministic
    def worse(task: Task) -> Report:
        return Report(answer="worse", confidence=0.0)

    def unsure(task: Task) -> Report:
        return Report(answer="unsure", confidence=0.4)

    app = build(
        ledger,
        [
            free("a", unsure, min_confidence=0.5, fallbacks=[surer]),
            free("b", unsure, min_confidence=0.5, fallbacks=[worse]),
            free("c", unsure, fallbacks=[surer]),
        ],
    )
    result = ask(app)
    assert answer_of(result).startswith("A\nsurer\n\nB\nunsure\n\nC\nunsure")
    assert (_ended(result).outcome, _ended(result).unsure) == (Outcome.COMPLETED, True)
    [a, b] = result["gaps"]
    assert a.startswith("a: confidence 0.40 is below the 0.50 that is asked for; surer answered instead, as of 20")
    assert b.endswith("its answer is given all the same")


class _Clock:
    """A clock that goes on with the real one, from wherever it was put."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


def test_fallbacks_share_what_is_left_of_the_requests_time(ledger: Ledger) -> None:
    """However long a chain is, the request ends by its deadline; the last resort has a little of its own."""

    def waits(name: str) -> Any:
        async def handler(task: Task) -> str:
            await asyncio.sleep(0.2 if name == "first" else 20)
            raise ValueError

        handler.__name__ = name
        return handler

    chain = [waits("second"), waits("third"), waits("fourth"), rules]
    app = build(ledger, [free("a", waits("first"), fallbacks=chain, timeout=10)], timeout=0.6)
    began = time.monotonic()
    result = ask(app)
    took = time.monotonic() - began
    assert [(run.handler, run.limit) for run in result["runs"]] == [
        ("a", None),
        ("second", Limit.REQUEST_DEADLINE),
        ("third", Limit.REQUEST_DEADLINE),
        ("fourth", Limit.REQUEST_DEADLINE),
        ("rules", None),
    ]
    assert answer_of(result).startswith("a by rule")
    assert 0.5 < took < 2, took


def test_a_resume_begins_no_new_time(ledger: Ledger) -> None:
    """The deadline is of the request's opening: resumed after it, chains go to their ends at once."""
    clock, stops = _Clock(), [KeyboardInterrupt()]

    def handler(task: Task) -> str:
        if stops:
            raise stops.pop()
        return "too late"

    app = build(ledger, [free("a", handler)], timeout=60, clock=clock)
    with pytest.raises(KeyboardInterrupt):
        ask(app)
    clock.ahead = timedelta(seconds=61)
    result = app.invoke(None, session())
    assert _ended(result).limit is Limit.REQUEST_DEADLINE
    assert answer_of(result).startswith("a by rule")


class _Hangs:
    """A router and a gate that never answer."""

    name = "gate"

    def __init__(self, never: threading.Event) -> None:
        self.never = never

    async def route(self, text: str, candidates: Any) -> Any:
        self.never.wait(30)

    def review_plan(self, request: Any, specialists: Any, *, now: Any) -> Verdict:
        return Verdict("allow")

    def review_answer(self, request: Any, answer: str, reports: Any, *, now: Any) -> Verdict:
        self.never.wait(30)
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


def _collect(app: Any, way: str) -> list[Any]:
    if way == "stream":
        return list(app.stream(QUESTION, session(), stream_mode="custom"))

    async def collect() -> list[Any]:
        return [part async for part in app.astream(QUESTION, session(), stream_mode="custom")]

    return asyncio.run(collect())


@pytest.mark.parametrize("way", ["stream", "astream"])
def test_a_run_tells_of_itself_while_it_goes_on(way: str, ledger: Ledger) -> None:
    """`custom` streams the start, each paid call and the one end of every run, the same in sync and async."""
    chat = priced(scripted("x", "x"), words=1)

    def fails(task: Task) -> str:
        _asker(chat, 2)(task)
        raise ValueError("no")

    told = _collect(build(ledger, [specialist("a", fails)]), way)
    assert [(part["bursar"], part["handler"], part["level"]) for part in told] == [
        ("started", "a", 0),
        ("turn", "a", 0),
        ("turn", "a", 0),
        ("terminal", "a", 0),
        ("started", "rules", 1),
        ("terminal", "rules", 1),
    ]
    assert [part["turn"] for part in told[1:3]] == [1, 2]
    end = told[3]
    assert (end["outcome"], end["fault"], end["reason"]) == ("failed", "handler_error", "ValueError: no")
    assert (end["turns"], end["cost"]) == (2, "0.002000000")
    assert told[5]["outcome"] == "completed"
    assert "limit" not in end


def test_a_fallback_that_may_pay_is_priced_anew(ledger: Ledger) -> None:
    """A link whose expected cost no longer fits is not called; the chain goes on to one that does."""
    model, called = priced(scripted(words(20)), words=20), list[str]()

    def spends(task: Task) -> str:
        model.invoke(task.text)
        raise ValueError("for nothing")

    def dear(task: Task) -> str:
        called.append("dear")
        return "dear"

    first = specialist("a", spends, ceiling="0.02", expected_cost="0.02", fallbacks=["b"])
    second = specialist("b", dear, ceiling="0.02", expected_cost="0.02")
    result = ask(build(ledger, [first, second], router=RouteTo(("a",))))
    runs = [run for run in result["runs"] if run.specialist == "a"]
    assert [(run.handler, run.limit) for run in runs] == [("a", None), ("b", Limit.BUDGET), ("rules", None)]
    assert called == []
    assert "the budget had no room for b: expects $0.02, $0.01 left" in runs[1].reason


def test_a_report_that_fails_is_still_an_answer(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the parts cannot be put together, the answer says so, and the request is closed."""
    from bursar.nodes import report

    def broken(name: str) -> str:
        raise RecursionError("too deep")

    monkeypatch.setattr(report, "_title", broken)
    result = ask(build(ledger, [free(name, lambda task: "x") for name in "ab"]))
    assert result["ending"] == "answered_with_gaps"
    assert "report: RecursionError: too deep; what a, b answered is not given" in answer_of(result)
    assert "request_closed" in [row.kind for row in ledger.audit("s-1")]


def test_supervisor_and_specialists_do_not_play_ping_pong(ledger: Ledger) -> None:
    """However they fail, a request passes the supervisor twice: on its way in, and when every chain has ended."""

    def fails(name: str) -> Any:
        def handler(task: Task) -> str:
            raise ValueError

        handler.__name__ = name
        return handler

    names = [f"s{number}" for number in range(5)]
    chains = [[*names[number + 1 :][:1], rules] for number in range(5)]
    app = build(ledger, [free(name, fails(name), fallbacks=chain) for name, chain in zip(names, chains, strict=True)])
    nodes = [name for part in app.stream(QUESTION, session(), stream_mode="updates") for name in part]
    assert nodes.count("supervisor") == 2
    assert len(nodes) == len(set(nodes)) + 1
