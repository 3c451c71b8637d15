"""Several runs of one agent in one request: pauses, consent, breakpoints and observers tell them apart."""

from typing import Any

import pytest

from bursar import Ledger, Report, Task
from tests.crash.programs import failpoints
from tests.graphs.plans.test_needs import told
from tests.graphs.plans.test_rounds import Rounds, steps
from tests.support.approvals import approve
from tests.support.graphs import QUESTION, ask, build, free, priced, scripted, session, specialist

MANY = [f"r[{number}]" for number in range(1, 4)]


def test_a_pause_stops_all_of_them(any_ledger: Ledger) -> None:
    """The pause names the agent, whatever the names of its runs."""
    any_ledger.pause("agent:r", by="ann")
    app = build(any_ledger, [specialist("r", told, expected_cost=0)], router=Rounds([MANY]))
    result = ask(app)
    assert [run.handler for run in result["runs"]] == ["rules"] * 3
    assert all("it is paused" in gap for gap in result["gaps"])


def test_a_breakpoint_stops_before_all_of_them(any_ledger: Ledger) -> None:
    """They are next, once each; resumed, each runs once, and pays from an account of its own."""
    model = scripted(*["one"] * 3)

    def pays(task: Task) -> str:
        return priced(model, words=1).invoke(task.text).text

    texts = {name: name for name in MANY}
    router = Rounds([MANY], more={"texts": texts, "done": True})
    app = build(any_ledger, [specialist("r", pays, ceiling="0.001", expected_cost="0.001")], router=router)
    app.invoke(QUESTION, session(), interrupt_before=["r"])
    assert app.get_state(session()).next == ("r", "r", "r")
    result = app.invoke(None, session())
    assert sorted(steps(result)) == MANY
    assert len(router.asked) == 1
    assert {name: spent.nanos for name, spent in result["spend"].by_agent.items()} == dict.fromkeys(MANY, 1_000_000)
    assert sorted(call.messages[-1].text for call in model.calls) == MANY


def test_consent_is_for_one_run(any_ledger: Ledger) -> None:
    """Asked in the first round, a person is asked again in the third: one approval is for one run."""

    def acts(task: Task) -> Report:
        return Report(answer="done")

    agents = [free("a", acts, risk="high"), free("b", told)]
    router = Rounds([["a"], ["b"], ["a"], []])
    app = build(any_ledger, agents, router=router, rounds=4, approvers=["ann"])
    asked = 0
    result: Any = app.invoke(QUESTION, session())
    while "__interrupt__" in result and asked < 4:
        asked += 1
        result = app.invoke(approve(result), session())
    assert asked == 2
    assert steps(result) == ["a", "b", "a@3"]
    assert any_ledger.verify()


@pytest.mark.parametrize("name", ["r", "r[1]"])
def test_a_text_of_its_own_outlives_a_crash(any_ledger: Ledger, name: str) -> None:
    """The log keeps that there were texts, not the texts: the router says them again. Without any, it is not asked."""
    asked = Rounds([[name]], more={"texts": {name: "my part"}, "done": True})
    silent = Rounds([[name]], more={"done": True})
    said: list[str] = []

    def reads(task: Task) -> Report:
        said.append(task.text)
        return Report(answer="read")

    for router, session_id in ((asked, "s-1"), (silent, "s-2")):
        app = build(any_ledger, [free("r", reads)], router=router)
        crashed = failpoints.listeners
        crashed.append(_crash_after_routing)
        try:
            with pytest.raises(_Crash):
                app.invoke(QUESTION, session(session_id))
        finally:
            crashed.remove(_crash_after_routing)
        app.invoke(None, session(session_id))
    assert said == ["my part", "how much?"]
    assert (len(asked.asked), len(silent.asked)) == (2, 1)


class _Crash(RuntimeError):
    """The process dies here, as far as the graph can tell."""


def _crash_after_routing(place: str) -> None:
    if place == "after_routing":
        raise _Crash
