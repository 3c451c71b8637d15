"""Selection of specialists by value per expected cost, within the money that is left."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from bursar.state.decision import Considered
from bursar.state.money import USD

# Fine enough to rank by, and coarse enough that equal scores stay equal after float noise.
_SCORE_STEP = Decimal("0.0001")


@dataclass(frozen=True, slots=True)
class ScoredCandidate:
    """A specialist that may be chosen. Its worth is `score`, from 0 to 1 for this request, times its `value`.

    If `fits` is False, the specialist does not fit the request at all and is never chosen.
    """

    name: str
    score: float
    value: Decimal
    expected_cost: USD
    fits: bool


def select(candidates: Sequence[ScoredCandidate], left: USD) -> tuple[Considered, ...]:
    """Return a verdict on every candidate, sorted: the highest worth per expected cost first.

    Before all of them come candidates that cost nothing; after all of them come candidates that do not fit, which are
    `unfit`. If a candidate's expected cost is above the part of `left` that the chosen candidates before it do not
    need, its verdict is `budget`; a cheaper candidate after it may still be chosen. Every other candidate is `chosen`.
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
