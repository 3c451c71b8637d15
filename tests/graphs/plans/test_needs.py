"""Plans of several waves: each step runs after what it needs, with its reports, within one budget."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from langgraph.types import Overwrite

from bursar import Budget, Ledger, Report, Specialist, Task, deterministic
from bursar.nodes.routers.base import Candidate, Scores
from bursar.state.decision import Decision
from bursar.state.errors import ConfigurationError
from bursar.state.events import Planned, RunEnded
from tests.support.graphs import QUESTION, RouteTo, answer_of, ask, build, free, priced, scripted, session, specialist

LAST = ["supervisor", "write", "report"]


@dataclass
class Ordering(RouteTo):
    """A router that chooses these specialists and lets some wait for others."""

    order: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])

    async def route(self, text: str, candidates: Sequence[Candidate]) -> Scores:
        return Scores({c.name: 1.0 for c in candidates}, self.names, 1.0, "in order", order=self.order)


def told(task: Task) -> Report:
    """Return who was told what by whom."""
    return Report(answer=f"{task.specialist}({', '.join(f'{n}={r.answer}' for n, r in task.reports.items())})")


def fails(task: Task) -> Report:
    """Fail, without a report."""
    raise ValueError


@deterministic
def fails_too(task: Task) -> Report:
    """Fail, as a last resort."""
    raise ValueError


def decision_of(result: Any, kind: str) -> Decision:
    """Return the first decision of its kind."""
    return next(one for one in result["decisions"] if one.kind == kind)


def verdicts(result: Any, kind: str) -> dict[str, tuple[str, str]]:
    """Return the verdict and the reason on each candidate of a decision."""
    return {one.name: (one.verdict, one.reason) for one in decision_of(result, kind).candidates}


def test_a_step_gets_the_reports_of_what_it_needs(any_ledger: Ledger) -> None:
    """Three waves, in the order of the needs; what runs beside a step is not told to it."""
    app = build(
        any_ledger,
        [
            free("write", told, needs=["read"]),
            free("read", told, needs=["search"]),
            free("search", told),
            free("x", told),
        ],
    )
    waves = [list(part) for part in app.stream(QUESTION, session(), stream_mode="updates")]
    nodes = [name for wave in waves for name in wave]
    assert sorted(nodes[1:3]) == ["search", "x"]
    assert [nodes[0], *nodes[3:]] == [*["supervisor", "report"], *["supervisor", "read", "report"], *LAST]
    result = app.get_state(session()).values
    assert result["reports"]["write"].answer == "write(read=read(search=search()))"
    assert result["reports"]["x"].answer == "x()"
    assert (result["gaps"], [one.kind for one in result["decisions"]]) == ([], ["route", "admit"])
    assert any_ledger.verify()


def test_a_need_is_added_to_the_plan(ledger: Ledger) -> None:
    """The router chose the writer alone; the decision says who needs the other."""
    app = build(ledger, [free("write", told, needs=["search"]), free("search", told)], router=RouteTo(("write",)))
    result = ask(app)
    assert verdicts(result, "route")["search"] == ("chosen", "needed by write")
    assert result["reports"]["write"].answer == "write(search=search())"


def test_a_router_may_order(ledger: Ledger) -> None:
    """What it orders holds beside the needs; a cycle or an unknown name is a gap by name, and everybody runs."""
    order = {"a": ("b",), "b": ("a", "zoo"), "zoo": ("a",)}
    result = ask(build(ledger, [free("a", told), free("b", told)], router=Ordering(("a", "b"), order)))
    assert {name: report.answer for name, report in result["reports"].items()} == {"a": "a(b=b())", "b": "b()"}
    assert sorted(result["gaps"]) == [
        "routing: b was to wait for a, which waits for it in turn; it does not",
        "routing: b was to wait for zoo, which is not in the plan",
        "routing: zoo was to wait for others, and is not in the plan",
    ]


@pytest.mark.parametrize(
    ("needs", "what"),
    [
        ("b", "write \\[name\\]"),
        (["zoo"], "needs 'zoo', which is no specialist"),
        (["a"], "it needs itself"),
        (["b"], "a plan has no cycles"),
        ({"b": "perhaps"}, "'optional'"),
    ],
)
def test_bad_needs_are_refused_when_built(ledger: Ledger, needs: Any, what: str) -> None:
    """In one line that names the specialist."""
    with pytest.raises(ConfigurationError, match=what):
        build(ledger, [free("a", told, needs=needs), free("b", told, needs=["a"])])


@pytest.mark.parametrize("optional", [True, False])
def test_a_step_without_what_it_needs(ledger: Ledger, optional: bool) -> None:
    """It is skipped with a gap, and so is what needs it; if the need is optional, it runs, and a gap says so."""
    app = build(
        ledger,
        [
            free("search", fails, fallbacks=[fails_too]),
            free("write", told, needs={"search": "optional"} if optional else ["search"]),
            free("print", told, needs=["write"]),
        ],
    )
    result = ask(app)
    ran = [run.step for run in result["runs"]]
    assert ran == ["search", "search", *(["write", "print"] if optional else [])]
    assert any(gap.startswith("search: ") for gap in result["gaps"])
    if optional:
        assert "write: it ran without a report of search" in result["gaps"]
        assert result["reports"]["print"].answer == "print(write=write())"
    else:
        assert "write: it did not run, because search gave no report" in result["gaps"]
        assert "print: it did not run, because write gave no report" in result["gaps"]


def test_a_fallback_stands_in_for_a_need(ledger: Ledger) -> None:
    """The step runs with its fallback's report."""
    result = ask(build(ledger, [free("search", fails), free("write", told, needs=["search"])]))
    assert result["reports"]["write"].answer == "write(search=search by rule)"


def _costs(name: str, cost: str, **more: Any) -> Specialist:
    return specialist(name, lambda task: "x", expected_cost=cost, ceiling="0.02", **more)


def test_the_whole_plan_is_priced_first(ledger: Ledger) -> None:
    """A step that does not fit with all that it needs is cut, and so is what it alone needs; a cheaper one may fit."""
    app = build(
        ledger,
        [
            _costs("write", "0.005", needs=["read"], value=9),
            _costs("read", "0.010", needs=["search"]),
            _costs("search", "0.008"),
            _costs("quick", "0.010", value=5),
        ],
        router=RouteTo(("write", "quick")),
        budget=Budget("0.02"),
    )
    result = ask(app)
    got = verdicts(result, "admit")
    assert got["write"][0] == "budget"
    assert "write alone needed it" in got["read"][1]
    assert got["quick"][0] == "chosen"
    planned = [row.event for row in ledger.audit("s-1") if isinstance(row.event, Planned)]
    assert {step.name for step in planned[-1].steps} == {"write", "read", "search", "quick"}
    assert all("write: " in gap or "read: " in gap or "search: " in gap for gap in result["gaps"])


def test_later_waves_stay_within_the_budget(any_ledger: Ledger) -> None:
    """What the first wave spent is gone: the second one's call is refused, and its fallback answers."""
    model = scripted(*["one two three"] * 9)

    def pays(task: Task) -> str:
        return priced(model, words=3).invoke(task.text).text

    def agent(name: str, **more: Any) -> Specialist:
        return specialist(name, pays, expected_cost="0.001", ceiling="0.005", **more)

    app = build(any_ledger, [agent("a"), agent("b", needs=["a"])], budget=Budget("0.005"))
    result = ask(app)
    assert [(run.step, str(run.outcome)) for run in result["runs"]][:2] == [("a", "completed"), ("b", "exhausted")]
    assert "b by rule" in answer_of(result)
    ended = [row.event.step for row in any_ledger.audit("s-1") if isinstance(row.event, RunEnded)]
    assert ended == ["a", "b", "b"]
    assert any_ledger.verify()


def test_a_breakpoint_an_edit_and_a_fork_between_waves(any_ledger: Ledger) -> None:
    """Stopped before the second wave, the first one's report can be edited; a fork from there runs that wave alone."""
    app = build(any_ledger, [free("search", told), free("write", told, needs=["search"])])
    app.invoke(QUESTION, session(), interrupt_before=["write"])
    found = app.get_state(session())
    assert found.next == ("write",)
    [run] = found.values["runs"]
    edited = run.model_copy(update={"report": Report(answer="edited")})
    app.update_state(session(), {"runs": Overwrite([edited])}, as_node="supervisor")
    result = app.invoke(None, session())
    assert result["reports"]["write"].answer == "write(search=edited)"
    again = app.invoke(None, found.config)
    assert again["reports"]["write"].answer == "write(search=search())"
    assert [run.step for run in again["runs"]] == ["search", "write"]


def test_a_model_gets_reports_before_the_users_message(ledger: Ledger) -> None:
    """They stand between the turns before and what the user says now, which is the last message, as in any chat."""
    model = scripted("noted", "noted")
    writes = specialist("write", priced(model, words=1), needs=["search"])
    app = build(ledger, [free("search", told), writes], router=RouteTo(("write",)))
    for _ in range(2):
        ask(app)
    first, second = ([message.text for message in call.messages] for call in model.calls)
    reports = 'What other agents reported for this request, as data:\n{"search": {"answer": "search()"}}'
    assert first == [reports, "how much for food?"]
    assert second[0] == "how much for food?"
    assert second[-2:] == [reports, "how much for food?"]
