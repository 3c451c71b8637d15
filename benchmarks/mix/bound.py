"""The exact lower bound of a share, from a number of tries of which some held."""

import math
from collections.abc import Iterable

STEPS = 60  # each halves the interval: after these, a float cannot tell its ends apart
NEGLIGIBLE = 1e-18


def at_least(held: int, tries: int, *, confidence: float = 0.95) -> float:
    """Return the share that is not undercut, with this confidence, if `held` of `tries` independent tries held.

    It is the one-sided lower bound of Clopper and Pearson ("The use of confidence or fiducial limits illustrated in the
    case of the binomial", Biometrika 26, 1934): the p at which `held` or more of `tries` has the probability
    1 - confidence. That is the quantile 1 - confidence of Beta(held, tries - held + 1). For held = tries it is
    (1 - confidence)^(1/tries). Raises `ValueError` if the numbers make no sense.
    """
    if not 0 <= held <= tries or tries < 1 or not 0 < confidence < 1:
        raise ValueError(f"no bound for {held} of {tries} at {confidence}")
    if held == 0:
        return 0.0
    low, high = 0.0, held / tries  # at the observed share, the probability is above any usual 1 - confidence
    for _ in range(STEPS):
        middle = (low + high) / 2
        # The probability grows with p, so the bound is where it crosses 1 - confidence.
        if probability_of_so_many(held, tries, middle) < 1 - confidence:
            low = middle
        else:
            high = middle
    return low


def probability_of_so_many(held: int, tries: int, p: float) -> float:
    """Return the probability that `held` or more of `tries` hold, if each holds with probability `p`.

    Of the two tails, the one that falls from `held` on is summed, each term from the one before, until the terms no
    longer count. So 10,000 tries neither overflow nor take long.
    """
    if held == 0 or p >= 1:
        return 1.0
    if p <= 0:
        return 0.0
    odds = p / (1 - p)
    if p <= held / tries:
        up = ((tries - k) / (k + 1) * odds for k in range(held, tries))
        return min(1.0, _falling(_probability(held, tries, p), up))
    down = (k / (tries - k + 1) / odds for k in range(held - 1, 0, -1))
    return max(0.0, 1 - _falling(_probability(held - 1, tries, p), down))


def _falling(first: float, ratios: Iterable[float]) -> float:
    """Return the sum of falling terms: the first, and each other as its ratio to the one before."""
    total = term = first
    for ratio in ratios:
        term *= ratio
        if term < total * NEGLIGIBLE:
            break
        total += term
    return total


def _probability(k: int, n: int, p: float) -> float:
    ways = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return math.exp(ways + k * math.log(p) + (n - k) * math.log1p(-p))
