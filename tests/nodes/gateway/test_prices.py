"""Prices: exact, from genai-prices or by hand, and a worst case that no call can exceed."""

from datetime import date
from decimal import ROUND_CEILING, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar.checkpoints.ledger.calls import Usage
from bursar.nodes.gateway.prices import Price, price_of
from bursar.state.errors import ConfigurationError, UnknownPrice

TODAY = date(2026, 11, 23)
MODELS = [
    ("gpt-4o-mini", "openai"),
    ("gpt-4o", "openai"),
    ("o3", "openai"),  # a price that fell on a day
    ("claude-sonnet-4-5", "anthropic"),  # steps by input size, cache writes
    ("gemini-2.5-pro", "google_genai"),
    ("deepseek-chat", "deepseek"),  # a price by the time of day
]
tokens = st.integers(min_value=0, max_value=2_000_000)


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    """A usage as a provider reports it: cache tokens inside the input, reasoning inside the output."""
    read, write, fresh = draw(tokens), draw(tokens), draw(tokens)
    said, thought = draw(tokens), draw(tokens)
    return Usage(read + write + fresh, said + thought, read, write, thought)


def test_a_known_price_is_exact() -> None:
    """A million tokens of gpt-4o-mini cost 15 cents in and 60 cents out, in nano-dollars."""
    price = price_of("gpt-4o-mini", "openai", on=TODAY)
    assert price.cost(Usage(input_tokens=1_000_000)) == 150_000_000
    assert price.cost(Usage(input_tokens=1, output_tokens=1)) == 150 + 600
    assert price.cost(Usage(input_tokens=10, cache_read_tokens=10)) == 750
    assert price.version.startswith("genai-prices ")
    assert price.version.endswith(" openai/gpt-4o-mini")


@pytest.mark.parametrize(("model", "provider"), MODELS)
@given(usage=usages())
def test_a_cost_is_the_librarys_rounded_up(model: str, provider: str, usage: Usage) -> None:
    """Our integers give what genai-prices gives in decimals, or more where several prices may hold at the moment."""
    from datetime import UTC, datetime

    import genai_prices

    listed = genai_prices.calc_price(
        genai_prices.Usage(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cache_read_tokens=usage.cache_read_tokens,
            cache_write_tokens=usage.cache_write_tokens,
        ),
        model,
        provider_id=provider,
        genai_request_timestamp=datetime(2026, 11, 23, 12, tzinfo=UTC),
    )
    nanos = int((listed.total_price * 10**9).to_integral_value(rounding=ROUND_CEILING))
    price = price_of(model, provider, on=TODAY)
    assert price.cost(usage) >= nanos
    if len(price.lists) == 1:
        assert price.cost(usage) == nanos


@pytest.mark.parametrize(("model", "provider"), MODELS)
@given(usage=usages(), slack=st.integers(0, 10_000), long=tokens)
def test_no_usage_within_the_bound_costs_more_than_the_worst_case(
    model: str, provider: str, usage: Usage, slack: int, long: int
) -> None:
    """However the tokens are classed, cache writes and reasoning included, the worst case covers them."""
    price = price_of(model, provider, on=TODAY)
    worst = price.worst_case(usage.input_tokens + slack, usage.output_tokens + slack)
    assert price.cost(usage, long_cache_write_tokens=long) <= worst


@pytest.mark.parametrize(("model", "provider"), MODELS)
@given(size=st.integers(0, 400_000), money=st.integers(0, 10**11))
def test_the_output_that_fits_is_the_most_that_fits(model: str, provider: str, size: int, money: int) -> None:
    """One token more than `output_within` would cost more than the money."""
    price = price_of(model, provider, on=TODAY)
    most = price.output_within(size, money)
    assert most is not None
    if most < 0:
        assert price.worst_case(size, 0) > money
    else:
        assert price.worst_case(size, most) <= money < price.worst_case(size, most + 1)


def test_a_price_by_hand_takes_the_place_of_the_list() -> None:
    """A given price needs no known model; missing cache prices are the input price; its version names it."""
    price = price_of("my-model", None, Price("0.15", Decimal("0.6"), cache_read="0.05"))
    assert price.cost(Usage(100, 10, cache_read_tokens=40, cache_write_tokens=10)) == 60 * 150 + 40 * 50 + 10 * 600
    assert price.version == "given 0.15/0.6/0.05/0.15"
    assert price_of("free", None, Price(0, 0)).output_within(10_000, 0) is None


def test_a_fraction_of_a_nano_dollar_is_rounded_up() -> None:
    """A token at a tenth of a nano-dollar costs one, ten cost one too."""
    price = price_of("tiny", None, Price("0.0001", 0))
    assert price.cost(Usage(input_tokens=1)) == 1
    assert price.cost(Usage(input_tokens=10)) == 1
    assert price.cost(Usage(input_tokens=11)) == 2


@pytest.mark.parametrize("bad", [0.15, True, "much", "NaN", "-1", Decimal("Infinity"), None])
def test_what_is_no_price_is_refused(bad: object) -> None:
    """A float, a bool, a negative amount and no number are named in the error."""
    with pytest.raises(ConfigurationError, match="price: input"):
        Price(bad, "1")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("model", "provider"), [("no-such-model", "openai"), ("gpt-4o-mini", "no-such-seller"), ("gpt-4o-mini", None)]
)
def test_an_unknown_model_or_seller_has_no_price(model: str, provider: str | None) -> None:
    """Nothing is guessed: the error is one line that shows how to give a price."""
    with pytest.raises(UnknownPrice, match=r"meter\(model, price=Price\(") as error:
        price_of(model, provider)
    assert "\n" not in str(error.value)


def test_the_base_url_names_the_seller() -> None:
    """A model bought elsewhere has that seller's price; an unknown address is taken for the provider's own."""
    assert "openrouter/" in price_of("openai/gpt-4o", "openai", base_url="https://openrouter.ai/api/v1").version
    assert "openai/" in price_of("gpt-4o", "openai", base_url="http://127.0.0.1:8000/v1").version


def test_a_dearer_service_tier_has_its_own_price() -> None:
    """Priority costs more than the standard tier; a tier nobody lists has no price."""
    plain = price_of("gpt-4o-mini", "openai", on=TODAY)
    fast = price_of("gpt-4o-mini", "openai", on=TODAY, service_tier="priority")
    assert fast.cost(Usage(input_tokens=1_000)) == 250_000 > plain.cost(Usage(input_tokens=1_000))
    assert price_of("gpt-4o-mini", "openai", on=TODAY, service_tier="flex") == plain
    with pytest.raises(UnknownPrice, match="golden"):
        price_of("gpt-4o-mini", "openai", on=TODAY, service_tier="golden")


def test_near_a_change_of_price_the_dearer_counts() -> None:
    """On the day of a price cut and the next, the old price counts; later the new one alone; unknown days count all."""
    usage = Usage(input_tokens=1_000_000)
    assert price_of("o3", "openai", on=date(2025, 6, 1)).cost(usage) == 10 * 10**9
    assert price_of("o3", "openai", on=date(2025, 6, 10)).cost(usage) == 10 * 10**9
    assert price_of("o3", "openai", on=date(2025, 6, 11)).cost(usage) == 2 * 10**9
    assert price_of("o3", "openai").cost(usage) == 10 * 10**9
