"""Genie's routing against questions its router has not been given, each set with an honest bound."""

import asyncio
import re
import time
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, cast

import pytest

from bursar.genie.roster import AGENTS
from bursar.genie.router import out_of_scope
from bursar.nodes.routers.base import Candidate, Scores
from bursar.nodes.routers.example_router import ExampleRouter

pytestmark = pytest.mark.slow

CANDIDATES = [Candidate(agent.name, agent.description, agent.examples) for agent in AGENTS]
NAMES = {agent.name for agent in AGENTS}
SETS = ("golden", "heldout", "tuning")


class Question(NamedTuple):
    text: str
    agents: frozenset[str]


def questions(name: str) -> list[Question]:
    text = (Path(__file__).parent / f"{name}_questions.toml").read_text("utf-8")
    groups = cast("list[Mapping[str, list[str]]]", tomllib.loads(text)["group"])
    return [Question(q, frozenset(group["agents"])) for group in groups for q in group["questions"]]


@pytest.fixture(scope="module")
def routed() -> dict[str, Scores]:
    """How the router scores every question of every set."""
    router = ExampleRouter(out_of_scope=out_of_scope())

    async def scores() -> dict[str, Scores]:
        asked = [q.text for name in SETS for q in questions(name)]
        return {text: await router.route(text, CANDIDATES) for text in asked}

    return asyncio.run(scores())


@pytest.fixture(scope="module")
def plans(routed: dict[str, Scores]) -> dict[str, frozenset[str]]:
    """What the router chooses for every question of every set."""
    return {text: frozenset(scores.chosen) for text, scores in routed.items()}


def micro_f1(asked: list[Question], plans: Mapping[str, frozenset[str]]) -> float:
    """F1 over (question, agent) pairs; "none" is a label of its own."""
    none = frozenset({"none"})
    hits = misses = 0
    for text, agents in asked:
        expected, got = agents or none, plans[text] or none
        hits += len(expected & got)
        misses += len(expected ^ got)
    return 2 * hits / (2 * hits + misses)


@pytest.mark.parametrize(("name", "bound"), [("golden", 0.95), ("tuning", 0.95), ("heldout", 0.85)])
def test_questions_reach_their_agents(name: str, bound: float, plans: dict[str, frozenset[str]]) -> None:
    """Micro-F1 keeps its bound; the held-out set was written after tuning and nothing was changed for it."""
    asked = questions(name)
    wrong = [(q.text, sorted(q.agents), sorted(plans[q.text])) for q in asked if q.agents != plans[q.text]]
    assert micro_f1(asked, plans) >= bound, wrong


@pytest.mark.parametrize("name", ["golden", "heldout"])
def test_confidence_tells_right_from_wrong(name: str, routed: dict[str, Scores]) -> None:
    """At the cascade's threshold of 0.5 most questions need no model, and of those at least 95 % are routed right."""
    asked = questions(name)
    sure = [q for q in asked if routed[q.text].confidence >= 0.5]
    right = [q for q in sure if q.agents == frozenset(routed[q.text].chosen)]
    assert len(sure) >= 0.5 * len(asked)
    assert len(right) >= 0.95 * len(sure)


def test_changing_the_question_changes_the_plan(plans: dict[str, frozenset[str]]) -> None:
    """Over the golden set every agent is chosen alone, some plans have several agents, some none."""
    golden = {plans[q.text] for q in questions("golden")}
    assert {frozenset({name}) for name in NAMES} <= golden
    assert frozenset() in golden
    assert sum(len(plan) > 1 for plan in golden) >= 4


def test_the_golden_set_is_large_and_varied() -> None:
    """At least 90 questions: every agent alone, at least ten with several agents, at least twenty with none."""
    golden = questions("golden")
    assert len(golden) >= 90
    assert len(questions("heldout")) == 40
    assert {name for q in golden if len(q.agents) == 1 for name in q.agents} == NAMES
    assert sum(len(q.agents) > 1 for q in golden) >= 10
    assert sum(not q.agents for q in golden) >= 20


def words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text.lower()))


def similarity(a: frozenset[str], b: frozenset[str]) -> float:
    """Shared words over all words of the two (Jaccard)."""
    return len(a & b) / len(a | b) if a | b else 1.0


@pytest.mark.parametrize("name", ["golden", "heldout"])
def test_no_test_question_is_an_example_or_nearly_one(name: str) -> None:
    """No question shares 80 % of its words with anything that the router or its tuning has seen."""
    everyday = ExampleRouter(out_of_scope=out_of_scope())._background  # pyright: ignore[reportPrivateUsage]
    seen = [*everyday, *(text for agent in AGENTS for text in agent.examples)]
    seen += [q.text for q in questions("tuning")]
    learned = [(text, words(text)) for text in seen]
    close = [(q.text, text) for q in questions(name) for text, w in learned if similarity(words(q.text), w) >= 0.8]
    assert close == []


def test_routing_is_cheap() -> None:
    """Fitting Genie's agents takes seconds of CPU at most, and routing a question a small share of that."""
    router = ExampleRouter(out_of_scope=out_of_scope())
    router.fit(CANDIDATES[:1])  # loads the libraries

    async def seconds() -> tuple[float, float]:
        asked = questions("golden")
        start = time.thread_time()
        router.fit(CANDIDATES)
        fitted = time.thread_time()
        for question in asked:
            await router.route(question.text, CANDIDATES)
        return fitted - start, (time.thread_time() - fitted) / len(asked)

    fit_seconds, route_seconds = asyncio.run(seconds())
    assert fit_seconds < 5.0  # twenty times what it takes
    assert route_seconds < fit_seconds / 50  # it takes a thousandth or two
