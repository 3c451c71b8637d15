"""Prices of calls: from genai-prices or given by hand, exact, in whole nano-dollars, rounded up."""

from dataclasses import dataclass
from datetime import date, timedelta
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from functools import lru_cache
from typing import TYPE_CHECKING

from bursar.state.errors import ConfigurationError, UnknownPrice
from bursar.state.rules.pricing import PricedModel, Rates, Steps

if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot
    from genai_prices.types import ModelInfo, ModelPrice, Provider, TieredPrices

FEMTOS_PER_DOLLAR_PER_MILLION_TOKENS = 10**9
ONE_DAY = timedelta(days=1)
STANDARD_TIERS = frozenset({None, "", "auto", "default", "standard", "standard_only", "flex"})  # none costs more


@dataclass(frozen=True, slots=True, init=False)
class Price:
    """A price given by hand, in US dollars per million tokens. A missing cache price is the input price.

    Accepts str, int and Decimal. Raises `ConfigurationError` for a float, a negative amount or a text that is no
    number.
    """

    input: Decimal
    output: Decimal
    cache_read: Decimal | None
    cache_write: Decimal | None

    def __init__(
        self,
        input: str | int | Decimal,  # noqa: A002 - the word of every price list
        output: str | int | Decimal,
        cache_read: str | int | Decimal | None = None,
        cache_write: str | int | Decimal | None = None,
    ) -> None:
        object.__setattr__(self, "input", _decimal("input", input))
        object.__setattr__(self, "output", _decimal("output", output))
        object.__setattr__(self, "cache_read", None if cache_read is None else _decimal("cache_read", cache_read))
        object.__setattr__(self, "cache_write", None if cache_write is None else _decimal("cache_write", cache_write))


@lru_cache(maxsize=1_024)  # each call asks, and a price changes once a day at most
def price_of(
    model_name: str,
    provider: str | None = None,
    override: Price | None = None,
    *,
    base_url: str | None = None,
    service_tier: str | None = None,
    on: date | None = None,
) -> PricedModel:
    """Return the price of a model: `override` if given, otherwise the price in the bundled data of genai-prices.

    If genai-prices lists `base_url`, the seller is the one at that URL, otherwise `provider`. `on` is the day of the
    call in UTC. Without `on` every price list that the model has or will have counts. Raises `UnknownPrice` if there is
    no price, also if there is none for `service_tier`.
    """
    if override is not None:
        return _given(model_name, override)
    return _listed(model_name, provider, base_url, None if service_tier in STANDARD_TIERS else service_tier, on)


@lru_cache(maxsize=1_024)
def embedding_price_of(
    model_name: str,
    provider: str | None = None,
    override: Price | None = None,
    *,
    base_url: str | None = None,
    on: date | None = None,
) -> PricedModel:
    """Return the price of an embedding model. Only input needs a price, because there is no output.

    The arguments mean what they mean in `price_of`. Raises `UnknownPrice` if there is no price.
    """
    if override is not None:
        return _given(model_name, override)
    return _listed(model_name, provider, base_url, None, on, outputs=False)


def _given(model_name: str, price: Price) -> PricedModel:
    read = price.input if price.cache_read is None else price.cache_read
    write = price.input if price.cache_write is None else price.cache_write
    rates = Rates(
        input=_flat(price.input),
        output=_flat(price.output),
        reasoning=_flat(price.output),
        cache_read=_flat(read),
        cache_write=_flat(write),
        long_cache_write=_flat(write),
    )
    return PricedModel(model_name, f"given {price.input}/{price.output}/{read}/{write}", (rates,))


def _listed(
    model_name: str,
    provider: str | None,
    base_url: str | None,
    service_tier: str | None,
    on: date | None,
    *,
    outputs: bool = True,
) -> PricedModel:
    from genai_prices import __version__

    seller, model = _look_up(model_name, provider, base_url)
    if service_tier is not None and {"service_tier": service_tier} not in [v.when for v in model.price_variants or ()]:
        raise UnknownPrice(_unknown(f"{model_name} in service tier {service_tier!r}"))
    lists = tuple(_rates(prices, model_name, outputs=outputs) for prices in _possible(model, on, service_tier))
    tier = f" {service_tier}" if service_tier else ""
    return PricedModel(model_name, f"genai-prices {__version__} {seller.id}/{model.id}{tier}", lists)


def _look_up(model_name: str, provider: str | None, base_url: str | None) -> "tuple[Provider, ModelInfo]":
    snapshot = _snapshot()
    for known in ({"provider_api_url": base_url}, {"provider_id": provider}):
        if set(known.values()) == {None}:
            continue
        try:
            seller = snapshot.find_provider(None, known.get("provider_id"), known.get("provider_api_url"))
        except LookupError:
            continue
        model = seller.find_model(model_name.lower(), all_providers=snapshot.providers)
        if model is not None:
            return seller, model
        break  # a known seller without this model: another seller's price would be a guess
    raise UnknownPrice(_unknown(model_name))


@lru_cache(maxsize=1)
def _snapshot() -> "DataSnapshot":
    # The bundled data, even if the application lets genai-prices update itself: a price must not change unseen.
    from genai_prices.data import providers
    from genai_prices.data_snapshot import DataSnapshot

    return DataSnapshot(providers=providers, from_auto_update=False)


def _possible(model: "ModelInfo", on: date | None, service_tier: str | None) -> "list[ModelPrice]":
    """Return the price lists that may apply on the day `on`, the day before or the day after.

    The neighbouring days count because midnight in UTC is not the seller's midnight. Without `on`, return all price
    lists. If `service_tier` is given, the prices of that tier replace the standard prices of each list.
    """
    from genai_prices.types import ModelPrice, StartDateConstraint

    standard: list[ModelPrice] = []
    if isinstance(model.prices, ModelPrice):
        standard = [model.prices]
    else:
        for listed in reversed(model.prices):  # of the lists that apply, the last one counts
            starts = listed.constraint.start_date if isinstance(listed.constraint, StartDateConstraint) else None
            if on is not None and starts is not None and starts > on + ONE_DAY:
                continue
            standard.append(listed.prices)
            settled = listed.constraint is None or (starts is not None and on is not None and starts < on)
            if settled and on is not None:
                break
    if service_tier is None:
        return standard
    variants = [v.prices for v in model.price_variants or () if v.when == {"service_tier": service_tier}]
    return [
        ModelPrice(**{**plain.__dict__, **{k: v for k, v in variant.__dict__.items() if v is not None}})
        for plain in standard
        for variant in variants
    ]


def _rates(prices: "ModelPrice", model_name: str, *, outputs: bool) -> Rates:
    said = prices.output_mtok if outputs or prices.output_mtok is not None else Decimal(0)
    if prices.input_mtok is None or said is None:
        raise UnknownPrice(_unknown(model_name))
    plain, output = _steps(prices.input_mtok), _steps(said)
    write = _steps(prices.cache_write_mtok) if prices.cache_write_mtok is not None else plain
    calls = prices.requests_kcount
    per_call = 0 if calls is None else max(rate for _, rate in _steps(calls)) * 1_000
    return Rates(
        input=plain,
        output=output,
        reasoning=output if prices.output_reasoning_mtok is None else _steps(prices.output_reasoning_mtok),
        cache_read=plain if prices.cache_read_mtok is None else _steps(prices.cache_read_mtok),
        cache_write=write,
        long_cache_write=write if prices.cache_write_1h_mtok is None else _steps(prices.cache_write_1h_mtok),
        per_call=per_call,
    )


def _steps(price: "Decimal | TieredPrices") -> Steps:
    if isinstance(price, Decimal):
        return _flat(price)
    return (*_flat(price.base), *((tier.start, _femtos(tier.price)) for tier in price.tiers))


def _flat(price: Decimal) -> Steps:
    return ((-1, _femtos(price)),)


def _femtos(dollars_per_million: Decimal) -> int:
    exact = dollars_per_million * FEMTOS_PER_DOLLAR_PER_MILLION_TOKENS
    return int(exact.to_integral_value(rounding=ROUND_CEILING))


def _decimal(name: str, amount: object) -> Decimal:
    if isinstance(amount, bool) or not isinstance(amount, str | int | Decimal):
        raise ConfigurationError(f"price: {name} is a str, int or Decimal of US dollars, not {amount!r}")
    try:
        exact = Decimal(amount)
    except InvalidOperation:
        raise ConfigurationError(f"price: {name} is no number: {amount!r}") from None
    if not exact.is_finite() or not 0 <= exact <= 1_000_000:
        raise ConfigurationError(f"price: {name} must be between 0 and 1000000 dollars per million tokens: {amount!r}")
    return exact


def _unknown(model_name: str) -> str:
    return (
        f"no price is known for model {model_name!r}, so no call to it can be bounded; give one in US dollars per "
        "million tokens: meter(model, price=Price(input='0.15', output='0.60'))"
    )
