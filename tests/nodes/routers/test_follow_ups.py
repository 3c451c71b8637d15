"""Follow-ups: a question that leans on the turn before goes to who answered; a change of subject does not."""

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bursar import (
    Budget,
    Candidate,
    ExampleRouter,
    Ledger,
    Question,
    Report,
    Router,
    SQLAlchemySaver,
    WordOverlapRouter,
)
from bursar.nodes.routers.follow_ups import leans
from bursar.state.run import Turn
from tests.support.graphs import build, specialist

HERE = Path(__file__).parent / "followups"
CANDIDATES = (
    Candidate("spending", "Where the money goes", ("how much did I spend on food", "where did my money go in March")),
    Candidate("tax", "US federal taxes", ("how much tax do I owe", "what are my deductions")),
)


def asked(text: str, *, previous: tuple[str, ...] = ("spending",)) -> Question:
    turns = (
        Turn(role="user", text="Where did my money go in March?"),
        Turn(role="assistant", text="Most of it: rent."),
    )
    return Question(text, history=turns, previous=previous)


def chosen(router: Router, question: Question) -> tuple[str, ...]:
    return asyncio.run(router.route(question, CANDIDATES)).chosen


def test_the_held_out_conversations() -> None:
    """Of 259 in ten domains at least 0.9 of the follow-ups stay, and at most 0.05 of the new subjects are dragged."""
    domains: dict[str, list[dict[str, Any]]] = json.loads((HERE / "domains.json").read_text("utf-8"))
    routers = {name: ExampleRouter() for name in domains}
    right: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    for line in (HERE / "cases.jsonl").read_text("utf-8").splitlines():
        case = json.loads(line)
        candidates = [Candidate(s["name"], s["description"], tuple(s["examples"])) for s in domains[case["domain"]]]
        turns = [Turn(role="user", text=turn["text"]) for turn in case["turns"]]
        previous = case["turns"][-1]["answered_by"]
        question = Question(case["question"], history=turns, previous=previous)
        scores = asyncio.run(routers[case["domain"]].route(question, candidates))
        kind = "follow_up" if case["kind"] == "follow_up" else "new"
        seen[kind] += 1
        if kind == "new":
            right[kind] += not set(scores.chosen) & set(previous)
        else:
            right[kind] += set(scores.chosen) == set(case["expect"])
    assert (seen["follow_up"], seen["new"]) == (149, 110)
    assert right["follow_up"] >= 0.9 * seen["follow_up"], right
    assert right["new"] >= 0.95 * seen["new"], right


@pytest.mark.parametrize("text", ["And in April?", "why?", "Compare that with last year", "thanks, and double it"])
@pytest.mark.parametrize("router", [ExampleRouter(), WordOverlapRouter()], ids=["examples", "words"])
def test_who_answered_gets_what_leans_on_it(router: Router, text: str) -> None:
    """Nobody gets the same text as a first question."""
    assert chosen(router, asked(text)) == ("spending",)
    assert chosen(router, asked(text, previous=())) == ()


@pytest.mark.parametrize("text", ["And how much tax do I owe?", "What about my deductions?"])
def test_a_change_of_subject_goes_where_it_belongs(text: str) -> None:
    """Even if it begins as a follow-up does."""
    assert chosen(ExampleRouter(), asked(text)) == ("tax",)


@pytest.mark.parametrize("text", ["thank you", "tell me a joke", "", "???", "x" * 500, "why " * 100, "그리고 4월은?"])
def test_what_does_not_lean(text: str) -> None:
    """Thanks, jokes, no words, a long text, another language: they are routed by their own words."""
    assert not leans(asked(text))


def test_a_specialist_that_is_gone_gets_nothing() -> None:
    """Who answered last may not be in the graph any more."""
    assert chosen(ExampleRouter(), asked("why?", previous=("gone",))) == ()


def test_a_follow_up_in_a_session(any_ledger: Ledger) -> None:
    """The graph tells the router who answered last, past a turn that nobody answered, and in that session alone."""
    seen: list[tuple[str, ...]] = []

    class Watching(ExampleRouter):
        async def route(self, question: str, candidates: Any, /) -> Any:
            assert isinstance(question, Question)
            seen.append(question.previous)
            return await super().route(question, candidates)

    def answer(task: Any) -> Report:
        return Report(answer=f"{task.specialist}: {len(task.history)}")

    made = [specialist(one.name, answer, description=one.description, examples=one.examples) for one in CANDIDATES]
    saver = SQLAlchemySaver(any_ledger.database)
    app = build(any_ledger, made, router=Watching(), budget=Budget(per_request="0.1"), checkpointer=saver)

    def ask(text: str, session: str = "s-1") -> str:
        config: Any = {"configurable": {"thread_id": session}}
        return app.invoke({"messages": [("user", text)]}, config)["messages"][-1].text

    assert ask("Where did my money go in March?") == "spending: 0"
    assert ask("And in April?") == "spending: 2"
    assert "None of the specialists fits" in ask("tell me a joke")
    assert ask("why?") == "spending: 6"
    assert "None of the specialists fits" in ask("why?", "s-2")
    assert seen == [(), ("spending",), ("spending",), ("spending",), ()]
