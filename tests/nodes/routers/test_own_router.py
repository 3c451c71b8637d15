"""A router of the user's own, written with public names alone: whether it may pay, and where it runs."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
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
from bursar.graphs.supervisor import coordinator_of, with_coordinator
from bursar.testing import ScriptedModel

DEADLINE_SECONDS = 0.1
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


class Waits(Ready):
    """Says whether it would answer at once, and waits for longer than the deadline for routers."""

    async def route(self, text: str, candidates: Sequence[Candidate]) -> Scores:
        loop, answered = asyncio.get_running_loop(), asyncio.Event()
        loop.call_later(3 * DEADLINE_SECONDS, answered.set)
        await answered.wait()
        return await super().route(text, candidates)


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


async def ask(ledger: Ledger, router: Router, *, seconds: float = 20) -> dict[str, Any]:
    app: Any = build_supervisor(
        [Specialist(name=name, description=name, handler=rules) for name in ("food", "rent")],
        budget=Budget(per_request="0.03"),
        ledger=ledger,
        router=router,
    )
    app = with_coordinator(app, replace(coordinator_of(app), router_timeout_seconds=seconds))
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


SAID = pytest.mark.parametrize(
    "said", [True, False, "yes", ValueError("broken")], ids=["ready", "not ready", "no answer", "raises"]
)


@SAID
@pytest.mark.anyio
async def test_it_runs_where_the_request_runs(ledger: Ledger, said: object) -> None:
    """On the caller's event loop, whether it says that it would answer at once or not."""
    router = Ready(said)
    result = await ask(ledger, router)
    assert result["decisions"][0].chosen == ("rent",)
    assert router.loop is asyncio.get_running_loop()


@SAID
@pytest.mark.anyio
async def test_all_but_one_that_is_ready_have_a_deadline(ledger: Ledger, said: object) -> None:
    """Only `True` says that it is ready. Any other is cancelled at the deadline, and words choose in its place."""
    router = Waits(said)
    result = await ask(ledger, router, seconds=DEADLINE_SECONDS)
    has_answered = router.loop is not None
    assert has_answered is (said is True)
    late = f"routing: the router gave no answer within {DEADLINE_SECONDS} s; chosen by the words of the request"
    assert result["gaps"] == ([] if has_answered else [late])
    assert result["decisions"][0].chosen == ("rent",)
