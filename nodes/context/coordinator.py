"""The coordinator, which all nodes share: ledger, chains, budget, router, gate, clock and source of ids."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TypeVar

from langchain_core.messages import AIMessage, AnyMessage
from langchain_core.runnables import RunnableConfig

from bursar.checkpoints.database.database import Database
from bursar.checkpoints.leases import lease_of
from bursar.checkpoints.ledger.ledger import Ledger
from bursar.checkpoints.ledger.transaction import Transaction
from bursar.nodes.composers.base import Composer
from bursar.nodes.context.deadlines import request_until
from bursar.nodes.gates.base import Gate
from bursar.nodes.gateway.paid_calls.scope import Scope, enclosing_scope
from bursar.nodes.observers.base import AnyObserver
from bursar.nodes.routers.base import Candidate, Router
from bursar.nodes.specialists.approval_policy import NO_APPROVALS, Approvals, MustApprove
from bursar.nodes.specialists.chain import Chain
from bursar.state.budget import Budget
from bursar.state.errors import ConfigurationError
from bursar.state.money import USD, ZERO
from bursar.state.session import Request
from bursar.state.text import check_storable

T = TypeVar("T")
DEFAULT_TENANT = "default"
_ANSWER = "-answer"
ROUTER_TIMEOUT_SECONDS = GATE_TIMEOUT_SECONDS = COMPOSER_TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class Coordinator:
    """The parts that all nodes share, such as ledger, chains and router. It holds no state of a session.

    An agent only returns a report. The nodes write the graph's state and the ledger, and use these parts to write.
    `timeout` is the time for a request, in seconds; None is no timeout. If it `asks`, a person is asked for more when a
    request's budget stops a specialist. `input_keys` are the keys of the graph's `state_schema` that agents get. With
    `show_errors` users read what foreign exceptions say. `former` has the chains of specialists by their former names.
    A request takes `rounds` rounds at most. Without a `composer` the answers stand one after the other.
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
    composer: Composer | None = None
    composer_timeout_seconds: float = COMPOSER_TIMEOUT_SECONDS
    approvals: Approvals = NO_APPROVALS
    must_approve: MustApprove = ()
    asks: bool = False
    show_errors: bool = False
    former: Mapping[str, Chain] = field(default_factory=dict[str, Chain])
    observers: Sequence[AnyObserver] = ()
    input_keys: tuple[str, ...] = ()
    rounds: int = 1

    @cached_property
    def candidates(self) -> tuple[Candidate, ...]:
        """The candidates that the router scores, the same for every request."""
        return tuple(
            Candidate(name=name, description=chain.specialist.description, examples=tuple(chain.specialist.examples))
            for name, chain in self.chains.items()
        )

    @cached_property
    def composer_share(self) -> USD:
        """What is kept back from each plan for the composer."""
        return USD(getattr(self.composer, "share", ZERO))

    @cached_property
    def all_chains(self) -> Mapping[str, Chain]:
        """The chains by name and by former name: a request may have been planned before a specialist was renamed."""
        return {**self.former, **self.chains}

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


def outer_scope(coordinator: Coordinator, request: Request) -> Scope | None:
    """Return the scope of another supervisor's run that the request runs in; None if a user runs it.

    Raises `ConfigurationError` if the request is resumed anywhere else than where it was made: what it spends is for
    the accounts of that run. Raises it too if the run is on another ledger, and its price does not cover the request.
    """
    outer = enclosing_scope()
    same = outer is not None and outer.is_on(coordinator.ledger)
    if request.parent != (outer.request_id if outer is not None and same else None):
        made = "by itself" if request.parent is None else f"inside request {request.parent}"
        raise ConfigurationError(f"this request was made {made}; resume it there, or ask with a new message")
    if outer is not None and not same:
        check_covered(coordinator, request, outer)
    return outer


def check_covered(coordinator: Coordinator, request: Request, outer: Scope) -> None:
    """Raise `ConfigurationError` unless the price of the run `outer`, on another ledger, covers the request's budget.

    What the request spends is charged on this ledger alone, so the price is all that bounds it there.
    """
    # Two keys in one database could meet in one session's log, which then would not verify under either.
    if outer.covers is None or outer.ledger.database is coordinator.ledger.database:
        raise ConfigurationError(
            f"{outer.agent} runs another supervisor inside, on another ledger, where its budget does not hold; "
            f"give both the same Ledger, or {outer.owner} a price"
        )
    outer.covers.cover(request.id, request.budget)


def check_owner(coordinator: Coordinator, config: RunnableConfig, transaction: Transaction) -> None:
    """Raise `LeaseLost` if the run has lost the lease of its session.

    Otherwise no other run can take the lease until the transaction ends. If there is no lease, or it is in another
    database than the ledger, nothing is checked.
    """
    lease = lease_of(config)
    if lease is not None and lease.database is coordinator.database:
        lease.check(transaction.connection)


def agent_scope(request: Request, node: str) -> str:
    """Return the name of the account of one agent's runs in a request."""
    return f"agent:{request.id}:{node}"


def answer_id(request: Request) -> str:
    """Return the id of the message that answers a request.

    The id follows from the request's id, so that a node that runs again after a crash writes the same message again.
    """
    return f"{request.id}{_ANSWER}"


def is_answer(message: AnyMessage) -> bool:
    """Whether the message is the answer of a request, by its id."""
    return isinstance(message, AIMessage) and (message.id or "").endswith(_ANSWER)


def text_hash(text: str) -> str:
    """Return the SHA-256 of a text, in hex. The log holds hashes of texts, not the texts."""
    return hashlib.sha256(text.encode()).hexdigest()


def setting(config: RunnableConfig, key: str) -> str:
    """Return the setting `key` of the caller's `configurable` as a string, "" if it has no such setting.

    Raises `ConfigurationError` if no database keeps that string.
    """
    value = config.get("configurable", {}).get(key)
    text = "" if value is None else str(value)
    check_storable(key, text)
    return text


def checkpoint_ns(config: RunnableConfig) -> str:
    """Return this node's place in the graph. A crash, a retry and an interrupt run the node again at the same place."""
    return str(config.get("metadata", {}).get("langgraph_checkpoint_ns", ""))
