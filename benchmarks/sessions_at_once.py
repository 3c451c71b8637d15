"""Measures the gateway with a hundred sessions in one process on PostgreSQL, against psycopg writing the same rows.

Both sides call the same model double in the same way, and write the same rows in the same two transactions a call, on
as many connections. Psycopg's side chains no hashes, checks no caps, caps no call's output and looks for no replay.
"""

import asyncio
import itertools
import json
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.engine import make_url

from benchmarks.doubled import DoubledModel
from benchmarks.harness import Result, interleave
from benchmarks.postgres import a_postgres_database
from bursar import Ledger, meter
from bursar.checkpoints.database.url import DEFAULTS
from bursar.checkpoints.ledger import requests
from bursar.checkpoints.ledger.accounts import Account
from bursar.nodes.gateway.paid_calls.scope import Scope

AT = datetime(2026, 1, 1, tzinfo=UTC)
STAMP = "2026-01-01T00:00:00.000000+00:00"
SESSIONS = 100
BOUND = 2.0  # the gateway has at least half of the driver's throughput
CAP = 10**12
HASH, PAYLOAD, ANSWER = "0" * 64, "x" * 300, b"x" * 500
Calls = Callable[[int], None]

INSERT = (
    "INSERT INTO bursar_calls (call_id, session_id, request_id, agent, checkpoint_ns, request_hash, occurrence, model,"
    " price_version, state, amount, scopes, held_at)"
    f" VALUES (%s, %s, %s, 'a', 'a:1', %s, 0, 'gpt-4o-mini', 'benchmark', 'held', 1000, %s, '{STAMP}')"
)
ACCOUNTS = "UPDATE bursar_accounts SET held = held + %s, spent = spent + %s WHERE scope = ANY(%s)"
EVENT = f"INSERT INTO bursar_events VALUES (%s, %s, '{STAMP}', 'call_held', '{PAYLOAD}', '{HASH}', '{HASH}')"
SESSION = f"UPDATE bursar_sessions SET sequence = %s, head = '{HASH}' WHERE session_id = %s"
SETTLE = (
    f"UPDATE bursar_calls SET state = 'settled', ended_at = '{STAMP}', cost = 400, response = %s, input_tokens = 120,"
    " output_tokens = 20, cache_read_tokens = 0, cache_write_tokens = 0, reasoning_tokens = 0"
    " WHERE call_id = %s AND state = 'held'"
)


def scopes_of(session: str) -> tuple[str, ...]:
    """Return the scopes of the four accounts of a session's only request; every session has its own tenant."""
    return (f"tenant:{session}:2026-01-01", f"session:{session}", f"request:{session}", f"agent:{session}:a")


def open_sessions(ledger: Ledger, prefix: str) -> list[str]:
    """Open a hundred sessions with one request each, and return their ids, which start with `prefix`."""
    names = [f"{prefix}-{number}" for number in range(SESSIONS)]
    for name in names:
        accounts = [Account(scope, CAP) for scope in scopes_of(name)]
        ledger.run(requests.open_session, name, name, at=AT)
        ledger.run(requests.open_request, name, name, accounts=accounts, text_hash=HASH, at=AT)
    return names


async def all_at_once(names: list[str], operations: int, one: Callable[[str], Any]) -> None:
    """Make `operations` calls by `one(name)`. The sessions run at once; each takes the next call when it is free."""
    left = iter(range(operations))

    async def session(name: str) -> None:
        for _ in left:
            await one(name)

    await asyncio.gather(*(session(name) for name in names))


def gateway(url: str) -> Calls:
    """Return a contender that makes calls through the gateway.

    Raises `AssertionError` if the ledger does not have the first calls, or does not verify.
    """
    ledger, model, numbers = Ledger(url, key=b"benchmark"), meter(DoubledModel()), itertools.count()
    names = open_sessions(ledger, "gateway")

    async def one(name: str) -> None:
        scope = Scope(
            ledger=ledger,
            session_id=name,
            request_id=name,
            agent="a",
            checkpoint_ns="a:1",
            scopes=scopes_of(name),
            new_id=lambda: f"call-{next(numbers)}",
            clock=lambda: AT,
        )
        with scope.enter():
            await model.ainvoke(f"question {next(numbers)}")

    def calls(operations: int) -> None:
        asyncio.run(all_at_once(names, operations, one))

    calls(SESSIONS)
    made = sum(ledger.spend(name).calls for name in names)
    if made != SESSIONS or not ledger.verify():
        raise AssertionError(f"{SESSIONS} calls were made, the ledger says {made}")
    return calls


def driver(url: str) -> Calls:
    """Return a contender that makes the same calls and writes the same rows by psycopg alone."""
    import psycopg

    names, model, numbers = open_sessions(Ledger(url), "driver"), DoubledModel(), itertools.count(1)
    address = make_url(url).render_as_string(hide_password=False)

    def calls(operations: int) -> None:
        async def main() -> None:
            free: asyncio.Queue[Any] = asyncio.Queue()
            for _ in range(DEFAULTS.pool_size):
                free.put_nowait(await psycopg.AsyncConnection.connect(address))

            async def transaction(*statements: tuple[str, tuple[object, ...]]) -> None:
                connection = await free.get()
                try:
                    for sql, values in statements:
                        await connection.execute(sql, values)
                    await connection.commit()
                finally:
                    free.put_nowait(connection)

            async def one(name: str) -> None:
                number, scopes = next(numbers), scopes_of(name)
                call_id = f"driver-{number}"
                await transaction(
                    (INSERT, (call_id, name, name, f"{number:064}", json.dumps(scopes))),
                    (ACCOUNTS, (1000, 0, list(scopes))),
                    (
                        EVENT,
                        (
                            name,
                            2 * number,
                        ),
                    ),
                    (SESSION, (2 * number, name)),
                )
                await model.ainvoke(f"question {number}")
                await transaction(
                    (SETTLE, (ANSWER, call_id)),
                    (ACCOUNTS, (-1000, 400, list(scopes))),
                    (EVENT, (name, 2 * number + 1)),
                    (SESSION, (2 * number + 1, name)),
                )

            await all_at_once(names, operations, one)
            while not free.empty():
                await free.get_nowait().close()

        asyncio.run(main())

    calls(SESSIONS)
    return calls


def run(*, smoke: bool) -> list[Result]:
    """Measure if there is a PostgreSQL server; otherwise return no result."""
    rounds, operations = (1, SESSIONS) if smoke else (9, 5 * SESSIONS)
    with ExitStack() as stack:
        server = stack.enter_context(a_postgres_database())
        other = stack.enter_context(a_postgres_database())
        if server is None or other is None:
            return []
        result = Result(f"a call, {SESSIONS} sessions at once, PostgreSQL")
        contenders = [("gateway", gateway(server)), ("raw driver", driver(other))]
        result.rounds = interleave(contenders, rounds=rounds, operations=operations)
        result.compare("gateway", "raw driver", what="wall", bound=BOUND)
        result.compare("gateway", "raw driver")
        return [result]
