"""A router that never sees an identifier: card numbers and the like are masked before a model is asked."""

from collections.abc import Sequence
from dataclasses import dataclass

from bursar.genie.wording.identifiers import mask
from bursar.nodes.routers.base import Candidate, Router, Scores


@dataclass(frozen=True, slots=True)
class MaskedRouter:
    """Gives `router` the request with its identifiers masked; they say nothing about who should answer."""

    router: Router

    async def route(self, text: str, candidates: Sequence[Candidate]) -> Scores:
        """See `Router`."""
        return await self.router.route(mask(text), candidates)
