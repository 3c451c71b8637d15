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
    """Return the Herfindahl-Hirschman index, the sum of squared shares: 1/n if all n are equal, 1 if n is 1.

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
    """Return the least loss that at least `confidence` of the observed losses do not exceed: a step quantile.

    Nothing is interpolated or scaled: the horizon is the period of `returns`. A negative result is a gain.
    """
    import numpy as np

    losses = np.sort(-_some(returns))
    return float(losses[_rank(len(losses), confidence)])


def expected_shortfall(returns: Returns, confidence: float) -> float:
    """Return the mean loss of the worst `1 - confidence` of the observations; at least the historical VaR.

    The observation at the quantile counts with its fraction that belongs to the tail (Acerbi and Tasche, 2002,
    definition 2.6).
    """
    import numpy as np

    losses = np.sort(-_some(returns))
    var = losses[_rank(len(losses), confidence)]
    beyond = float(np.maximum(losses - var, 0.0).mean())
    return float(var) + beyond / (1.0 - confidence)


def gaussian_var(mean: float, deviation: float, confidence: float, *, periods: float = 1) -> float:
    """Return the VaR of normal returns over `periods`, h: `z * s * sqrt(h) - m * h`; the mean grows with h itself."""
    _check(confidence)
    return _NORMAL.inv_cdf(confidence) * deviation * sqrt(periods) - mean * periods


def gaussian_expected_shortfall(mean: float, deviation: float, confidence: float, *, periods: float = 1) -> float:
    """Return the expected shortfall of normal returns over `periods`, h: `s * sqrt(h) * pdf(z) / (1 - c) - m * h`."""
    _check(confidence)
    tail = _NORMAL.pdf(_NORMAL.inv_cdf(confidence)) / (1.0 - confidence)
    return deviation * sqrt(periods) * tail - mean * periods


def _rank(count: int, confidence: float) -> int:
    """Return the quantile's index in sorted losses; the tolerance keeps 0.95 of 100 at the 95th in binary floats."""
    _check(confidence)
    return max(0, ceil(confidence * count - 1e-9) - 1)


def _check(confidence: float) -> None:
    if not 0.0 < confidence < 1.0:
        raise ValueError("confidence must lie between 0 and 1")


def _some(returns: Returns) -> Returns:
    if len(returns) == 0:
        raise ValueError("no returns")
    return returns
