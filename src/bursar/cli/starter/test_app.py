"""The app answers, its fallback answers for it, and its books agree. The model is a script: no test pays for a call."""

from pathlib import Path

from app import build
from bursar import Ledger
from bursar.testing import ScriptedModel

QUESTION = {"messages": [("user", "Where did my money go in March?")]}
CONFIG = {"configurable": {"thread_id": "s-1"}}


def test_the_model_answers(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/app.db"
    with ScriptedModel(["Rent."]) as model:
        result = build(url, model).invoke(QUESTION, CONFIG)
    assert result["messages"][-1].text == "Rent."
    assert Ledger(url).verify("s-1")


def test_the_rules_answer_if_the_model_fails(tmp_path: Path) -> None:
    model = ScriptedModel([RuntimeError("the provider is down")])
    result = build(f"sqlite:///{tmp_path}/app.db", model).invoke(QUESTION, CONFIG)
    assert result["messages"][-1].text.startswith("No model can be asked now.")
    assert result["ending"] == "answered_with_gaps"
