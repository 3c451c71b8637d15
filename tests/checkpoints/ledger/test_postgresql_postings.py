"""A call and its accounts change together on PostgreSQL: at the same pace in long books, and right under contention."""

import json
import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from sqlalchemy import Connection, text

from bursar.checkpoints.database.database import Database
from bursar.checkpoints.ledger import postings, requests
from bursar.checkpoints.ledger.accounts import Account
from bursar.checkpoints.ledger.calls import Hold, Usage
from bursar.checkpoints.ledger.ledger import Ledger
from bursar.state.refusals import BudgetExceeded

NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
SHARED = ("global", "tenant:acme:2026-11-23")
SESSIONS = ("s-1", "s-2")

pytestmark = pytest.mark.postgres


@pytest.fixture
def books(postgres: str) -> Iterator[Ledger]:
    """A ledger on PostgreSQL with two sessions of one tenant, whose day has room for about ten calls at once."""
    database = Database(postgres)
    ledger = Ledger(database)
    for session_id in SESSIONS:
        accounts = [Account(scope, None if scope == "global" else 1_000) for scope in _scopes(session_id)]
        ledger.run(requests.open_session, session_id, "acme", at=NOW)
        ledger.run(requests.open_request, session_id, f"r-{session_id}", accounts=accounts, text_hash="t", at=NOW)
    yield ledger
    database.close()


def _scopes(session_id: str) -> tuple[str, ...]:
    return (*SHARED, f"session:{session_id}", f"request:r-{session_id}")


def _hold(call_id: str, session_id: str, amount: int) -> Hold:
    scopes, request_id = _scopes(session_id), f"r-{session_id}"
    return Hold(call_id, session_id, request_id, "tax", "ns", "hash", 0, "gpt", "prices-1", amount, scopes, NOW)


def test_no_account_but_the_calls_own_is_read(books: Ledger) -> None:
    """Each request adds accounts, so what reads them all would make every call dearer than the one before."""
    run = books.database.run
    grown = (
        "INSERT INTO bursar_accounts (scope, cap, spent, held, granted) "
        "SELECT 'request:' || number, NULL, 0, 0, 0 FROM generate_series(1, 20000) AS number"
    )
    run(lambda connection: connection.execute(text(grown)))
    held = books.bind(postings.hold, _hold("c-1", "s-1", 10))
    settled = books.bind(postings.settle, "c-1", session_id="s-1", cost=1, usage=Usage(), response=None, at=NOW)
    looked = text("SELECT seq_tup_read FROM pg_stat_xact_user_tables WHERE relname = 'bursar_accounts'")

    def work(connection: Connection) -> int:
        before = connection.execute(looked).scalar() or 0
        held(connection)
        settled(connection)
        return (connection.execute(looked).scalar() or 0) - before

    assert run(work) == 0


def test_two_processes_that_race_for_a_tenants_day_keep_it_to_the_nano(books: Ledger) -> None:
    """Every account is what its calls add up to, within its cap, and nobody met a deadlock."""
    others = Database(books.database.url)  # connections of its own, as another process has
    second = Ledger(others)

    def spend(worker: int) -> int:
        ledger, chance, done = (books, second)[worker % 2], random.Random(worker), 0
        for turn in range(25):
            call_id, session_id, amount = f"c-{worker}-{turn}", SESSIONS[chance.randrange(2)], chance.randrange(1, 200)
            try:
                ledger.run(postings.hold, _hold(call_id, session_id, amount))
            except BudgetExceeded:
                continue
            done += 1
            if turn % 5:
                cost = chance.randrange(3)
                known = session_id if turn % 2 else None
                work = ledger.bind(
                    postings.settle, call_id, session_id=known, cost=cost, usage=Usage(), response=b"x", at=NOW
                )
            else:
                work = ledger.bind(postings.void, call_id, reason="refused", at=NOW)
            ledger.database.run(work)
        return done

    try:
        with ThreadPoolExecutor(8) as pool:
            assert min(pool.map(spend, range(8))) > 0
    finally:
        others.close()
    query = text("SELECT scopes, COALESCE(cost, 0) FROM bursar_calls")
    sums: Counter[str] = Counter()
    for scopes, cost in books.database.run(lambda connection: connection.execute(query).all()):
        sums.update(dict.fromkeys(json.loads(scopes), cost))
    kept = text("SELECT scope, spent, held FROM bursar_accounts")
    rows = books.database.run(lambda connection: connection.execute(kept).all())
    assert {scope: (spent, held) for scope, spent, held in rows} == {scope: (sums[scope], 0) for scope, _, _ in rows}
    assert 0 < sums[SHARED[1]] <= 1_000
    assert books.verify()
