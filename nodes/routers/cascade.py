"""The cascade of two routers: the free router first, then the model's router if the free router is unsure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bursar.nodes.routers.base import Candidate, Question, Router, Scores, attempt, check_threshold, failure


@dataclass
class CascadeRouter:
    """A router that asks the free router first, and the model's router only if the free router is unsure.

    The free router is unsure if its confidence is below `threshold` (0..1). If both answer, the scores with the higher
    confidence are returned. If the model fails, or its call is refused for lack of budget, the free router's scores are
    returned, and their `rule` says so. Raises errors that a user must mend (an unknown price, a model outside a
    session), and interrupts.
    """

    free: Router
    model: Router
    threshold: float = 0.5

    def __post_init__(self) -> None:
        check_threshold(self.threshold)

    async def route(self, question: Question, candidates: Sequence[Candidate], /) -> Scores:
        free = await self.free.route(question, candidates)
        if free.confidence >= self.threshold:
            return free
        asked = await attempt(self.model.route(question, candidates))
        if isinstance(asked, Exception):
            return replace(free, rule=f"{free.rule}; {failure(asked)}")
        unsure = f"free router unsure ({free.confidence:.2f} below {self.threshold:.2f})"
        if asked.confidence <= free.confidence:
            return replace(free, rule=f"{free.rule}; {unsure}, model no surer: {asked.rule}")
        return replace(asked, rule=f"{asked.rule}; {unsure}")
