"""`standalone`: a session with its own budget for a script or a notebook cell, outside any graph."""

from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime
from types import TracebackType
from typing import Self

from bursar.checkpoints.database.database import Database
from bursar.checkpoints.ledger.accounts import Account
from bursar.checkpoints.ledger.ledger import Ledger, random_id
from bursar.checkpoints.ledger.postings import recover
from bursar.checkpoints.ledger.requests import close_request, open_request, open_session
from bursar.checkpoints.ledger.spend import spend_of
from bursar.checkpoints.ledger.transaction import Transaction
from bursar.nodes.gateway.paid_calls.scope import Scope, current_scope
from bursar.nodes.gateway.unmetered_guard import forbid_unmetered
from bursar.state.errors import AmountError, ConfigurationError
from bursar.state.money import USD, ZERO, Amount
from bursar.state.spend import Spend

AGENT = "standalone"
NO_TEXT = "0" * 64


class standalone:  # noqa: N801 - used as a function in a with statement, as contextlib's own
    """A session with its own budget for the metered calls of a block: `with standalone(budget="0.10") as session:`.

    `async with` works too. In the block a model that is not metered raises `Unmetered`. Without a ledger the books are
    kept in memory, for this block alone. With a ledger and a `session_id`, a block that was cut off by a crash or an
    error goes on when it is entered again: calls that it had paid for are replayed, and the budget of the first entry
    stays in force, whatever budget is given later. Only one block at a time may use a session id.

    Raises `ConfigurationError` for a bad budget, and for a `session_id` without a ledger. Entering the block inside
    another session raises it too, because that session has a budget already.
    """

    def __init__(
        self,
        budget: Amount,
        ledger: Ledger | None = None,
        *,
        session_id: str | None = None,
        tenant: str = "default",
        new_id: Callable[[], str] = random_id,
    ) -> None:
        try:
            self.budget = USD(budget)
        except AmountError as error:
            raise ConfigurationError(f"budget: {error}") from None
        if self.budget < ZERO:
            raise ConfigurationError(f"budget: {self.budget} is negative")
        if session_id is not None and ledger is None:
            raise ConfigurationError("a session_id needs a ledger; books in memory end with the block")
        self.ledger = ledger or Ledger(Database("sqlite://"))
        self._own_ledger = ledger is None
        self.session_id = session_id or f"standalone-{new_id()}"
        self._tenant = tenant
        self._new_id = new_id
        self._inside = ExitStack()
        self._scope: Scope | None = None
        self._spend: Spend | None = None

    @property
    def spend(self) -> Spend:
        """What the session was charged so far. It can still be read after the block."""
        if self._spend is not None:
            return self._spend
        return self.ledger.run(spend_of, f"request:{self.session_id}")

    def __enter__(self) -> Self:
        scope, at = self._begin()
        self.ledger.run(self._open, scope, at)
        return self._enter(scope)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._left()  # first: no call may be admitted once the request is closed
        self._closed_with(self.ledger.run(self._end, kind, self.ledger.clock()))

    async def __aenter__(self) -> Self:
        scope, at = self._begin()
        await self.ledger.arun(self._open, scope, at)
        return self._enter(scope)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._left()  # first: no call may be admitted once the request is closed
        self._closed_with(await self.ledger.arun(self._end, kind, self.ledger.clock()))

    def _begin(self) -> tuple[Scope, datetime]:
        if current_scope() is not None:
            raise ConfigurationError("a session is open here already, and its budget holds; call the model as it is")
        if self._scope is not None:
            raise ConfigurationError("a standalone session is entered once; make another")
        at = self.ledger.clock()
        self._scope = Scope(
            ledger=self.ledger,
            session_id=self.session_id,
            request_id=self.session_id,
            agent=AGENT,
            checkpoint_ns="",
            scopes=_scopes(self._tenant, self.session_id, at),
            new_id=self._new_id,
            clock=self.ledger.clock,
        )
        return self._scope, at

    def _open(self, transaction: Transaction, scope: Scope, at: datetime) -> None:
        name = self.session_id
        *shared, own, agent = scope.scopes
        accounts = [*(Account(one, None) for one in shared), Account(own, self.budget.nanos), Account(agent, None)]
        open_session(transaction, name, self._tenant, at=at)
        open_request(transaction, name, name, accounts=accounts, text_hash=NO_TEXT, at=at, tenant=self._tenant)
        recover(transaction, name, at=at)

    def _enter(self, scope: Scope) -> Self:
        self._inside.enter_context(scope.enter())
        self._inside.enter_context(forbid_unmetered({}))
        return self

    def _left(self) -> None:
        if self._scope is not None:
            self._scope.close()
        self._inside.close()

    def _end(self, transaction: Transaction, kind: type[BaseException] | None, at: datetime) -> Spend:
        if kind is None:  # after an error the block may be entered again, so its request stays open
            close_request(transaction, self.session_id, self.session_id, outcome="ended", at=at)
        return spend_of(transaction, f"request:{self.session_id}")

    def _closed_with(self, spend: Spend) -> None:
        self._spend = spend
        # A call in flight still has a hold, and needs the ledger for its end: then the ledger stays open.
        if self._own_ledger and self._scope is not None and not spend.held:
            self._scope.close(books_gone=True)
            self.ledger.database.close()


def _scopes(tenant: str, session: str, at: datetime) -> tuple[str, str, str, str]:
    day = at.date().isoformat()
    return f"tenant:{tenant}:{day}", f"session:{session}", f"request:{session}", f"agent:{session}:{AGENT}"
