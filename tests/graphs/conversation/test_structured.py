"""What a handler returned as data is kept: in its report, in the result's `reports`, and in the checkpoint."""

import warnings
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from pydantic import BaseModel
from typing_extensions import TypedDict

from bursar import Gate, Ledger, Report, Request, Task, Verdict, deterministic
from tests.support.graphs import answer_of, ask, build, first_run, free, one_node, session


class City(BaseModel):
    """An answer as a pydantic model."""

    city: str
    founded: date = date(1237, 1, 1)


@dataclass
class Amount:
    """An answer as a dataclass."""

    answer: str
    euros: Decimal


class AgentState(TypedDict, total=False):
    """The state of an agent's own graph."""

    messages: list[Any]
    structured_response: Any


BERLIN = {"city": "Berlin", "founded": "1237-01-01"}


@pytest.mark.parametrize(
    ("returned", "fields", "kind", "answer"),
    [
        (City(city="Berlin"), BERLIN, "City", '{"city": "Berlin", "founded": "1237-01-01"}'),
        (Amount("twelve", Decimal("12.50")), {"answer": "twelve", "euros": "12.50"}, "Amount", "twelve"),
        ({"answer": "x", "rows": [1, None]}, {"answer": "x", "rows": [1, None]}, "dict", "x"),
        (MappingProxyType({"n": 1}), {"n": 1}, "mappingproxy", '{"n": 1}'),
    ],
    ids=["pydantic", "dataclass", "dict", "mapping"],
)
def test_what_a_handler_returns_is_in_its_report(
    returned: Any, fields: Any, kind: str, answer: str, any_ledger: Ledger
) -> None:
    """A model, a dataclass and a dict are the report's structured answer, also when the session is read again."""
    app = build(any_ledger, [free("a", lambda task: returned)])
    result = ask(app)
    assert (result["ending"], answer_of(result)) == ("answered", answer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stored = build(any_ledger, [free("a", lambda task: returned)]).get_state(session()).values
    for reports in (result["reports"], stored["reports"]):
        assert (reports["a"].structured, reports["a"].structured_type) == (fields, kind)


@pytest.mark.parametrize("last", [AIMessage("Berlin, of course"), ToolMessage("Returning it", tool_call_id="c-1")])
def test_an_agents_structured_response_is_kept(last: Any, ledger: Ledger) -> None:
    """The structured response of an agent's graph is kept; its answer is the model's text, never a tool's chatter."""

    def decide(state: AgentState) -> AgentState:
        return {"messages": [HumanMessage("where?"), last], "structured_response": City(city="Berlin")}

    result = ask(build(ledger, [free("a", one_node(AgentState, decide))]))
    assert result["reports"]["a"].structured == BERLIN
    said = last.text if isinstance(last, AIMessage) else '{"city": "Berlin", "founded": "1237-01-01"}'
    assert answer_of(result) == said


def test_what_cannot_be_kept_is_named(ledger: Ledger) -> None:
    """A value that is no JSON, a task and a prompt fail their run by name; a plain report has no structured answer."""
    odd: dict[str, Any] = {"object": {"x": object()}, "task": None, "huge": {"n": 10**30}, "field": "extra"}

    def handler(task: Task) -> Any:
        if task.specialist == "field":
            return Report(answer="x", structured={"city": "Berlin"})  # pyright: ignore[reportCallIssue]
        return odd[task.specialist] or task

    agents = [*(free(name, handler) for name in odd), free("fine", lambda t: Report(answer="ok"))]
    result = ask(build(ledger, agents, show_errors=True))
    reasons = {name: first_run(result, name).reason for name in odd}
    assert "the dict that the handler returned cannot be kept as JSON" in reasons["object"]
    assert "not Task" in reasons["task"]
    assert "structured" in reasons["field"]
    assert "whole numbers have 64 bits" in reasons["huge"]
    assert {first_run(result, name).fault for name in odd} == {"bad_output"}
    assert result["reports"]["fine"].structured is None


def test_reports_are_of_this_request_and_of_the_fallback(ledger: Ledger) -> None:
    """`reports` has what the answer gives, by specialist: a fallback's report if it answered, nothing of the past."""

    def fails(task: Task) -> Report:
        raise RuntimeError("down")

    def first_only(task: Task) -> Report:
        return Report(answer=f"b to {task.text}")

    app = build(ledger, [free("a", fails), free("b", first_only)])
    result = ask(app, "one")
    assert {name: report.answer for name, report in result["reports"].items()} == {"a": "a by rule", "b": "b to one"}
    assert app.invoke({"messages": []}, session("s-2"))["reports"] == {}


class Withholds:
    """A gate that lets no answer out."""

    name = "censor"

    def review_plan(self, request: Request, specialists: tuple[str, ...], *, now: Any) -> Verdict:
        return Verdict("allow")

    def review_answer(self, request: Request, answer: str, reports: Any, *, now: Any) -> Verdict:
        return Verdict("deny", reason="it is secret")


def test_a_withheld_answer_has_no_reports(ledger: Ledger) -> None:
    """What a gate withholds is not in `reports` either."""
    gate: Gate = Withholds()

    @deterministic
    def tells(task: Task) -> Report:
        return Report(answer="the secret")

    result = ask(build(ledger, [free("a", tells)], gate=gate))
    assert (result["ending"], result["reports"]) == ("refused", {})
