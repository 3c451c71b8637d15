"""What a run costs beside its handler: the specialist's node against a bare one, with and without its commits.

The bare node awaits the same handler and returns its report. The commits are those of the run, booked by themselves:
its beginning, where it may pay, and its end. Commits and way are what no run gets below that is kept in the books, and
whose handler cannot hold up the others: its commits, and the way to where handlers run and back.
"""

import asyncio
import itertools
import statistics
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection

from benchmarks.harness import Ratio, Result, interleave
from bursar import Budget, Ledger, Outcome, Report, Specialist, Task, build_supervisor, deterministic
from bursar.checkpoints.books.accounts import Account
from bursar.checkpoints.standing import Place, standing
from bursar.graphs.supervisor import coordinator_of
from bursar.nodes.agents import run_agent
from bursar.nodes.coordinator import Coordinator
from bursar.nodes.edge import Node
from bursar.nodes.handlers import call
from bursar.state.events import RunEnded, RunStarted
from bursar.state.money import ZERO
from bursar.state.session import Plan, Request, Step
from bursar.state.spend import Spend

BOUND_MILLISECONDS = 0.3
AT = datetime(2026, 1, 1, tzinfo=UTC)
CONFIG: Any = {"configurable": {"thread_id": "s"}, "metadata": {"langgraph_checkpoint_ns": "a:1"}}


async def answer(task: Task) -> Report:
    """A handler that does nothing."""
    return Report(answer="done")


@deterministic
async def tool(task: Task) -> Report:
    """A handler that does nothing and may pay nothing."""
    return Report(answer="done")


@deterministic
def blocking(task: Task) -> Report:
    """A plain function that does nothing."""
    return Report(answer="done")


HANDLERS = {"specialist": answer, "tool_agent": tool, "plain_function": blocking}


def _coordinator(url: str) -> Coordinator:
    specialists = [
        Specialist(name=name, description=name, handler=handler, fallbacks=[tool]) for name, handler in HANDLERS.items()
    ]
    ledger = Ledger(url, key=b"benchmark")
    books, run = ledger.books, ledger.database.run
    run(books.open_session("s", "t", at=AT))
    run(books.open_request("s", "r", accounts=[Account("request:r", 10**9)], text_hash="0" * 64, at=AT))
    return coordinator_of(build_supervisor(specialists, budget=Budget("1"), ledger=ledger))


def _state() -> Any:
    request = Request(id="r", session_id="s", tenant="t", text="go", opened_at=AT, budget=Budget("1").per_request)
    plan = Plan(steps=tuple(Step(name=name, grant=ZERO) for name in HANDLERS))
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

    return _repeat(partial(Node(name, body).ainvoke, _state(), CONFIG))


def _wrapped(coordinator: Coordinator, name: str) -> Callable[[int], None]:
    node, state = Node[Any](name, partial(run_agent, coordinator, coordinator.chains[name], 0)), _state()
    places = itertools.count()

    async def one() -> None:
        config: Any = {**CONFIG, "metadata": {"langgraph_checkpoint_ns": f"{name}:{next(places)}"}}
        update = await node.ainvoke(state, config)
        if update["runs"][0].outcome != "completed":
            raise AssertionError(update["runs"][0].reason)

    return _repeat(one)


def _commits(coordinator: Coordinator, name: str, *, way: bool) -> Callable[[int], None]:
    """The run's transactions, as `run_agent` submits them, and its handler where it runs, if the `way` is wanted."""
    books, database = coordinator.books, coordinator.database
    pays = name == "specialist"
    pauses = ("all", "tenant:t", f"agent:{name}")
    who: dict[str, Any] = {"request_id": "r", "specialist": name, "handler": name, "level": 0}

    def begin(connection: Connection) -> None:
        standing(connection, (), pauses=pauses, breakers=(), at=AT, place=Place("s", "r", name, "a:2"))
        books.record("s", RunStarted(**who), at=AT)(connection)

    def end(connection: Connection) -> None:
        if pays:
            books.cost_of_agent("r", name)(connection)
        ended = RunEnded(**who, outcome=Outcome.COMPLETED, reason="", cost=ZERO, milliseconds=1)
        books.record("s", ended, at=AT)(connection)

    async def one() -> None:
        if pays:
            await database.arun(begin, durable=False, brief=True)
        if way:
            await call(coordinator.chains[name].links[0], _task(name), seconds=30, keep=lambda _: None)
        await database.arun(end, durable=False, brief=True)

    return _repeat(one)


def run(*, smoke: bool) -> list[Result]:
    """One result for each kind of handler."""
    rounds, operations = (2, 20) if smoke else (15, 400)
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as folder:
        coordinator = _coordinator(f"sqlite:///{folder}/books.db")
        for name in HANDLERS:
            result = Result(f"A run of a {name.replace('_', ' ')}, against a bare node")
            contenders = [
                ("bare node", _bare(name)),
                ("its run", _wrapped(coordinator, name)),
                ("its commits alone", _commits(coordinator, name, way=False)),
                ("its commits and its way", _commits(coordinator, name, way=True)),
            ]
            result.rounds = interleave(contenders, rounds=rounds, operations=operations)
            result.compare("its run", "bare node")
            _beside(result)
            results.append(result)
        coordinator.database.close()
    return results


def _beside(result: Result) -> None:
    """What the run adds to the node, with and without the commits, as a share of the bound; and the least it can."""
    bare, whole, commits, least = (one.cpu for one in result.rounds)
    for what, added in (
        ("added", [a - b for a, b in zip(whole, bare, strict=True)]),
        ("added without commits", [a - b - c for a, b, c in zip(whole, bare, commits, strict=True)]),
        ("commits and way", [a - b for a, b in zip(least, bare, strict=True)]),
    ):
        shares = sorted(one / 1_000 / BOUND_MILLISECONDS for one in added)
        low, _, high = statistics.quantiles(shares, n=4)
        bound = 1.0 if what == "added" else None
        result.ratios.append(
            Ratio(what, f"{BOUND_MILLISECONDS} ms", "cpu", statistics.median(shares), low, high, bound)
        )
