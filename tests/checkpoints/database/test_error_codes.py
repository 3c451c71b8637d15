"""The disk is full, the database is read-only or locked: one clear error, nothing half done, then work goes on."""

import os
import re
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import psycopg
import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.base.id import uuid6

from bursar import Ledger, SQLAlchemySaver
from bursar.checkpoints.database.database import Database
from bursar.state.errors import DatabaseError
from tests.support import servers

SESSION: RunnableConfig = {"configurable": {"thread_id": "s-1", "checkpoint_ns": ""}}
FILLING = 100_000  # random bytes of a step
PROMPT_SECONDS = 20  # far more than any time-out of these tests, and far less than for ever


class Steps:
    """Stores one checkpoint with a write after the other, and tells whether what was acknowledged is what is there."""

    def __init__(self, saver: SQLAlchemySaver) -> None:
        self.saver = saver
        self.at = SESSION
        self.done = 0

    def one(self, size: int = 0) -> None:
        """Store one more, with so many random bytes in it."""
        step = self.done + 1
        made = empty_checkpoint()
        version = self.saver.get_next_version(f"{self.done:032}.0")
        made.update(id=str(uuid6(clock_seq=step)), channel_values={"step": step, "filling": os.urandom(size)})
        made["channel_versions"] = {"step": version, "filling": version}
        at = self.saver.put(self.at, made, {"source": "loop", "step": step, "parents": {}}, made["channel_versions"])
        self.at, self.done = at, step
        self.saver.put_writes(at, [("notes", step)], "task")

    def refused(self, message: str) -> None:
        """The next one is, in one line, soon; what was there can be read as before, and nothing else is there."""
        before = [(kept.config, kept.checkpoint, kept.pending_writes) for kept in self.saver.list(SESSION)]
        began = time.monotonic()
        with pytest.raises(DatabaseError, match=message) as told:
            self.one(FILLING)
        assert time.monotonic() - began < PROMPT_SECONDS
        where = self.saver.database.url.render_as_string(hide_password=True)
        assert str(told.value).startswith(f"{where}: ")
        assert "\n" not in str(told.value)
        assert [(kept.config, kept.checkpoint, kept.pending_writes) for kept in self.saver.list(SESSION)] == before

    def goes_on(self) -> None:
        """The next one is stored, and every one before it is there."""
        self.one()
        kept = [found.checkpoint["channel_values"]["step"] for found in self.saver.list(SESSION)]
        assert kept == list(range(self.done, 0, -1))

    def fill(self, message: str) -> None:
        """Store until there is no room."""

        def steps() -> None:
            for _ in range(1000):
                self.one(FILLING)

        with pytest.raises(DatabaseError, match=message):
            steps()
        assert self.done


@contextmanager
def small_disk() -> Generator[Path]:
    """A disk of 12 MB, of which a file `spare` takes 8; skipped where none can be mounted."""
    with servers.folder() as made:
        options = "size=12m,mode=0777"
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(made)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            pytest.skip("no mount: a small disk cannot be made here")
        if done.returncode:
            pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
        try:
            (made / "spare").write_bytes(bytes(8_000_000))
            yield made
        finally:
            subprocess.run(["umount", "--lazy", str(made)], check=True)


@pytest.mark.slow
def test_a_full_disk_under_sqlite() -> None:
    """A real one; once there is room again the same saver goes on."""
    with small_disk() as disk:
        steps = Steps(SQLAlchemySaver(f"sqlite:///{disk}/x.db"))
        steps.one()
        full = r"the disk is full; free some space|the disk failed \(.*\); check it, and that it is not full"
        steps.fill(full)
        (disk / "spare").unlink()
        steps.goes_on()
        steps.saver.database.close()


def test_no_page_left_under_sqlite(tmp_path: Path) -> None:
    """The same where no disk can be mounted: SQLite may have no more pages."""
    steps = Steps(SQLAlchemySaver(f"sqlite:///{tmp_path}/x.db"))
    steps.one()

    def limit(pages: int) -> None:
        steps.saver.database.run(lambda connection: connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}"))

    limit(200)
    steps.fill("the disk is full; free some space, nothing was written")
    steps.refused("the disk is full")
    limit(10_000)
    steps.goes_on()
    assert (
        SQLAlchemySaver(steps.saver.database).database.run(
            lambda connection: connection.exec_driver_sql("PRAGMA integrity_check").scalar()
        )
        == "ok"
    )
    steps.saver.database.close()


@pytest.mark.slow
@pytest.mark.postgres
def test_a_full_disk_under_postgres() -> None:
    """A real one, for the tables; the server stays up, and once there is room again the same saver goes on."""
    with small_disk() as disk, servers.postgres() as server:
        space = disk / "space"
        space.mkdir()
        os.chown(space, *_owner_of(server.folder))
        server.execute(f"CREATE TABLESPACE small LOCATION '{space}'")
        server.execute("ALTER ROLE postgres SET default_tablespace = small")
        steps = Steps(SQLAlchemySaver(server.url))
        steps.one()
        steps.fill(r"the server's disk is full \(.*\); free some space there, nothing was written")
        (disk / "spare").unlink()
        steps.goes_on()
        steps.saver.database.close()


def _owner_of(folder: Path) -> tuple[int, int]:
    found = folder.stat()
    return found.st_uid, found.st_gid


def test_a_read_only_file_under_sqlite(tmp_path: Path) -> None:
    """It can be read; what would change it is refused, by checkpointer and ledger."""
    url = f"sqlite:///{tmp_path}/x.db"
    steps = Steps(SQLAlchemySaver(url))
    steps.one()
    reading = Steps(SQLAlchemySaver(f"sqlite:///file:{tmp_path}/x.db?mode=ro&uri=true"))
    reading.refused("read-only; make the file and its folder writable")
    ledger = Ledger(reading.saver.database)
    assert ledger.sessions() == []
    with pytest.raises(DatabaseError, match="read-only"):
        ledger.pause()
    reading.saver.database.close()
    steps.goes_on()
    steps.saver.database.close()


@pytest.mark.postgres
def test_a_read_only_server(new_postgres: Callable[[], AbstractContextManager[str]]) -> None:
    """As a standby, or one that its keeper has closed: it can be read; once it may be written, work goes on."""
    with new_postgres() as url:
        steps = Steps(SQLAlchemySaver(url))
        steps.one()
        name = steps.saver.database.url.database
        for closed in ("on", "off"):
            with psycopg.connect(
                f"{url.replace('+psycopg', '')}?options=-cdefault_transaction_read_only%3Doff"
            ) as admin:
                admin.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = {closed}'.encode())
            steps.saver.database.close()  # the setting is for new connections
            if closed == "on":
                steps.refused(
                    r"read-only \(.*\); connect to the primary server, or lift default_transaction_read_only$"
                )
                with pytest.raises(DatabaseError, match="read-only"):
                    Ledger(steps.saver.database).pause()
        steps.goes_on()
        steps.saver.database.close()


class Locker:
    """Another program that keeps everybody from writing."""

    def __init__(self, url: str) -> None:
        found = Database(url).url
        self._lite = found.get_backend_name() == "sqlite"
        if self._lite:
            self._connection = sqlite3.connect(found.database or "", isolation_level=None)
        else:
            self._connection = psycopg.connect(url.partition("?")[0].replace("+psycopg", ""), autocommit=True)

    def __enter__(self) -> None:
        if isinstance(self._connection, sqlite3.Connection):
            self._connection.execute("BEGIN IMMEDIATE")
        else:
            self._connection.execute("BEGIN")
            tables = ("checkpoints", "channel_values", "task_writes", "leases", "pauses")
            self._connection.execute(
                f"LOCK TABLE {', '.join(f'bursar_{name}' for name in tables)} IN EXCLUSIVE MODE".encode()
            )

    def __exit__(self, *_error: object) -> None:
        self._connection.rollback()
        self._connection.close()


IMPATIENT = {
    "sqlite": ("timeout=0.1", r"locked by another process for over 0\.1 s; end that process or try again$"),
    "statement_timeout": ("statement_timeout=1", r"a statement may take 1 s, waits for locks included"),
    "lock_timeout": (
        "options=-clock_timeout%3D100",
        r"locked by another transaction \(.*\); end that one or try again$",
    ),
}


@pytest.fixture(params=["sqlite", *(pytest.param(kind, marks=pytest.mark.postgres) for kind in list(IMPATIENT)[1:])])
def impatient(
    request: pytest.FixtureRequest, tmp_path: Path, new_postgres: Callable[[], AbstractContextManager[str]]
) -> Iterator[tuple[str, str]]:
    """URL of a database whose users wait briefly for a lock, and what they are told."""
    setting, told = IMPATIENT[request.param]
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/x.db?{setting}", told
        return
    with new_postgres() as url:
        yield f"{url}?{setting}", told


def test_a_locked_database(impatient: tuple[str, str]) -> None:
    """What writes is told after its time, by checkpointer, lease and ledger; what reads is not; then all goes on."""
    url, told = impatient
    steps = Steps(SQLAlchemySaver(url))
    ledger = Ledger(url)
    steps.one()
    with Locker(url):
        steps.refused(told)
        with pytest.raises(DatabaseError, match=told), steps.saver.own("s-1"):
            pass
        with pytest.raises(DatabaseError, match=told):
            ledger.pause()
        assert ledger.pauses() == []
    with steps.saver.own("s-1"):
        steps.goes_on()
    assert ledger.pause()
    assert ledger.verify()
    steps.saver.database.close()


def test_many_who_wait_for_a_lock_all_hear_of_it(impatient: tuple[str, str]) -> None:
    """Twenty threads at once: every one has its error, and none is left."""
    url, told = impatient
    saver = SQLAlchemySaver(url)
    heard: list[str] = []

    def write(number: int) -> None:
        try:
            saver.delete_thread(f"s-{number}")
        except DatabaseError as error:
            heard.append(str(error))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(20)]
    with Locker(url):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert len(heard) == 20
    assert all(re.search(told, text) for text in heard), heard
    saver.database.close()
