"""Genie's router: chooses agents by their examples, and asks the model (if any) if the examples are unsure."""

import asyncio
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from langchain_core.language_models import BaseChatModel
from pydantic import TypeAdapter

from bursar import Candidate, CascadeRouter, ExampleRouter, ModelRouter, Question, Router, Scores
from bursar.genie.household.onboarding import is_empty
from bursar.genie.household.source import Source
from bursar.genie.wording.identifiers import mask

SPEAKER: Final = "database_connector"  # answers how to begin while there is no data


def build_router(source: Source, model: BaseChatModel | None) -> Router:
    """Return Genie's router.

    While there is no data, the database connector gets every request. Without a model the examples alone choose.
    """
    free = ExampleRouter(out_of_scope=out_of_scope())
    return DataFirst(free if model is None else CascadeRouter(free, MaskedRouter(ModelRouter(model))), source)


def out_of_scope() -> tuple[str, ...]:
    """Return examples of requests that are near Genie's subject and that no agent serves, such as orders to pay."""
    table = tomllib.loads(Path(__file__).with_name("out_of_scope.toml").read_text("utf-8"))
    return TypeAdapter(tuple[str, ...]).validate_python(table["examples"])


@dataclass(frozen=True, slots=True)
class DataFirst:
    """A router that chooses the database connector while there is no data, and otherwise asks `router` for scores."""

    router: Router
    source: Source

    @property
    def free(self) -> bool:
        """Whether it never pays: it does not if the inner router says so of itself."""
        return getattr(self.router, "free", False) is True  # a cascade's `free` is a router

    async def route(self, question: Question, candidates: Sequence[Candidate], /) -> Scores:
        """Return the scores that the inner router gives.

        While there is no data, do not ask the inner router: choose the database connector, with score 1.
        """
        # Race: an import may end just after this look. The database connector then answers from the new data.
        if not await asyncio.to_thread(is_empty, self.source):
            return await self.router.route(question, candidates)
        by_name = {candidate.name: float(candidate.name == SPEAKER) for candidate in candidates}
        chosen = tuple(name for name, score in by_name.items() if score)
        return Scores(by_name, chosen, 1.0, "no data yet: the database connector says how to begin")


@dataclass(frozen=True, slots=True)
class MaskedRouter:
    """A router that masks the identifiers in a conversation, and then asks `router` for the scores.

    Account numbers and the like say nothing about which specialist fits, and the router's model must not see them.
    """

    router: Router

    async def route(self, question: Question, candidates: Sequence[Candidate], /) -> Scores:
        """Return the scores that the inner router gives to the masked question."""
        return await self.router.route(question.map(mask), candidates)
