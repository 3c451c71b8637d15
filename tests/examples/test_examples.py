"""The examples: each runs by itself, without a key, says what it should, and leaves books that agree."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage

from bursar import Budget, Ledger, Specialist, build_supervisor, meter
from bursar.testing import ScriptedModel
from examples.two_agents import QUESTION, agents, doubles, nobody
from tests.support.graphs import RouteTo

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
MOST_LINES = 99
SUM = "The combined headcount is 1,977,586."

SAID = {
    "research_team": [
        "search: completed, $0.0000051",
        "write@2: completed, $0.0000138",
        "supervisor: value per expected cost under what is left; the draft lacks what it costs",
        "answer: It saves 40 % of the heat, for 18,000.",
        "paid calls: 6 books agree: True",
    ],
    "support_desk": [
        "bob: triage hands over to refunds",
        "bob: 49.90 paid back for order A-17.",
        "- refunds: not approved: denied by ann; nothing answered in its place",
        "refunds: 1 books agree: True",
    ],
    "two_agents": [SUM, "paid calls: 7 books agree: True"],
}


def test_each_example_is_small_and_tried() -> None:
    """The test below knows what each of them says, and none is longer than a screen or two."""
    assert [file.stem for file in EXAMPLES] == sorted(SAID)
    assert [file.stem for file in EXAMPLES if len(file.read_text().splitlines()) > MOST_LINES] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", SAID)
def test_an_example_runs_by_itself(name: str, tmp_path: Path) -> None:
    """From any folder, in an environment that has no key; it says what it should and leaves no file behind."""
    said = _said_by(name, tmp_path)
    assert [line for line in SAID[name] if line not in said] == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:create_react_agent has been moved")  # langgraph-supervisor calls it
def test_two_agents_answer_as_the_original_does(tmp_path: Path) -> None:
    """langgraph-supervisor, with the same agents on the same doubles: the same answer, after the same calls of both."""
    import langgraph_supervisor

    research_model, math_model = doubles()
    chief = ScriptedModel([_transfer("research_expert"), _transfer("math_expert"), lambda messages: _said(messages)])
    original: Any = langgraph_supervisor
    experts = [*agents(research_model, math_model)]
    team = original.create_supervisor(experts, model=chief, prompt="You are a team supervisor.").compile()
    result = team.invoke({"messages": [("user", QUESTION)]})
    answer, calls, *_ = _said_by("two_agents", tmp_path)
    assert answer == result["messages"][-1].text == SUM
    for model in (research_model, math_model, chief):
        model.check()
    assert calls.startswith(f"paid calls: {len(research_model.calls) + len(math_model.calls)} ")


def test_without_its_need_the_math_expert_has_no_numbers(ledger: Ledger) -> None:
    """Its doubles add what they are told: the sum above is of the research expert's report."""
    _, math_model = doubles()
    _, math = agents(ScriptedModel([]), meter(math_model))
    alone = Specialist(name="math_expert", description="Solves math problems", handler=math, fallbacks=[nobody])
    app: Any = build_supervisor([alone], budget=Budget("0.05"), ledger=ledger, router=RouteTo())
    result = app.invoke({"messages": [("user", QUESTION)]}, {"configurable": {"thread_id": "alone"}})
    assert result["messages"][-1].text == "I was given no numbers."
    assert ledger.verify("alone")


def _said_by(name: str, folder: Path) -> list[str]:
    """Run an example in a process of its own, in an environment without a key, and return the lines that it printed."""
    kept = {key: value for key, value in os.environ.items() if not key.endswith("_API_KEY")}
    command = [sys.executable, str(ROOT / "examples" / f"{name}.py")]
    done = subprocess.run(command, cwd=folder, env=kept, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def _transfer(name: str) -> AIMessage:
    return AIMessage("", tool_calls=[{"name": f"transfer_to_{name}", "args": {}, "id": f"to-{name}"}])


def _said(messages: list[Any]) -> str:
    """Return what the math expert answered, as a model does that passes an answer on."""
    own = (one for one in reversed(messages) if one.type == "ai" and one.name == "math_expert")
    return next(one.text for one in own if "__is_handoff_back" not in one.response_metadata)
