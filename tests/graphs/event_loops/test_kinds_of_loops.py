"""Paid calls of coroutine handlers on every kind of event loop that an application may have."""

import asyncio
import itertools
import os
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from httpx import ASGITransport, AsyncClient
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from bursar import Budget, Ledger, Task
from tests.support.graphs import QUESTION, answer_of, billed, build, priced, scripted, session, specialist

AT_ONCE = 60


class Asked:
    """An application with an agent that pays for each answer, and its sessions, each with one request."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.model = scripted(*["paid"] * AT_ONCE)
        paying = priced(self.model)

        async def pays(task: Task) -> str:
            return (await paying.ainvoke("now")).text

        self.app = build(ledger, [specialist("a", pays)], budget=Budget("1"))
        self._numbers = itertools.count()
        self._sessions: list[str] = []

    def _next(self) -> Any:
        self._sessions.append(f"s-{next(self._numbers)}")
        return session(self._sessions[-1])

    async def ask(self) -> str:
        return answer_of(await self.app.ainvoke(QUESTION, self._next()))

    def ask_sync(self) -> str:
        return answer_of(self.app.invoke(QUESTION, self._next()))

    def is_booked(self) -> bool:
        """Whether the books say what the model billed, and no call is open."""
        spent = sum(self.ledger.spend(name).spent.nanos for name in self._sessions)
        return spent == billed(self.model) > 0 and not self.ledger.open_holds()


def test_one_loop_after_another(any_ledger: Ledger) -> None:
    """`asyncio.run` twice: the second loop has nothing of the first."""
    asked = Asked(any_ledger)
    assert [asyncio.run(asked.ask()), asyncio.run(asked.ask())] == ["paid", "paid"]
    assert asked.is_booked()


def test_uvloop(any_ledger: Ledger) -> None:
    """A loop that is not written in Python."""
    run: Callable[[Coroutine[Any, Any, str]], str] = pytest.importorskip("uvloop").run
    asked = Asked(any_ledger)
    assert run(asked.ask()) == "paid"
    assert asked.is_booked()


def test_a_loop_that_runs_already(any_ledger: Ledger) -> None:
    """As in a notebook: a task, a sync call in the loop's own thread beside it, and an await."""
    asked = Asked(any_ledger)

    async def cell() -> list[str]:
        task = asyncio.create_task(asked.ask())
        await asyncio.sleep(0)
        return [asked.ask_sync(), await task, await asked.ask()]

    assert asyncio.run(cell()) == ["paid"] * 3
    assert asked.is_booked()


def test_a_web_server_with_many_requests_at_once(any_ledger: Ledger) -> None:
    """Each has its answer, and each answer is in the books."""
    asked = Asked(any_ledger)

    async def endpoint(request: Request) -> PlainTextResponse:
        return PlainTextResponse(await asked.ask())

    async def main() -> list[str]:
        transport = ASGITransport(app=Starlette(routes=[Route("/", endpoint)]))
        async with AsyncClient(transport=transport, base_url="http://here", timeout=60) as client:
            return [answer.text for answer in await asyncio.gather(*(client.get("/") for _ in range(AT_ONCE)))]

    assert asyncio.run(main()) == ["paid"] * AT_ONCE
    assert asked.is_booked()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_after_the_first_use(any_ledger: Ledger) -> None:
    """The child has no thread of its parent's, and its first request is answered."""
    asked = Asked(any_ledger)
    assert asyncio.run(asked.ask()) == "paid"
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if asyncio.run(asyncio.wait_for(asked.ask(), 60)) == "paid" else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert asyncio.run(asked.ask()) == "paid"
