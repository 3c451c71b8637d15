"""The composer that asks a model: what the model is sent, and what becomes of its answer."""

import asyncio
import json

import pytest
from pydantic import JsonValue

from bursar import ModelComposer, Question, Report
from bursar.nodes.composers.model_composer import ANSWER_LIMIT_CHARACTERS
from bursar.state.errors import BadOutput
from bursar.state.money import USD
from bursar.testing import ScriptedModel

REPORTS = {
    "spending": Report(answer="You spent 412.80.", data={"total": "412.80"}, confidence=0.9, sources=("bank",)),
    "tax": Report(answer="You owe 90.", confidence=0.5, sources=("law", "bank")),
}


def composed(model: ScriptedModel, reports: dict[str, Report] = REPORTS) -> Report:
    question = Question("How much did I spend, and what do I owe?")
    return asyncio.run(ModelComposer(model).compose(question, reports, ["rent: it failed"]))


def test_the_model_gets_all_that_was_reported() -> None:
    """The request, each report with its data, and the gaps, as data in JSON."""
    with ScriptedModel(replies=["You spent 412.80 and owe 90."]) as model:
        composed(model)
    sent = json.loads(model.calls[0].messages[-1].text)
    assert sent["request"] == "How much did I spend, and what do I owe?"
    assert sent["missing"] == ["rent: it failed"]
    assert sent["reports"] == [
        {"specialist": "spending", "answer": "You spent 412.80.", "data": {"total": "412.80"}},
        {"specialist": "tax", "answer": "You owe 90."},
    ]


def test_its_answer_is_as_sure_as_the_least_sure_report() -> None:
    """It rests on all their sources, each named once."""
    with ScriptedModel(replies=[" You spent 412.80 and owe 90. "]) as model:
        report = composed(model)
    assert report == Report(answer="You spent 412.80 and owe 90.", confidence=0.5, sources=("bank", "law"))


def test_a_long_report_is_cut_in_its_middle_and_large_data_left_out() -> None:
    """So that one report cannot make the call too dear; a short one is whole."""
    rows: list[JsonValue] = ["r"] * 4_000
    long = "a" * 2 * ANSWER_LIMIT_CHARACTERS + "end"
    with ScriptedModel(replies=["fine"]) as model:
        composed(model, {"x": Report(answer=long, data={"rows": rows}), "y": REPORTS["tax"]})
    first, second = json.loads(model.calls[0].messages[-1].text)["reports"]
    assert len(first["answer"]) < len(long)
    assert first["answer"].endswith("end")
    assert "data" not in first
    assert second["answer"] == "You owe 90."


def test_an_empty_answer_is_an_error() -> None:
    """The caller then composes without a model."""
    with ScriptedModel(replies=[" \n"]) as model, pytest.raises(BadOutput, match="wrote nothing"):
        composed(model)


def test_what_the_guardian_keeps_back() -> None:
    """A fifth of a cent, unless the user knows better."""
    with ScriptedModel(replies=[]) as model:
        assert ModelComposer(model).share == USD("0.002")
        assert ModelComposer(model, expected_cost="0.01").share == USD("0.01")
