"""Measures Bursar's checkpointer against LangGraph's: single checkpoints, a graph of 20 steps, long and many sessions.

The durability is equal: every `put` and `put_writes` is on disk when it returns, on both sides. One by one, most of the
time is the disk's, so the saver with fewer commits is faster. The graph of 20 steps also runs with `BareCommits`, a
saver in memory that commits one row in each step: no saver that keeps each step on SQLite can be faster.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import asyncio
import itertools
import operator
import random
import sqlite3
import string
import tempfile
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypedDict

import psycopg
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.channels import DeltaChannel
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    empty_checkpoint,
)
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import _messages_delta_reducer, add_messages  # pyright: ignore[reportPrivateUsage]
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from benchmarks.harness import Contender, Ratio, Result, interleave
from benchmarks.postgres import a_postgres_database
from bursar import SQLAlchemySaver

STEPS = 20
THREADS = 8
SESSIONS = 100
TEXT = "What was spent, on what, and when? " * 14  # half a kilobyte
OURS = {"SQLite": "SQLAlchemySaver, SQLite", "PostgreSQL": "SQLAlchemySaver, PostgreSQL"}
THEIRS = {"SQLite": "SqliteSaver", "PostgreSQL": "PostgresSaver"}
LEAST = "in memory, a bare commit a step"

Saver = BaseCheckpointSaver[Any]
Savers = dict[str, Saver]
_numbers = itertools.count()


class Notes(TypedDict):
    """The state of the graph of 20 steps."""

    notes: Annotated[list[str], operator.add]


class Messages(TypedDict):
    """The state of a conversation."""

    messages: Annotated[list[AnyMessage], add_messages]


reduce_deltas: Any = _messages_delta_reducer  # LangGraph leaves its types partly unknown


class Deltas(TypedDict):
    """The state of a conversation whose messages LangGraph stores as deltas."""

    messages: Annotated[list[AnyMessage], DeltaChannel(reduce_deltas, snapshot_frequency=100)]


def put(saver: Saver, operations: int) -> None:
    """Store `operations` checkpoints in a new session, each with one changed channel and the writes of one task."""
    config: Any = {"configurable": {"thread_id": f"t-{next(_numbers)}", "checkpoint_ns": ""}}
    for number in range(operations):
        checkpoint = empty_checkpoint()
        version = saver.get_next_version(None, None)
        checkpoint["channel_values"] = {"messages": [TEXT]}
        checkpoint["channel_versions"] = {"messages": version}
        config = saver.put(config, checkpoint, {"source": "loop", "step": number}, {"messages": version})
        saver.put_writes(config, [("messages", [TEXT])], f"task-{number}")


def put_in_threads(saver: Saver, operations: int) -> None:
    """Store `operations` checkpoints from 8 threads, each thread in its own session."""
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(partial(put, saver), [operations // THREADS] * THREADS))


def row_of_nodes(saver: Saver, steps: int) -> Any:
    """Return a graph of `steps` nodes in a row, compiled with `saver`."""
    graph = StateGraph(Notes)
    names = [f"step_{number}" for number in range(steps)]
    for name in names:
        graph.add_node(name, lambda state: {"notes": [TEXT]})
    for before, after in itertools.pairwise((START, *names, END)):
        graph.add_edge(before, after)
    return graph.compile(checkpointer=saver)


def steps(saver: Saver) -> Contender:
    """Return a contender that runs a graph of 20 nodes in a row, each time in a new session."""
    app = row_of_nodes(saver, STEPS)

    def runs(operations: int) -> None:
        for _ in range(operations):
            config: Any = {"configurable": {"thread_id": f"g-{next(_numbers)}"}}
            state = app.invoke({"notes": []}, config, durability="sync")
            if len(state["notes"]) != STEPS:
                raise AssertionError(f"{len(state['notes'])} of {STEPS} steps are in the state")

    return runs


class BareCommits(InMemorySaver):
    """LangGraph's in-memory saver that, for each checkpoint, also commits one row by SQLite's driver."""

    def __init__(self, path: str, stack: ExitStack) -> None:
        super().__init__()
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._commits = stack.enter_context(closing(connection))
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("CREATE TABLE bare (row TEXT)")

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Commit a row, then store the checkpoint in memory and return its config."""
        self._commits.execute("INSERT INTO bare VALUES (?)", (TEXT,))  # in autocommit mode, so this commits
        return super().put(config, checkpoint, metadata, new_versions)


def words(draw: random.Random, size: int = 600) -> str:
    """Return at least `size` characters of random words, which compression cannot make much smaller."""
    made = ""
    while len(made) < size:
        made += "".join(draw.choices(string.ascii_lowercase, k=draw.randint(3, 9))) + " "
    return made


def converse(saver: Saver, turns: int, state: type = Messages) -> None:
    """Run the session `long` with `turns` questions and answers. Raises `AssertionError` if messages are lost."""
    draw = random.Random(7)
    graph = StateGraph(state)
    graph.add_node("answer", lambda state: {"messages": [AIMessage(words(draw))]})
    graph.add_edge(START, "answer")
    graph.add_edge("answer", END)
    app: Any = graph.compile(checkpointer=saver)
    config: Any = {"configurable": {"thread_id": "long"}}
    for _ in range(turns):
        app.invoke({"messages": [HumanMessage(words(draw))]}, config, durability="sync")
    if len(app.get_state(config).values["messages"]) != 2 * turns:
        raise AssertionError("messages were lost")


def read(saver: Saver) -> Contender:
    """Return a contender that reads the latest checkpoint of the session `long`."""

    def reads(operations: int) -> None:
        for _ in range(operations):
            if saver.get_tuple({"configurable": {"thread_id": "long", "checkpoint_ns": ""}}) is None:
                raise AssertionError("the session is gone")

    return reads


@contextmanager
def all_savers() -> Generator[Savers]:
    """Yield the savers by name: on SQLite, in memory, and on PostgreSQL if there is a server."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        made: Savers = {
            OURS["SQLite"]: SQLAlchemySaver(f"sqlite:///{folder}/saver.db"),
            "InMemorySaver": InMemorySaver(),
            THEIRS["SQLite"]: stack.enter_context(SqliteSaver.from_conn_string(f"{folder}/peer.db")),
        }
        one, other = (stack.enter_context(a_postgres_database()) for _ in range(2))
        if one and other:
            made[OURS["PostgreSQL"]] = SQLAlchemySaver(one)
            options = {"autocommit": True}
            pool = stack.enter_context(ConnectionPool(other, min_size=THREADS, max_size=THREADS, kwargs=options))
            peer = made[THEIRS["PostgreSQL"]] = PostgresSaver(pool)  # pyright: ignore[reportArgumentType]
            peer.setup()
        yield made


def measure(title: str, savers: Savers, what: Callable[[Saver], Contender], *, rounds: int, operations: int) -> Result:
    """Measure the contender `what(saver)` for each saver, in turns, and return the result without ratios."""
    result = Result(title)
    contenders = [(name, what(saver)) for name, saver in savers.items()]
    result.rounds = interleave(contenders, rounds=rounds, operations=operations)
    return result


def compare(result: Result, savers: Savers, bound: float | None) -> Result:
    """Add to `result`, for each database, the ratios of Bursar's saver to LangGraph's; return `result`.

    `bound` is for wall time.
    """
    for database, ours in OURS.items():
        if ours in savers:
            result.compare(ours, THEIRS[database])
            result.compare(ours, THEIRS[database], what="wall", bound=bound)
    return result


def many_sessions(url: str, other: str, *, rounds: int, steps: int) -> Result:
    """Measure a hundred sessions at once on PostgreSQL, each of which runs a graph of `steps` nodes.

    Bursar's saver uses the database `url`, LangGraph's the database `other`.
    """

    async def run_all(saver: Saver) -> None:
        app = row_of_nodes(saver, steps)
        names = [f"c-{next(_numbers)}" for _ in range(SESSIONS)]
        runs = (app.ainvoke({"notes": []}, {"configurable": {"thread_id": n}}, durability="sync") for n in names)
        if any(len(state["notes"]) != steps for state in await asyncio.gather(*runs)):
            raise AssertionError("steps were lost")

    def ours(_: int) -> None:
        asyncio.run(run_all(SQLAlchemySaver(url)))

    async def with_a_pool() -> None:
        pool = AsyncConnectionPool(other, min_size=THREADS, max_size=THREADS, open=False, kwargs={"autocommit": True})
        async with pool:
            saver = AsyncPostgresSaver(pool)  # pyright: ignore[reportArgumentType]
            await saver.setup()
            await run_all(saver)

    def theirs(_: int) -> None:
        asyncio.run(with_a_pool())

    result = Result(f"saver, {SESSIONS} sessions of {steps} steps at once, PostgreSQL")
    result.rounds = interleave(
        [(OURS["PostgreSQL"], ours), ("AsyncPostgresSaver", theirs)], rounds=rounds, operations=1
    )
    result.compare(OURS["PostgreSQL"], "AsyncPostgresSaver")
    result.compare(OURS["PostgreSQL"], "AsyncPostgresSaver", what="wall", bound=0.5)
    return result


def room(turns: int) -> Result:
    """Measure how many bytes one session takes on disk, with indexes and the write-ahead log."""
    result = Result(f"saver, bytes on disk of a session of {turns} turns")
    for state, how, bound in ((Messages, "add_messages", 0.05), (Deltas, "DeltaChannel", 1.0)):
        with tempfile.TemporaryDirectory() as folder, SqliteSaver.from_conn_string(f"{folder}/theirs.db") as theirs:
            ours = SQLAlchemySaver(f"sqlite:///{folder}/ours.db")
            for saver in (ours, theirs):
                converse(saver, turns, state)
            ours.database.close()
            sizes = [sum(file.stat().st_size for file in Path(folder).glob(f"{of}.db*")) for of in ("ours", "theirs")]
        _say(result, "SQLite", how, (sizes[0], sizes[1]), bound)
        with a_postgres_database() as one, a_postgres_database() as other:
            if not one or not other:
                continue
            with PostgresSaver.from_conn_string(other) as theirs:
                theirs.setup()
                for saver in (SQLAlchemySaver(one), theirs):
                    converse(saver, turns, state)
            _say(result, "PostgreSQL", how, (_tables(one), _tables(other)), bound)
    return result


def _tables(url: str) -> int:
    tables = "FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    with psycopg.connect(url) as connection:
        found = connection.execute(f"SELECT sum(pg_total_relation_size(oid)) {tables}".encode()).fetchone()
    return int(found[0]) if found else 0


def _say(result: Result, database: str, how: str, sizes: tuple[int, int], bound: float) -> None:
    ratio = sizes[0] / sizes[1]
    result.ratios.append(Ratio(OURS[database], THEIRS[database], f"bytes, {how}", ratio, ratio, ratio, bound))
    result.notes.append(f"{database}, {how}: {sizes[0]:,} bytes against {sizes[1]:,}")


def run(*, smoke: bool) -> list[Result]:
    """Measure every saver on SQLite, in memory and, if there is a server, on PostgreSQL."""
    rounds, puts, runs, turns = (1, 8, 1, 12) if smoke else (10, 160, 10, 500)
    with all_savers() as savers, ExitStack() as stack:
        least = BareCommits(f"{stack.enter_context(tempfile.TemporaryDirectory())}/least.db", stack)
        long = {name: saver for name, saver in savers.items() if name != "InMemorySaver"}
        kinds: tuple[tuple[str, Savers, Callable[[Saver], Contender], int], ...] = (
            ("saver, put and put_writes, one by one", savers, lambda saver: partial(put, saver), puts),
            (
                f"saver, put and put_writes, {THREADS} sessions at once",
                long,
                lambda saver: partial(put_in_threads, saver),
                puts * 2,
            ),
            (f"saver, a graph of {STEPS} steps, sync durability", savers | {LEAST: least}, steps, runs),
        )
        results = [measure(title, of, what, rounds=rounds, operations=count) for title, of, what, count in kinds]
        for saver in long.values():
            converse(saver, turns)
        results.append(
            measure(f"saver, the latest checkpoint of {turns} turns", long, read, rounds=rounds, operations=runs)
        )
        for result, bound in zip(results, (None, 1 / 1.5, 0.7, 1.0), strict=True):
            compare(result, savers, bound)
        results[2].compare(LEAST, THEIRS["SQLite"], what="wall")
    with a_postgres_database() as one, a_postgres_database() as other:
        if one and other:
            results.append(many_sessions(one, other, rounds=min(rounds, 5), steps=2 if smoke else 5))
    return [*results, room(turns)]
