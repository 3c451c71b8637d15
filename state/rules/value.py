"""Value for money: whether the next rung of a cascade is worth asking, what it is expected to gain, and whole trees.

A rung's gain is the probability that its answer is accepted although the answer before it was not.
"""

from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from enum import StrEnum

PRIOR = Decimal("0.3")
PRIOR_WEIGHT = 20  # so many answers weigh as much as the prior
_STEP = Decimal("0.000001")


class Worth(StrEnum):
    """Whether a rung is asked: it is worth it and fits, it is not worth it, or the budget has no room for it."""

    ASK = "ask"
    NOT_WORTH_IT = "not worth it"
    NO_ROOM = "no room"


def shrunk(accepted: int, asked: int, prior: Decimal, weight: int = PRIOR_WEIGHT) -> Decimal:
    """Return the expected share of accepted answers, from `accepted` of the `asked` so far, to six decimals.

    Few answers say little, so the share is shrunk towards the `prior`: (accepted + weight × prior) / (asked + weight).
    That is the mean of a binomial share whose Beta prior has the mean `prior` and the weight of `weight` answers
    (Gelman et al., Bayesian Data Analysis, section 2.4).
    """
    return ((accepted + weight * prior) / (asked + weight)).quantize(_STEP)


def is_worth(gain: Decimal, stake: int, *, price: int, before: int, left: int | None) -> Worth:
    """Return whether a rung is asked whose answer is accepted with the probability `gain`.

    It is worth it if `gain` times `stake` is above the difference of its expected `price` and that of the rung `before`
    it. A rung that costs nothing is worth it at any stake. It also must fit: `price` is at most what is `left`; None is
    no cap. Amounts are nano-dollars.
    """
    if price and gain * stake <= price - before:
        return Worth.NOT_WORTH_IT
    return Worth.NO_ROOM if left is not None and price > left else Worth.ASK


def faults_of_tree(conditions: Sequence[str], otherwise: str, rungs: Collection[str]) -> list[str]:
    """Return what is wrong with a decision tree: a branch without a rung, or a rung that no branch reaches.

    A tree without faults is total: whatever holds, one rung is asked.
    """
    branches = (*conditions, otherwise)
    missing = [f"branch {name!r} has no rung" for name in dict.fromkeys(branches) if name not in rungs]
    return missing + [f"rung {name!r} is reached by no branch" for name in rungs if name not in branches]


def first_that_holds(held: Mapping[str, bool], otherwise: str) -> str:
    """Return the first branch whose condition holds, in the order of `held`; `otherwise` if none does."""
    return next((name for name, holds in held.items() if holds), otherwise)


def next_rung(
    prices: Sequence[int], gains: Sequence[Decimal], *, at: int, stake: int, left: int | None
) -> tuple[int | None, tuple[Worth, ...]]:
    """Return the place of the first rung after `at` that is asked, None if none is, and the verdicts up to it.

    `prices` are the expected prices of all rungs and `gains` their gains, in the order of the rungs. Amounts are
    nano-dollars.
    """
    verdicts: list[Worth] = []
    for place in range(at + 1, len(prices)):
        worth = is_worth(gains[place], stake, price=prices[place], before=prices[at], left=left)
        verdicts.append(worth)
        if worth is Worth.ASK:
            return place, tuple(verdicts)
    return None, tuple(verdicts)
