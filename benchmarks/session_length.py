"""Measures a paid call in a session that already has 10,000 calls, against a paid call in a new session."""

import itertools
import tempfile
from contextlib import ExitStack
from datetime import UTC, datetime

from benchmarks.harness import Result, interleave
from benchmarks.postgres import a_postgres_database
from bursar import Ledger
from bursar.checkpoints.ledger import postings, requests
from bursar.checkpoints.ledger.accounts import Account, left
from bursar.checkpoints.ledger.calls import Hold, Usage, replayable, turns
from bursar.checkpoints.ledger.transaction import Transaction

AT = datetime(2026, 1, 1, tzinfo=UTC)
AMOUNT, COST = 1_000_000, 400_000
PAYLOAD = b"x" * 500
CALLS_OF_A_REQUEST = 20
CALLS_AT_ONCE = 200  # calls that `fill` books in one transaction
BOUND = 1.3


class Session:
    """A contender: a session whose requests make twenty paid calls each, booked as the gateway books them."""

    def __init__(self, url: str, name: str) -> None:
        self.ledger = Ledger(url, key=b"benchmark")
        self.name = name
        self.numbers = itertools.count()
        self.ledger.run(requests.open_session, name, name, at=AT)

    def fill(self, calls: int) -> None:
        """Book the number `calls` of paid calls, `CALLS_AT_ONCE` in one transaction.

        Raises `AssertionError` if the ledger has another number of calls afterwards.
        """

        def work(transaction: Transaction) -> None:
            for _ in range(CALLS_AT_ONCE):
                self._settle(transaction, self._admit(transaction))

        for _ in range(0, calls, CALLS_AT_ONCE):
            self.ledger.run(work)
        booked = self.ledger.spend(self.name).calls
        if booked != calls:
            raise AssertionError(f"{calls} calls were made, the ledger says {booked}")

    def __call__(self, operations: int) -> None:
        for _ in range(operations):
            call_id = self.ledger.run(self._admit)
            self.ledger.run(self._settle, call_id)

    def _admit(self, transaction: Transaction) -> str:
        """Do what the gateway does in one transaction before it sends a call, and return the call's id.

        It looks for a replayable answer, reads what the accounts have left, writes the hold, and counts the turns.
        """
        number, name = next(self.numbers), self.name
        request = f"{name}-{number // CALLS_OF_A_REQUEST}"
        scopes = (f"tenant:{name}:2026-01-01", f"session:{name}", f"request:{request}", f"agent:{request}:a")
        if number % CALLS_OF_A_REQUEST == 0:
            accounts = [Account(scope, None) for scope in scopes]
            requests.open_request(transaction, name, request, accounts=accounts, text_hash="0" * 64, at=AT)
        replayable(transaction, name, "a:1", f"{number:064}", 0)
        left(transaction, scopes)
        call_id = f"{name}-c-{number}"
        hold = Hold(
            call_id=call_id,
            session_id=name,
            request_id=request,
            agent="a",
            checkpoint_ns="a:1",
            request_hash=f"{number:064}",
            occurrence=0,
            model="gpt-4o-mini",
            price_version="benchmark",
            amount=AMOUNT,
            scopes=scopes,
            at=AT,
        )
        postings.hold(transaction, hold)
        turns(transaction, request, "a")
        return call_id

    def _settle(self, transaction: Transaction, call_id: str) -> None:
        usage = Usage(120, 20)
        postings.settle(transaction, call_id, session_id=self.name, cost=COST, usage=usage, response=PAYLOAD, at=AT)


def run(*, smoke: bool) -> list[Result]:
    """Measure on SQLite and, if there is a server, on PostgreSQL; return a result for each database."""
    rounds, operations, length = (2, 20, 1000) if smoke else (15, 60, 10_000)
    results: list[Result] = []
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        urls = {"SQLite": (f"sqlite:///{folder}/long.db", f"sqlite:///{folder}/short.db")}
        server = stack.enter_context(a_postgres_database())
        if server:
            urls["PostgreSQL"] = (server, server)
        for database, (one, another) in urls.items():
            long, short = Session(one, "long"), Session(another, "short")
            long.fill(length)
            result = Result(f"a paid call, {database}")
            contenders = [(f"after {length:,} calls", long), ("in a new session", short)]
            result.rounds = interleave(contenders, rounds=rounds, operations=operations)
            for what in ("cpu", "wall"):
                result.compare(contenders[0][0], contenders[1][0], what=what, bound=BOUND)
            results.append(result)
    return results
