"""Steps of the supervisor itself that may pay: a router or a composer that asks a model. Each has an account."""

import time

from langchain_core.runnables import RunnableConfig

from bursar.checkpoints.leases import lease_of
from bursar.checkpoints.ledger.accounts import Account, open_account
from bursar.checkpoints.ledger.postings import recover
from bursar.checkpoints.ledger.transaction import Transaction
from bursar.nodes.context.coordinator import (
    Coordinator,
    agent_scope,
    check_owner,
    checkpoint_ns,
    outer_scope,
    scopes_of,
)
from bursar.nodes.gateway.paid_calls.scope import Scope
from bursar.nodes.observers.base import RunContext
from bursar.nodes.observers.run_observers import RunObservers
from bursar.state.session import Request

MAX_TURNS = 4


async def open_step(coordinator: Coordinator, request: Request, agent: str, config: RunnableConfig) -> None:
    """Open the account of the step `agent`. If a crash cut off paid calls of it, mark these calls as unknown."""
    at = coordinator.clock()

    def work(transaction: Transaction) -> None:
        # Race: another run may own the session by now, and what is held may be in flight there.
        check_owner(coordinator, config, transaction)
        recover(transaction, request.session_id, checkpoint_ns=checkpoint_ns(config), at=at)
        open_account(transaction, Account(agent_scope(request, agent), request.budget.nanos))
        if coordinator.budget.total is not None:
            open_account(transaction, Account("global", None))

    await coordinator.commit(work, request)


def step_scope(
    coordinator: Coordinator, request: Request, agent: str, config: RunnableConfig, *, seconds: float, paid: bool = True
) -> Scope:
    """Return the scope of the step `agent` for `seconds`. Unless `paid`, every paid call in it is refused."""
    told = RunContext(
        request_id=request.id,
        session_id=request.session_id,
        specialist=agent,
        step=agent,
        handler=agent,
        level=0,
        tenant=request.tenant,
    )
    return Scope(
        observers=RunObservers(coordinator.observers, told, config),
        ledger=coordinator.ledger,
        session_id=request.session_id,
        request_id=request.id,
        agent=agent,
        checkpoint_ns=checkpoint_ns(config),
        scopes=(*scopes_of(request, coordinator.budget), agent_scope(request, agent)),
        paid=paid,
        max_turns=MAX_TURNS,
        deadline=time.monotonic() + seconds,
        new_id=coordinator.new_id,
        clock=coordinator.clock,
        lease=lease_of(config),
        outer=outer_scope(coordinator, request),
    )
