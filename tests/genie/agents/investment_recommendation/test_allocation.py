"""Weights within caps: they sum to one, obey every cap, and are the least variance there is."""

from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from itertools import product
from typing import Protocol, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import optimize

from bursar.genie.agents.investment_recommendation import allocation, policy_portfolios
from bursar.genie.agents.investment_recommendation.allocation import (
    TICK,
    baseline,
    feasible,
    minimum_variance,
    obeys,
    quantised,
)
from bursar.genie.agents.investment_recommendation.policy_portfolios import BANDS, CLASSES, Caps
from bursar.genie.household.holdings import History, Holding
from bursar.genie.household.records import AssetClass

Matrix = NDArray[np.float64]
D = Decimal
DAY = date(2025, 6, 30)
FREE: dict[AssetClass, tuple[Decimal, Decimal]] = {name: (D(0), D(1)) for name in CLASSES}


class Solution(Protocol):
    """What is used of SciPy's result."""

    success: bool
    fun: float


minimize = cast("Callable[..., Solution]", optimize.minimize)  # pyright: ignore[reportUnknownMemberType]


def random_covariance(seed: int, count: int) -> Matrix:
    factors = np.random.default_rng(seed).normal(0, 0.1, (count + 2, count))
    return np.asarray(factors.T @ factors / (count + 2) + 0.0004 * np.eye(count), dtype=np.float64)


def caps(holding: str, **classes: tuple[str, str]) -> Caps:
    ranges: dict[AssetClass, tuple[Decimal, Decimal]] = dict(FREE)
    for name in CLASSES:
        if name in classes:
            low, high = classes[name]
            ranges[name] = (D(low), D(high))
    return Caps(D(holding), ranges)


def holding(symbol: str, asset_class: AssetClass, amount: int) -> Holding:
    return Holding(symbol, symbol, asset_class, D(amount), D(1), DAY)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(25))
def test_weights_sum_to_one_and_obey_every_cap_for_random_inputs(seed: int) -> None:
    """Whatever the covariance, classes and caps: exact decimals within the caps, or None only where none can exist."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(2, 9))
    classes: list[AssetClass] = [CLASSES[int(rng.integers(0, 3))] for _ in range(count)]
    low, high = sorted(D(int(ticks)) * TICK for ticks in rng.integers(0, 10_001, 2))
    limits = caps(str(D(int(rng.integers(2_000, 10_001))) * TICK), equity=(str(low), str(high)))
    weights = minimum_variance(random_covariance(seed, count), classes, limits)
    if weights is None:
        assert not feasible(classes, limits)
    else:
        assert obeys(weights, classes, limits)
        assert all(weight % TICK == 0 for weight in weights)


@pytest.mark.parametrize("seed", range(6))
def test_a_second_solver_finds_the_same_variance(seed: int) -> None:
    """Sequential quadratic programming from SciPy agrees on the least variance under the same caps."""
    covariance = random_covariance(seed, 5)
    classes: list[AssetClass] = ["equity", "equity", "bond", "bond", "cash"]
    limits = caps("0.4", equity=("0.4", "0.6"), cash=("0", "0.1"))
    weights = minimum_variance(covariance, classes, limits)
    assert weights is not None
    found = np.array([float(weight) for weight in weights])

    def variance(w: Matrix) -> float:
        return float(w @ covariance @ w) * 1000

    limited = [
        optimize.LinearConstraint(np.array(row), low, high)
        for row, low, high in (([1, 1, 1, 1, 1], 1, 1), ([1, 1, 0, 0, 0], 0.4, 0.6), ([0, 0, 0, 0, 1], 0, 0.1))
    ]
    other = minimize(variance, np.full(5, 0.2), bounds=[(0, 0.4)] * 5, constraints=limited, method="SLSQP")
    assert other.success
    assert variance(found) == pytest.approx(other.fun, rel=1e-3)


def test_no_point_of_a_fine_grid_has_less_variance() -> None:
    """Brute force over three holdings in steps of one per cent within the caps."""
    covariance = random_covariance(3, 3)
    classes: list[AssetClass] = ["equity", "bond", "cash"]
    limits = caps("0.7", equity=("0.3", "0.5"))
    weights = minimum_variance(covariance, classes, limits)
    assert weights is not None
    best = allocation.deviation(weights, covariance)
    for one, two in product(range(101), repeat=2):
        point = (D(one) / 100, D(two) / 100, D(100 - one - two) / 100)
        if obeys(point, classes, limits):
            assert best <= allocation.deviation(point, covariance) + 1e-5


def test_two_free_holdings_have_the_closed_form_weights() -> None:
    """Without binding caps the weight of the first is (s2^2 - s12) / (s1^2 + s2^2 - 2 s12)."""
    covariance = np.array([[0.04, 0.006], [0.006, 0.01]])
    weights = minimum_variance(covariance, ["equity", "bond"], caps("1"))
    assert weights is not None
    assert float(weights[0]) == pytest.approx((0.01 - 0.006) / (0.04 + 0.01 - 0.012), abs=1e-4)


@pytest.mark.parametrize(
    ("classes", "limits"),
    [
        (["equity"], caps("0.5")),
        (["equity", "equity"], caps("1", bond=("0.2", "1"))),
        (["equity", "bond"], caps("1", equity=("0", "0.3"), bond=("0", "0.3"))),
        ([], caps("1")),
    ],
)
def test_caps_that_cannot_be_met_give_no_weights(classes: list[AssetClass], limits: Caps) -> None:
    """A missing class or caps too tight for the number of holdings are seen before any solver runs."""
    assert minimum_variance(random_covariance(1, max(1, len(classes))), classes, limits) is None


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=4, max_size=8), st.data())
def test_rounding_keeps_the_sum_and_the_caps(raw: list[float], data: st.DataObject) -> None:
    """Weights from anywhere become ticks that sum to one within the caps, or None where the caps cannot be met."""
    total = sum(raw) or 1.0
    classes: list[AssetClass] = [data.draw(st.sampled_from(CLASSES[:3])) for _ in raw]
    low, high = sorted(data.draw(st.tuples(st.integers(0, 10_000), st.integers(0, 10_000))))
    limits = caps(str(data.draw(st.integers(1_500, 10_000)) * TICK), bond=(str(low * TICK), str(high * TICK)))
    found = quantised([weight / total for weight in raw], classes, limits)
    assert (found is None) == (not feasible(classes, limits))
    if found is not None:
        assert obeys(found, classes, limits)


@settings(deadline=None)
@given(st.lists(st.integers(1, 1000), min_size=2, max_size=8))
def test_rounding_moves_free_weights_by_less_than_two_ticks(raw: list[int]) -> None:
    """Where no cap binds, rounding is all that happens."""
    weights = [value / sum(raw) for value in raw]
    classes: list[AssetClass] = ["equity" for _ in raw]
    found = quantised(weights, classes, caps("1"))
    assert found is not None
    assert all(abs(float(got) - want) < 2 * float(TICK) for got, want in zip(found, weights, strict=True))


@pytest.mark.parametrize("band", BANDS)
def test_the_baseline_meets_each_target_it_has_room_for(band: policy_portfolios.RiskBand) -> None:
    """Classes with holdings get their target, split by value; a class without one leaves its share open."""
    policies = policy_portfolios.load()
    policy, limits = policies.bands[band], policy_portfolios.caps_of(policies, band)
    held = [
        holding("A", "equity", 300),
        holding("B", "equity", 100),
        holding("C", "bond", 70),
        holding("D", "bond", 70),
        holding("E", "cash", 1),
    ]
    weights = baseline(held, policy, limits)
    equity = D(policy.classes["equity"].target) / 100
    assert weights[0] + weights[1] == equity
    assert weights[2] == weights[3] == D(policy.classes["bond"].target) / 200
    assert 1 - sum(weights, D(0)) == D(policy.classes["real_estate"].target) / 100
    assert all(weight <= limits.holding for weight in weights)


def test_the_baseline_keeps_the_cap_of_a_single_holding() -> None:
    """One bond holding takes no more than the cap; the rest of the bond target stays open."""
    policy = policy_portfolios.load().bands["cautious"]
    assert baseline([holding("C", "bond", 70)], policy, caps("0.3")) == (D("0.3"),)


@pytest.mark.parametrize(
    ("band", "years", "used"),
    [("growth", 7, "growth"), ("growth", 6, "balanced"), ("growth", 2, "cautious"), ("cautious", 30, "cautious")],
)
def test_a_short_horizon_calls_for_a_calmer_band(
    band: policy_portfolios.RiskBand, years: int, used: policy_portfolios.RiskBand
) -> None:
    """The band on record is an upper bound; the horizon can only lower it."""
    assert policy_portfolios.suited_band(policy_portfolios.load(), band, years) == used


def test_each_policy_obeys_its_own_ranges_and_gives_a_reason() -> None:
    """Targets sum to the whole, lie in their ranges, and shares rise from band to band."""
    policies = policy_portfolios.load()
    shares = [policies.bands[band].classes["equity"].target for band in BANDS]
    assert shares == sorted(shares)
    for band in BANDS:
        policy = policies.bands[band]
        assert policy.rationale
        assert sum(policy.classes[name].target for name in CLASSES) == 100


def test_a_policy_whose_targets_miss_the_whole_is_refused() -> None:
    """A damaged data file does not load."""
    data = policy_portfolios.load().model_dump()
    data["bands"]["growth"]["classes"]["equity"]["target"] = 70
    with pytest.raises(ValueError, match="sum to 100"):
        policy_portfolios.Policies.model_validate(data)
    data["bands"]["growth"]["classes"]["equity"]["target"] = 95
    with pytest.raises(ValueError, match="least <= target"):
        policy_portfolios.Policies.model_validate(data)
    del data["bands"]["growth"]
    with pytest.raises(ValueError, match="policy for each"):
        policy_portfolios.Policies.model_validate(data)


def test_the_covariance_is_shrunk_and_annual() -> None:
    """For few returns it lies between the sample covariance and a multiple of the identity, times 252 for days."""
    returns = np.random.default_rng(7).normal(0, 0.01, (80, 4))
    days = tuple(DAY + timedelta(days=n) for n in range(81))
    shrunk = allocation.covariance(History(("A", "B", "C", "D"), days, "day", returns))
    sample = np.cov(returns, rowvar=False, bias=True) * 252
    assert np.trace(shrunk) == pytest.approx(float(np.trace(sample)), rel=1e-9)
    outside = ~np.eye(4, dtype=bool)
    assert np.all(np.abs(shrunk[outside]) < np.abs(sample[outside]))
