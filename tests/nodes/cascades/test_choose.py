"""`Choose`: a tree of conditions, its path, its picture, and what does not build."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar import Cascade, ChoiceFacts, Choose, ConfigurationError, Ledger, Report, Task, deterministic
from bursar.state.decision import Decision
from bursar.state.money import USD
from bursar.state.rules.value import faults_of_tree, first_that_holds
from tests.support.graphs import ask, build, free, priced, scripted, specialist, words


@deterministic
def review(task: Task) -> Report:
    """Answer for a person's review."""
    return Report(answer="a person reviews it")


@deterministic
def small(task: Task) -> Report:
    """Answer a small one."""
    return Report(answer="small")


def is_small(task: Task) -> bool:
    """Whether the question is short."""
    return len(task.text) < 10


def is_large(task: Task, facts: ChoiceFacts) -> bool:
    """Whether much is at risk."""
    return facts.stake > USD("100")


def chosen(result: Any) -> Decision:
    """Return the one decision of the result's choice."""
    [one] = [one for one in result["decisions"] if one.kind == "choose"]
    return one


def tree(dear: Any, stake: str = "500") -> Choose:
    """Return a choice whose large branch is a choice again."""
    below = Choose({"dear": lambda task: "tax" in task.text}, otherwise="rules", rungs={"dear": dear, "rules": review})
    conditions = {"small": is_small, "large": is_large}
    return Choose(conditions, otherwise="review", rungs={"small": small, "large": below, "review": review}, stake=stake)


@pytest.mark.parametrize(
    ("text", "stake", "path"),
    [
        ("short", "500", ("small",)),
        ("a long question about tax", "500", ("large", "dear")),
        ("a long question of another kind", "500", ("large", "rules")),
        ("a long question about tax", "5", ("review",)),
    ],
)
def test_the_path_is_in_the_decision(any_ledger: Ledger, text: str, stake: str, path: tuple[str, ...]) -> None:
    """Each branch is reached, and its path, stake and budget are in the result and in the log."""
    dear = scripted(*[words(3)] * (path[-1] == "dear"))
    result = ask(build(any_ledger, [free("a", tree(priced(dear), stake), ceiling="0.03")]), text)
    decision = chosen(result)
    assert (decision.chosen, decision.note) == (path, " → ".join(path))
    assert (decision.stake, decision.left) == (USD(stake), USD("0.03"))
    assert {row.name for row in any_ledger.costs()} == ({"a → large → dear"} if path[-1] == "dear" else set())
    assert not result["gaps"]
    assert any_ledger.verify()


def test_it_is_drawn(ledger: Ledger) -> None:
    """The picture shows each branch with its condition, and a cascade's rungs one after the other."""
    cascade = Cascade({"rules": review, "dear": priced(scripted())}, accept=0.9, stake="1")
    choice = Choose({"small": is_small}, otherwise="large", rungs={"small": small, "large": cascade})
    picture = build(ledger, [free("a", choice)]).get_graph()
    edges = {(edge.source, edge.target): edge.data for edge in picture.edges}
    assert edges["a", "a → small"] == "is small"
    assert edges["a", "a → large"] == "otherwise"
    assert edges["a → large", "a → large → rules"] is None
    assert edges["a → large → rules", "a → large → dear"] == "not accepted, and worth it"
    drawn = picture.draw_mermaid()
    assert drawn.count("&nbsp;otherwise&nbsp;") == 1
    assert "rules" in drawn


def test_a_condition_that_raises_does_not_hold(ledger: Ledger) -> None:
    """The decision names it, and the next condition decides."""

    def broken(task: Task) -> bool:
        raise KeyError("a secret")

    def odd(task: Task) -> Any:
        return "yes"

    choice = Choose({"b": broken, "o": odd}, otherwise="review", rungs={"b": small, "o": small, "review": review})
    decision = chosen(ask(build(ledger, [free("a", choice)])))
    assert decision.chosen == ("review",)
    assert decision.note == "review; b: it failed (KeyError); o: a condition returns True or False, not str"


def test_a_rung_that_fails_fails_its_specialist(ledger: Ledger) -> None:
    """No other branch answers in its place; the specialist's fallback does."""

    def fails(task: Task) -> Report:
        raise ValueError("no")

    choice = Choose({"small": is_small}, otherwise="large", rungs={"small": small, "large": fails})
    result = ask(build(ledger, [specialist("a", choice, expected_cost=0)]))
    assert [(run.handler, run.outcome) for run in result["runs"]] == [("a", "failed"), ("rules", "completed")]


def test_specialists_are_branches(ledger: Ledger) -> None:
    """A specialist's own ceiling bounds what its branch spends."""
    double = scripted(words(5), words(5))
    model = priced(double)

    async def twice(task: Task) -> str:
        await model.ainvoke("one")
        return (await model.ainvoke("two")).text

    helper = specialist("helper", twice, ceiling="0.007")
    choice = Choose({"small": is_small}, otherwise="large", rungs={"small": small, "large": helper})
    result = ask(build(ledger, [specialist("a", choice, ceiling="0.03", expected_cost=0)]))
    assert len(double.calls) == 1
    assert result["runs"][0].limit == "ceiling"


@pytest.mark.parametrize(
    ("conditions", "otherwise", "rungs", "what"),
    [
        ({"small": is_small}, "review", {"review": review}, "branch 'small' has no rung"),
        ({"small": is_small}, "review", {"small": small}, "branch 'review' has no rung"),
        ({}, "review", {"review": review, "small": small}, "rung 'small' is reached by no branch"),
        ({"a": is_small, "b": is_small}, "c", {"a": small, "b": small, "c": small}, "'b' is never reached"),
        ({"review": is_small}, "review", {"review": small}, "takes no condition"),
        ({"a": "no function"}, "c", {"a": small, "c": small}, "the condition of 'a' is a plain function"),
    ],
)
def test_what_is_no_tree_does_not_build(
    conditions: Mapping[str, Any], otherwise: str, rungs: Mapping[str, Any], what: str
) -> None:
    """A branch without a rung, a rung without a branch, and a branch that is never reached are named."""
    with pytest.raises(ConfigurationError, match=what):
        Choose(conditions, otherwise=otherwise, rungs=rungs)


names = st.lists(st.text("abcdef", min_size=1, max_size=2), min_size=1, max_size=5, unique=True)


@given(names, st.data())
def test_a_tree_without_faults_is_total_and_reaches_every_rung(branches: list[str], data: st.DataObject) -> None:
    """Whatever holds, one rung is chosen; and for each rung something holds that chooses it."""
    *conditions, otherwise = branches
    rungs = set(data.draw(st.sets(st.sampled_from([*branches, "extra"]))))
    reached = {first_that_holds(dict.fromkeys(conditions, False), otherwise)}
    for place, name in enumerate(conditions):
        reached.add(first_that_holds({c: at >= place for at, c in enumerate(conditions)}, otherwise))
        assert name in reached
    held = {name: data.draw(st.booleans()) for name in conditions}
    if faults_of_tree(conditions, otherwise, rungs):
        assert rungs != reached
    else:
        assert rungs == reached
        assert first_that_holds(held, otherwise) in rungs
