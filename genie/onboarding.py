"""Before anything was imported: every question gets the one line that says how to begin."""

import asyncio
from collections.abc import Sequence
from typing import Final

from bursar.genie.household.records import Profile
from bursar.genie.household.source import Source
from bursar.nodes.routers.base import Candidate, Router, Scores

NO_DATA: Final = (
    "There is no data yet. Import your bank's files with `bursar import FILE…`, or try the sample with `bursar demo`."
)
SPEAKER: Final = "database_connector"


def is_empty(source: Source) -> bool:
    """Whether nothing was imported: no account, no posting, no holding, no price, no profile."""
    held = source.accounts() or source.transactions(limit=1) or source.lots() or source.prices()
    return not held and source.profile() == Profile()


class DataFirst:
    """A router that sends every request to the database connector while there is no data, else asks `router`."""

    def __init__(self, router: Router, source: Source) -> None:
        self._router = router
        self._source = source

    async def route(self, text: str, candidates: Sequence[Candidate]) -> Scores:
        """See `Router`. No model is asked while there is no data."""
        if not await asyncio.to_thread(is_empty, self._source):
            return await self._router.route(text, candidates)
        by_name = {candidate.name: float(candidate.name == SPEAKER) for candidate in candidates}
        chosen = tuple(name for name, score in by_name.items() if score)
        return Scores(by_name, chosen, 1.0, "no data yet: the database connector says how to begin")
