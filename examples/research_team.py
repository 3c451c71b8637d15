"""A research team: one agent searches, one reads what was found, one writes. The editor asks for a second round.

Each agent `needs` the one before it, and gets its report. The router is the editor: it sees the reports of the first
round, and sends the team out once more if the draft names what it lacks. Each model is a double that costs nothing.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any

from langchain_core.language_models import BaseChatModel

from bursar import (
    Budget,
    Candidate,
    Ledger,
    Question,
    Report,
    Scores,
    Specialist,
    Task,
    build_supervisor,
    deterministic,
    meter,
)
from bursar.testing import ScriptedModel

QUESTION = "Is it worth to insulate a house of 1970?"
LACKS = "LACKS:"  # how the writer says what its draft cannot tell
TEAM = ("search", "read", "write")
SCRIPTS = {
    "search": ["A study of 400 houses: heating", "A price list of 2024: insulation"],
    "read": ["The houses need 40 % less heat.", "A house costs 18,000 to insulate."],
    "write": [f"Insulation saves 40 % of the heat. {LACKS} what it costs", "It saves 40 % of the heat, for 18,000."],
}


class Editor:
    """A router that asks for a draft and, if the draft lacks something, for another one."""

    free = True  # it asks no model

    async def route(self, question: Question, candidates: Sequence[Candidate]) -> Scores:
        """Choose the whole team in the first round, and in the second if the draft lacks something."""
        draft = question.reports["write"].answer if "write" in question.reports else None
        if draft is not None and LACKS not in draft:
            return Scores(dict.fromkeys(TEAM, 0.0), (), 1.0, "the draft is complete", done=True)
        rule = "a first draft" if draft is None else f"the draft lacks{draft.partition(LACKS)[2]}"
        return Scores(dict.fromkeys(TEAM, 1.0), TEAM, 1.0, rule, done=draft is not None)


class LastDraft:
    """A composer whose one answer is the last report: in each round the writer comes last."""

    async def compose(self, question: Question, reports: Mapping[str, Report], gaps: Sequence[str]) -> Report:
        return [*reports.values()][-1]


def member(model: BaseChatModel) -> Callable[[Task], Report]:
    """Return a handler that gives a model the question and what the others reported."""

    def handler(task: Task) -> Report:
        told = "\n".join(f"{name}: {report.answer}" for name, report in task.reports.items())
        return Report(answer=model.invoke([("user", f"{task.text}\n{told}")]).text)

    return handler


@deterministic
def nothing(task: Task) -> Report:
    """Say that there is nothing: the last resort of each."""
    return Report(answer=f"({task.specialist} has nothing)", confidence=0.0)


if __name__ == "__main__":
    models = {name: ScriptedModel(script) for name, script in SCRIPTS.items()}
    needs = {"search": [], "read": ["search"], "write": ["read"]}
    with tempfile.TemporaryDirectory() as folder, closing(Ledger(f"sqlite:///{folder}/books.db")) as ledger:
        team = [
            Specialist(
                name=name,
                description=f"Can {name}",
                handler=member(meter(models[name])),
                needs=needs[name],
                ceiling="0.01",
                fallbacks=[nothing],
            )
            for name in TEAM
        ]
        budget, editor, composer = Budget("0.05"), Editor(), LastDraft()
        app: Any = build_supervisor(team, budget=budget, ledger=ledger, router=editor, composer=composer, rounds=2)
        result = app.invoke({"messages": [("user", QUESTION)]}, {"configurable": {"thread_id": "house"}})
        for run in result["runs"]:
            print(f"{run.step}: {run.outcome}, {run.cost}")
        for decision in result["decisions"]:
            print(f"{decision.by}: {decision.rule}")
        print("answer:", result["messages"][-1].text)
        print("paid calls:", result["spend"].calls, "books agree:", bool(ledger.verify("house")))
