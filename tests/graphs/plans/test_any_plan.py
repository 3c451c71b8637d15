"""Random plans: whatever needs, faults, rounds, budgets and crashes there are, each step ends once, after its needs."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bursar import Budget, Ledger, Question, Quote, Report, Specialist, Task
from bursar.nodes.routers.base import Candidate, Scores
from bursar.state.events import Decided, Planned, RunEnded
from tests.crash.programs import failpoints
from tests.graphs.plans.test_needs import fails_too
from tests.support.graphs import NANOS_PER_WORD, QUESTION, build, priced, rules, scripted, session, specialist

NAMES = ("a", "b", "c", "d", "e")
PLACES = ("after_intake", "after_routing", "after_admission", "before_node_end")


class _Crash(RuntimeError):
    """The process dies here, as far as the graph can tell."""


@dataclass(frozen=True)
class Case:
    """A random application: who needs whom (some optionally), who fails how, what the router does, where it crashes."""

    needs: dict[str, dict[str, bool]]
    faults: dict[str, str]
    rounds: int
    chosen: Sequence[Sequence[str]]
    budget: int
    crashes: Sequence[tuple[str, int]]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Draw a case. A specialist needs only those before it, so that there is no cycle."""
    needs: dict[str, dict[str, bool]] = {
        name: draw(st.dictionaries(st.sampled_from(list[str](NAMES[:place])), st.booleans(), max_size=3))
        if place
        else {}
        for place, name in enumerate(NAMES)
    }
    faults = {name: draw(st.sampled_from(("none", "none", "handler", "all"))) for name in NAMES}
    rounds = draw(st.integers(1, 3))
    chosen = draw(st.lists(st.lists(st.sampled_from(NAMES), min_size=1, unique=True), min_size=3, max_size=3))
    crashes = draw(st.lists(st.tuples(st.sampled_from(PLACES), st.integers(1, 4)), max_size=4))
    return Case(needs, faults, rounds, chosen, draw(st.integers(1, 12)), crashes)


@dataclass
class _Router:
    """It chooses by the round that its question tells it, so that it says the same when it is asked again."""

    chosen: Sequence[Sequence[str]]
    free = True

    async def route(self, question: Question, candidates: Sequence[Candidate]) -> Scores:
        number = max((int(name.partition("@")[2] or "1") for name in question.reports), default=0)
        chosen = tuple(self.chosen[min(number, len(self.chosen) - 1)])
        return Scores({c.name: 1.0 for c in candidates}, chosen, 1.0, "drawn")


def _specialist(case: Case, name: str, model: Any) -> Specialist:
    def handler(task: Task) -> Report:
        if case.faults[name] != "none":
            raise ValueError
        return Report(answer=priced(model, words=1).invoke(f"{task.specialist} {sorted(task.reports)}").text)

    needs = case.needs[name]
    return specialist(
        name,
        handler,
        ceiling="0.001",
        expected_cost="0.001",
        needs=dict.fromkeys(needs, "optional") if needs and all(needs.values()) else list(needs),
        fallbacks=[fails_too if case.faults[name] == "all" else rules],
    )


def _run(app: Any, case: Case) -> Any:
    """Ask, and resume after each crash, until there is an answer."""
    left = list(case.crashes)
    hits: list[str] = []

    def reached(place: str) -> None:
        hits.append(place)
        if left and left[0][0] == place and hits.count(place) >= left[0][1]:
            left.pop(0)
            hits.clear()
            raise _Crash

    failpoints.listeners.append(reached)
    asked: Any = QUESTION
    try:
        for _ in range(len(case.crashes) + 1):
            try:
                return app.invoke(asked, session())
            except _Crash:
                asked = None
    finally:
        failpoints.listeners.remove(reached)
    raise AssertionError("it crashed more often than it was to")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cases())
def test_any_plan_is_carried_out_once(case: Case) -> None:
    """Each step ends once, its needs before it; nothing is spent above the budget; the plan in the log is what ran."""
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(f"sqlite:///{Path(folder) / 'books.db'}")
        model = scripted(*["word"] * 200)
        budget = Budget(f"0.{case.budget:03}")
        app = build(
            ledger,
            [_specialist(case, name, model) for name in NAMES],
            router=_Router(case.chosen),
            rounds=case.rounds,
            budget=budget,
        )
        quote = app.quote("how much?", session())
        result = _run(app, case)
        _check(ledger, case, result, app.get_state(session()).values["plan"])
        assert ledger.spend("s-1").spent.nanos == len(model.calls) * NANOS_PER_WORD <= budget.per_request.nanos
        assert ledger.spend("s-1").spent <= quote.worst <= budget.per_request
        if case.rounds == 1:
            _check_quote(quote, result)
        ledger.close()


def _check_quote(quote: Quote, result: Any) -> None:
    """What ran is what was quoted, from the handler that was quoted on, and no step cost more than was quoted."""
    assert {run.step for run in result["runs"]} <= {step.name for step in quote.steps}
    for step in quote.steps:
        runs = [run for run in result["runs"] if run.step == step.name]
        assert sum(run.cost.nanos for run in runs) <= step.worst.nanos
        assert not runs or runs[0].handler == step.starts


def _check(ledger: Ledger, case: Case, result: Any, plan: Any) -> None:
    ran = [(run.step, run.level) for run in result["runs"]]
    assert len(ran) == len(set(ran))
    steps = {step.name: step for step in plan.steps}
    assert len(steps) == len(plan.steps)
    assert {step for step, _ in ran} <= steps.keys()
    first = {step: place for place, (step, _) in reversed(list(enumerate(ran)))}
    last = {step: place for place, (step, _) in enumerate(ran)}
    for name, step in steps.items():
        given_up = [need for need in step.needs if need not in step.optional and need not in result["reports"]]
        assert (name in first) == (not given_up), (name, given_up)
        if name in first:
            assert all(last[need] < first[name] for need in step.needs if need in last)
        assert name in result["reports"] or any(gap.startswith(f"{name}: ") for gap in result["gaps"])
        assert step.round <= plan.round <= case.rounds
    events = [row.event for row in ledger.audit("s-1")]
    planned = [event for event in events if isinstance(event, Planned)]
    assert tuple(step for event in planned for step in event.steps) == plan.steps
    kinds = [event.decision.kind for event in events if isinstance(event, Decided)]
    assert kinds.count("admit") == len(planned)
    ended = {(event.step, event.level) for event in events if isinstance(event, RunEnded)}
    assert ended == set(ran)  # a run that was cut off after its end ends again when it is repeated
    assert ledger.verify("s-1")
