"""Selection of specialists by value per expected cost, within the money that is left."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from bursar.state.decision import Considered
from bursar.state.money import USD

# Tenths of a thousandth: fine enough to rank by, and equal scores stay equal after float noise.
_SCORE_STEP = Decimal("0.0001")


@dataclass(frozen=True, slots=True)
class ScoredCandidate:
    """A specialist as selection sees it: `score` in 0..1 for this request, weighted by the specialist's `value`."""

    name: str
    score: float
    value: Decimal
    expected_cost: USD
    fits: bool


def select(candidates: Sequence[ScoredCandidate], left: USD) -> tuple[Considered, ...]:
    """Judge every candidate, in the order of value per expected cost, the highest first.

    The expected costs of the chosen candidates sum to at most `left`. A candidate that costs nothing is chosen if it
    fits. A candidate that costs more than is left is passed over (`budget`); cheaper ones after it have their chance.
    """
    judged: list[Considered] = []
    remaining = left
    for candidate in sorted(candidates, key=_rank):
        verdict, reason = "chosen", ""
        if not candidate.fits:
            verdict = "unfit"
        elif candidate.expected_cost > remaining:
            verdict = "budget"
            reason = f"expects {candidate.expected_cost}, {remaining} left of the plan"
        else:
            remaining -= candidate.expected_cost
        judged.append(
            Considered(
                name=candidate.name,
                score=float(Decimal(candidate.score).quantize(_SCORE_STEP)),
                expected_cost=candidate.expected_cost,
                verdict=verdict,
                reason=reason,
            )
        )
    return tuple(judged)


def _rank(candidate: ScoredCandidate) -> tuple[bool, bool, Decimal, Decimal, str]:
    worth = Decimal(candidate.score).quantize(_SCORE_STEP) * candidate.value
    free = not candidate.expected_cost
    per_dollar = worth if free else worth / candidate.expected_cost.dollars
    return (not candidate.fits, not free, -per_dollar, -worth, candidate.name)
