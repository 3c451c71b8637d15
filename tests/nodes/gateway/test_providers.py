"""A provider of one's own, written from public names: the gateway asks it, and the money follows what it says."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import Field

from bursar import BilledUsage, BudgetExceeded, Failure, Price, Provider, ProviderClient, meter, register_provider
from bursar.nodes.gateway.providers import base
from tests.support.bench import Bench

PRICE = Price(input="1", output="2")  # US dollars per million tokens: 1,000 and 2,000 nano-dollars a token
HIDDEN_TOKENS = 1_000


class HouseError(Exception):
    """What the house's client raises."""


class HouseModel(BaseChatModel):
    """A model of nobody that Bursar knows: its cap is `limit`, and its bill is in the answer's own words."""

    answers: list[Any] = Field(default_factory=list)
    asked: list[dict[str, Any]] = Field(default_factory=list[dict[str, Any]])

    @property
    def _llm_type(self) -> str:
        return "house"

    def _generate(self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Any:
        self.asked.append(kwargs)
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return ChatResult(generations=[ChatGeneration(message=AIMessage(answer))])


class PlainModel(HouseModel):
    """A model that keeps to LangChain's conventions."""

    max_tokens: int = 50


class House(Provider):
    """What is known of the house's models, and what was asked of it."""

    def __init__(self, failure: Failure | None = None) -> None:
        self.told = failure
        self.asked: list[str] = []

    def matches(self, model: BaseChatModel, /) -> bool:
        return type(model) is HouseModel

    def prepare(self, model: BaseChatModel, /) -> ProviderClient:
        self.asked.append("prepare")
        return ProviderClient(model.model_copy(), cap_option="limit", name="house-1")

    def send_options(
        self, client: ProviderClient, options: Mapping[str, object], *, cap: int, timeout_seconds: float | None
    ) -> dict[str, object]:
        self.asked.append("cap")
        return {**options, client.cap_option: cap}

    def usage(self, result: ChatResult, /) -> BilledUsage | None:
        self.asked.append("usage")
        sent, _, received, _ = result.generations[0].message.text.split()
        return BilledUsage(int(sent), int(received)) if sent.isdecimal() else None

    def failure(self, error: BaseException, *, answered: bool, now: datetime, seconds_left: float | None) -> Failure:
        self.asked.append("failure")
        assert self.told is not None
        return self.told

    def hidden_input_tokens(self, tools: int, /) -> int:
        return HIDDEN_TOKENS * tools


@pytest.fixture(autouse=True)
def nobody_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is forgotten after it."""
    monkeypatch.setattr(base, "_registered", ())


@pytest.mark.parametrize("registered", [False, True])
def test_its_cap_is_sent_and_its_usage_is_charged(bench: Bench, registered: bool) -> None:
    """Given to `meter` or registered, it names the option that caps the answer and reads what was billed."""
    house, inner = House(), HouseModel(answers=["12 in, 3 out"])
    if registered:
        register_provider(house)
    model = meter(inner, price=PRICE, provider=None if registered else house)
    with bench.scope().enter():
        assert model.invoke("hello", limit=70).text == "12 in, 3 out"
    assert inner.asked == [{"limit": 70}]
    assert house.asked == ["prepare", "cap", "usage"]
    assert bench.charged == 12 * 1_000 + 3 * 2_000
    assert bench.kinds() == ["call_held", "call_settled"]


def test_the_newest_that_matches_is_taken(bench: Bench) -> None:
    """Of two that are registered the later one is asked, and the one that is given before both."""
    older, newer, given = House(), House(), House()
    register_provider(older)
    register_provider(newer)
    meter(HouseModel(), price=PRICE)
    meter(HouseModel(), price=PRICE, provider=given)
    assert (older.asked, newer.asked, given.asked) == ([], ["prepare"], ["prepare"])


def test_without_usage_the_hold_is_charged(bench: Bench) -> None:
    """An answer of which it does not know what was billed costs its hold."""
    model = meter(HouseModel(answers=["x in, y out"]), price=PRICE, provider=House())
    with bench.scope().enter():
        model.invoke("hello")
    assert bench.charged == bench.holds()[0] > 0


def test_a_bill_that_it_cannot_read_costs_the_hold(bench: Bench) -> None:
    """What its `usage` raises reaches the caller when the call is charged at its hold."""
    model = meter(HouseModel(answers=["no bill at all, sir"]), price=PRICE, provider=House())
    with bench.scope().enter(), pytest.raises(ValueError, match="unpack"):
        model.invoke("hello")
    assert bench.charged == bench.holds()[0]
    assert bench.kinds() == ["call_held", "call_settled"]


@pytest.mark.parametrize(
    ("failure", "kinds", "charges"),
    [
        (Failure("nothing", retry=False, reason="refused"), ["call_held", "call_voided"], 0),
        (Failure("unknown", retry=False, reason="cut"), ["call_held", "call_unknown"], None),
        (
            Failure("unknown", retry=False, reason="unreadable", usage=BilledUsage(12, 3)),
            ["call_held", "call_settled"],
            18_000,
        ),
    ],
)
def test_its_failure_says_what_is_owed(bench: Bench, failure: Failure, kinds: list[str], charges: int | None) -> None:
    """The same error is void, stays charged at its hold, or is settled at what was billed, as the provider says."""
    house = House(failure)
    model = meter(HouseModel(answers=[HouseError("no")]), price=PRICE, provider=house)
    with bench.scope().enter(), pytest.raises(HouseError):
        model.invoke("hello")
    assert house.asked == ["prepare", "cap", "failure"]
    assert bench.kinds() == kinds
    assert bench.charged == (bench.holds()[0] if charges is None else charges)


def test_its_failure_says_whether_to_send_again(bench: Bench) -> None:
    """A call that may be sent again is, with a hold of its own."""
    house = House(Failure("nothing", retry=True, reason="busy", pause_seconds=0.0))
    model = meter(HouseModel(answers=[HouseError("busy"), "12 in, 3 out"]), price=PRICE, provider=house)
    with bench.scope().enter():
        model.invoke("hello")
    assert bench.kinds() == ["call_held", "call_voided", "call_held", "call_settled"]
    assert bench.charged == 18_000


def test_a_failure_that_it_cannot_read_stays_charged(bench: Bench) -> None:
    """What its `failure` raises is raised from the provider's error when the call is charged at its hold."""
    model = meter(HouseModel(answers=[HouseError("no")]), price=PRICE, provider=House())
    with bench.scope().enter(), pytest.raises(AssertionError) as raised:
        model.invoke("hello")
    assert isinstance(raised.value.__cause__, HouseError)
    assert bench.kinds() == ["call_held", "call_unknown"]
    assert bench.charged == bench.holds()[0]


def test_what_it_adds_out_of_sight_is_held(bench: Bench) -> None:
    """Hidden tokens of a tool's prompt are in the hold: a budget that pays for the rest alone is not enough."""
    model = meter(HouseModel(answers=["12 in, 3 out"]), price=PRICE, min_output_tokens=1, provider=House())
    tool: dict[str, Any] = {"type": "function", "function": {"name": "t", "parameters": {}}}
    with bench.scope("0.001").enter(), pytest.raises(BudgetExceeded):
        model.invoke("hello", limit=1, tools=[tool])
    with bench.scope("0.001", request="r-2").enter():
        model.invoke("hello", limit=1)


def test_a_model_that_it_does_not_match_is_anybodys(bench: Bench) -> None:
    """A registered provider is not asked about others' models, which are capped by `max_tokens`."""
    house, inner = House(), PlainModel(answers=["12 in, 3 out"])
    register_provider(house)
    model = meter(inner, price=PRICE)
    with bench.scope().enter():
        model.invoke("hello", max_tokens=70)
    assert inner.asked == [{"max_tokens": 50}]  # its own setting is the lower one
    assert house.asked == []
    assert bench.charged == bench.holds()[0]  # no `usage_metadata`


def test_a_client_may_raise_what_ends_a_generator(bench: Bench) -> None:
    """`GeneratorExit` out of a client is a failure like any other: the call stays charged, and the caller gets it."""
    model = meter(PlainModel(answers=[GeneratorExit()]), price=PRICE)
    with bench.scope().enter(), pytest.raises(GeneratorExit):
        model.invoke("hello")
    assert bench.kinds() == ["call_held", "call_unknown"]
    assert bench.charged == bench.holds()[0]
