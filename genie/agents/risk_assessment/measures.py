"""Risk measures as pure functions: concentration in exact decimals, loss statistics over arrays of returns.

Returns are simple returns per period (0.01 is 1 %); losses are positive. Every function raises `ValueError` if
its sample is empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from math import ceil, sqrt
from statistics import NormalDist
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Returns = NDArray[np.float64]

_NORMAL = NormalDist()


def herfindahl(values: Sequence[Decimal]) -> Decimal:
    """Return the Herfindahl-Hirschman index, the sum of squared shares: 1/n if n values are equal, 1 for one value.

    Raises `ValueError` if a value is negative or the sum is zero.
    """
    total = sum(values, Decimal(0))
    if total <= 0 or any(value < 0 for value in values):
        raise ValueError("values must not be negative and must have a positive sum")
    return sum((value * value for value in values), Decimal(0)) / (total * total)


def annualised_volatility(returns: Returns, periods_per_year: int) -> float:
    """Return the sample standard deviation (ddof=1) times the square root of the periods in a year, as a fraction."""
    if len(returns) < 2:
        raise ValueError("volatility needs at least two returns")
    return float(returns.std(ddof=1)) * sqrt(periods_per_year)


def maximum_drawdown(returns: Returns) -> float:
    """Return the deepest fall from an earlier peak of the compounded value, as a fraction of that peak."""
    import numpy as np

    _some(returns)
    levels = np.concatenate(([1.0], np.cumprod(1.0 + returns)))
    return float(np.max(1.0 - levels / np.maximum.accumulate(levels)))


def historical_var(returns: Returns, confidence: float) -> float:
    """Return the value at risk: the smallest observed loss such that a share `confidence` of all losses is not larger.

    Nothing is interpolated or scaled: the horizon is the period of `returns`. A negative result is a gain.
    """
    import numpy as np

    losses = np.sort(-_some(returns))
    return float(losses[_rank(len(losses), confidence)])


def expected_shortfall(returns: Returns, confidence: float) -> float:
    """Return the mean loss of the worst share `1 - confidence` of the observations.

    The result is at least the historical VaR.

    Of the observation at the quantile, only the fraction that belongs to the tail counts (Acerbi and Tasche, 2002,
    definition 2.6).
    """
    import numpy as np

    losses = np.sort(-_some(returns))
    var = losses[_rank(len(losses), confidence)]
    beyond = float(np.maximum(losses - var, 0.0).mean())
    return float(var) + beyond / (1.0 - confidence)


def gaussian_var(mean: float, deviation: float, confidence: float, *, periods: float = 1) -> float:
    """Return the value at risk of normal returns over `periods`, from the `mean` and `deviation` of one period.

    With z for the normal quantile of `confidence`, the value is `z * deviation * sqrt(periods) - mean * periods`.
    """
    _check(confidence)
    return _NORMAL.inv_cdf(confidence) * deviation * sqrt(periods) - mean * periods


def gaussian_expected_shortfall(mean: float, deviation: float, confidence: float, *, periods: float = 1) -> float:
    """Return the expected shortfall of normal returns over `periods`, from the `mean` and `deviation` of one period.

    With z for the normal quantile of `confidence` and pdf for the normal density, the value is
    `deviation * sqrt(periods) * pdf(z) / (1 - confidence) - mean * periods`.
    """
    _check(confidence)
    tail = _NORMAL.pdf(_NORMAL.inv_cdf(confidence)) / (1.0 - confidence)
    return deviation * sqrt(periods) * tail - mean * periods


def _rank(count: int, confidence: float) -> int:
    """Return the index of the quantile among `count` sorted losses.

    A small tolerance makes 0.95 of 100 the 95th loss, although 0.95 is not exact as a binary float.
    """
    _check(confidence)
    return max(0, ceil(confidence * count - 1e-9) - 1)


def _check(confidence: float) -> None:
    if not 0.0 < confidence < 1.0:
        raise ValueError("confidence must lie between 0 and 1")


def _some(returns: Returns) -> Returns:
    if len(returns) == 0:
        raise ValueError("no returns")
    return returns
