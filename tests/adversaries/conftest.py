"""Whole graphs against a provider on loopback whose books are the truth, with a router that chooses everyone."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from langchain_openai import ChatOpenAI

from bursar import Budget, Ledger, Report, Specialist, SQLAlchemySaver, Task, build_supervisor, deterministic, meter
from bursar.nodes.gateway.chat_model import MeteredChatModel
from bursar.nodes.routers.base import Candidate, Scores
from bursar.state.events import CallHeld
from tests.support.bench import Bench, bench
from tests.support.provider import MODEL, Provider

__all__ = ["Bench", "Court", "bench", "court"]

QUESTION = "where does my money go?"
Handler = Callable[[Task], Any]


class Everyone:
    """A router that chooses every candidate."""

    async def route(self, text: str, candidates: Sequence[Candidate]) -> Scores:
        """All of them, each with a score of 1."""
        names = tuple(candidate.name for candidate in candidates)
        return Scores(by_name=dict.fromkeys(names, 1.0), chosen=names, confidence=1.0, rule="everyone")


@deterministic
def rules(task: Task) -> Report:
    """The free fallback of every specialist here."""
    return Report(answer="by rules alone", confidence=0.5)


@dataclass
class Court:
    """Where an adversary is tried: the provider's books on one side, the ledger's on the other."""

    provider: Provider
    ledger: Ledger
    url: str

    def chat(self, **settings: Any) -> ChatOpenAI:
        """A client that is not metered."""
        merged: dict[str, Any] = {"model": MODEL, "api_key": "none", "base_url": self.provider.url, "timeout": 10}
        return ChatOpenAI(**{**merged, **settings})

    def model(self, **settings: Any) -> MeteredChatModel:
        """A metered client."""
        return meter(self.chat(**settings))

    def app(self, *handlers: Any, budget: str = "0.03", ceiling: str = "0.03", **settings: Any) -> Any:
        """A graph with one specialist for each handler."""
        specialists = [
            Specialist(
                name=f"agent{number}",
                description="An agent",
                handler=handler,
                ceiling=ceiling,
                expected_cost="0",
                fallbacks=[rules],
                **settings,
            )
            for number, handler in enumerate(handlers)
        ]
        return build_supervisor(
            specialists,
            budget=Budget(per_request=budget),
            ledger=self.ledger,
            checkpointer=SQLAlchemySaver(self.url),
            router=Everyone(),
        )

    def ask(self, app: Any, **kwargs: Any) -> dict[str, Any]:
        """The result of a new request in the session."""
        return app.invoke({"messages": [("user", QUESTION)]}, self.config, **kwargs)

    @property
    def config(self) -> Any:
        """The session's config."""
        return {"configurable": {"thread_id": "s-1"}}

    @property
    def charged(self) -> int:
        """Nano-dollars charged to the session, calls in flight at their hold."""
        spend = self.ledger.spend("s-1")
        return (spend.spent + spend.held).nanos

    def agents(self) -> list[str]:
        """Whom each hold was charged to."""
        return [row.event.agent for row in self.ledger.audit("s-1") if isinstance(row.event, CallHeld)]


@pytest.fixture
def court(provider: Provider, tmp_path: Path) -> Iterator[Court]:
    """A court on an SQLite file. When the trial ends, nothing is held, and all books must verify."""
    url = f"sqlite:///{tmp_path}/court.db"
    made = Court(provider, Ledger(url), url)
    yield made
    assert made.charged >= provider.billed
    assert made.ledger.spend("s-1").held.nanos == 0
    assert made.ledger.verify()
    made.ledger.database.close()
