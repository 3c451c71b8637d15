"""What a gate says of a plan or an answer is done, and a gate that fails has denied."""

from datetime import datetime
from typing import Any

import pytest

from bursar import Ledger, Verdict
from bursar.state.events import PolicyVerdict
from tests.support.graphs import RouteTo, answer_of, ask, build, free


class _Gate:
    name = "gate"

    def __init__(self, plan: Any, answer: Any) -> None:
        self.plan, self.answer = plan, answer

    def review_plan(self, request: Any, specialists: tuple[str, ...], *, now: datetime) -> Verdict:
        if isinstance(self.plan, Exception):
            raise self.plan
        return self.plan

    def review_answer(self, request: Any, answer: str, reports: Any, *, now: datetime) -> Verdict:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


ALLOW = Verdict("allow")


def test_a_gate_denies_part_of_a_plan_by_name(ledger: Ledger) -> None:
    """Who is denied does not run, the answer says why, and the rest is answered."""
    gate = _Gate(Verdict("allow_with_changes", rules=("r1",), denied={"a": "no record of suitability"}), ALLOW)
    result = ask(build(ledger, [free(name, lambda task: f"<{task.specialist}>") for name in "ab"], gate=gate))
    assert answer_of(result).startswith("<b>")
    assert result["gaps"] == ["a: no record of suitability"]
    assert [run.specialist for run in result["runs"]] == ["b"]


@pytest.mark.parametrize("fault", [ValueError("x"), None, "allow"], ids=["raises", "nothing", "a word"])
def test_a_gate_that_fails_has_denied(fault: Any, ledger: Ledger) -> None:
    """A gate's fault at the plan stops all of it, at the answer withholds it; the words name the gate."""
    for number, gate in enumerate((_Gate(fault, ALLOW), _Gate(ALLOW, fault))):
        result = ask(build(ledger, [free("a", lambda task: "secret")], gate=gate), name=f"s-{number}")
        assert result["ending"] == "refused"
        assert "secret" not in answer_of(result)
        assert "gate could not review this" in answer_of(result)


def test_a_gate_refuses_a_request_that_no_specialist_fits(ledger: Ledger) -> None:
    """The answer is the gate's reason, and not that nobody fits; the log has the verdict."""
    denies = _Gate(Verdict("deny", rules=("r1",), reason="that is prohibited"), ALLOW)
    app = build(ledger, [free("a", lambda task: "secret")], router=RouteTo(("nobody",)), gate=denies)
    result = ask(app)
    assert answer_of(result).startswith("that is prohibited")
    assert result["gaps"] == ["gate: that is prohibited"]
    assert (result["ending"], result["runs"]) == ("refused", [])
    assert [(one.kind, one.rule) for one in result["decisions"]][1:] == [("policy", "r1")]
    assert [e.rules for e in (row.event for row in ledger.audit("s-1")) if isinstance(e, PolicyVerdict)] == [("r1",)]
    assert app.quote("hello").gaps == ("gate: that is prohibited",)


def test_a_gate_that_allows_a_request_that_no_specialist_fits_changes_nothing(ledger: Ledger) -> None:
    """The answer says that nobody fits, and what the specialists do."""
    result = ask(build(ledger, [free("a", lambda task: "")], router=RouteTo(("nobody",)), gate=_Gate(ALLOW, ALLOW)))
    assert answer_of(result).startswith("None of the specialists fits this request. They can help with:")
    assert result["gaps"] == ["None of the specialists fits this request"]
    assert result["ending"] == "answered_with_gaps"
