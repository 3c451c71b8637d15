"""Every run ends in one outcome that a machine can read, at its limits, and tells of itself while it goes on."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import create_react_agent  # pyright: ignore[reportDeprecated, reportUnknownVariableType]

from bursar import Budget, Fault, Ledger, Limit, Outcome, Report, Task, deterministic, save_partial
from bursar.state.run import MAX_REPORT_BYTES
from tests.support.graphs import (
    QUESTION,
    RouteTo,
    answer_of,
    ask,
    billed,
    build,
    first_run,
    free,
    priced,
    rules,
    scripted,
    session,
    specialist,
    words,
)


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
    result = ask(
        build(ledger, [specialist(name, h, expected_cost=0) for name, (h, _) in handlers.items()], show_errors=True)
    )
    assert {run.specialist: run.fault for run in result["runs"] if run.level == 0} == {
        name: fault for name, (_, fault) in handlers.items()
    }
    assert first_run(result, "mute").reason.startswith("Mute (reference ")
    assert all(f"{name} by rule" in answer_of(result) for name in handlers)


def test_a_coroutine_that_nobody_awaited_is_no_report(ledger: Ledger) -> None:
    """It is closed, and no warning is left for somebody else's turn."""

    async def later() -> str:
        return "x"

    async def handler(task: Task) -> Any:
        return later()

    run = first_run(ask(build(ledger, [free("a", handler)], show_errors=True)))
    assert (run.fault, "not coroutine" in run.reason) == (Fault.BAD_OUTPUT, True)


def test_an_awaitable_of_a_sync_function_is_awaited(ledger: Ledger) -> None:
    """A plain function may return a coroutine."""

    async def later() -> str:
        return "awaited"

    assert answer_of(ask(build(ledger, [free("a", lambda task: later())]))) == "awaited"


def test_what_a_handler_has_so_far_is_kept(ledger: Ledger) -> None:
    """At its deadline, and where it fails, the run carries what the handler had said so far."""

    async def slow(task: Task) -> Any:
        save_partial("one half")
        save_partial(Report(answer="two halves", confidence=0.4))
        await asyncio.sleep(60)

    def broken(task: Task) -> Any:
        save_partial("broken off")
        raise ValueError

    @deterministic
    def no(task: Task) -> Report:
        raise ValueError

    app = build(ledger, [free("a", slow, timeout=3, fallbacks=[no]), free("b", broken, fallbacks=[no])])
    result = ask(app)
    assert (first_run(result).report.answer, first_run(result, "b").report.answer) == ("two halves", "broken off")
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
    """A third call in a row is served, the fourth is not, and no further call is paid.

    Other arguments are another call, and two calls that take turns are no loop.
    """
    loops = scripted(*(_tool_call(number) for number in range(8)))
    varies = scripted(*(_tool_call(number, f"q{number}") for number in range(5)), "found it")
    polls = scripted(*(_tool_call(number, f"q{number % 2}") for number in range(8)), "found it")
    limits: dict[str, Any] = {"expected_cost": 0, "max_turns": 9}
    app = build(
        ledger,
        [
            specialist("a", _looping_graph(priced(loops, words=1)), **limits),
            specialist("b", _looping_graph(priced(varies, words=1)), **limits),
            specialist("c", _looping_graph(priced(polls, words=1)), **limits),
        ],
        budget=Budget("1"),
    )
    result = ask(app)
    assert (first_run(result).outcome, first_run(result).limit) == (Outcome.EXHAUSTED, Limit.LOOP)
    assert first_run(result).turns == len(loops.calls) == 4
    assert first_run(result, "b").outcome is first_run(result, "c").outcome is Outcome.COMPLETED
    assert result["spend"].spent.nanos == billed(loops, varies, polls)


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

    run = first_run(ask(build(ledger, [specialist("a", stubborn, max_repeats=1)])))
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
    run = first_run(ask(build(ledger, [free("a", graph.compile(), max_turns=1)])))  # pyright: ignore[reportUnknownMemberType]
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
    assert (first_run(result).outcome, first_run(result).unsure) == (Outcome.COMPLETED, True)
    [a, b] = result["gaps"]
    assert a.startswith("a: confidence 0.40 is below the 0.50 that is asked for; surer answered instead, as of 20")
    assert b.endswith("its answer is given all the same")


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

    decided, admitted, *told = _collect(build(ledger, [specialist("a", fails)]), way)
    assert [(part["bursar"], part["specialist"], part["chosen"]) for part in (decided, admitted)] == [
        ("decided", "supervisor", ["a"]),
        ("decided", "guardian", ["a"]),
    ]
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
    assert (end["outcome"], end["fault"]) == ("failed", "handler_error")
    assert end["reason"].startswith("it failed with an error (reference ")
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
    assert "report: it failed with an error (reference " in answer_of(result)
    assert "; what a, b answered is not given" in answer_of(result)
    assert "request_closed" in [row.kind for row in ledger.audit("s-1")]


def test_supervisor_and_specialists_do_not_play_ping_pong(ledger: Ledger) -> None:
    """However they fail, a request passes the supervisor once, on its way in, and the report once, at its end."""

    def fails(name: str) -> Any:
        def handler(task: Task) -> str:
            raise ValueError

        handler.__name__ = name
        return handler

    names = [f"s{number}" for number in range(5)]
    chains = [[*names[number + 1 :][:1], rules] for number in range(5)]
    app = build(ledger, [free(name, fails(name), fallbacks=chain) for name, chain in zip(names, chains, strict=True)])
    nodes = [name for part in app.stream(QUESTION, session(), stream_mode="updates") for name in part]
    assert (nodes[0], nodes[-1]) == ("supervisor", "report")
    assert len(nodes) == len(set(nodes))
