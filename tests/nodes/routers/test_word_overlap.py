"""The router that counts shared words: the default of an install without scikit-learn."""

import asyncio
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage

from bursar import (
    Budget,
    Candidate,
    ExampleRouter,
    Ledger,
    Report,
    Scores,
    Specialist,
    Task,
    WordOverlapRouter,
    build_supervisor,
    deterministic,
)
from bursar.checkpoints.database.database import Database
from bursar.graphs.supervisor import coordinator_of

CLUBS = (
    Candidate("chess", "Openings and endgames", ("how do I castle",)),
    Candidate("garden", "Roses and vegetables", ("when do I prune my roses",)),
)


def route(text: str, candidates: Sequence[Candidate] = CLUBS) -> Scores:
    """The scores of one request."""
    return asyncio.run(WordOverlapRouter().route(text, candidates))


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("Roses of any colour", ("garden",)),
        ("CASTLE or roses?", ("chess", "garden")),
        ("tax", ()),
        ("", ()),
        ("花", ()),
    ],
)
def test_shared_words_choose(text: str, chosen: tuple[str, ...]) -> None:
    """Whoever shares words is chosen, by their first five letters; whoever shares none is not."""
    scores = route(text)
    assert sorted(scores.chosen) == sorted(chosen)
    assert set(scores.by_name) == {"chess", "garden"}
    assert scores.confidence == 0.0


def test_there_may_be_no_candidates() -> None:
    """A router is a total function."""
    assert route("roses", ()).chosen == ()


def test_it_is_ready_unless_a_subclass_routes() -> None:
    """What a subclass adds may hang, and is asked under a deadline."""

    class Other(WordOverlapRouter):
        async def route(self, text: str, candidates: Sequence[Candidate]) -> Scores:
            return await super().route(text, candidates)

    assert WordOverlapRouter().ready(CLUBS)
    assert not Other().ready(CLUBS)


@deterministic
def gardener(task: Task) -> Report:
    """The one specialist."""
    return Report(answer="In March.")


@pytest.mark.parametrize("installed", [True, False])
def test_a_supervisor_without_a_router_gets_the_best_that_is_installed(
    installed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It routes by examples if scikit-learn is there, otherwise by shared words, and answers without it."""
    found = importlib.util.find_spec

    def find_spec(name: str, package: str | None = None) -> object:
        return None if name == "sklearn" and not installed else found(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    url = f"sqlite:///{tmp_path}/bursar.db"
    garden = Specialist(name="garden", description="Roses", handler=gardener, examples=["when do I prune my roses"])
    app = build_supervisor([garden], budget=Budget("0.01"), ledger=Ledger(url))
    assert type(coordinator_of(app).router) is (ExampleRouter if installed else WordOverlapRouter)
    if not installed:
        result: Any = app.invoke({"messages": [HumanMessage("Prune roses?")]}, {"configurable": {"thread_id": "s-1"}})  # pyright: ignore[reportUnknownMemberType]
        assert result["messages"][-1].text == "In March."
        assert "words: 1 of 1 share the request's words" in result["decisions"][0].rule
    Database.at(url).close()
