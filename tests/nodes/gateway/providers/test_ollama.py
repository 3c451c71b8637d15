"""Ollama: the cap is one of the server's options, a free model needs no budget, and nothing of a request is lost."""

from typing import Any

import pytest
from langchain_ollama import ChatOllama

from bursar.nodes.gateway.meter import meter
from bursar.nodes.gateway.prices import Price
from bursar.nodes.gateway.providers.ollama import CHAT_PARAMS
from bursar.state.errors import ConfigurationError, UnknownPrice
from bursar.state.refusals import BudgetExceeded
from tests.nodes.gateway.providers.sellers import Seller
from tests.nodes.gateway.providers.test_every_protocol import LONG, WAYS, ask
from tests.support.provider import Reply

pytestmark = pytest.mark.parametrize("seller", ["ollama"], indirect=True)
FREE = Price(input=0, output=0)


def test_a_model_without_a_price_is_refused(seller: Seller) -> None:
    """The error says how to give one."""
    with pytest.raises(UnknownPrice, match=r"meter\(model, price=Price"):
        meter(seller.chat())


@pytest.mark.parametrize("way", WAYS)
def test_a_free_model_answers_without_money(seller: Seller, way: str) -> None:
    """At price 0 a budget of 0 pays for it; the same model at a price is refused."""
    with seller.bench.scope("0").enter():
        assert ask(meter(seller.chat(), price=FREE), way).text == "all is well"
    assert seller.bench.charged == 0
    assert seller.bench.kinds() == ["call_held", "call_settled"]
    with seller.bench.scope("0", request="r-2", checkpoint_ns="r-2").enter(), pytest.raises(BudgetExceeded):
        ask(seller.model(), way)
    assert len(seller.provider.requests) == 1


@pytest.mark.parametrize("unbounded", [-1, -2])
def test_a_model_that_may_write_for_ever_gets_a_cap(seller: Seller, unbounded: int) -> None:
    """`num_predict` below 0 is Ollama's word for no cap: the server gets the gateway's."""
    seller.provider.default = Reply(text=LONG)
    with seller.bench.scope("0.0005").enter():
        ask(seller.model(num_predict=unbounded), "invoke")
    assert 0 < seller.caps()[0] < 1_250
    assert seller.bench.charged == seller.provider.billed <= 500_000


@pytest.mark.parametrize("way", WAYS)
def test_options_of_a_call_stay_and_the_cap_joins_them(seller: Seller, way: str) -> None:
    """The server gets the caller's options and the cap; without them the model's own settings and the stop words."""
    model = seller.model(temperature=0.5, num_ctx=8_192)
    with seller.bench.scope().enter():
        ask(model, way, num_predict=50, options={"top_k": 3})
        ask(model, way, num_predict=50, stop=["END"])
    sent: list[dict[str, Any]] = [body["options"] for body in seller.provider.requests]
    assert sent == [
        {"top_k": 3, "num_predict": 50},
        {"temperature": 0.5, "num_ctx": 8_192, "stop": ["END"], "num_predict": 50},
    ]


def test_settings_that_cost_nothing_are_sent(seller: Seller) -> None:
    """How the server samples, where it computes, how long it keeps the model and in which form it answers."""
    own: dict[str, Any] = {"keep_alive": "5m", "reasoning": True, "format": "json", "num_thread": 2, "mirostat": 1}
    with seller.bench.scope().enter():
        ask(seller.model(**own), "invoke")
    body = seller.fields()
    assert (body["keep_alive"], body["think"], body["format"]) == ("5m", True, "json")
    assert (body["num_thread"], body["mirostat"]) == (2, 1)
    assert seller.bench.charged == seller.provider.billed


def test_two_models_are_told_apart_when_a_run_is_repeated(seller: Seller) -> None:
    """The journal answers for the model that was asked: another model, or other settings, are another request."""
    models = [seller.chat(model="a"), seller.chat(model="b"), seller.chat(model="b", temperature=0.5)]
    seller.provider.will(Reply(text="first"), Reply(text="second"), Reply(text="third"))
    with seller.bench.scope().enter():
        assert [ask(meter(one, price=FREE), "invoke").text for one in models] == ["first", "second", "third"]
    with seller.bench.scope().enter():
        backwards = [ask(meter(one, price=FREE), "invoke").text for one in reversed(models)]
    assert backwards == ["third", "second", "first"]
    assert len(seller.provider.requests) == 3


def test_a_client_that_cannot_be_capped_is_refused(seller: Seller, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version that is built otherwise would send no cap, so it is refused before anything is sent."""
    monkeypatch.setattr("bursar.nodes.gateway.providers.ollama.CHAT_PARAMS", "_made_elsewhere")
    with pytest.raises(ConfigurationError, match="its output cannot be capped"):
        seller.model()
    monkeypatch.undo()
    assert hasattr(ChatOllama, CHAT_PARAMS)
    seller.model()
