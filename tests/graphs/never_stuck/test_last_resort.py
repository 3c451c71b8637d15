"""The end of a chain: it answers without a model, says as of when, and does nothing else; and what comes too late."""

import json
import threading
from datetime import UTC, datetime
from typing import Any

import pytest
from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import PydanticOutputParser
from langchain_core.tools import tool
from pydantic import BaseModel

from bursar import Fault, Ledger, Limit, Outcome, Report, Task, deterministic, save_partial
from tests.support.graphs import answer_of, ask, billed, build, free, priced, scripted, session, specialist

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
EARLIER = datetime(2026, 11, 1, tzinfo=UTC)


def fails(task: Task) -> Report:
    """What every chain here begins with."""
    raise ValueError("no")


class Amount(BaseModel):
    """What a model is asked for."""

    cents: int


@pytest.mark.parametrize(("given", "stated"), [(None, NOW), (EARLIER, EARLIER)])
def test_it_states_as_of_when_it_holds(ledger: Ledger, given: datetime | None, stated: datetime) -> None:
    """Its own time where it names one, else that of the request; the answer has it."""

    @deterministic
    def last(task: Task) -> Report:
        return Report(answer="by rule", as_of=given)

    result = ask(build(ledger, [specialist("a", fails, fallbacks=[last])], clock=lambda: NOW))
    assert result["runs"][-1].report.as_of == stated
    assert stated.date().isoformat() in answer_of(result)


def test_it_asks_no_model(ledger: Ledger) -> None:
    """A metered model is refused before anything is held, one that is not is vetoed; the answer says that it failed."""
    model = scripted()

    @deterministic
    def pays(task: Task) -> Report:
        return Report(answer=priced(model).invoke(task.text).text)

    @deterministic
    def goes_round(task: Task) -> Report:
        return Report(answer=model.invoke(task.text).text)

    app = build(ledger, [specialist(f.__name__, fails, fallbacks=[f]) for f in (pays, goes_round)])
    result = ask(app)
    last = {run.handler: run for run in result["runs"] if run.level == 1}
    assert {name: run.outcome for name, run in last.items()} == {"pays": "exhausted", "goes_round": "failed"}
    assert "deterministic" in last["pays"].reason
    assert model.calls == []
    assert billed(model) == 0
    assert [row.kind for row in ledger.audit("s-1")].count("call_held") == 0


def test_a_tool_agent_and_a_chain_end_alike(ledger: Ledger) -> None:
    """Where a tool agent fails, its fallback answers and is told, as for one that may pay."""

    @deterministic
    def tool_agent(task: Task) -> Report:
        raise OSError("down")

    @deterministic
    def last(task: Task) -> Report:
        return Report(answer="by rule")

    result = ask(build(ledger, [specialist("a", tool_agent, fallbacks=[last])], show_errors=True))
    assert "a: OSError: down (reference " in answer_of(result)
    assert "; last answered instead" in answer_of(result)


def test_what_was_left_behind_writes_nothing(ledger: Ledger) -> None:
    """What it returns, keeps and changes after its deadline is in no state, checkpoint or log."""
    go, gone = threading.Event(), threading.Event()

    def late(task: Task) -> Report:
        try:
            go.wait(60)
        finally:  # it may be stopped here
            save_partial("kept too late")
            gone.set()
        return Report(answer="returned too late")

    app = build(ledger, [free("a", late, timeout=3)])
    result = ask(app)
    before, log = app.get_state(session()), ledger.audit("s-1")
    go.set()
    assert gone.wait(60)
    assert app.get_state(session()) == before
    assert ledger.audit("s-1") == log
    assert "too late" not in str(result)
    assert "too late" not in str(app.invoke(None, session()))


def test_a_resume_grants_no_fresh_steps(ledger: Ledger) -> None:
    """Stopped before each of its steps and resumed, a request takes as many as in one piece, and no more."""
    app = build(ledger, [specialist("a", fails, fallbacks=["b"]), specialist("b", fails)])
    nodes = [
        name for part in app.stream({"messages": [("user", "x")]}, session(), stream_mode="updates") for name in part
    ]
    entered: Any = {"messages": [("user", "x")]}
    stops = 0
    while app.get_state(session("s-2")).next or entered:  # ends: a request has so many steps
        app.invoke(entered, session("s-2"), interrupt_before="*")
        entered = None
        stops += bool(app.get_state(session("s-2")).next)
        assert stops <= len(nodes)
    kinds = [row.kind for row in ledger.audit("s-2")]
    assert kinds.count("request_opened") == kinds.count("request_closed") == 1
    assert kinds.count("run_ended") == [row.kind for row in ledger.audit("s-1")].count("run_ended")


def test_turns_are_counted_across_resumes(ledger: Ledger) -> None:
    """An agent that was stopped in its run has the turns that are left of it, whatever it asks then."""
    model, legs = scripted("one", "two"), list[int]()
    chat = priced(model, words=1)

    def asks(task: Task) -> str:
        legs.append(1)
        for number in range(5):
            chat.invoke(f"leg {len(legs)}, {number}")
            if len(legs) == 1:
                raise KeyboardInterrupt
        return "never"

    app = build(ledger, [free("a", asks, max_turns=2)])
    with pytest.raises(KeyboardInterrupt):
        ask(app)
    [run, _] = app.invoke(None, session())["runs"]
    assert (run.outcome, run.limit) == (Outcome.EXHAUSTED, Limit.TURNS)
    assert len(model.calls) == 2


def test_what_a_model_writes_may_not_fit(ledger: Ledger) -> None:
    """Text that is not the JSON that was asked for, arguments that a tool does not take: by name, with the agent's."""

    @tool
    def pay(cents: int) -> str:
        """Pay so many cents."""
        return f"{cents} paid"

    prose, wrong = priced(scripted("about seven")), priced(scripted(json.dumps({"cents": "seven"})))
    call = {"name": "pay", "args": {"cents": "seven"}, "id": "c-1", "type": "tool_call"}
    calls = priced(scripted(AIMessage("", tool_calls=[call])))  # pyright: ignore[reportArgumentType]

    def parses(model: Any) -> Any:
        def handler(task: Task) -> str:
            return str(PydanticOutputParser(pydantic_object=Amount).invoke(model.invoke(task.text)))

        return handler

    def calls_tool(task: Task) -> str:
        return str(pay.invoke(calls.invoke(task.text).tool_calls[0]))

    def says_so(task: Task) -> str:
        raise OutputParserException("no JSON")

    handlers = {"prose": parses(prose), "wrong": parses(wrong), "calls": calls_tool, "says": says_so}
    result = ask(build(ledger, [free(name, handler) for name, handler in handlers.items()]))
    ends = {run.specialist: run for run in result["runs"] if run.level == 0}
    assert {name: run.fault for name, run in ends.items()} == dict.fromkeys(handlers, Fault.BAD_OUTPUT)
    assert all(f"{name}: {run.reason}" in answer_of(result) for name, run in ends.items())
