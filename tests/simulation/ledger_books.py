"""The same books on a real ledger: each method is one transaction of the ledger's own postings."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from sqlalchemy import select

from bursar.checkpoints.ledger import accounts, administration, calls, postings, requests
from bursar.checkpoints.ledger.accounts import Account, open_account
from bursar.checkpoints.ledger.calls import Hold, replayable
from bursar.checkpoints.ledger.ledger import Ledger
from bursar.checkpoints.ledger.transaction import Transaction
from bursar.checkpoints.schema.ledger_tables import accounts as table
from bursar.state.errors import LedgerError
from bursar.state.refusals import AccountClosed, BudgetExceeded
from bursar.state.rules.calls import has_turn
from bursar.state.rules.pricing import Usage
from tests.simulation.books import INCIDENT, TURNS, TWICE, Books, Key, NewHold, NewRequest

T = TypeVar("T")
NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)


class _OutOfTurns(Exception):
    """Raised to roll a hold back."""


class LedgerBooks(Books):
    """Books on a ledger, which may keep those of many worlds. `opened` are the accounts of this one."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.opened: set[str] = set()

    def open_request(self, new: NewRequest) -> None:
        opened = [Account(scope, cap) for scope, cap in new.caps.items()]
        self.opened.update(new.caps)

        def work(transaction: Transaction) -> None:
            requests.open_session(transaction, new.session, new.tenant, at=NOON)
            requests.open_request(
                transaction, new.session, new.request, accounts=opened, text_hash="0" * 64, at=NOON, parent=new.parent
            )

        self._run(work)

    def open_account(self, scope: str, cap: int | None) -> None:
        self.opened.add(scope)
        self._run(lambda transaction: open_account(transaction, Account(scope, cap)))

    def left(self, scopes: Sequence[str]) -> int | None:
        return self._run(lambda transaction: accounts.left(transaction, scopes))

    def has_answer(self, key: Key) -> bool:
        found = self._run(lambda transaction: replayable(transaction, key.session, key.place, key.hash, key.nth))
        return found is not None

    def hold(self, new: NewHold) -> str:
        hold = Hold(
            call_id=new.call,
            session_id=new.key.session,
            request_id=new.request,
            agent=new.agent,
            checkpoint_ns=new.key.place,
            request_hash=new.key.hash,
            occurrence=new.key.nth,
            model="m",
            price_version="simulated",
            amount=new.amount,
            scopes=new.scopes,
            at=NOON,
        )

        def work(transaction: Transaction) -> None:
            postings.hold(transaction, hold)
            if not has_turn(calls.turns(transaction, new.request, new.agent) - 1, new.max_turns):
                raise _OutOfTurns

        try:
            self._run(work)
        except _OutOfTurns:
            return TURNS
        except AccountClosed:
            return INCIDENT
        except BudgetExceeded as refused:
            return refused.scope
        except LedgerError:
            return TWICE
        return ""

    def settle(self, call: str, cost: int, usage: Usage, *, kept: bool) -> bool:
        response = b"answer" if kept else None
        return self._done(
            lambda transaction: postings.settle(
                transaction,
                call,
                session_id=self._session_of(transaction, call),
                cost=cost,
                usage=usage,
                response=response,
                at=NOON,
            )
        )

    def void(self, call: str) -> bool:
        return self._done(lambda transaction: postings.void(transaction, call, reason="void", at=NOON))

    def lose(self, call: str) -> bool:
        return self._done(lambda transaction: postings.mark_unknown(transaction, call, reason="lost", at=NOON))

    def reconcile(self, call: str, cost: int) -> bool:
        return self._done(lambda transaction: postings.reconcile(transaction, call, cost=cost, at=NOON))

    def recover(self, session: str, place: str) -> int:
        return self._run(lambda transaction: postings.recover(transaction, session, checkpoint_ns=place, at=NOON))

    def top_up(self, scope: str, amount: int) -> None:
        self._run(lambda transaction: administration.top_up(transaction, scope, amount, note="", at=NOON))

    def acknowledge(self, session: str) -> bool:
        return self._done(lambda transaction: administration.acknowledge(transaction, session, note="seen", at=NOON))

    def balances(self) -> dict[str, tuple[int | None, int, int]]:
        columns = (table.c.scope, table.c.cap, table.c.spent, table.c.held)
        query = select(*columns).where(table.c.scope.in_(self.opened))
        rows = self._run(lambda transaction: list(transaction.connection.execute(query)))
        return {str(scope): (cap, spent, held) for scope, cap, spent, held in rows}

    def _session_of(self, transaction: Transaction, call: str) -> str | None:
        query = select(calls.calls.c.session_id).where(calls.calls.c.call_id == call)
        return transaction.connection.execute(query).scalar()

    def _done(self, posting: Callable[[Transaction], object]) -> bool:
        try:
            self._run(posting)
        except LedgerError:
            return False
        return True

    def _run(self, posting: Callable[[Transaction], T]) -> T:
        return self.ledger.database.run(self.ledger.bind(posting), durable=False)
