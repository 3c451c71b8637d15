"""The coordinator, which all nodes share: ledger, chains, budget, router, gate, clock and source of ids."""

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
from bursar.nodes.gateway.scope import Scope, enclosing_scope
from bursar.nodes.observers.base import Observer
from bursar.nodes.routers.base import Candidate, Router
from bursar.nodes.specialists.approval_policy import NO_APPROVALS, Approvals, MustApprove
from bursar.nodes.specialists.chain import Chain
from bursar.state.budget import Budget
from bursar.state.errors import ConfigurationError
from bursar.state.session import Request

T = TypeVar("T")
DEFAULT_TENANT = "default"
ROUTER_TIMEOUT_SECONDS = GATE_TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class Coordinator:
    """The parts that all nodes share, such as ledger, chains and router. It holds no state of a session.

    An agent only returns a report. The nodes write the graph's state and the ledger, and use these parts to write.
    `timeout` is the time for a request, in seconds; None is no timeout.
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
        """The candidates that the router scores, the same for every request."""
        return tuple(
            Candidate(name=name, description=chain.specialist.description, examples=tuple(chain.specialist.examples))
            for name, chain in self.chains.items()
        )

    async def commit(self, posting: Callable[[Transaction], T], request: Request, *, durable: bool = False) -> T:
        """Run `posting` for the request in a transaction of the ledger, and return its result.

        If not `durable`, the commit survives the end of this process, but is on disk only with the next durable commit.
        If the request has a deadline, the transaction is given up a little after that deadline (see `request_until`).
        """
        until = request_until(request, now=self.clock())
        return await self.database.arun(self.ledger.bind(posting), durable=durable, brief=True, until=until)

    @property
    def database(self) -> Database:
        return self.ledger.database


def scopes_of(request: Request, budget: Budget) -> tuple[str, ...]:
    """Return the accounts that a request's calls are charged to, outermost first.

    The tenant's account is that of the day on which the request was opened. The account of the whole ledger is charged
    only if it has a cap, because each call would wait until the others have freed the lock of that one account. A
    request inside another supervisor's run is charged to that run's accounts, and to one of its own.
    """
    if request.parent is not None:
        return (*request.above, f"request:{request.id}")
    return (
        *(() if budget.total is None else ("global",)),
        f"tenant:{request.tenant}:{request.opened_at.date().isoformat()}",
        f"session:{request.session_id}",
        f"request:{request.id}",
    )


def outer_scope(request: Request) -> Scope | None:
    """Return the scope of another supervisor's run that the request is part of; None if a user made the request.

    Raises `ConfigurationError` if the request is resumed anywhere else than where it was made: what it spends is for
    the accounts of that run.
    """
    outer = enclosing_scope()
    if request.parent != (None if outer is None else outer.request_id):
        made = "by itself" if request.parent is None else f"inside request {request.parent}"
        raise ConfigurationError(f"this request was made {made}; resume it there, or ask with a new message")
    return outer


def agent_scope(request: Request, node: str) -> str:
    """Return the name of the account of one agent's runs in a request."""
    return f"agent:{request.id}:{node}"


def answer_id(request: Request) -> str:
    """Return the id of the message that answers a request.

    The id follows from the request's id, so that a node that runs again after a crash writes the same message again.
    """
    return f"{request.id}-answer"


def text_hash(text: str) -> str:
    """Return the SHA-256 of a text, in hex. The log holds hashes of texts, not the texts."""
    return hashlib.sha256(text.encode()).hexdigest()


def setting(config: RunnableConfig, key: str) -> str:
    """Return the setting `key` of the caller's `configurable` as a string, "" if it has no such setting."""
    value = config.get("configurable", {}).get(key)
    return "" if value is None else str(value)


def checkpoint_ns(config: RunnableConfig) -> str:
    """Return this node's place in the graph. A crash, a retry and an interrupt run the node again at the same place."""
    return str(config.get("metadata", {}).get("langgraph_checkpoint_ns", ""))
