"""Measures what a run costs beside its handler: the specialist's node against a bare node, with and without commits.

The bare node awaits the same handler and returns its report. Another contender makes only the run's commits: of its
start, if the run may pay, and of its end. The last contender has nothing of Bursar: as many commits of a row and a log
entry by SQLite's driver, and a coroutine on another thread's event loop. A run needs such a loop, so that a handler
that blocks its own loop does not keep the caller from its deadline.
"""

import asyncio
import itertools
import sqlite3
import statistics
import tempfile
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

from benchmarks.harness import Ratio, Result, interleave
from bursar import Budget, Ledger, Outcome, Report, Specialist, Task, build_supervisor, deterministic
from bursar.checkpoints.ledger import postings, requests
from bursar.checkpoints.ledger.accounts import Account, charged
from bursar.checkpoints.ledger.admission_facts import RunLocation, read_admission_facts
from bursar.checkpoints.ledger.transaction import Transaction
from bursar.graphs.supervisor import coordinator_of
from bursar.nodes.context.coordinator import Coordinator
from bursar.nodes.isolation.sync_bridge import AsyncNode
from bursar.nodes.specialist_node import run_agent
from bursar.state.events import RunEnded, RunStarted
from bursar.state.money import ZERO
from bursar.state.session import Plan, Request, Step
from bursar.state.spend import Spend

BOUND_MILLISECONDS = 0.3
AT = datetime(2026, 1, 1, tzinfo=UTC)
CONFIG: Any = {"configurable": {"thread_id": "s"}, "metadata": {"langgraph_checkpoint_ns": "a:1"}}


async def answer(task: Task) -> Report:
    """Return a report at once, as a handler that may pay."""
    return Report(answer="done")


@deterministic
async def tool(task: Task) -> Report:
    """Return a report at once, as an async handler that may not pay."""
    return Report(answer="done")


@deterministic
def blocking(task: Task) -> Report:
    """Return a report at once, as a sync handler that may not pay."""
    return Report(answer="done")


HANDLERS = {"specialist": answer, "tool_agent": tool, "plain_function": blocking}
PAYING = ("specialist",)
LEAST = "asyncio's way and SQLite's commits"
BARE_TABLES = """
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = NORMAL;
    PRAGMA wal_autocheckpoint = 0;
    DROP TABLE IF EXISTS ends;
    DROP TABLE IF EXISTS log;
    CREATE TABLE ends (id INTEGER PRIMARY KEY, number INTEGER);
    INSERT INTO ends VALUES (1, 0);
    CREATE TABLE log (number INTEGER PRIMARY KEY, hash TEXT, payload TEXT);
"""


def _coordinator(url: str) -> Coordinator:
    specialists = [
        Specialist(name=name, description=name, handler=handler, fallbacks=[tool]) for name, handler in HANDLERS.items()
    ]
    ledger = Ledger(url, key=b"benchmark")
    run = ledger.run
    run(requests.open_session, "s", "t", at=AT)
    run(requests.open_request, "s", "r", accounts=[Account("request:r", 10**9)], text_hash="0" * 64, at=AT)
    return coordinator_of(build_supervisor(specialists, budget=Budget("1"), ledger=ledger))


def _state() -> Any:
    request = Request(id="r", session_id="s", tenant="t", text="go", opened_at=AT, budget=Budget("1").per_request)
    plan = Plan(steps=tuple(Step(name=name, specialist=name, allowance=ZERO, expects=ZERO) for name in HANDLERS))
    return {"request": request, "plan": plan, "runs": [], "decisions": [], "messages": [], "spend": Spend()}


def _repeat(one: Callable[[], Any]) -> Callable[[int], None]:
    async def many(operations: int) -> None:
        for _ in range(operations):
            await one()

    return lambda operations: asyncio.run(many(operations))


def _task(name: str) -> Task:
    return Task(text="go", specialist=name, session_id="s", request_id="r", tenant="t", now=AT)


def _bare(name: str) -> Callable[[int], None]:
    task = _task(name)

    async def body(state: Any, config: Any) -> Any:
        handler: Any = HANDLERS[name]
        return {"runs": [await handler(task) if name != "plain_function" else await asyncio.to_thread(handler, task)]}

    return _repeat(partial(AsyncNode(name, body).ainvoke, _state(), CONFIG))


def _wrapped(coordinator: Coordinator, name: str) -> Callable[[int], None]:
    node, state = AsyncNode[Any](name, partial(run_agent, coordinator, coordinator.chains[name], 0)), _state()
    places = itertools.count()

    async def one() -> None:
        config: Any = {**CONFIG, "metadata": {"langgraph_checkpoint_ns": f"{name}:{next(places)}"}}
        update = await node.ainvoke(state, config)
        if update["runs"][0].outcome != "completed":
            raise AssertionError(update["runs"][0].reason)

    return _repeat(one)


def _commits(coordinator: Coordinator, name: str) -> Callable[[int], None]:
    """Return a contender that makes only the transactions of a run of `name`, as `run_agent` submits them."""
    ledger, database = coordinator.ledger, coordinator.database
    pays = name in PAYING
    pauses = ("all", "tenant:t", f"agent:{name}")
    who: dict[str, Any] = {"request_id": "r", "specialist": name, "handler": name, "level": 0}

    def begin(transaction: Transaction) -> None:
        read_admission_facts(
            transaction, (), pauses=pauses, breakers=(), at=AT, place=RunLocation("s", "r", name, "a:2")
        )
        postings.record(transaction, "s", RunStarted(**who), at=AT)

    def end(transaction: Transaction) -> None:
        if pays:
            charged(transaction, f"agent:r:{name}")
        ended = RunEnded(**who, outcome=Outcome.COMPLETED, reason="", cost=ZERO, milliseconds=1)
        postings.record(transaction, "s", ended, at=AT)

    async def one() -> None:
        if pays:
            await database.arun(ledger.bind(begin), durable=False, brief=True)
        await database.arun(ledger.bind(end), durable=False, brief=True)

    return _repeat(one)


def _least(connection: sqlite3.Connection, other: asyncio.AbstractEventLoop, name: str) -> Callable[[int], None]:
    """Return a contender without Bursar: as many commits, and the handler on the event loop `other`.

    The commits do not wait for the disk, like the commits of a run.
    """
    task, numbers = _task(name), itertools.count()
    connection.executescript(BARE_TABLES)

    def commit() -> None:
        number = next(numbers)
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE ends SET number = ?", (number,))
        connection.execute("INSERT INTO log VALUES (?, ?, ?)", (number, "h" * 64, "p" * 300))
        connection.execute("COMMIT")

    async def one() -> None:
        if name in PAYING:
            commit()
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(answer(task), other))
        commit()

    return _repeat(one)


def run(*, smoke: bool) -> list[Result]:
    """Measure each kind of handler, and return a result for each."""
    rounds, operations = (2, 20) if smoke else (15, 400)
    results: list[Result] = []
    other = asyncio.new_event_loop()
    thread = threading.Thread(target=other.run_forever)
    thread.start()
    with tempfile.TemporaryDirectory() as folder:
        coordinator = _coordinator(f"sqlite:///{folder}/books.db")
        bare = sqlite3.connect(f"{folder}/bare.db", isolation_level=None)
        for name in HANDLERS:
            result = Result(f"A run of a {name.replace('_', ' ')}, against a bare node")
            contenders = [
                ("bare node", _bare(name)),
                ("its run", _wrapped(coordinator, name)),
                ("its commits alone", _commits(coordinator, name)),
                (LEAST, _least(bare, other, name)),
            ]
            result.rounds = interleave(contenders, rounds=rounds, operations=operations)
            result.compare("its run", "bare node")
            result.compare("its run", LEAST)
            _beside(result)
            results.append(result)
        bare.close()
        coordinator.database.close()
    other.call_soon_threadsafe(other.stop)
    thread.join()
    other.close()
    return results


def _beside(result: Result) -> None:
    """Add to `result` the time that the run adds to the bare node, as ratios to `BOUND_MILLISECONDS`.

    The ratios are of the whole run, of the run without its commits, and of the contender without Bursar.
    """
    bare, whole, commits, least = (one.cpu for one in result.rounds)
    for what, added in (
        ("added", [a - b for a, b in zip(whole, bare, strict=True)]),
        ("added without commits", [a - b - c for a, b, c in zip(whole, bare, commits, strict=True)]),
        (LEAST, [a - b for a, b in zip(least, bare, strict=True)]),
    ):
        shares = sorted(one / 1_000 / BOUND_MILLISECONDS for one in added)
        low, _, high = statistics.quantiles(shares, n=4)
        bound = 1.0 if what == "added" else None
        result.ratios.append(
            Ratio(what, f"{BOUND_MILLISECONDS} ms", "cpu", statistics.median(shares), low, high, bound)
        )
