"""A session that waits while a new version of the application is deployed: its agents were renamed or removed."""

import asyncio
from typing import Any

import pytest
from langgraph.types import Command, interrupt

from bursar import Ledger, Report, Specialist, Task
from bursar.state.errors import ConfigurationError
from tests.support.graphs import answer_of, ask, build, free, priced, scripted, session, specialist

GONE = "it did not run, because this version of the application has no such agent"


def _waits(task: Task) -> Report:
    return Report(answer=f"said {interrupt('sure?')}")


def _other(task: Task) -> Report:
    return Report(answer="OTHER")


def _interrupted(ledger: Ledger, *specialists: Specialist) -> None:
    assert "__interrupt__" in ask(build(ledger, specialists))


def _resumed(ledger: Ledger, *specialists: Specialist, way: str = "invoke") -> Any:
    app = build(ledger, specialists)
    if way == "ainvoke":
        return asyncio.run(app.ainvoke(Command(resume="yes"), session()))
    return app.invoke(Command(resume="yes"), session())


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
def test_a_renamed_agent_takes_its_steps_over(any_ledger: Ledger, way: str) -> None:
    """Under its former name it is resumed where it stood, and the next question goes to the new name."""
    _interrupted(any_ledger, free("one", _waits))
    result = _resumed(any_ledger, free("uno", _waits, was=["one"]), way=way)
    assert (result["ending"], answer_of(result), result["gaps"]) == ("answered", "said yes", [])
    assert any_ledger.verify("s-1")
    again = ask(build(any_ledger, [free("uno", _other, was=["one"])]))
    assert [run.specialist for run in again["runs"]] == ["uno"]


def test_what_was_paid_under_the_former_name_is_not_paid_again(any_ledger: Ledger) -> None:
    """Its paid answers are replayed, and its account is the same."""
    with scripted("thought") as model:
        metered = priced(model)

        def thinks(task: Task) -> Report:
            return Report(answer=f"{metered.invoke(task.text).text}, {interrupt('sure?')}")

        _interrupted(any_ledger, specialist("one", thinks))
        result = _resumed(any_ledger, specialist("uno", thinks, was=["one"]))
    assert answer_of(result) == "thought, yes"
    assert any_ledger.spend("s-1").calls == 1


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
def test_a_removed_agent_is_a_gap_by_name(any_ledger: Ledger, way: str) -> None:
    """The request ends with an answer that names it, and the session takes new questions."""
    _interrupted(any_ledger, free("one", _waits))
    result = _resumed(any_ledger, free("two", _other), way=way)
    assert result["ending"] == "answered_with_gaps"
    assert result["gaps"] == [f"one: {GONE}; nothing answered in its place"]
    assert answer_of(ask(build(any_ledger, [free("two", _other)]))) == "OTHER"
    assert any_ledger.verify("s-1")


def test_the_answer_of_the_others_stands(any_ledger: Ledger) -> None:
    """An agent that had answered before the deployment is in the answer; the removed one is its gap."""
    _interrupted(any_ledger, free("one", _waits), free("two", _other))
    result = _resumed(any_ledger, free("two", lambda task: "not run again"))
    assert answer_of(result).startswith("OTHER")
    assert result["gaps"] == [f"one: {GONE}; nothing answered in its place"]


@pytest.mark.parametrize("was", [[], ["one"]])
def test_a_plan_of_the_former_version_is_carried_out(any_ledger: Ledger, was: list[str]) -> None:
    """Where the graph stopped before any agent ran, the plan's names are found, or are gaps."""
    app = build(any_ledger, [free("one", _other), free("two", _other)])
    app.invoke({"messages": [("user", "go")]}, session(), interrupt_before=["one", "two"])
    result = build(any_ledger, [free("uno", _other, was=was), free("two", _other)]).invoke(None, session())
    assert [run.specialist for run in result["runs"]] == [*(["one"] if was else []), "two"]
    assert result["gaps"] == ([] if was else [f"one: {GONE}; nothing answered in its place"])


def test_an_ended_session_is_left_alone(any_ledger: Ledger) -> None:
    """Resuming it under another version gives its answer again, and writes no further one."""
    ask(build(any_ledger, [free("one", _other)]))
    app = build(any_ledger, [free("two", lambda task: "another")])
    assert answer_of(app.invoke(None, session())) == "OTHER"
    assert len(app.get_state(session()).values["messages"]) == 2


@pytest.mark.parametrize(
    ("was", "what"),
    [("one", "write \\[name\\]"), (["a b"], "was no name of it"), (["two"], "is taken by another specialist")],
)
def test_a_bad_former_name_is_refused(ledger: Ledger, was: Any, what: str) -> None:
    """It must be a name that no other specialist has."""
    with pytest.raises(ConfigurationError, match=what):
        build(ledger, [free("uno", _other, was=was), free("two", _other)])
