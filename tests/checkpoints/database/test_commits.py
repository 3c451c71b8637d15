"""Commits that wait for no disk, and brief work on the event loop: what they promise, and what they never wait for."""

import asyncio
import sqlite3
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from sqlalchemy import Connection, text

from bursar.checkpoints.database.connections import MOVE_EVERY
from bursar.checkpoints.database.database import Database
from bursar.checkpoints.database.loop_commits import WATCHER

NOTE = text("INSERT INTO notes (note) VALUES ('kept')")
PROMPT = {"durable": False, "brief": True}

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """The event loop that LangGraph runs on."""
    return "asyncio"


@pytest.fixture
def lite(tmp_path: Path) -> Iterator[Database]:
    """An SQLite file with one table of notes."""
    made = Database(f"sqlite:///{tmp_path}/x.db")
    made.run(lambda connection: connection.execute(text("CREATE TABLE notes (note TEXT)")))
    yield made
    made.close()


def where(connection: Connection) -> tuple[int, object, object]:
    """The thread that works, and how SQLite is told to commit and to move its log."""
    connection.execute(NOTE)
    level, pages = (
        connection.execute(text(f"PRAGMA {name}")).scalar() for name in ("synchronous", "wal_autocheckpoint")
    )
    return threading.get_ident(), level, pages


def test_a_commit_waits_for_the_disk_unless_it_need_not(lite: Database) -> None:
    """Durable work is committed under FULL, other work under NORMAL, whatever came before it."""
    levels = [lite.run(where, durable=durable)[1:] for durable in (True, False, True, False)]
    assert levels == [(2, 0), (1, 0), (2, 0), (1, 0)]


def test_one_durable_commit_in_many_moves_the_log(lite: Database) -> None:
    """The others wait for less; one that is not durable never moves it."""
    found = [lite.run(where, durable=durable)[2] for _ in range(2 * MOVE_EVERY) for durable in (True, False)]
    assert found[1::2] == [0] * (2 * MOVE_EVERY)
    assert found[::2].count(1000) == 2


def test_the_log_does_not_grow_for_ever(lite: Database, tmp_path: Path) -> None:
    """It holds what is to be moved, and what `MOVE_EVERY` commits add to that."""
    pages = 16
    fill = text(f"INSERT INTO notes (note) VALUES (zeroblob({pages * 4096}))")
    for _ in range(10 * MOVE_EVERY):
        lite.run(lambda connection: connection.execute(fill))
    assert (tmp_path / "x.db-wal").stat().st_size < (1000 + 2 * MOVE_EVERY * pages) * 4200


def test_the_log_does_not_grow_with_programs_that_soon_end(lite: Database, tmp_path: Path) -> None:
    """Each looks after it once, also where none commits `MOVE_EVERY` times and another program keeps the file open."""
    fill = text(f"INSERT INTO notes (note) VALUES (zeroblob({250 * 4096}))")
    for _ in range(20):
        brief = Database(lite.url)
        for _ in range(2):
            brief.run(lambda connection: connection.execute(fill))
        brief.close()
    assert (tmp_path / "x.db-wal").stat().st_size < (1000 + 4 * 250) * 4200


async def test_in_a_group_one_durable_commit_is_durable_for_all(lite: Database) -> None:
    """Work that shares a transaction shares its commit, the strongest that any of it asked for."""
    gate = threading.Event()
    first = asyncio.ensure_future(lite.arun(lambda connection: gate.wait()))
    await asyncio.sleep(0)
    group = [asyncio.ensure_future(lite.arun(where, durable=durable)) for durable in (False, True, False)]
    await asyncio.sleep(0)
    gate.set()
    await first
    assert {level for _, level, _ in await asyncio.gather(*group)} == {2}


async def test_brief_work_is_done_on_the_loop_only_where_it_need_not_wait(lite: Database) -> None:
    """Not durable, or only read: at once, in this thread. Durable: a worker waits for the disk."""
    here = threading.get_ident()
    assert (await lite.arun(where, **PROMPT))[0] == here
    assert (await lite.arun(where, brief=True))[0] != here
    assert (await lite.arun(where, durable=False))[0] != here
    assert await lite.arun(lambda _: threading.get_ident(), readonly=True, brief=True) == here
    assert await asyncio.to_thread(lite.run, lambda c: c.execute(text("SELECT count(*) FROM notes")).scalar()) == 3


async def test_brief_work_does_not_hold_up_the_loop_for_a_lock(lite: Database, tmp_path: Path) -> None:
    """While another process has the write lock, a worker waits for it and the loop goes on: here, to free the lock."""
    other = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    waiting = asyncio.ensure_future(lite.arun(where, **PROMPT))
    await asyncio.sleep(0)
    assert not waiting.done()
    other.execute("COMMIT")
    other.close()
    assert (await waiting)[0] != threading.get_ident()


async def test_brief_work_does_not_hold_up_the_loop_for_another_thread(lite: Database) -> None:
    """While a thread of this process has the connection, the loop goes on: here, to let the thread end."""
    inside, leave = threading.Event(), threading.Event()

    def slow(_: Connection) -> None:
        inside.set()
        leave.wait()

    thread = asyncio.ensure_future(asyncio.to_thread(lite.run, slow))
    await asyncio.to_thread(inside.wait)
    waiting = asyncio.ensure_future(lite.arun(where, **PROMPT))
    await asyncio.sleep(0)
    assert not waiting.done()
    leave.set()
    await thread
    assert (await waiting)[0] != threading.get_ident()


async def test_brief_work_that_raises_is_undone(lite: Database) -> None:
    """Nothing of it is kept, and the next piece of work has a connection."""

    def fail(connection: Connection) -> None:
        connection.execute(NOTE)
        raise LookupError("no")

    with pytest.raises(LookupError):
        await lite.arun(fail, **PROMPT)
    assert await lite.arun(lambda c: c.execute(text("SELECT count(*) FROM notes")).scalar(), readonly=True) == 0


async def test_a_server_that_forbids_work_on_its_loop_is_obeyed(
    lite: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the watcher of blocking calls is loaded, brief work goes to a worker too."""
    monkeypatch.setitem(sys.modules, WATCHER, ModuleType(WATCHER))
    assert (await lite.arun(where, **PROMPT))[0] != threading.get_ident()


def test_postgres_waits_for_the_disk_again_in_the_next_transaction(postgres: str) -> None:
    """The setting ends with its transaction."""
    database = Database(f"{postgres}?pool_size=1")
    show = text("SHOW synchronous_commit")
    shown = [database.run(lambda c: c.execute(show).scalar(), durable=durable) for durable in (True, False, True)]
    database.close()
    assert shown == ["on", "off", "on"]
