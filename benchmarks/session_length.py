"""A paid call in a session of 10,000 calls, against one in a session that has just begun."""

import itertools
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime

from sqlalchemy import Connection

from benchmarks.harness import Result, interleave
from benchmarks.postgres import a_postgres_database
from bursar import Ledger
from bursar.checkpoints.ledger.accounts import Account
from bursar.checkpoints.ledger.postings import Hold, Usage

AT = datetime(2026, 1, 1, tzinfo=UTC)
AMOUNT, COST = 1_000_000, 400_000
PAYLOAD = b"x" * 500
CALLS_OF_A_REQUEST = 20
CALLS_AT_ONCE = 200  # that the long session is filled with in one transaction
BOUND = 1.3


class Session:
    """A session whose requests make twenty paid calls each, booked as the gateway books them."""

    def __init__(self, url: str, name: str) -> None:
        self.ledger = Ledger(url, key=b"benchmark")
        self.books = self.ledger.books
        self.name = name
        self.numbers = itertools.count()
        self.ledger.database.run(self.books.open_session(name, name, at=AT))

    def fill(self, calls: int) -> None:
        """Make so many calls, many in one transaction."""

        def work(connection: Connection) -> None:
            for _ in range(CALLS_AT_ONCE):
                call_id = self._admit(connection)
                self._settle(call_id)(connection)

        for _ in range(0, calls, CALLS_AT_ONCE):
            self.ledger.database.run(work)
        booked = self.ledger.spend(self.name).calls
        if booked != calls:
            raise AssertionError(f"{calls} calls were made, the ledger says {booked}")

    def __call__(self, operations: int) -> None:
        for _ in range(operations):
            call_id = self.ledger.database.run(self._admit)
            self.ledger.database.run(self._settle(call_id))

    def _admit(self, connection: Connection) -> str:
        """What the gateway does in one transaction before it sends: journal, what is left, hold, turns."""
        number, books, name = next(self.numbers), self.books, self.name
        request = f"{name}-{number // CALLS_OF_A_REQUEST}"
        scopes = (f"tenant:{name}:2026-01-01", f"session:{name}", f"request:{request}", f"agent:{request}:a")
        if number % CALLS_OF_A_REQUEST == 0:
            accounts = [Account(scope, None) for scope in scopes]
            books.open_request(name, request, accounts=accounts, text_hash="0" * 64, at=AT)(connection)
        books.replayable(name, "a:1", f"{number:064}", 0)(connection)
        books.left(scopes)(connection)
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
        books.hold(hold)(connection)
        books.turns(request, "a")(connection)
        return call_id

    def _settle(self, call_id: str) -> Callable[[Connection], None]:
        usage = Usage(120, 20)
        return self.books.settle(call_id, session_id=self.name, cost=COST, usage=usage, response=PAYLOAD, at=AT)


def run(*, smoke: bool) -> list[Result]:
    """Measure each database that there is."""
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
