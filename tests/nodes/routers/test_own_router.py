"""A router of the user's own, written with public names alone: whether it may pay, and where it runs."""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from bursar import (
    Budget,
    Candidate,
    Ledger,
    Price,
    Report,
    Router,
    Scores,
    Specialist,
    Task,
    build_supervisor,
    deterministic,
    meter,
)
from bursar.testing import ScriptedModel

MODEL = meter(ScriptedModel(replies=["rent"] * 2), price=Price(input=0, output=1_000), max_output_tokens=5)


@deterministic
def rules(task: Task) -> Report:
    """The specialists' handler."""
    return Report(answer=f"{task.specialist} by rule", confidence=0.9)


class ByName:
    """Chooses the candidates that the text names; remembers on which event loop it was asked."""

    def __init__(self, *, pays: bool = False) -> None:
        self.pays = pays
        self.loop: asyncio.AbstractEventLoop | None = None

    async def route(self, text: str, candidates: Sequence[Candidate]) -> Scores:
        self.loop = asyncio.get_running_loop()
        if self.pays:
            await MODEL.ainvoke(text)
        chosen = tuple(candidate.name for candidate in candidates if candidate.name in text)
        return Scores({c.name: float(c.name in chosen) for c in candidates}, chosen, 1.0, "by name")


class Free(ByName):
    """Says that it never pays."""

    free = True


class Ready(ByName):
    """Says whether it would answer at once, or fails to say."""

    def __init__(self, said: object) -> None:
        super().__init__()
        self.said = said

    def ready(self, candidates: Sequence[Candidate]) -> bool:
        assert [candidate.name for candidate in candidates] == ["food", "rent"]
        if isinstance(self.said, BaseException):
            raise self.said
        return self.said  # type: ignore[return-value]


@pytest.fixture
def anyio_backend() -> str:
    """The event loop of the tests."""
    return "asyncio"


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A ledger on a file."""
    ledger = Ledger(f"sqlite:///{tmp_path}/books.db")
    yield ledger
    assert ledger.verify()
    ledger.database.close()


async def ask(ledger: Ledger, router: Router) -> dict[str, Any]:
    app: Any = build_supervisor(
        [Specialist(name=name, description=name, handler=rules) for name in ("food", "rent")],
        budget=Budget(per_request="0.03"),
        ledger=ledger,
        router=router,
    )
    return await app.ainvoke({"messages": [("user", "my rent")]}, {"configurable": {"thread_id": "s-1"}})


@pytest.mark.anyio
async def test_it_chooses(ledger: Ledger) -> None:
    """Its scores are the decision's, with its rule."""
    result = await ask(ledger, ByName())
    assert result["messages"][-1].text == "rent by rule"
    assert result["decisions"][0].chosen == ("rent",)
    assert "by name" in result["decisions"][0].rule


@pytest.mark.anyio
async def test_it_may_pay_unless_it_says_that_it_is_free(ledger: Ledger) -> None:
    """A paid call goes through the gateway; in one that is `free` it is refused, and words choose in its place."""
    paid = await ask(ledger, ByName(pays=True))
    assert paid["spend"].spent.nanos > 0
    assert paid["gaps"] == []
    refused = await ask(ledger, Free(pays=True))
    assert refused["spend"].spent.nanos == 0
    assert "the router was refused" in refused["gaps"][0]
    assert refused["messages"][-1].text.startswith("rent by rule")


@pytest.mark.parametrize(
    ("said", "in_place"),
    [(True, True), (False, False), ("yes", False), (ValueError("broken"), False)],
    ids=["ready", "not ready", "no answer", "raises"],
)
@pytest.mark.anyio
async def test_one_that_is_ready_runs_where_the_request_runs(ledger: Ledger, said: object, in_place: bool) -> None:
    """Only `True` says that it is ready; any other router runs apart, within a deadline."""
    router = Ready(said)
    result = await ask(ledger, router)
    assert result["decisions"][0].chosen == ("rent",)
    assert (router.loop is asyncio.get_running_loop()) is in_place
