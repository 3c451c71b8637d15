"""Target weights within caps: the weights of least variance, by a solver, or the policy's own targets.

Weights are `Decimal` fractions in steps of `TICK`. Only the covariance and the solver use floats. The solver's weights
are quantised, and then obey every cap in exact arithmetic.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Protocol, cast

from bursar.genie.agents.investment_recommendation.policy_portfolios import Caps, Policy
from bursar.genie.household.holdings import History, Holding
from bursar.genie.household.records import AssetClass

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]

TICK = Decimal("0.0001")
"""The step of a weight: one basis point. Caps must be multiples of it."""

_ZERO = Decimal(0)
_WHOLE = int(1 / TICK)


class _Shrunk(Protocol):
    """The part of scikit-learn's `LedoitWolf` that this module uses."""

    covariance_: Matrix

    def fit(self, X: Matrix) -> object: ...  # noqa: N803


class _Frontier(Protocol):
    """The part of PyPortfolioOpt's `EfficientFrontier` that this module uses."""

    def add_sector_constraints(
        self,
        sector_mapper: Mapping[int, str],
        sector_lower: Mapping[AssetClass, float],
        sector_upper: Mapping[AssetClass, float],
    ) -> None: ...

    def min_volatility(self) -> Mapping[int, float]: ...


def covariance(past: History) -> Matrix:
    """Return the annual covariance of returns, shrunk towards a multiple of the identity (Ledoit and Wolf, 2004)."""
    from sklearn.covariance import LedoitWolf

    estimator = cast("_Shrunk", LedoitWolf())
    estimator.fit(past.returns)
    return estimator.covariance_ * past.periods_per_year


def deviation(weights: Sequence[Decimal], covariances: Matrix) -> float:
    """Return the standard deviation of a portfolio with these weights, for the period that the covariances are for."""
    import numpy as np

    held = np.array([float(weight) for weight in weights])
    return float(np.sqrt(held @ covariances @ held))


def minimum_variance(covariances: Matrix, classes: Sequence[AssetClass], caps: Caps) -> tuple[Decimal, ...] | None:
    """Return the weights of least variance that obey `caps`, are not negative, and sum to exactly 1.

    Return None if no such weights exist, or if the solver (Clarabel, through PyPortfolioOpt) found no weights.
    `classes` has the asset class of each holding.
    """
    if not feasible(classes, caps):
        return None
    from cvxpy import SolverError
    from pypfopt import EfficientFrontier
    from pypfopt.exceptions import OptimizationError

    bounds = (0, float(caps.holding))
    frontier = cast("_Frontier", EfficientFrontier(None, covariances, weight_bounds=bounds, solver="CLARABEL"))
    present = set(classes)
    frontier.add_sector_constraints(
        dict(enumerate(classes)),
        {name: float(caps.classes[name][0]) for name in present},
        {name: float(caps.classes[name][1]) for name in present},
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # cvxpy warns if its solution may be inaccurate
            solved = frontier.min_volatility()
    except (OptimizationError, SolverError, UserWarning):
        return None
    return quantised([float(solved[index]) for index in range(len(classes))], classes, caps)


def feasible(classes: Sequence[AssetClass], caps: Caps) -> bool:
    """Whether holdings of these asset classes can have weights that obey `caps`, are not negative, and sum to 1."""
    least = most = _ZERO
    for name, (low, high) in caps.classes.items():
        reach = min(high, caps.holding * classes.count(name))
        if reach < low:
            return False
        least += low
        most += reach
    return least <= 1 <= most


def obeys(weights: Sequence[Decimal], classes: Sequence[AssetClass], caps: Caps) -> bool:
    """Whether the weights sum to exactly 1, no weight is negative or above its cap, and each class is in its range."""
    sums = dict.fromkeys(caps.classes, _ZERO)
    for weight, name in zip(weights, classes, strict=True):
        sums[name] += weight
    in_range = all(low <= sums[name] <= high for name, (low, high) in caps.classes.items())
    return sum(weights, _ZERO) == 1 and all(0 <= weight <= caps.holding for weight in weights) and in_range


def quantised(weights: Sequence[float], classes: Sequence[AssetClass], caps: Caps) -> tuple[Decimal, ...] | None:
    """Round weights to multiples of `TICK` that obey `caps`, or return None if no weights obey them.

    First each class gets whole ticks within its range, so that the classes sum to 1. Then each holding gets its part of
    its class's ticks. Both steps use the largest remainder. Weights that obeyed the caps move by less than three ticks.
    """
    if not feasible(classes, caps):
        return None
    names = list(dict.fromkeys(classes))
    counts = Counter(classes)
    cap = int(caps.holding / TICK)
    sums = {name: sum(w for w, c in zip(weights, classes, strict=True) if c == name) * _WHOLE for name in names}
    lows = [int(caps.classes[name][0] / TICK) for name in names]
    highs = [min(int(caps.classes[name][1] / TICK), cap * counts[name]) for name in names]
    shares = _apportion([sums[name] for name in names], _WHOLE, lows, highs)
    ticks = [0] * len(classes)
    for name, share in zip(names, shares, strict=True):
        places = [index for index, held in enumerate(classes) if held == name]
        parts = _apportion([weights[i] * _WHOLE for i in places], share, [0] * len(places), [cap] * len(places))
        for index, part in zip(places, parts, strict=True):
            ticks[index] = part
    return tuple(TICK * count for count in ticks)


def baseline(holdings: Sequence[Holding], policy: Policy, caps: Caps) -> tuple[Decimal, ...]:
    """Return the policy's target of each class, split over the holdings of the class by their value and within `caps`.

    The weights sum to less than 1 if a class has no holding, or too few holdings to reach its target within the cap.
    """
    cap = int(caps.holding / TICK)
    ticks = [0] * len(holdings)
    for name, held in policy.classes.items():
        places = [index for index, holding in enumerate(holdings) if holding.asset_class == name]
        share = min(held.target * _WHOLE // 100, cap * len(places))
        total = sum((holdings[i].value for i in places), _ZERO)
        wanted = [float(holdings[i].value / total) * share for i in places]
        parts = _apportion(wanted, share, [0] * len(places), [cap] * len(places))
        for index, part in zip(places, parts, strict=True):
            ticks[index] = part
    return tuple(TICK * count for count in ticks)


def _apportion(wanted: Sequence[float], total: int, lows: Sequence[int], highs: Sequence[int]) -> list[int]:
    """Return whole numbers near `wanted`, each between its low and its high, that sum to `total`.

    Each wanted value is rounded down. Then, until the sum is `total`, the number furthest below (or above) its wanted
    value is changed by 1; in a tie, the first such number (largest remainder). Raises `ValueError` if the lows and
    highs allow no such sum.
    """
    if not sum(lows) <= total <= sum(highs):
        raise ValueError("the bounds leave no room for the total")
    found = [min(max(int(value), low), high) for value, low, high in zip(wanted, lows, highs, strict=True)]
    for _ in range(abs(total - sum(found))):
        if sum(found) < total:
            open_to = [index for index, high in enumerate(highs) if found[index] < high]
            found[max(open_to, key=lambda index: wanted[index] - found[index])] += 1
        else:
            open_to = [index for index, low in enumerate(lows) if found[index] > low]
            found[max(open_to, key=lambda index: found[index] - wanted[index])] -= 1
    return found
