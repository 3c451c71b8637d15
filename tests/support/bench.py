"""The bench for tests of the gateway: a provider on loopback, a ledger with a request, and scopes for paid calls."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from langchain_openai import ChatOpenAI

from bursar.checkpoints.ledger import requests
from bursar.checkpoints.ledger.accounts import Account
from bursar.checkpoints.ledger.ledger import Ledger
from bursar.checkpoints.ledger.spend import spend_of
from bursar.nodes.gateway.chat_model import MeteredChatModel
from bursar.nodes.gateway.meter import meter
from bursar.nodes.gateway.paid_calls.scope import Scope
from bursar.state.events import CallHeld
from bursar.state.money import USD
from tests.support.provider import MODEL, Provider

NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
SESSION = "s-1"
SECRET = "sk-a-key-that-must-not-leak"


@dataclass(frozen=True)
class Bench:
    """What a test of the gateway works with: a provider and a ledger. The test compares what both have on record."""

    provider: Provider
    ledger: Ledger
    client: httpx.Client
    new_id: Callable[[], str]

    def chat(self, **settings: Any) -> ChatOpenAI:
        """Return a `ChatOpenAI` of the provider that is not behind the gateway."""
        fixed: dict[str, Any] = {"model": MODEL, "api_key": SECRET, "base_url": self.provider.url}
        merged: dict[str, Any] = {**fixed, "http_client": self.client, "timeout": 10, **settings}
        return ChatOpenAI(**merged)

    def model(self, **settings: Any) -> MeteredChatModel:
        """Return a model of the provider that is behind the gateway."""
        return meter(self.chat(**settings))

    def scope(self, budget: str = "0.03", *, request: str = "r-1", **settings: Any) -> Scope:
        """Return a scope for paid calls in the request `request`. If the request is new, open it with `budget`."""
        accounts = (Account(f"request:{request}", USD(budget).nanos), Account(f"agent:{request}:spending", None))
        self.ledger.run(requests.open_session, SESSION, "acme", at=NOW)
        self.ledger.run(requests.open_request, SESSION, request, accounts=accounts, text_hash="0" * 64, at=NOW)
        fixed: dict[str, Any] = {
            "ledger": self.ledger,
            "session_id": SESSION,
            "request_id": request,
            "agent": "spending",
            "checkpoint_ns": "spending:1",
            "scopes": tuple(account.scope for account in accounts),
            "new_id": self.new_id,
            "clock": lambda: NOW,
        }
        return Scope(**{**fixed, **settings})

    @property
    def charged(self) -> int:
        """The nano-dollars that the ledger charges to the request; a call in flight counts with its hold."""
        spend = self.ledger.run(spend_of, "request:r-1")
        return (spend.spent + spend.held).nanos

    @property
    def held(self) -> int:
        """The nano-dollars in holds of the request's calls in flight."""
        return self.ledger.run(spend_of, "request:r-1").held.nanos

    def kinds(self) -> list[str]:
        """Return the kind of each event in the session's log, without the first event, which opens the request."""
        return [row.kind for row in self.ledger.audit(SESSION)][1:]

    def holds(self) -> list[int]:
        """Return the nano-dollars of every hold so far."""
        events = [row.event for row in self.ledger.audit(SESSION)]
        return [event.amount.nanos for event in events if isinstance(event, CallHeld)]


def make_bench(provider: Provider, url: str) -> Iterator[Bench]:
    """Yield a bench on the database at `url`. When the test ends, the log of its session must verify."""
    numbers = itertools.count(1)
    ledger = Ledger(url, clock=lambda: NOW)
    with httpx.Client() as client:
        yield Bench(provider, ledger, client, lambda: f"c-{next(numbers)}")
    assert ledger.verify(SESSION) if ledger.sessions() else True
    ledger.database.close()


@pytest.fixture
def bench(provider: Provider, tmp_path: Path) -> Iterator[Bench]:
    """A bench on an SQLite file. When the test ends, the ledger's log must verify."""
    yield from make_bench(provider, f"sqlite:///{tmp_path}/books.db")
