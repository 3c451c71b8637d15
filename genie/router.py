"""How Genie chooses its agents: by their examples, and where that is unsure and there is a model, by asking it."""

import asyncio
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from langchain_core.language_models import BaseChatModel
from pydantic import TypeAdapter

from bursar import Candidate, CascadeRouter, ExampleRouter, ModelRouter, Router, Scores
from bursar.genie.household.onboarding import is_empty
from bursar.genie.household.source import Source
from bursar.genie.wording.identifiers import mask

SPEAKER: Final = "database_connector"  # says how to begin, where there is no data


def build_router(source: Source, model: BaseChatModel | None) -> Router:
    """Genie's router. While there is no data it asks nobody; without a model it chooses by the examples alone."""
    free = ExampleRouter(out_of_scope=out_of_scope())
    return DataFirst(free if model is None else CascadeRouter(free, MaskedRouter(ModelRouter(model))), source)


def out_of_scope() -> tuple[str, ...]:
    """Requests near Genie's subject that none of its agents serves, such as orders to pay."""
    table = tomllib.loads(Path(__file__).with_name("out_of_scope.toml").read_text("utf-8"))
    return TypeAdapter(tuple[str, ...]).validate_python(table["examples"])


@dataclass(frozen=True, slots=True)
class DataFirst:
    """Sends every request to the database connector while there is no data; asks `router` otherwise."""

    router: Router
    source: Source

    async def route(self, text: str, candidates: Sequence[Candidate]) -> Scores:
        """See `Router`. No model is asked while there is no data."""
        if not await asyncio.to_thread(is_empty, self.source):
            return await self.router.route(text, candidates)
        by_name = {candidate.name: float(candidate.name == SPEAKER) for candidate in candidates}
        chosen = tuple(name for name, score in by_name.items() if score)
        return Scores(by_name, chosen, 1.0, "no data yet: the database connector says how to begin")


@dataclass(frozen=True, slots=True)
class MaskedRouter:
    """Gives `router` the request with its identifiers masked; they say nothing about who should answer."""

    router: Router

    async def route(self, text: str, candidates: Sequence[Candidate]) -> Scores:
        """See `Router`."""
        return await self.router.route(mask(text), candidates)
