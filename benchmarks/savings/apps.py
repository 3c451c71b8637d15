"""The supervisor through which recorded work is played: it sends each request to the specialist that is meant."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from benchmarks.savings.variants import UNLIMITED, Limits
from bursar import (
    Budget,
    Candidate,
    Ledger,
    Question,
    Report,
    Scores,
    Specialist,
    Task,
    build_supervisor,
    deterministic,
)
from bursar.nodes.specialists.definition import MAX_TIMEOUT_SECONDS, Handler

AT_ONCE = 16
NO_ANSWER = "nothing came of it"


@deterministic
def give_up(task: Task) -> Report:
    """Answer in the place of a run that was stopped."""
    return Report(answer=NO_ANSWER)


class Meant:
    """A router that knows for whom each request is. It never pays."""

    free = True

    def __init__(self, meant: Callable[[str], str]) -> None:
        self._meant = meant

    async def route(self, question: Question, candidates: Sequence[Candidate], /) -> Scores:
        """Choose the one that is meant."""
        chosen = self._meant(question)
        by_name = {one.name: float(one.name == chosen) for one in candidates}
        return Scores(by_name=by_name, chosen=(chosen,), confidence=1.0, rule="as recorded")

    def ready(self, candidates: Sequence[Candidate]) -> bool:
        """Say that it never waits."""
        return True


def a_specialist(name: str, handler: Handler, limits: Limits = UNLIMITED) -> Specialist:
    """Return a specialist with these limits, whose time is not short."""
    return Specialist(
        name=name,
        description=f"Recorded work for {name}",
        handler=handler,
        ceiling=limits.ceiling.dollars,
        max_turns=limits.turns,
        max_repeats=limits.repeats,
        timeout=MAX_TIMEOUT_SECONDS,
        fallbacks=[give_up],
    )


def an_app(specialists: Sequence[Specialist], ledger: Ledger, meant: Callable[[str], str]) -> Any:
    """Return a supervisor over the specialists, with money for everything that is not limited by them."""
    return build_supervisor(specialists, budget=Budget(per_request="2000"), ledger=ledger, router=Meant(meant))


async def ask_all(app: Any, tenant: str, requests: Iterable[str]) -> list[Any]:
    """Return the result of each request, in their order. Each has a session of its own, and some run at once."""
    places = asyncio.Semaphore(AT_ONCE)

    async def ask(number: int, text: str) -> Any:
        async with places:
            session = {"configurable": {"thread_id": f"{tenant}-{number}", "tenant": tenant}}
            return await app.ainvoke({"messages": [("user", text)]}, session)

    return await asyncio.gather(*(ask(number, text) for number, text in enumerate(requests)))
