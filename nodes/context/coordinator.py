"""What the coordinator's nodes share: the books, the chains, the budget, and where clock and ids come from."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TypeVar

from langchain_core.runnables import RunnableConfig

from bursar.checkpoints.database.database import Database
from bursar.checkpoints.ledger.ledger import Ledger
from bursar.checkpoints.ledger.transaction import Transaction
from bursar.nodes.context.deadlines import request_until
from bursar.nodes.gates.base import Gate
from bursar.nodes.observers.base import Observer
from bursar.nodes.routers.base import Candidate, Router
from bursar.nodes.specialists.approval_policy import NO_APPROVALS, Approvals, MustApprove
from bursar.nodes.specialists.chain import Chain
from bursar.state.budget import Budget
from bursar.state.session import Request

T = TypeVar("T")
DEFAULT_TENANT = "default"
ROUTER_TIMEOUT_SECONDS = GATE_TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class Coordinator:
    """The one writer: agents propose, it writes state and books. Holds no state of a session itself.

    `timeout` is that of a request in seconds, None for none.
    """

    chains: dict[str, Chain]
    budget: Budget
    ledger: Ledger
    router: Router
    gate: Gate | None
    clock: Callable[[], datetime]
    new_id: Callable[[], str]
    timeout: float | None = None
    router_timeout_seconds: float = ROUTER_TIMEOUT_SECONDS
    gate_timeout_seconds: float = GATE_TIMEOUT_SECONDS
    approvals: Approvals = NO_APPROVALS
    must_approve: MustApprove = ()
    observers: Sequence[Observer] = ()

    @cached_property
    def candidates(self) -> tuple[Candidate, ...]:
        """What the router chooses from: the same for every request."""
        return tuple(
            Candidate(name=name, description=chain.specialist.description, examples=tuple(chain.specialist.examples))
            for name, chain in self.chains.items()
        )

    async def commit(self, posting: Callable[[Transaction], T], request: Request, *, durable: bool = False) -> T:
        """Write something of a request down; given up a little after its deadline, if it has one."""
        until = request_until(request, now=self.clock())
        return await self.database.arun(self.ledger.bind(posting), durable=durable, brief=True, until=until)

    @property
    def database(self) -> Database:
        return self.ledger.database


def scopes_of(request: Request, budget: Budget) -> tuple[str, ...]:
    """The accounts that a request's calls touch, outermost first. The tenant's day is the one it was opened on.

    The account of the whole ledger is among them only where it has a cap: it is the one that every call would share.
    """
    return (
        *(() if budget.total is None else ("global",)),
        f"tenant:{request.tenant}:{request.opened_at.date().isoformat()}",
        f"session:{request.session_id}",
        f"request:{request.id}",
    )


def agent_scope(request: Request, node: str) -> str:
    """The account of one agent's runs in a request."""
    return f"agent:{request.id}:{node}"


def answer_id(request: Request) -> str:
    """The id of the message that answers a request: written again after a crash, it is the same message."""
    return f"{request.id}-answer"


def text_hash(text: str) -> str:
    """SHA-256 of a text, in hex: the log holds hashes, never content."""
    return hashlib.sha256(text.encode()).hexdigest()


def setting(config: RunnableConfig, key: str) -> str:
    """A string of the caller's `configurable`, empty where it has none."""
    value = config.get("configurable", {}).get(key)
    return "" if value is None else str(value)


def checkpoint_ns(config: RunnableConfig) -> str:
    """Where in the graph this runs: the same again when a crash, retry or interrupt runs it again."""
    return str(config.get("metadata", {}).get("langgraph_checkpoint_ns", ""))
