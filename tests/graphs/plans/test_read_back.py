"""What is read back from the log is of the same round at the same place; what cannot be kept of a plan is a gap."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langgraph.types import Command

from bursar import Budget, Ledger, Question, Report, Task
from bursar.nodes.routers.base import Candidate, Scores
from bursar.state.money import USD
from tests.crash.programs import failpoints
from tests.graphs.plans.test_needs import told
from tests.graphs.plans.test_rounds import Rounds, steps
from tests.support.graphs import QUESTION, answer_of, ask, build, free, session, specialist

SENT: Any = {"messages": [HumanMessage("go", id="m-1")]}


class ByReports:
    """A router that chooses a, then b, then c, by the reports that there are."""

    free = True

    async def route(self, question: Question, candidates: Sequence[Candidate]) -> Scores:
        number = len(question.reports)
        chosen = tuple("abc"[number : number + 1])
        return Scores({c.name: 1.0 for c in candidates}, chosen, 1.0, "next", done=number >= 2)


class Joins:
    """A composer for which the guardian keeps a tenth of a cent back."""

    share = USD("0.001")

    async def compose(self, question: Question, reports: Mapping[str, Report], gaps: Sequence[str]) -> Report:
        return Report(answer=", ".join(reports))


@pytest.mark.parametrize("again", [None, SENT], ids=["resumed", "sent again"])
def test_rounds_are_told_apart_after_a_crash(any_ledger: Ledger, again: Any) -> None:
    """A run of round 2 is cut off; each round is planned as itself, whether the client resumes or sends once more."""
    crashes = [True]

    def crashing(task: Task) -> Report:
        if crashes:
            crashes.pop()
            raise KeyboardInterrupt
        return told(task)

    app = build(any_ledger, [free("a", told), free("b", crashing), free("c", told)], router=ByReports(), rounds=3)
    with pytest.raises(KeyboardInterrupt):
        app.invoke(SENT, session())
    result = app.invoke(again, session())
    assert steps(result) == ["a", "b", "c"]
    assert result["gaps"] == []
    assert any_ledger.verify()


def test_a_fork_between_rounds_plans_its_own(any_ledger: Ledger) -> None:
    """The finished request's later rounds are at other places of the graph."""
    app = build(any_ledger, [free(name, told) for name in "abc"], router=ByReports(), rounds=3)
    assert steps(app.invoke(SENT, session())) == ["a", "b", "c"]
    history = app.get_state_history(session())
    before = next(one for one in history if one.next == ("supervisor",) and len(one.values.get("runs", [])) == 1)
    assert steps(app.invoke(None, before.config)) == ["a", "b", "c"]


def test_a_step_that_is_cut_does_not_end_the_rounds(ledger: Ledger) -> None:
    """Its fallback answers in round 2, and round 3 follows; the gap says what the step would have cost."""
    made = [free("a", told), specialist("b", told, ceiling="0.03", expected_cost="0.03"), free("c", told)]
    result = ask(build(ledger, made, router=ByReports(), rounds=3, budget=Budget("0.03"), composer=Joins()))
    assert [(run.specialist, run.level) for run in result["runs"]] == [("a", 0), ("b", 1), ("c", 0)]
    [gap] = result["gaps"]
    assert gap.startswith("b: the budget had no room for it: expects $0.03, $0.029 left; rules answered instead")


def test_a_bundle_is_cut_by_what_all_of_it_costs(ledger: Ledger) -> None:
    """The step alone would fit; with what it needs it does not, and the gap says so."""
    need = specialist("search", told, ceiling="0.02", expected_cost="0.02")
    step = specialist("write", told, ceiling="0.02", expected_cost="0.02", needs=["search"])
    result = ask(build(ledger, [need, step], router=Rounds([["write"]])))
    assert "expects $0.02, $0.04 with what it needs, $0.03 left" in result["gaps"][-1]


def test_an_optional_need_is_run_though_nobody_chose_it(any_ledger: Ledger) -> None:
    """There is money for its own handler, so no fallback answers for it."""
    made = [free("search", told), free("write", told, needs={"search": "optional"})]
    result = ask(build(any_ledger, made, router=Rounds([["write"]])))
    assert [(run.specialist, run.level) for run in result["runs"]] == [("search", 0), ("write", 0)]
    assert result["gaps"] == []


def test_texts_that_are_lost_are_named(any_ledger: Ledger) -> None:
    """The router is asked again after a crash, and does not answer: its steps ask the whole request."""

    class Once(Rounds):
        async def route(self, question: Question, candidates: Sequence[Candidate]) -> Scores:
            if self.asked:
                raise ValueError
            return await super().route(question, candidates)

    def crash(place: str) -> None:
        if place == "after_routing":
            raise RuntimeError(place)

    router = Once([["r[1]"]], more={"texts": {"r[1]": "mine"}, "done": True})
    app = build(any_ledger, [free("r", lambda task: Report(answer=task.text))], router=router)
    failpoints.listeners.append(crash)
    try:
        with pytest.raises(RuntimeError, match="after_routing"):
            app.invoke(QUESTION, session())
    finally:
        failpoints.listeners.remove(crash)
    result = app.invoke(None, session())
    assert result["gaps"] == ["routing: r[1]: asked the whole request, because the router gave its texts no more"]


def test_a_hand_over_in_vain_is_named(any_ledger: Ledger) -> None:
    """To itself, which would see nothing new."""
    made = [free("a", lambda task: Report(answer="", handoff="a"))]
    result = ask(build(any_ledger, made, router=Rounds([["a"]], more={"done": True}), rounds=3))
    assert result["gaps"] == ["routing: a hands over to a: it had the same reports before"]
    assert result["ending"] == "answered_with_gaps"


def test_hand_overs_beyond_the_most_are_named(ledger: Ledger) -> None:
    """Eight go on; the gap says how many do not."""
    names = [f"t{number}" for number in range(10)]
    first = free("x", lambda task: Command(goto=names, graph=Command.PARENT))
    router = Rounds([["x"]], more={"done": True})
    result = ask(build(ledger, [first, *(free(name, told) for name in names)], router=router, rounds=2))
    assert steps(result) == ["x", *names[:8]]
    assert "x: it hands over to 2 more than the 8 that are allowed" in result["gaps"]


def test_a_gap_is_said_only_by_its_own_words(ledger: Ledger) -> None:
    """A short reason inside a longer word is not said; the same reason as words of the answer is."""
    made = [free("a", lambda task: Report(answer="I know", gaps=("no",)))]
    assert answer_of(ask(build(ledger, made))) == "I know\n\nMissing from this answer:\n- a: no"
    made = [free("a", lambda task: Report(answer="There is no rent", gaps=("no rent",)))]
    assert answer_of(ask(build(ledger, made), name="s-2")) == "There is no rent"
