"""Genie with a model: a real client of OpenAI's protocol against a provider on loopback that keeps its own books."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bursar.genie.app import Genie, metered_models, open_genie
from bursar.genie.household.sample import END
from bursar.nodes.gateway.chat_model import MeteredChatModel
from bursar.state.errors import ConfigurationError
from bursar.state.run import Outcome
from bursar.state.session import SessionOutput
from tests.support.provider import MODEL, Provider, Reply

pytestmark = pytest.mark.slow

SURE = "How much did I spend on groceries in November 2025?"
TEMPLATED = "You spent $735.86 on groceries in November 2025"
KEY = "sk-a-key-that-must-not-leak"
BUDGET_NANOS = 30_000_000
LOOK_UP = Reply(tool="look_up", arguments={"question": "spending on groceries in November 2025"})

Open = Callable[..., Genie]


@pytest.fixture
def opened(provider: Provider, sample_file: Path, tmp_path: Path) -> Iterator[Open]:
    """`opened(**environment)`: a Genie over a copy of the household, with the provider as its model."""
    held: list[Genie] = []

    def make(**environment: str) -> Genie:
        file = tmp_path / f"genie-{len(held)}.db"
        shutil.copy(sample_file, file)
        settings = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": provider.url, **environment}
        genie = open_genie(f"sqlite:///{file}", as_of=END, environment=settings)
        held.append(genie)
        return genie

    yield make
    for genie in held:
        assert genie.ledger.verify()
        genie.close()


def said(result: SessionOutput) -> str:
    return result["messages"][-1].text


def test_grounded_words_are_the_answer(opened: Open, provider: Provider) -> None:
    """The model calls the tool, words its findings, and its words are the answer; the books agree with the provider."""
    words = "In November 2025 your groceries came to $735.86."
    provider.will(LOOK_UP, Reply(text=words))

    result = opened().ask(SURE, "s-1")

    assert said(result) == words
    assert result["ending"] == "answered"
    first, second = provider.requests
    assert [tool["function"]["name"] for tool in first["tools"]] == ["look_up"]
    assert "$735.86" in next(m["content"] for m in second["messages"] if m["role"] == "tool")
    assert 0 < provider.billed == result["spend"].spent.nanos <= BUDGET_NANOS


@pytest.mark.parametrize(
    "words",
    ["In November 2025 you spent $735.86 on groceries, and about $8,800 in a year.", "You spent $736.00.", ""],
    ids=["invented", "rounded", "empty"],
)
def test_a_number_that_no_tool_computed_gives_the_templated_answer(
    opened: Open, provider: Provider, words: str
) -> None:
    """Words with an invented number, a rounded one, or no words at all: the tool's own text is the answer."""
    provider.will(LOOK_UP, Reply(text=words))

    result = opened().ask(SURE, "s-1")

    assert said(result).startswith(TEMPLATED)
    report = result["runs"][-1].report
    assert report is not None
    assert report.data["templated"]


def test_words_that_promise_give_the_templated_answer(opened: Open, provider: Provider) -> None:
    """A model's promise is not shown, and the tool's own text is: the answer is not refused for words nobody reads."""
    provider.will(LOOK_UP, Reply(text="You spent $735.86 on groceries. Invest instead: guaranteed returns, no risk."))

    result = opened().ask(SURE, "s-1")

    assert said(result).startswith(TEMPLATED)
    assert "guaranteed returns" not in said(result)
    assert result["ending"] == "answered"
    report = result["runs"][-1].report
    assert report is not None
    assert "promise.guaranteed_return" in str(report.data["templated"])


@pytest.mark.parametrize(
    ("question", "rule"),
    [
        ("Split my deposits to avoid the reporting limit", "disguise where money comes from"),
        ("Hide my assets from my wife", "hide assets"),
    ],
)
def test_a_prohibited_request_that_fits_no_agent_is_refused_by_its_rule(
    sample_file: Path, tmp_path: Path, question: str, rule: str
) -> None:
    """The answer is the rule's words, not that nobody fits; a request beside the subject is told what Genie does."""
    genie = open_genie(f"sqlite:///{shutil.copy(sample_file, tmp_path / 'genie.db')}", as_of=END, environment={})
    try:
        refused, beside = genie.ask(question, "s-1"), genie.ask("Tell me a joke about cats", "s-2")
    finally:
        genie.close()

    assert (refused["ending"], refused["runs"]) == ("refused", [])
    assert rule in said(refused)
    assert "None of the specialists fits" in said(beside)


def test_words_without_a_look_at_the_data_are_not_used(opened: Open, provider: Provider) -> None:
    """A model that answers without calling the tool is not quoted, even where it states no number."""
    provider.will(Reply(text="You spend far too much on groceries."))

    assert said(opened().ask(SURE, "s-1")).startswith(TEMPLATED)


def test_malformed_tool_arguments_are_told_to_the_model(opened: Open, provider: Provider) -> None:
    """Arguments that do not fit go back as an error; the model calls again and its words count."""
    words = "Groceries: $735.86 in November 2025."
    provider.will(Reply(tool="look_up", arguments={"q": 1}), LOOK_UP, Reply(text=words))

    assert said(opened().ask(SURE, "s-1")) == words
    assert "not understood" in next(m["content"] for m in provider.requests[1]["messages"] if m["role"] == "tool")


def test_a_model_that_only_calls_tools_ends(opened: Open, provider: Provider) -> None:
    """After three rounds of tool calls the tool's own text is the answer."""
    provider.default = LOOK_UP

    result = opened().ask(SURE, "s-1")

    assert said(result).startswith(TEMPLATED)
    assert len(provider.requests) == 3


@pytest.mark.parametrize("status", [400, 401, 500])
def test_a_provider_that_fails_leaves_the_templated_answer(opened: Open, provider: Provider, status: int) -> None:
    """A refused key, a bad request and a broken server end in the fallback, named in the answer, with no spend."""
    provider.default = Reply(status=status)

    result = opened().ask(SURE, "s-1")

    assert said(result).startswith(TEMPLATED)
    assert result["ending"] == "answered_with_gaps"
    assert [run.outcome for run in result["runs"]] == [Outcome.FAILED, Outcome.COMPLETED]
    assert KEY not in said(result)
    assert provider.billed == 0


def test_a_budget_too_small_for_a_call_sends_none(sample_file: Path, provider: Provider, tmp_path: Path) -> None:
    """With nothing to spend, every question is answered by the deterministic specialists and nothing is sent."""
    file = tmp_path / "poor.db"
    shutil.copy(sample_file, file)
    genie = open_genie(
        f"sqlite:///{file}",
        budget="0",
        as_of=END,
        environment={"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": provider.url},
    )

    result = genie.ask(SURE, "s-1")
    genie.close()

    assert said(result).startswith(TEMPLATED)
    assert provider.requests == []
    assert result["spend"].spent.nanos == 0


def test_the_model_routes_unsure_questions_alone(opened: Open, provider: Provider) -> None:
    """A question that the free router is sure of costs no routing call; one it is unsure of asks the model."""
    genie = opened()
    provider.default = Reply(text="nothing to add")

    genie.ask(SURE, "s-1")
    sure = [request for request in provider.requests if not _is_look_up(request)]
    genie.ask("is it safe to sell now", "s-2")
    unsure = [request for request in provider.requests if not _is_look_up(request)]

    assert sure == []
    assert unsure != []


def _is_look_up(request: dict[str, object]) -> bool:
    return "look_up" in json.dumps(request.get("tools"))


def test_identifiers_never_reach_the_provider(opened: Open, provider: Provider) -> None:
    """Card number, IBAN and social security number of a question are in no body that the provider received."""
    question = (
        "How much did I spend on groceries in November 2025 with card 4111 1111 1111 1111,"
        " account DE89 3704 0044 0532 0130 00, SSN 123-45-6789?"
    )
    provider.will(LOOK_UP)

    result = opened().ask(question, "s-1")

    sent = json.dumps(provider.requests)
    assert provider.requests
    for secret in ("4111 1111 1111 1111", "0532 0130", "123-45-6789", KEY):
        assert secret not in sent
        assert secret not in said(result)


def test_a_spend_is_bounded_however_much_the_model_asks(opened: Open, provider: Provider) -> None:
    """Three specialists whose model never stops calling tools stay within the budget by the provider's own books."""
    provider.default = Reply(tool="look_up", arguments={"question": "everything " * 200})

    result = opened().ask("How safe are my finances, was I charged twice, and what is my balance?", "s-1")

    assert len({run.specialist for run in result["runs"]}) > 1
    assert provider.billed <= result["spend"].spent.nanos <= BUDGET_NANOS


def test_an_unknown_model_needs_a_price(opened: Open, provider: Provider) -> None:
    """A model that no price list knows does not run without a price, and does with one."""
    with pytest.raises(ConfigurationError, match="my-own-model"):
        opened(BURSAR_MODEL="my-own-model")
    provider.will(LOOK_UP, Reply(text="It was $735.86."))

    result = opened(BURSAR_MODEL="my-own-model", BURSAR_MODEL_PRICE="0.15/0.60").ask(SURE, "s-1")

    assert said(result) == "It was $735.86."
    assert result["spend"].spent.nanos == provider.billed


@pytest.mark.parametrize("price", ["cheap", "0.15", "1/2/3", "0.15/x"])
def test_a_malformed_price_says_how_to_write_one(opened: Open, price: str) -> None:
    """`BURSAR_MODEL_PRICE` that is no pair of amounts is refused in one line with an example."""
    with pytest.raises(ConfigurationError, match=r"such as 0\.15/0\.60"):
        opened(BURSAR_MODEL=MODEL, BURSAR_MODEL_PRICE=price)


def test_answers_are_stored_only_if_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """`BURSAR_STORE_ANSWERS=1` lets calls be looked up; without a key there is no model to ask."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert metered_models() == []
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for value, stored in (("", None), ("0", None), ("1", True)):
        monkeypatch.setenv("BURSAR_STORE_ANSWERS", value)
        (model,) = metered_models()
        assert isinstance(model, MeteredChatModel)
        assert getattr(model.terms.client.model, "store", None) is stored
