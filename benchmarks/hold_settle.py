"""Measures a hold and its settlement against two commits of one row on the same database through the same driver.

On SQLite also against the driver alone, which changes the same rows: no ledger with these tables can be faster.
"""

import itertools
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.engine import make_url

from benchmarks.harness import Result, interleave
from benchmarks.postgres import a_postgres_database
from bursar import Ledger
from bursar.checkpoints.ledger import postings, requests
from bursar.checkpoints.ledger.accounts import Account
from bursar.checkpoints.ledger.calls import Hold, Usage

AT = datetime(2026, 1, 1, tzinfo=UTC)
SCOPES = ("tenant:t:2026-01-01", "session:s", "request:r", "agent:r:a")
AMOUNT = 1_000_000
COST = 400_000
PAYLOAD = b"x" * 500
BOUND = 2.0
ALONE = "its rows by the driver alone"


def bursar(url: str) -> Callable[[int], None]:
    """Return a contender that books a paid call as the gateway does: four accounts, two events, the answer for replay.

    Raises `AssertionError` if the ledger does not have the first call's cost.
    """
    ledger = Ledger(url, key=b"benchmark")
    run = ledger.run
    run(requests.open_session, "s", "t", at=AT)
    accounts = [Account(scope, None) for scope in SCOPES]
    run(requests.open_request, "s", "r", accounts=accounts, text_hash="0" * 64, at=AT)
    numbers = itertools.count()

    def calls(operations: int) -> None:
        for _ in range(operations):
            call_id = f"c-{next(numbers)}"
            hold = Hold(
                call_id=call_id,
                session_id="s",
                request_id="r",
                agent="a",
                checkpoint_ns="a:1",
                request_hash=f"{hash(call_id):x}",
                occurrence=0,
                model="gpt-4o-mini",
                price_version="benchmark",
                amount=AMOUNT,
                scopes=SCOPES,
                at=AT,
            )
            run(postings.hold, hold)
            usage = Usage(120, 20)
            run(postings.settle, call_id, session_id="s", cost=COST, usage=usage, response=PAYLOAD, at=AT)

    calls(1)
    spent = ledger.spend("s").spent.nanos
    if spent != COST:
        raise AssertionError(f"one call of {COST} was settled, the ledger says {spent}")
    return calls


def _connected(path: str, stack: ExitStack) -> sqlite3.Connection:
    connection = stack.enter_context(closing(sqlite3.connect(path, isolation_level=None)))
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    return connection


def same_rows(path: str, stack: ExitStack) -> Callable[[int], None]:
    """Return a contender that changes the rows of a paid call by the driver alone, as copies of a real call.

    It checks, hashes and encodes nothing.
    """
    bursar(f"sqlite:///{path}")
    connection = _connected(path, stack)
    names = [row[1] for row in connection.execute("PRAGMA table_info(bursar_calls)")]
    call = dict(zip(names, connection.execute("SELECT * FROM bursar_calls").fetchone(), strict=True))
    later = {"cost", "ended_at", "response", *(name for name in names if name.endswith("_tokens"))}
    first = {name: value for name, value in call.items() if name not in later} | {"state": "held"}
    changed = {name: call[name] for name in later}
    insert = f"INSERT INTO bursar_calls ({', '.join(first)}) VALUES ({', '.join(f':{name}' for name in first)})"
    update = f"UPDATE bursar_calls SET state = 'settled', {', '.join(f'{name} = :{name}' for name in changed)}"
    update += " WHERE call_id = :call_id AND state = 'held'"
    [settled, held] = connection.execute("SELECT * FROM bursar_events ORDER BY sequence DESC LIMIT 2").fetchall()
    sequences = itertools.count(settled[1] + 1)
    numbers = itertools.count()

    def tell(event: tuple[Any, ...], by_held: int, by_spent: int) -> None:
        accounts = [(by_held, by_spent, scope) for scope in SCOPES]
        connection.executemany(
            "UPDATE bursar_accounts SET held = held + ?, spent = spent + ? WHERE scope = ?", accounts
        )
        end = next(sequences)
        where = "WHERE session_id = 's' AND sequence = ?"
        connection.execute(f"UPDATE bursar_sessions SET sequence = ?, head = ? {where}", (end, event[6], end - 1))
        connection.execute("INSERT INTO bursar_events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", ("s", end, *event[2:]))

    def calls(operations: int) -> None:
        for _ in range(operations):
            call_id = f"d-{next(numbers)}"
            connection.execute("BEGIN IMMEDIATE")
            request_hash = f"{hash(call_id):x}"
            connection.execute(insert, {**first, "call_id": call_id, "request_hash": request_hash})
            tell(held, AMOUNT, 0)
            connection.execute("COMMIT")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(update, {**changed, "call_id": call_id})
            tell(settled, -AMOUNT, COST)
            connection.execute("COMMIT")

    calls(1)
    found = connection.execute("SELECT count(*), sum(cost) FROM bursar_calls WHERE state = 'settled'").fetchone()
    if found != (2, 2 * COST):
        raise AssertionError(f"two calls of {COST} were settled, the tables say {found}")
    return calls


def bare_sqlite(path: str, stack: ExitStack) -> Callable[[int], None]:
    """Return a contender that commits one row twice by SQLite's driver, with the ledger's durability."""
    connection = _connected(path, stack)
    connection.execute("CREATE TABLE bare (row BLOB)")

    def commits(operations: int) -> None:
        for _ in range(2 * operations):
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO bare VALUES (?)", (PAYLOAD,))
            connection.execute("COMMIT")

    return commits


def bare_postgres(url: str, stack: ExitStack) -> Callable[[int], None]:
    """Return a contender that commits one row twice by PostgreSQL's driver."""
    import psycopg

    connection = stack.enter_context(psycopg.connect(make_url(url).render_as_string(hide_password=False)))
    connection.execute("CREATE TABLE bare (row BYTEA)")
    connection.commit()

    def commits(operations: int) -> None:
        for _ in range(2 * operations):
            connection.execute("INSERT INTO bare VALUES (%s)", (PAYLOAD,))
            connection.commit()

    return commits


def run(*, smoke: bool) -> list[Result]:
    """Measure on SQLite and, if there is a server, on PostgreSQL; return a result for each database."""
    rounds, operations = (1, 5) if smoke else (15, 200)
    results: list[Result] = []
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        pairs = {"SQLite": (bursar(f"sqlite:///{folder}/books.db"), bare_sqlite(f"{folder}/bare.db", stack))}
        server = stack.enter_context(a_postgres_database())
        if server:
            pairs["PostgreSQL"] = (bursar(server), bare_postgres(server, stack))
        for name, (ours, bare) in pairs.items():
            result = Result(f"hold + settle, {name}")
            contenders = [("hold + settle", ours), ("two bare commits", bare)]
            if name == "SQLite":
                contenders.append((ALONE, same_rows(f"{folder}/rows.db", stack)))
            result.rounds = interleave(contenders, rounds=rounds, operations=operations)
            result.compare("hold + settle", "two bare commits")
            result.compare("hold + settle", "two bare commits", what="wall", bound=BOUND)
            if name == "SQLite":
                result.compare(ALONE, "two bare commits", what="wall")
            results.append(result)
    return results
