"""Azure: a deployment has a model that only its owner knows, so the price is never guessed."""

from typing import Any

import pytest

from bursar.nodes.gateway.meter import meter
from bursar.nodes.gateway.prices import Price
from bursar.state.errors import UnknownPrice
from bursar.state.refusals import Refused
from tests.nodes.gateway.providers.sellers import DEPLOYMENT, Seller
from tests.nodes.gateway.providers.test_every_protocol import WAYS, ask
from tests.support.provider import DEAR_MODEL, MODEL

pytestmark = pytest.mark.parametrize("seller", ["azure"], indirect=True)


@pytest.mark.parametrize("deployment", ["prod-1", MODEL])
def test_a_deployment_alone_has_no_price(seller: Seller, deployment: str) -> None:
    """Even if it is named like a model, which it need not have. One sentence says what to pass."""
    with pytest.raises(UnknownPrice) as raised:
        meter(seller.chat(azure_deployment=deployment, model=None))
    assert f"no price is known for model {deployment!r}" in str(raised.value)
    assert f"AzureChatOpenAI(azure_deployment={deployment!r}, model='gpt-4o-mini', …)" in str(raised.value)


@pytest.mark.parametrize("way", WAYS)
def test_a_deployment_with_its_models_name_is_priced(seller: Seller, way: str) -> None:
    """Usage is asked for in streams too, and the call goes to the deployment."""
    with seller.bench.scope().enter():
        ask(seller.model(), way)
    assert list(seller.bench.ledger.spend("s-1").by_model) == [MODEL]
    assert seller.bench.charged == seller.provider.billed
    assert seller.provider.paths == [f"/openai/deployments/{DEPLOYMENT}/chat/completions?api-version=2024-10-21"]
    if "stream" in way:
        assert seller.fields()["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize("way", WAYS)
def test_a_deployment_with_a_price_by_hand_needs_no_name(seller: Seller, way: str) -> None:
    """The books then name the deployment."""
    model = meter(seller.chat(model=None), price=Price("0.15", "0.60", cache_read="0.075"))
    with seller.bench.scope().enter():
        ask(model, way)
    assert list(seller.bench.ledger.spend("s-1").by_model) == [DEPLOYMENT]
    assert seller.bench.charged == seller.provider.billed


@pytest.mark.parametrize("option", ["model", "model_name"])
def test_a_call_cannot_name_another_model(seller: Seller, option: str) -> None:
    """The address decides which model answers, so a cheaper name would only make the price wrong."""
    dear, options = seller.model(model=DEAR_MODEL), dict[str, Any]({option: MODEL})
    with seller.bench.scope().enter(), pytest.raises(Refused, match=f"option '{option}'"):
        dear.invoke("hello", **options)
    assert not seller.provider.requests
    with seller.bench.scope(request="r-2").enter():
        dear.invoke("hello")


def test_a_models_version_is_part_of_its_name(seller: Seller) -> None:
    """The price is that of the version."""
    with seller.bench.scope().enter():
        ask(seller.model(model=DEAR_MODEL, model_version="2024-08-06"), "invoke")
    assert list(seller.bench.ledger.spend("s-1").by_model) == [f"{DEAR_MODEL}-2024-08-06"]
