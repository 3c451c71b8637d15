"""Never stuck, never down: whatever handlers, routers and gates do, the request ends with an answer that says so."""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from langgraph.types import Command

from bursar import Ledger, Outcome, Report, Task, deterministic
from bursar.graphs.supervisor import coordinator_of, with_coordinator
from bursar.nodes.routers.base import Candidate, Scores
from bursar.nodes.routers.example_router import ExampleRouter
from bursar.state.events import RunEnded
from bursar.state.refusals import ScopeClosed
from bursar.state.run import MAX_ANSWER_CHARACTERS
from tests.support.graphs import RouteTo, answer_of, ask, billed, build, free, priced, rules, scripted, session


class Panic(BaseException):
    """What libraries written in Rust raise."""


def _raising(error: BaseException) -> Any:
    def handler(task: Task) -> Report:
        raise error

    return handler


def _araising(error: BaseException) -> Any:
    async def handler(task: Task) -> Report:
        raise error

    return handler


ERRORS = [
    ValueError("two\nlines"),
    SystemExit(2),
    Panic("rust"),
    GeneratorExit(),
    StopIteration(),
    asyncio.CancelledError("own"),
    MemoryError(),
    RecursionError("deep"),
    ExceptionGroup("several", [ValueError("x")]),
    ValueError("\ud800 \x00"),
    ValueError("x" * 100_000),
]


@pytest.mark.parametrize("make", [_raising, _araising], ids=["sync", "async"])
@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
def test_whatever_a_handler_raises_it_has_failed(make: Any, way: str, ledger: Ledger) -> None:
    """An exit, a panic or a cancellation of its own is an outcome; the next session is served as if nothing was."""
    app = build(ledger, [free(f"s{n}", make(error)) for n, error in enumerate(ERRORS)])
    entered: Any = {"messages": [("user", "now")]}
    result = app.invoke(entered, session()) if way == "invoke" else asyncio.run(app.ainvoke(entered, session()))
    runs = [run for run in result["runs"] if run.level == 0]
    assert [run.outcome for run in runs] == [Outcome.FAILED] * len(ERRORS)
    assert all("\n" not in run.reason and len(run.reason) < 400 for run in runs)
    assert all(f"s{n} by rule" in answer_of(result) for n in range(len(ERRORS)))
    assert result["gaps"][0].startswith("s0: it failed with an error (reference ")
    assert "; rules answered instead, as of 20" in result["gaps"][0]
    assert answer_of(ask(build(ledger, [free("a", lambda task: "fine")]), name="s-2")) == "fine"


@pytest.mark.parametrize("make", [_raising, _araising], ids=["sync", "async"])
@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
def test_a_keyboard_interrupt_interrupts(make: Any, way: str, ledger: Ledger) -> None:
    """Ctrl-C ends the program's call and no run; the session goes on where it was."""
    stops: list[BaseException] = [KeyboardInterrupt()]

    def handler(task: Task) -> Any:
        return make(stops.pop())(task) if stops else "after all"

    app = build(ledger, [free("a", handler)])
    entered: Any = {"messages": [("user", "now")]}
    with pytest.raises(KeyboardInterrupt):
        _ = app.invoke(entered, session()) if way == "invoke" else asyncio.run(app.ainvoke(entered, session()))
    assert "run_ended" not in [row.kind for row in ledger.audit("s-1")]
    assert answer_of(app.invoke(None, session())) == "after all"


def _constructed(task: Task) -> Any:
    return Report.model_construct(answer=None)


def _spoilt(task: Task) -> Any:
    report = Report(answer="x", data={})
    report.data["key"] = object()  # type: ignore[index]
    return report


RUBBISH: dict[str, Callable[[Task], Any]] = {
    "nothing": lambda task: None,
    "a number": lambda task: 7,
    "bytes": lambda task: b"x",
    "an empty state": lambda task: {"messages": []},
    "an empty dict": lambda task: {},
    "a dict of objects": lambda task: {"answer": object()},
    "an unchecked report": _constructed,
    "a spoilt report": _spoilt,
    "too large a number": lambda task: Report(answer="x", data={"n": 10**30}),
    "a key that is no text": lambda task: Report(answer="x", data={"\ud800": 1}),
    "half a character": lambda task: "\ud800",
    "too long a text": lambda task: "x" * (MAX_ANSWER_CHARACTERS + 1),
    "a bad confidence": lambda task: Report(answer="x", confidence=float("nan")),
    "orders for its own graph": lambda task: Command(goto="report"),
}


def test_rubbish_is_a_failure_by_name(ledger: Ledger) -> None:
    """What is no report, or cannot be kept, fails its run; the others' answers stand."""
    names = {f"s{n}": kind for n, kind in enumerate(RUBBISH)}
    app = build(ledger, [*(free(n, RUBBISH[kind]) for n, kind in names.items()), free("fine", lambda t: "ok")])
    result = ask(app)
    ends = {run.specialist: run for run in result["runs"] if run.level == 0}
    assert {name: ends[name].outcome for name in names if ends[name].outcome != "failed"} == {}
    assert ends["fine"].outcome == "completed"
    assert ends["s0"].reason.startswith("its output, a NoneType, could not be used (reference ")
    ended = [row.event for row in ledger.audit("s-1") if isinstance(row.event, RunEnded)]
    logged = next(event.reason for event in ended if event.handler == "s0")
    assert logged.startswith("BadOutput: a handler returns a Report, a str or a message")
    assert "not NoneType" in logged


def test_an_empty_answer_is_an_answer(ledger: Ledger) -> None:
    """Empty and exotic texts, and an answer of the greatest size, pass through whole."""
    texts = {"a": "", "b": "\uffff \U0001f469\u200d\U0001f680 \u202e \x00", "c": "x" * MAX_ANSWER_CHARACTERS}

    def text_of(task: Task) -> str:
        return texts[task.specialist]

    result = ask(build(ledger, [free(name, text_of) for name in texts]))
    assert result["ending"] == "answered"
    assert {run.specialist: run.report and run.report.answer for run in result["runs"]} == texts


def test_a_handler_that_hangs_is_left_behind(ledger: Ledger, never: threading.Event) -> None:
    """Sync or async, and where it swallows its cancellation: at the deadline the fallback runs."""
    swallowed = threading.Event()

    def blocks(task: Task) -> Any:
        never.wait(60)

    async def waits(task: Task) -> Any:
        await asyncio.sleep(60)

    async def swallows(task: Task) -> Any:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            swallowed.set()
            await asyncio.sleep(0.5)

    handlers = (blocks, waits, swallows)
    app = build(ledger, [free(f.__name__, f, timeout=2) for f in handlers])
    started = time.monotonic()
    result = ask(app)
    assert time.monotonic() - started < 50
    ends = {run.specialist: run for run in result["runs"] if run.level == 0}
    assert {run.outcome for run in ends.values()} == {Outcome.EXHAUSTED}
    assert all(f"{f.__name__}: no answer within 2 s; rules answered instead" in answer_of(result) for f in handlers)
    assert swallowed.wait(60)


def test_what_was_left_behind_cannot_pay(ledger: Ledger) -> None:
    """A handler that goes on after its deadline, and takes no stop for an end, is refused at its next paid call."""
    model = scripted("late")
    paid, go, gone = priced(model, words=1), threading.Event(), threading.Event()
    errors: list[BaseException] = []

    def late(task: Task) -> Any:
        while not errors or not isinstance(errors[-1], ScopeClosed):
            try:
                go.wait(60)
                paid.invoke(task.text)
            except BaseException as error:  # noqa: BLE001 - the test looks at it
                errors.append(error)
        gone.set()

    result = ask(build(ledger, [free("a", late, timeout=3)]))
    go.set()
    assert gone.wait(60)
    assert {type(error).__name__ for error in errors} <= {"ScopeClosed", "HandlerStopped"}
    assert answer_of(result).startswith("a by rule")
    assert billed(model) == 0


HANGING = """
import asyncio, threading
from bursar import *
from tests.support.graphs import answer_of, build, free, session

app = build(Ledger("sqlite://"), [free("a", lambda task: threading.Event().wait(), timeout=0.1)])
entered = {"messages": [("user", "now")]}
print(answer_of(app.invoke(entered, session())).splitlines()[0])
print(answer_of(asyncio.run(app.ainvoke(entered, session()))).splitlines()[0])
"""


def test_a_process_ends_although_a_handler_does_not() -> None:
    """Threads that were left behind for ever do not keep the program from ending."""
    done = subprocess.run([sys.executable, "-c", HANGING], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "a by rule\n" * 2), done.stderr


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_a_chain_is_tried_in_order_to_its_end(length: int, ledger: Ledger) -> None:
    """Each failing link runs once, in order, and the last resort answers."""
    tried: list[int] = []

    def failing(number: int) -> Any:
        def handler(task: Task) -> Report:
            tried.append(number)
            raise ValueError(number)

        handler.__name__ = f"link{number}"
        return handler

    links = [failing(number) for number in range(length)]
    result = ask(build(ledger, [free("a", links[0], fallbacks=[*links[1:], rules])]))
    assert tried == list(range(length))
    assert [(run.level, run.outcome) for run in result["runs"]] == [
        *((number, Outcome.FAILED) for number in range(length)),
        (length, Outcome.COMPLETED),
    ]
    taken = [row.event.model_dump() for row in ledger.audit("s-1") if row.kind == "fallback_taken"]
    assert len(taken) == length
    assert taken[-1]["next"] == "rules"


def test_a_chain_that_fails_to_its_last_resort_is_still_an_answer(ledger: Ledger) -> None:
    """Where even the last resort fails, the answer names everything that was tried."""

    @deterministic
    def broken(task: Task) -> Report:
        raise OSError("no data")

    result = ask(build(ledger, [free("a", _raising(ValueError("first")), fallbacks=[broken])]))
    assert result["ending"] == "answered_with_gaps"
    assert answer_of(result).count("it failed with an error (reference ") == 2
    assert "; nothing answered in its place" in answer_of(result)


def test_a_slow_branch_joins_once(ledger: Ledger) -> None:
    """A quick branch does not end the request before one with a long chain, and the report is written once."""

    def failing(name: str) -> Any:
        def handler(task: Task) -> Report:
            raise ValueError(name)

        handler.__name__ = name
        return handler

    slow = free("slow", failing("one"), fallbacks=[failing("two"), failing("three"), rules])
    app = build(ledger, [slow, free("quick", lambda task: "quick answer")])
    nodes = [
        name for part in app.stream({"messages": [("user", "x")]}, session(), stream_mode="updates") for name in part
    ]
    assert nodes.count("report") == 1
    assert nodes.count("supervisor") == 1
    assert nodes[-1] == "report"
    assert [row.kind for row in ledger.audit("s-1")].count("request_closed") == 1
    text = answer_of(app.get_state(session()).values)
    assert "quick answer" in text
    assert "slow by rule" in text


def test_results_stand_in_plan_order(ledger: Ledger) -> None:
    """However long each takes, the answer's parts stand in the order of the plan."""
    gates = [threading.Event() for _ in range(4)]
    gates[3].set()

    def handler(task: Task) -> str:
        place = "abcd".index(task.specialist)
        gates[place].wait(60)
        if place:
            gates[place - 1].set()
        return f"<{task.specialist}>"

    result = ask(build(ledger, [free(name, handler) for name in "abcd"]))
    assert answer_of(result) == "A\n<a>\n\nB\n<b>\n\nC\n<c>\n\nD\n<d>"


class _Router:
    def __init__(self, scores: Any) -> None:
        self.scores = scores

    async def route(self, text: str, candidates: Sequence[Candidate]) -> Scores:
        if isinstance(self.scores, BaseException):
            raise self.scores
        return self.scores


ROUTERS = {
    "raises": (ValueError("secret words"), "the router failed: ValueError"),
    "exits": (SystemExit(1), "the router failed: SystemExit"),
    "rubbish": (None, "the router failed: TypeError"),
    "not a number": (Scores({"a": float("nan")}, ("a",), 1.0, "x"), "the router failed: TypeError"),
    "nobody": (Scores({}, (), 1.0, "x"), "None of the specialists fits this request"),
    "strangers": (Scores({"z": 1.0}, ("z",), 1.0, "x"), "the router failed: TypeError"),
}


@pytest.mark.parametrize("case", ROUTERS, ids=str)
def test_a_router_takes_no_request_down(case: str, ledger: Ledger) -> None:
    """A router that fails leaves an answer that says so, without its words."""
    scores, gap = ROUTERS[case]
    app = build(ledger, [free("a", lambda task: "x")], router=_Router(scores))
    result = ask(app)
    assert [text.partition(" (reference ")[0] for text in result["gaps"]] == [gap]
    assert result["runs"] == []
    assert "secret" not in answer_of(result)


class _Hanging(ExampleRouter):
    hangs: threading.Event | None = None

    async def route(self, text: str, candidates: Sequence[Candidate]) -> Scores:
        if self.hangs is not None:
            self.hangs.wait(60)
        return await super().route(text, candidates)


def test_a_router_made_of_the_built_in_one_has_a_deadline(ledger: Ledger, never: threading.Event) -> None:
    """Only the built-in router is known to be brief; what a class of the user's adds to it may hang."""
    router = _Hanging()
    app = build(ledger, [free("a", lambda task: "x", examples=["how much for food?"])], router=router)
    app = with_coordinator(app, replace(coordinator_of(app), router_timeout_seconds=0.2))
    router.fit([Candidate("a", "a", ("how much for food?",))])
    router.hangs = never
    assert "the router gave no answer within 0.2 s" in ask(app)["gaps"][0]


def test_one_specialist_is_asked_where_one_fits(ledger: Ledger) -> None:
    """Only who fits runs."""
    app = build(ledger, [free(name, lambda task: task.specialist) for name in "abc"], router=RouteTo(("b",)))
    assert answer_of(ask(app)) == "b"
