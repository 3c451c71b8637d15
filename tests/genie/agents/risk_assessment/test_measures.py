"""Risk measures against closed forms, bounds and orders that always hold."""

from decimal import Decimal
from math import sqrt
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bursar.genie.agents.risk_assessment.measures import (
    annualised_volatility,
    expected_shortfall,
    gaussian_expected_shortfall,
    gaussian_var,
    herfindahl,
    historical_var,
    maximum_drawdown,
)

Returns = NDArray[np.float64]
D = Decimal
NONE: Returns = np.array([], dtype=np.float64)
NORMAL = NormalDist()

samples = st.lists(st.floats(-0.5, 0.5), min_size=2, max_size=60).map(lambda xs: np.array(xs, dtype=np.float64))
levels = st.floats(0.5, 0.995)


@settings(deadline=None)
@given(st.lists(st.decimals("0.01", 1_000_000, places=2), min_size=1, max_size=30))
def test_the_concentration_index_lies_between_one_over_n_and_one(values: list[Decimal]) -> None:
    """Equal holdings give 1/n, a single one gives 1, everything else lies between."""
    index = herfindahl(values)
    assert D(1) / len(values) - D("1e-20") <= index <= 1 + D("1e-20")
    assert abs(herfindahl([D(5)] * len(values)) - D(1) / len(values)) < D("1e-20")
    assert herfindahl([values[0], D(0)]) == 1


def test_the_concentration_index_of_a_worked_example() -> None:
    """Shares of 50, 30 and 20 per cent give 0.25 + 0.09 + 0.04."""
    assert herfindahl([D(50), D(30), D(20)]) == D("0.38")


@pytest.mark.parametrize("values", [[], [D(0)], [D(2), D(-1)]])
def test_the_concentration_of_nothing_or_of_a_debt_is_refused(values: list[Decimal]) -> None:
    """An index of no value or of a negative one has no meaning."""
    with pytest.raises(ValueError, match="positive sum"):
        herfindahl(values)


@settings(max_examples=200, deadline=None)
@given(samples, levels, levels)
def test_value_at_risk_rises_with_confidence_and_shortfall_is_never_less(
    returns: Returns, one: float, two: float
) -> None:
    """VaR is monotone in confidence; ES is at least VaR and at most the worst loss; ES is monotone too."""
    low, high = sorted((one, two))
    assert historical_var(returns, low) <= historical_var(returns, high)
    assert expected_shortfall(returns, low) <= expected_shortfall(returns, high) + 1e-12
    assert historical_var(returns, low) <= expected_shortfall(returns, low)
    assert expected_shortfall(returns, high) <= float(-returns.min()) + 1e-9


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(samples, levels)
def test_value_at_risk_is_an_observed_loss_that_enough_losses_do_not_exceed(returns: Returns, level: float) -> None:
    """The definition by counting: at least the level of losses are no larger, and no smaller loss would do."""
    var = historical_var(returns, level)
    losses = -returns
    assert var in losses
    assert np.count_nonzero(losses <= var) >= level * len(losses) - 1e-6
    smaller = losses[losses < var]
    if len(smaller):
        assert np.count_nonzero(losses <= smaller.max()) < level * len(losses)


def test_value_at_risk_and_shortfall_of_a_worked_example() -> None:
    """Losses of 1 to 100: at 95 % VaR is 95 and ES the mean of 96 to 100; at 97.5 % half of 98 is in the tail."""
    returns = -np.arange(1.0, 101.0)
    assert historical_var(returns, 0.95) == 95
    assert expected_shortfall(returns, 0.95) == pytest.approx(98)
    assert historical_var(returns, 0.975) == 98
    assert expected_shortfall(returns, 0.975) == pytest.approx((0.5 * 98 + 99 + 100) / 2.5)


@settings(deadline=None)
@given(samples)
def test_drawdown_lies_between_nothing_and_everything(returns: Returns) -> None:
    """Returns above -100 % lose at most the whole, and gains alone lose nothing."""
    assert 0.0 <= maximum_drawdown(returns) <= 1.0
    assert maximum_drawdown(np.abs(returns)) == 0.0


def test_drawdown_of_a_worked_example_counts_a_fall_from_the_start() -> None:
    """100, 80, 120, 90, 150: the fall from 120 to 90 is 25 %, the first one from 100 to 80 is 20 %."""
    values = np.array([100.0, 80.0, 120.0, 90.0, 150.0])
    assert maximum_drawdown(values[1:] / values[:-1] - 1) == pytest.approx(0.25)
    assert maximum_drawdown(np.array([-0.2, 0.1])) == pytest.approx(0.2)


@settings(deadline=None)
@given(st.floats(-0.4, 0.4), st.lists(st.floats(-0.1, 0.1), min_size=2, max_size=30))
def test_volatility_is_the_sample_deviation_and_ignores_a_shift(shift: float, values: list[float]) -> None:
    """It equals the two-pass formula with n - 1, times the root of the periods in a year."""
    returns = np.array(values, dtype=np.float64)
    mean = sum(values) / len(values)
    expected = sqrt(sum((x - mean) ** 2 for x in values) / (len(values) - 1)) * sqrt(12)
    assert annualised_volatility(returns, 12) == pytest.approx(expected, abs=1e-12)
    assert annualised_volatility(returns + shift, 12) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_simulated_normal_returns_agree_with_the_closed_forms(level: float) -> None:
    """400,000 seeded normal returns: historical VaR and ES match z*s - m and s*pdf(z)/(1 - c) - m within 2 %."""
    mean, deviation = 0.001, 0.02
    returns = np.random.default_rng(20250630).normal(mean, deviation, 400_000)
    z = NORMAL.inv_cdf(level)
    assert historical_var(returns, level) == pytest.approx(z * deviation - mean, rel=0.02)
    tail = deviation * NORMAL.pdf(z) / (1 - level) - mean
    assert expected_shortfall(returns, level) == pytest.approx(tail, rel=0.02)
    assert gaussian_var(mean, deviation, level) == pytest.approx(z * deviation - mean)
    assert gaussian_expected_shortfall(mean, deviation, level) == pytest.approx(tail)


def test_drift_grows_with_time_and_not_with_its_root() -> None:
    """Summed over 25 periods the mean counts 25 times and the deviation 5 times, as a simulation of sums confirms."""
    mean, deviation, periods = 0.002, 0.01, 25
    sums = np.random.default_rng(7).normal(mean, deviation, (40_000, periods)).sum(axis=1)
    scaled = gaussian_var(mean, deviation, 0.95, periods=periods)
    assert scaled == pytest.approx(NORMAL.inv_cdf(0.95) * deviation * 5 - mean * 25)
    assert scaled == pytest.approx(historical_var(sums, 0.95), rel=0.05)
    assert gaussian_expected_shortfall(mean, deviation, 0.95, periods=periods) == pytest.approx(
        expected_shortfall(sums, 0.95), rel=0.05
    )


def test_normal_value_at_risk_rises_smoothly_with_confidence() -> None:
    """No steps: 94.9 %, 95 % and 97 % give three rising figures, the first two close together."""
    low, middle, high = (gaussian_var(0.0, 0.01, level) for level in (0.949, 0.95, 0.97))
    assert low < middle < high
    assert middle - low < 0.01 * (high - 0)


@pytest.mark.parametrize("level", [0.0, 1.0, -1.0, 95.0])
def test_a_confidence_outside_nought_and_one_is_refused(level: float) -> None:
    """95 is not 0.95."""
    with pytest.raises(ValueError, match="between 0 and 1"):
        historical_var(np.array([0.1]), level)
    with pytest.raises(ValueError, match="between 0 and 1"):
        gaussian_var(0.0, 1.0, level)


def test_an_empty_sample_is_refused() -> None:
    """No returns, no figure."""
    with pytest.raises(ValueError, match="no returns"):
        maximum_drawdown(NONE)
    with pytest.raises(ValueError, match="no returns"):
        historical_var(NONE, 0.9)
    with pytest.raises(ValueError, match="no returns"):
        expected_shortfall(NONE, 0.9)
    with pytest.raises(ValueError, match="at least two"):
        annualised_volatility(np.array([0.1]), 12)
