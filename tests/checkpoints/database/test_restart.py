"""PostgreSQL crashes and comes back: what was acknowledged is there, callers hear one clear error, and work goes on."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import Checkpoint, CheckpointMetadata, CheckpointTuple, empty_checkpoint
from langgraph.checkpoint.base.id import uuid6
from sqlalchemy import Connection, text

from bursar import Ledger, SQLAlchemySaver
from bursar.checkpoints.database.database import Database
from bursar.state.errors import DatabaseError
from tests.support import servers

pytestmark = pytest.mark.postgres

WRITERS, CRASHES, STEPS_BETWEEN = 4, 3, 20


@pytest.fixture(scope="module")
def server() -> Iterator[servers.Postgres]:
    """A server of these tests' own."""
    with servers.postgres() as made:
        yield made


def step_of(kept: CheckpointTuple) -> int:
    """Which step stored it."""
    return kept.checkpoint["channel_values"]["step"]


class Writer:
    """Stores one checkpoint with its writes after the other in a session of its own; what it was told, and what not."""

    def __init__(self, saver: SQLAlchemySaver, name: str, ended: threading.Event) -> None:
        self.saver = saver
        self.session: RunnableConfig = {"configurable": {"thread_id": name, "checkpoint_ns": ""}}
        self.at = self.session
        self.ended = ended
        self.done: list[int] = []
        self.errors: list[Exception] = []
        self.progress = threading.Condition()

    def work(self) -> None:
        while not self.ended.is_set():
            checkpoint, metadata, step = self._next()
            try:
                stored = self.saver.put(self.at, checkpoint, metadata, checkpoint["channel_versions"])
                self.saver.put_writes(stored, [("notes", step)], "task")
            except DatabaseError as error:
                self._failed(error)
            else:
                self._stored(stored, step)

    async def awork(self) -> None:
        while not self.ended.is_set():
            checkpoint, metadata, step = self._next()
            try:
                stored = await self.saver.aput(self.at, checkpoint, metadata, checkpoint["channel_versions"])
                await self.saver.aput_writes(stored, [("notes", step)], "task")
            except DatabaseError as error:
                self._failed(error)
                await asyncio.sleep(0)
            else:
                self._stored(stored, step)

    def wait_for(self, more: int) -> None:
        """Until so many more steps were acknowledged."""
        with self.progress:
            goal = len(self.done) + more
            assert self.progress.wait_for(lambda: len(self.done) >= goal, 60), self.errors[-3:]

    def _next(self) -> tuple[Checkpoint, CheckpointMetadata, int]:
        step = len(self.done) + len(self.errors)
        version = self.saver.get_next_version(None if not step else f"{step:032}.0")
        made = empty_checkpoint()
        made["id"] = str(uuid6(clock_seq=step))
        made["channel_values"] = {"step": step}
        made["channel_versions"] = {"step": version}
        return made, {"source": "loop", "step": step, "parents": {}}, step

    def _failed(self, error: DatabaseError) -> None:
        self.errors.append(error)
        self.ended.wait(0.01)  # not to burn the processor while nobody listens

    def _stored(self, stored: RunnableConfig, step: int) -> None:
        self.at = stored
        with self.progress:
            self.done.append(step)
            self.progress.notify_all()


def test_nothing_acknowledged_is_lost_when_the_server_crashes_under_load(server: servers.Postgres) -> None:
    """Threads and tasks of an event loop store checkpoints while it crashes; each of its errors is one clear line."""
    saver = SQLAlchemySaver(server.url)
    ended = threading.Event()
    sync = [Writer(saver, f"thread-{number}", ended) for number in range(WRITERS)]
    tasks = [Writer(saver, f"task-{number}", ended) for number in range(WRITERS)]

    async def all_tasks() -> None:
        await asyncio.gather(*(one.awork() for one in tasks))

    threads = [threading.Thread(target=one.work) for one in sync]
    threads.append(threading.Thread(target=asyncio.run, args=(all_tasks(),)))
    for thread in threads:
        thread.start()
    try:
        for _ in range(CRASHES):
            for one in (*sync, *tasks):
                one.wait_for(STEPS_BETWEEN)
            server.restart()
        for one in (*sync, *tasks):
            one.wait_for(STEPS_BETWEEN)
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    errors = [str(error) for one in (*sync, *tasks) for error in one.errors]
    assert errors
    for told in errors:
        assert told.startswith(f"{server.url}: no connection (")
        assert "\n" not in told
    for one in (*sync, *tasks):
        stored = list(saver.list(one.session))
        found = {step_of(kept): kept.pending_writes for kept in stored}
        assert {step for step in one.done if found.get(step) != [("task", "notes", step)]} == set()
        assert step_of(stored[0]) >= one.done[-1]
    saver.database.close()


def open_all(database: Database) -> None:
    """Have as many pieces of work at once as there are connections."""
    gate = threading.Barrier(database.workers)

    def work(connection: Connection) -> None:
        gate.wait(60)

    threads = [threading.Thread(target=database.run, args=(work,)) for _ in range(database.workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_the_first_work_after_a_restart_is_done(server: servers.Postgres) -> None:
    """Every idle connection is dead then; each is replaced without a word, by each way that work begins."""
    database = Database(f"{server.url}?pool_size=3")
    ways: list[dict[str, Any]] = [{}, {"readonly": True}, {"durable": False}, {"one_statement": True}]
    for way in ways:
        open_all(database)
        server.restart()
        for _ in range(3):
            assert database.run(lambda connection: connection.execute(text("SELECT 1")).scalar(), **way) == 1
    database.close()


def test_a_commit_whose_end_nobody_saw_is_said_to_be_one(server: servers.Postgres) -> None:
    """And is not tried again: only the caller knows whether it may be done twice."""
    database = Database(server.url)
    database.run(lambda connection: connection.execute(text("CREATE TABLE counted (note TEXT)")))
    tries: list[int] = []

    def work(connection: object) -> None:
        tries.append(1)
        server.restart()

    with pytest.raises(DatabaseError, match=r"no connection \(.*\); whether the work was kept is not known$"):
        database.run(work)
    assert len(tries) == 1
    database.close()


def test_a_server_that_is_down_is_said_at_once(server: servers.Postgres) -> None:
    """Ledger and checkpointer: one line each; both work again when it is back."""
    saver, ledger = SQLAlchemySaver(server.url), Ledger(server.url)
    server.stop()
    try:
        for ask in (lambda: saver.get_tuple({"configurable": {"thread_id": "s"}}), ledger.sessions):
            with pytest.raises(DatabaseError, match=r"no connection \(connection failed: .*refused"):
                ask()
    finally:
        server.start()
    assert saver.get_tuple({"configurable": {"thread_id": "s"}}) is None
    assert ledger.sessions() == []
    saver.database.close()
