"""The agents: a folder and a line in the roster each, with a description and examples of its own."""

from collections import Counter
from datetime import date
from pathlib import Path

from bursar.genie.agents.base import Agent
from bursar.genie.agents.compliance_checker.checker import ComplianceChecker, PlanReview
from bursar.genie.household.source import Source
from bursar.genie.roster import AGENTS
from bursar.genie.router import out_of_scope
from bursar.genie.wording.facts import Analysis

FOLDERS = Path(__file__).parents[3] / "genie" / "agents"


def test_every_folder_with_an_agent_is_in_the_roster() -> None:
    """The roster has each once, under its folder's name; the compliance checker is the gate and has no `AGENT`."""
    folders = {file.parent.name for file in FOLDERS.glob("*/agent.py")}
    assert Counter(agent.name for agent in AGENTS) == Counter(folders)
    assert {file.parent.name for file in FOLDERS.glob("*/__init__.py")} - folders == {"compliance_checker"}


def test_every_agent_has_a_description_and_enough_examples() -> None:
    """Every routed agent is described in one line and has at least thirty distinct examples."""
    for agent in AGENTS:
        assert len(set(agent.examples)) == len(agent.examples) >= 30, agent.name
        assert agent.description
        assert "\n" not in agent.description


def test_no_question_is_taught_to_two_agents_or_as_out_of_scope() -> None:
    """Each example teaches one thing: a question with two labels would split its probability."""
    taught = Counter([*out_of_scope(), *(text for agent in AGENTS for text in agent.examples)])
    assert [text for text, times in taught.items() if times > 1] == []


def test_the_compliance_rules_list_every_agent() -> None:
    """An agent that the rules do not list would be denied whatever it is asked."""
    names = tuple(agent.name for agent in AGENTS)
    reviewed = ComplianceChecker().review_plan(PlanReview("hello", names, None, date(2025, 6, 30)))
    assert "agent.unlisted" not in {hit.rule for _, hit in reviewed.denied_agents}


def test_an_agent_is_read_from_its_folder(tmp_path: Path) -> None:
    """The folder names it; `examples.toml` describes and teaches it."""
    (tmp_path / "examples.toml").write_text('description = "What is next"\nexamples = ["what is next"]\n')

    def analyse(source: Source, text: str, /, *, today: date) -> Analysis:
        return Analysis(text="nothing")

    agent = Agent.in_folder(tmp_path, analyse=analyse)
    assert (agent.name, agent.description, agent.examples) == (tmp_path.name, "What is next", ("what is next",))
    assert not agent.tool_only
