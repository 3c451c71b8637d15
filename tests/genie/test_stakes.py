"""Genie's agents with a stake: nothing is paid where nothing is at risk, and a dearer model where much is."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bursar.genie.app import Genie, open_genie
from bursar.genie.household.sample import END
from bursar.state.money import USD
from tests.support.provider import DEAR_MODEL, MODEL, Provider, Reply

pytestmark = pytest.mark.slow

TAX = "can I save tax"
NOT_FLAGGED = "is there anything suspicious on my account in March 2025"
LOOK_UP = Reply(tool="look_up", arguments={"question": TAX})

Open = Callable[..., Genie]


@pytest.fixture
def opened(provider: Provider, sample_file: Path, tmp_path: Path) -> Iterator[Open]:
    """`opened(**environment)`: a Genie over a copy of the household, with the provider as its models."""
    held: list[Genie] = []

    def make(**environment: str) -> Genie:
        file = tmp_path / f"genie-{len(held)}.db"
        shutil.copy(sample_file, file)
        settings = {"OPENAI_API_KEY": "none", "OPENAI_BASE_URL": provider.url, **environment}
        genie = open_genie(f"sqlite:///{file}", as_of=END, environment=settings)
        held.append(genie)
        return genie

    yield make
    for genie in held:
        assert genie.ledger.verify()
        genie.close()


def asked(provider: Provider) -> list[str]:
    """Return the models that were asked with the tool, in order."""
    return [body["model"] for body in provider.requests if body.get("tools")]


def test_where_nothing_is_at_stake_the_rules_answer(opened: Open, provider: Provider) -> None:
    """No payment of that month is flagged, so no model words that there is none."""
    result = opened().ask(NOT_FLAGGED, "s-1")
    [run] = result["runs"]
    [decided] = [one for one in result["decisions"] if one.kind == "choose"]
    assert (run.handler, decided.chosen, decided.stake) == ("fraud_detection", ("settled",), USD(0))
    assert asked(provider) == []


def test_words_that_hold_are_taken_from_the_small_model(opened: Open, provider: Provider) -> None:
    """The dearer model is not asked."""
    provider.will(LOOK_UP, Reply(text="Selling at a loss could save $660.00 of tax in 2025."))
    result = opened().ask(TAX, "s-1")
    assert "could save $660.00" in result["messages"][-1].text
    assert asked(provider) == [MODEL, MODEL]
    [decided] = [one for one in result["decisions"] if one.kind == "cascade"]
    assert (decided.rung, decided.accepted, decided.stake) == ("small", True, USD("660"))


def test_where_they_do_not_hold_the_careful_model_is_asked(opened: Open, provider: Provider) -> None:
    """An invented number is worth a second try at a stake of $660, and the books agree with the provider."""
    provider.will(
        LOOK_UP, Reply(text="You save $9,999.00."), LOOK_UP, Reply(text="Selling at a loss could save $660.00.")
    )
    genie = opened()
    result = genie.ask(TAX, "s-1")
    assert "could save $660.00" in result["messages"][-1].text
    assert result["ending"] == "answered"
    assert asked(provider) == [MODEL, MODEL, DEAR_MODEL, DEAR_MODEL]
    assert provider.billed == result["spend"].spent.nanos <= USD("0.03").nanos
    assert {row.name for row in genie.ledger.costs()} == {
        "tax_optimisation → worded → small",
        "tax_optimisation → worded → careful",
    }
    assert [(row.rung, row.asked, row.accepted) for row in genie.ledger.gains()] == [("small", 1, 0), ("careful", 1, 1)]


def test_without_a_careful_model_the_rules_own_text_stays(opened: Open, provider: Provider) -> None:
    """A household with a model of its own has no dearer one unless it names one."""
    provider.will(LOOK_UP, Reply(text="You save $9,999.00."))
    result = opened(BURSAR_MODEL=MODEL).ask(TAX, "s-1")
    assert "9,999" not in result["messages"][-1].text
    assert result["runs"][0].report is not None
    assert result["runs"][0].report.data["templated"]
    assert asked(provider) == [MODEL, MODEL]


def test_the_stakes_are_the_households_figures(opened: Open) -> None:
    """The money that trades move, the saving, and the payments in dispute."""
    stakes: dict[str, str] = {}
    for number, question in enumerate(("what should I invest in", TAX, "is there anything suspicious on my account")):
        result = opened().ask(question, f"s-{number}")
        stakes |= {one.by: str(one.stake) for one in result["decisions"] if one.kind == "choose"}
    assert stakes == {
        "investment_recommendation": "$34,856.68",
        "tax_optimisation": "$660.00",
        "fraud_detection": "$3,959.50",
    }
