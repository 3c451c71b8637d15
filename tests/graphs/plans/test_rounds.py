"""Rounds: the router chooses again with the reports, agents hand over, one agent runs several times at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, Send

from bursar import Budget, Ledger, Question, Report, Task
from bursar.nodes.routers.base import Candidate, Scores
from bursar.state.errors import ConfigurationError
from bursar.state.events import Planned, RunEnded
from bursar.state.money import USD
from tests.graphs.plans.test_needs import fails, fails_too, told
from tests.support.graphs import NANOS_PER_WORD, RouteTo, answer_of, ask, billed, build, free, priced, scripted
from tests.support.graphs import specialist as paid


@dataclass
class Rounds:
    """A router that chooses the next of these in each round, and keeps the questions that it was asked."""

    rounds: Sequence[Sequence[str]]
    asked: list[Question] = field(default_factory=list[Question])
    more: dict[str, Any] = field(default_factory=dict[str, Any])

    async def route(self, question: Question, candidates: Sequence[Candidate]) -> Scores:
        chosen = tuple(self.rounds[min(len(self.asked), len(self.rounds) - 1)])
        self.asked.append(question)
        return Scores({c.name: 1.0 for c in candidates}, chosen, 1.0, "next", **self.more)


def steps(result: Any) -> list[str]:
    """Return the steps in the order in which they ended."""
    return [run.step for run in result["runs"]]


def test_a_second_round_sees_the_reports(any_ledger: Ledger) -> None:
    """Its router and its agents get what the first one reported; the same agent runs once more under its own name."""
    router = Rounds([["a"], ["b", "a"], []])
    result = ask(build(any_ledger, [free("a", told), free("b", told)], router=router, rounds=5))
    assert sorted(steps(result)) == ["a", "b"]  # a itself would have seen nothing new
    assert result["reports"]["b"].answer == "b(a=a())"
    assert router.asked[0].reports == {}
    assert router.asked[1].reports["a"].answer == "a()"
    assert sorted(router.asked[2].reports) == ["a", "b"]
    assert result["gaps"] == []
    again = ask(
        build(any_ledger, [free("a", told), free("b", told)], router=Rounds([["a"], ["b"], ["a"]]), rounds=3),
        name="s-2",
    )
    assert steps(again) == ["a", "b", "a@2".replace("2", "3")]
    assert again["reports"]["a@3"].answer == "a(a=a(), b=b(a=a()))"
    ended = [row.event.step for row in any_ledger.audit("s-2") if isinstance(row.event, RunEnded)]
    assert ended == steps(again)
    planned = [row.event for row in any_ledger.audit("s-2") if isinstance(row.event, Planned)]
    assert [[step.name for step in plan.steps] for plan in planned] == [["a"], ["b"], ["a@3"]]
    assert any_ledger.verify()


@pytest.mark.parametrize("rounds", [1, 2, 4])
def test_rounds_are_bounded(ledger: Ledger, rounds: int) -> None:
    """A router that never has enough ends after as many rounds as there may be, or once nobody would see more."""
    router = Rounds([["a", "b"]])
    result = ask(build(ledger, [free("a", told), free("b", told)], router=router, rounds=rounds))
    assert len(router.asked) == rounds
    assert len(steps(result)) == 2 * rounds
    alone = Rounds([["a"]])
    assert steps(ask(build(ledger, [free("a", told)], router=alone, rounds=rounds), name="s-2")) == ["a"]


def test_a_router_that_is_done_is_not_asked_again(ledger: Ledger) -> None:
    """Nor is a plain router of words or examples, whatever the number of rounds."""
    router = Rounds([["a"]], more={"done": True})
    ask(build(ledger, [free("a", told)], router=router, rounds=3))
    assert len(router.asked) == 1
    for number in (0, 1, -1, 11, True, "2"):
        if number != 1:
            with pytest.raises(ConfigurationError, match="rounds is a whole number from 1 to 10"):
                build(ledger, [free("a", told)], rounds=number)


def test_two_rounds_of_one_agent_have_an_account_each(any_ledger: Ledger) -> None:
    """Each may spend its ceiling, within the request's budget, and no call counts as paid elsewhere."""
    model = scripted(*["one two three"] * 9)

    def pays(task: Task) -> str:
        return priced(model, words=3).invoke(f"{task.text} {len(task.reports)}").text

    agents = [paid("a", pays, ceiling="0.004", expected_cost="0.001"), free("b", told)]
    app = build(any_ledger, agents, router=Rounds([["a"], ["b"], ["a"]]), rounds=3, budget=Budget("0.01"))
    result = ask(app)
    assert [(run.step, str(run.outcome)) for run in result["runs"]] == [
        ("a", "completed"),
        ("b", "completed"),
        ("a@3", "completed"),
    ]
    assert result["spend"].by_agent == {"a": USD("0.003"), "a@3": USD("0.003")}
    assert billed(model) == 6 * NANOS_PER_WORD == any_ledger.spend("s-1").spent.nanos
    assert [one.kind for one in result["decisions"]].count("fork") == 0
    assert any_ledger.verify()


@pytest.mark.parametrize("rounds", [1, 2])
def test_a_hand_over_is_a_round(any_ledger: Ledger, rounds: int) -> None:
    """The one that is handed to runs with the note, and the decision says who asked; without a round it is a gap."""

    def triage(task: Task) -> Report:
        return Report(answer="", handoff=("tax", "zoo"), note="it is about VAT")

    def tax(task: Task) -> Report:
        return Report(answer=f"tax heard: {task.reports['triage'].note}")

    app = build(any_ledger, [free("triage", triage), free("tax", tax)], router=RouteTo(("triage",)), rounds=rounds)
    result = ask(app)
    if rounds == 1:
        assert "triage: it hands over to tax, and no round is left for that" in result["gaps"]
        assert answer_of(result).startswith("This request could not be answered.")
        assert result["runs"][0].reason == "it hands over to tax, zoo"
        return
    assert answer_of(result).startswith("tax heard: it is about VAT")
    assert "triage hands over to tax, zoo" in [one for one in result["decisions"] if one.kind == "route"][1].rule
    assert result["gaps"] == ["routing: triage hands over to zoo, which is no specialist here"]
    assert any_ledger.verify()


def _agent(goto: Any) -> Any:
    """Return a graph that goes to a node of the graph around it, as an agent's hand-over tool does."""

    def node(state: MessagesState) -> Any:
        return Command(goto=goto, graph=Command.PARENT, update={"messages": [AIMessage("moved")]})

    builder: Any = StateGraph(MessagesState)
    return builder.add_node("agent", node).add_edge(START, "agent").compile()


def _function(goto: Any) -> Callable[[Task], Any]:
    return lambda task: Command(goto=goto, graph=Command.PARENT)


@pytest.mark.parametrize("goto", ["tax", ["tax"], Send("tax", {}), [Send("tax", {}), "tax"]], ids=str)
@pytest.mark.parametrize("make", [_agent, _function])
def test_a_command_to_the_graph_around_hands_over(ledger: Ledger, make: Any, goto: Any) -> None:
    """LangGraph's own words for it, from a graph's node or a function."""
    app = build(ledger, [free("triage", make(goto)), free("tax", told)], router=RouteTo(("triage",)), rounds=2)
    result = ask(app)
    assert steps(result) == ["triage", "tax"]
    assert result["gaps"] == []


def test_a_plain_command_is_no_answer(ledger: Ledger) -> None:
    """A command that goes nowhere around is named as bad output."""
    result = ask(build(ledger, [free("a", lambda task: Command(goto="b"))], show_errors=True))
    assert "not Command" in result["runs"][0].reason


def test_one_agent_several_times_at_once(any_ledger: Ledger) -> None:
    """Each run has its own text, account and fallback; what waits for the agent waits for all of them."""
    names = [f"r[{number}]" for number in range(1, 4)]

    def reads(task: Task) -> Report:
        if task.text == "part 2":
            raise ValueError
        return Report(answer=f"<{task.text}|{task.messages[-1].text}>")

    more: dict[str, Any] = {
        "order": {"write": ["r"]},
        "texts": {name: f"part {name[2]}" for name in names},
        "done": True,
    }
    app = build(any_ledger, [free("r", reads), free("write", told)], router=Rounds([[*names, "write"]], more=more))
    result = ask(app)
    assert sorted(steps(result)) == ["r[1]", "r[2]", "r[2]", "r[3]", "write"]
    assert result["reports"]["write"].answer == "write(r[1]=<part 1|part 1>, r[2]=r by rule, r[3]=<part 3|part 3>)"
    assert [gap.partition(":")[0] for gap in result["gaps"]] == ["r[2]"]
    assert any_ledger.verify()


def test_fan_out_is_bounded(ledger: Ledger) -> None:
    """Nine runs of one agent at once, or one name twice over, is no answer of a router."""
    for chosen in ([f"a[{number}]" for number in range(1, 10)], ["a", "a[1]"]):
        result = ask(build(ledger, [free("a", told)], router=Rounds([chosen])), name=f"s-{len(chosen)}")
        assert "the router failed: TypeError" in result["decisions"][0].note


def test_all_that_fails_still_ends(ledger: Ledger) -> None:
    """Steps without any report in several rounds: the request has its answer and its gaps."""
    app = build(ledger, [free("a", fails, fallbacks=[fails_too]), free("b", told, needs=["a"])], rounds=4)
    result = ask(app)
    assert result["ending"] == "answered_with_gaps"
    assert "b: it did not run, because a gave no report" in result["gaps"]
