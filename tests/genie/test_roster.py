"""Genie's specialists: deterministic without a model, never dearer than the request, never without a last resort."""

from collections.abc import Callable
from datetime import UTC, date, datetime

import pytest
from langchain_core.language_models import FakeListChatModel

from bursar.genie.household.onboarding import NO_DATA, is_empty
from bursar.genie.household.records import BankTransaction
from bursar.genie.household.source import Source
from bursar.genie.roster import AGENTS, specialists, unavailable
from bursar.genie.router import DataFirst
from bursar.nodes.routers.base import Candidate, Question, Scores
from bursar.nodes.runs.handlers import call_directly
from bursar.nodes.specialists.chain import chains_of
from bursar.state.money import USD
from bursar.state.run import Task

AGENTS_BY_NAME = {agent.name: agent for agent in AGENTS}
NOW = datetime(2025, 6, 30, 12, tzinfo=UTC)


def task(specialist: str, text: str) -> Task:
    return Task(
        text=text, specialist=specialist, session_id="s", request_id="r", tenant="t", now=NOW, left=USD(0), history=()
    )


def today(now: datetime) -> date:
    return now.date()


@pytest.mark.parametrize("name", sorted(AGENTS_BY_NAME))
@pytest.mark.anyio
async def test_every_specialist_answers_a_household_of_one_posting(
    household: Callable[..., Source], posting: Callable[..., BankTransaction], name: str
) -> None:
    """Without a model each has a report for hardly any data: words, and a gap where it cannot say."""
    source = household(transactions=[posting("2025-06-01", "-5", "Cafe")])
    (chosen,) = [one for one in specialists(source, today=today) if one.name == name]

    report = await call_directly(chosen.handler, task(name, "What can you tell me?"))

    assert report.answer
    assert report.data is not None


def test_every_chain_ends_in_a_deterministic_handler(household: Callable[..., Source]) -> None:
    """With a model as without one, the engine accepts every chain, and the last link is free."""
    model = FakeListChatModel(responses=["…"])
    for given in (None, model):
        chains = chains_of(specialists(household(), today=today, model=given))
        assert set(chains) == set(AGENTS_BY_NAME)
        assert not any(chain.links[-1].paid for chain in chains.values())


def test_no_ceiling_is_above_the_budget(household: Callable[..., Source]) -> None:
    """Under a budget below the usual ceiling, or of nothing, ceilings and expected costs shrink with it."""
    model = FakeListChatModel(responses=["…"])
    for budget in (USD(0), USD("0.002"), USD("0.03")):
        for one in specialists(household(), today=today, model=model, budget=budget):
            assert one.cap <= budget
            assert one.expects <= one.cap


def test_the_last_resort_promises_nothing() -> None:
    """It says as of when there is nothing, and that nothing was changed, with no confidence."""
    report = unavailable(task("risk_assessment", "how safe am I"))

    assert report.answer == (
        "There is no risk assessment for this request as of 2025-06-30 12:00 UTC. Nothing was changed."
    )
    assert report.confidence == 0.0


class Recorder:
    """A router that records what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def route(self, text: str, candidates: object) -> Scores:
        self.asked.append(text)
        return Scores({}, (), 1.0, "recorded")


@pytest.mark.anyio
async def test_without_data_no_router_is_asked(
    household: Callable[..., Source], posting: Callable[..., BankTransaction]
) -> None:
    """Before an import every request goes to the database connector, whose one line says how to begin."""
    recorder = Recorder()
    candidates = [Candidate(name, "") for name in AGENTS_BY_NAME]

    scores = await DataFirst(recorder, household()).route(Question("how much tax do I owe"), candidates)
    await DataFirst(recorder, household(transactions=[posting("2025-06-01", "-5")])).route(Question("tax"), candidates)

    assert scores.chosen == ("database_connector",)
    assert recorder.asked == ["tax"]
    assert is_empty(household())
    said = AGENTS_BY_NAME["database_connector"].analyse(household(), "anything", today=NOW.date())
    assert (said.text, said.gaps) == (NO_DATA, (NO_DATA,))
