"""One door to a database: transactions, sharing, forks, cancellation, and errors that say what to do."""

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Self

import pytest
from sqlalchemy import Connection, bindparam, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from bursar.checkpoints.database import Database, Work
from bursar.checkpoints.prepared import Prepared
from bursar.state.errors import BursarError, ConfigurationError, DatabaseError

ADD = text("INSERT INTO notes (note) VALUES (:note)")


@pytest.fixture
def database(fresh_url: str) -> Iterator[Database]:
    """A database with one table of notes."""
    made = Database(fresh_url)
    made.run(lambda connection: connection.execute(text("CREATE TABLE notes (note TEXT PRIMARY KEY)")))
    yield made
    made.close()


def add(note: str, connection: Connection) -> str:
    connection.execute(ADD, {"note": note})
    return note


def notes(database: Database) -> list[str]:
    query = text("SELECT note FROM notes ORDER BY note")
    return database.run(lambda connection: list(connection.execute(query).scalars()))


def test_work_is_committed_and_its_result_returned(database: Database) -> None:
    """What a piece of work wrote is there for the next one, from sync and async callers alike."""
    assert database.run(lambda connection: add("a", connection)) == "a"
    assert asyncio.run(database.arun(lambda connection: add("b", connection))) == "b"
    assert notes(database) == ["a", "b"]


def test_work_that_raises_is_rolled_back(database: Database) -> None:
    """An error undoes everything that its work did, reaches the caller as it is, and harms no later work."""

    def work(connection: Connection) -> None:
        add("a", connection)
        raise LookupError("no")

    with pytest.raises(LookupError, match="no"):
        database.run(work)
    with pytest.raises(LookupError, match="no"):
        asyncio.run(database.arun(work))
    assert notes(database) == []
    database.run(lambda connection: add("a", connection))
    with pytest.raises(IntegrityError):
        database.run(lambda connection: (add("b", connection), add("a", connection)))
    assert notes(database) == ["a"]


def test_prepared_statements_are_part_of_the_transaction(database: Database) -> None:
    """A prepared statement sees its transaction, is undone with it, and raises SQLAlchemy's own errors."""
    insert = Prepared(text("INSERT INTO notes (note) VALUES (:note)").bindparams(bindparam("note")))
    database.run(lambda connection: insert(connection, note="100% :a ?"))
    with pytest.raises(IntegrityError):
        database.run(lambda connection: (insert(connection, note="b"), insert(connection, note="b")))
    assert notes(database) == ["100% :a ?"]


def test_cancelled_callers_do_not_tear_work(database: Database) -> None:
    """Work that was submitted is finished and committed though its caller was cancelled meanwhile."""
    started, go_on = threading.Event(), threading.Event()

    def work(connection: Connection) -> None:
        started.set()
        assert go_on.wait(10)
        add("a", connection)

    async def cancelled() -> None:
        task = asyncio.create_task(database.arun(work))
        await asyncio.to_thread(started.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()
        assert await database.arun(lambda connection: connection.execute(text("SELECT 1")).scalar()) == 1

    asyncio.run(cancelled())
    database.close()  # waits for what was submitted
    assert notes(database) == ["a"]


def test_a_closed_database_opens_anew(database: Database) -> None:
    """Closing ends the connections, not the database."""
    database.run(lambda connection: add("a", connection))
    database.close()
    database.close()
    assert notes(database) == ["a"]


def test_many_threads_use_one_database(database: Database) -> None:
    """Threads queue for the connections there are; no work is lost."""

    def work(number: int) -> None:
        for step in range(10):
            database.run(lambda connection, step=step: add(f"{number}-{step}", connection))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(notes(database)) == 120


def test_work_inside_work_is_refused(database: Database) -> None:
    """A piece of work that asks for another one is told what to do, from sync and async code alike; it cannot hang."""
    with pytest.raises(BursarError, match="give it its connection"):
        database.run(lambda connection: database.run(lambda connection: add("a", connection)))
    with pytest.raises(BursarError, match="give it its connection"):
        database.run(lambda connection: asyncio.run(database.arun(lambda connection: add("a", connection))))
    assert notes(database) == []


class Busy:
    """Keeps SQLite's one connection at work, so that whatever is asked for meanwhile waits; hears its statements.

    By default it reads, so that nothing joins it.
    """

    def __init__(self, database: Database, *, readonly: bool = True, durable: bool = True) -> None:
        self.statements: list[str] = []
        self._begun, self._go_on = threading.Event(), threading.Event()
        work = partial(database.run, self._work, readonly=readonly, durable=durable)
        self._thread = threading.Thread(target=work)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._begun.wait(10)
        return self

    def __exit__(self, *_error: object) -> None:
        self.go_on()

    def go_on(self) -> None:
        self._go_on.set()
        self._thread.join()

    def _work(self, connection: Connection) -> None:
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        self._begun.set()
        assert self._go_on.wait(10)
        driver.set_trace_callback(self.statements.append)


async def meanwhile(database: Database, works: Sequence[Work[str]]) -> tuple[list[str | BaseException], list[str]]:
    """What became of works that all waited for the connection, and the statements of the transactions then."""
    with Busy(database) as busy:
        tasks = [asyncio.create_task(database.arun(work)) for work in works]
        await asyncio.sleep(0)  # each task has asked now
        busy.go_on()
        return await asyncio.gather(*tasks, return_exceptions=True), busy.statements


@pytest.fixture
def lite(tmp_path: Path) -> Iterator[Database]:
    """An SQLite database with one table of notes."""
    made = Database(f"sqlite:///{tmp_path}/notes.db")
    made.run(lambda connection: connection.execute(text("CREATE TABLE notes (note TEXT PRIMARY KEY)")))
    yield made
    made.close()


def noting(*names: str) -> Work[str]:
    """Work that adds the notes."""
    return lambda connection: "".join(add(name, connection) for name in names)


def test_waiting_work_shares_one_commit_and_fails_alone(lite: Database) -> None:
    """On SQLite, work that waited is done in one transaction; what raises is undone, and takes nothing else with it."""

    def fail(connection: Connection) -> str:
        add("undone", connection)
        raise LookupError("no")

    def stop(connection: Connection) -> str:
        add("undone too", connection)
        raise StopIteration

    done, statements = asyncio.run(meanwhile(lite, [noting("a"), fail, noting("b", "a"), stop, noting("c", "d")]))
    assert [done[0], done[4]] == ["a", "cd"]
    assert [type(one) for one in done[1:4]] == [LookupError, IntegrityError, RuntimeError]
    assert statements.count("COMMIT") == 2  # Busy's own, and one for all
    assert notes(lite) == ["a", "c", "d"]


@pytest.mark.parametrize("work", ["write", "brief write", "read"])
@pytest.mark.parametrize("begun", ["write", "brief write", "read"])
def test_work_joins_what_is_being_written(lite: Database, begun: str, work: str) -> None:
    """On SQLite, work that comes before a commit is part of it, unless it needs one that waits for the disk.

    It never joins what is only read: that sees nothing that another process wrote since.
    """
    kinds = {
        "write": {"readonly": False, "durable": True},
        "brief write": {"readonly": False, "durable": False},
        "read": {"readonly": True, "durable": True},
    }
    joins = begun == "write" or (begun == "brief write" and work != "write")

    async def ask() -> tuple[str, list[str]]:
        with Busy(lite, **kinds[begun]) as busy:
            asked = asyncio.create_task(lite.arun(noting() if work == "read" else noting("a"), **kinds[work]))
            await asyncio.sleep(0)  # it has asked now
            busy.go_on()
            return await asked, busy.statements

    done, statements = asyncio.run(ask())
    assert done == ("" if work == "read" else "a")
    assert statements.count("COMMIT") == (1 if joins else 2)
    assert notes(lite) == ([] if work == "read" else ["a"])


def test_a_full_disk_fails_what_it_undoes(lite: Database) -> None:
    """When SQLite undoes a transaction as a whole, all who shared it hear of it: what was acknowledged is there."""

    def fill(connection: Connection) -> str:
        connection.execute(text("PRAGMA max_page_count = 4"))
        return add("x" * 100_000, connection)

    works = [noting("a"), fill, noting("b")]
    done, _ = asyncio.run(meanwhile(lite, works))
    assert isinstance(done[1], DatabaseError)
    assert "the disk is full" in str(done[1])
    assert notes(lite) == [one for one in done if isinstance(one, str)]


def test_an_interrupt_ends_its_own_work_only(lite: Database) -> None:
    """A user's interrupt in the middle of shared work undoes it; the work of others is done in its turn."""

    def interrupt(connection: Connection) -> str:
        raise KeyboardInterrupt

    def ask(done: list[str]) -> None:
        done.append(asyncio.run(lite.arun(noting("b"))))

    for _ in range(10):
        done: list[str] = []
        lite.run(lambda connection: connection.execute(text("DELETE FROM notes")))
        thread = threading.Thread(target=ask, args=(done,))
        with Busy(lite) as busy:
            thread.start()
            threading.Thread(target=busy.go_on).start()
            with pytest.raises(KeyboardInterrupt):
                lite.run(interrupt)
        thread.join(20)
        assert done == ["b"]
        assert notes(lite) == ["b"]


class Interrupted(deque[Any]):
    """A queue whose first job is asked for by the main thread, which the user interrupts while it takes that."""

    def __init__(self, when: str) -> None:
        super().__init__()
        self.when = when
        self.asked = [threading.Event(), threading.Event()]
        self.interrupted = False

    def append(self, job: object, /) -> None:
        super().append(job)
        self.asked[len(self) - 1].set()

    def popleft(self) -> object:
        if self.interrupted:
            return super().popleft()
        self.interrupted = True
        assert threading.current_thread() is threading.main_thread()
        if self.when == "after":
            super().popleft()
        raise KeyboardInterrupt


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_interrupt_loses_nothing_that_is_being_taken(lite: Database, when: str) -> None:
    """Who is interrupted on the way from the queue to the transaction leaves the work of others, and leaves it once."""
    queue, done, begun = Interrupted(when), list[str](), list[str]()

    def counted(name: str) -> Work[str]:
        def work(connection: Connection) -> str:
            begun.append(name)
            return add(name, connection)

        return work

    def ask() -> None:
        assert queue.asked[0].wait(10)
        done.append(lite.run(counted("b")))

    def free() -> None:
        assert queue.asked[1].wait(10)
        busy.go_on()

    threads = [threading.Thread(target=ask), threading.Thread(target=free)]
    with Busy(lite) as busy:
        lite._queue = queue  # pyright: ignore[reportPrivateUsage]
        for thread in threads:
            thread.start()
        with pytest.raises(KeyboardInterrupt):
            lite.run(counted("a"))
    for thread in threads:
        thread.join(20)
    assert done == ["b"]
    assert begun == notes(lite) == ["a", "b"]


KILLED = """
import asyncio, sys
from sqlalchemy import text
from bursar.checkpoints.database import Database
database = Database.at(sys.argv[1])
async def one(writer):
    for number in range(100_000):
        note = f"{writer}-{number}"
        await database.arun(lambda c: c.execute(text("INSERT INTO notes (note) VALUES (:note)"), {"note": note}))
        print(note, flush=True)
async def all_of_them():
    await asyncio.gather(*(one(writer) for writer in range(20)))
asyncio.run(all_of_them())
"""


def test_what_was_acknowledged_survives_a_kill(database: Database, fresh_url: str) -> None:
    """A process that is killed in the middle has lost nothing of what it was told was done."""
    process = subprocess.Popen([sys.executable, "-c", KILLED, fresh_url], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    told = [process.stdout.readline().strip() for _ in range(200)]
    process.kill()
    told += process.stdout.read().splitlines()
    process.stdout.close()
    process.wait(20)
    if not told[-1].strip():
        told.pop()
    kept = set(notes(database))
    assert len(told) >= 200
    assert set(told) <= kept


def test_closing_races_with_nobody(database: Database) -> None:
    """While one thread closes the database again and again, work of others is done all the same."""
    ended = threading.Event()

    def close() -> None:
        while not ended.is_set():
            database.close()

    def work(number: int) -> None:
        database.run(lambda connection: add(f"sync-{number}", connection))
        asyncio.run(database.arun(lambda connection: add(f"async-{number}", connection)))

    closer = threading.Thread(target=close)
    workers = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in (closer, *workers):
        thread.start()
    for thread in workers:
        thread.join()
    ended.set()
    closer.join()
    assert len(notes(database)) == 16


def test_reading_needs_no_write_lock(tmp_path: Path, lite: Database) -> None:
    """While another process writes, what only reads is done."""
    lite.run(noting("a"))
    other = sqlite3.connect(tmp_path / "notes.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    query = text("SELECT note FROM notes")
    assert lite.run(lambda connection: connection.execute(query).scalar(), readonly=True) == "a"
    other.close()


@pytest.mark.postgres
def test_readonly_work_cannot_write(postgres: str) -> None:
    """PostgreSQL holds work to its promise that it changes nothing."""
    database = Database(postgres)
    with pytest.raises(DatabaseError, match="read-only"):
        database.run(lambda connection: connection.execute(text("CREATE TABLE promised (x TEXT)")), readonly=True)
    database.close()


@pytest.mark.postgres
def test_a_swallowed_error_is_no_commit(postgres: str) -> None:
    """PostgreSQL undoes a transaction in which a statement failed; work that hid the failure is told."""
    database = Database(postgres)

    def hide(connection: Connection) -> None:
        with suppress(DBAPIError):
            connection.execute(text("SELECT 1 / 0"))

    with pytest.raises(DatabaseError, match="nothing of it was kept"):
        database.run(hide)
    database.close()


@pytest.mark.postgres
def test_a_connection_lost_while_idle_is_replaced(postgres: str) -> None:
    """When the server ended an idle connection, the next work gets a new one and its caller hears nothing of it."""
    database = Database(f"{postgres}?pool_size=1")
    mine = database.run(lambda connection: connection.execute(text("SELECT pg_backend_pid()")).scalar())
    other = Database(f"{postgres}?pool_size=1")
    other.run(lambda connection: connection.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": mine}))
    assert database.run(lambda connection: connection.execute(text("SELECT 1")).scalar()) == 1
    other.close()
    database.close()


def test_one_database_per_url_and_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`at` gives one database per URL; a relative path means the folder of the moment."""
    url = f"sqlite:///{tmp_path}/a.db"
    assert Database.at(url) is Database.at(url)
    assert Database.at(Database.at(url)) is Database.at(url)
    assert Database.at("sqlite://") is Database.at("sqlite://")
    monkeypatch.chdir(tmp_path)
    first = Database.at("sqlite:///a.db")
    assert first is Database.at(url)
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    assert Database.at("sqlite:///a.db") is not first


def test_memory_is_one_database(fresh_url: str) -> None:
    """SQLite in memory is the same database from any thread."""
    database = Database("sqlite://")
    database.run(lambda connection: connection.execute(text("CREATE TABLE notes (note TEXT)")))
    seen: list[list[str]] = []
    thread = threading.Thread(target=lambda: seen.append(notes(database)))
    thread.start()
    thread.join()
    assert seen == [[]]
    database.close()


FORK = """
import os, sys
from sqlalchemy import text
from bursar.checkpoints.database import Database
database = Database.at(sys.argv[1])
def add(note):
    database.run(lambda c: c.execute(text("INSERT INTO notes (note) VALUES (:note)"), {"note": note}))
add("parent before")
child = os.fork()
if not child:
    add("child")
    assert Database.at(sys.argv[1]) is not database
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
add("parent after")
database.close()
"""


def test_a_forked_child_uses_connections_of_its_own(database: Database, fresh_url: str) -> None:
    """A child of `fork` can use its parent's database, and the parent can go on using it."""
    command = [sys.executable, "-W", "ignore", "-c", FORK, fresh_url]
    subprocess.run(command, check=True, timeout=60)
    assert notes(database) == ["child", "parent after", "parent before"]


@pytest.mark.postgres
def test_a_lost_connection_is_said_and_replaced(postgres: str) -> None:
    """When the server ends a connection in the middle of work, the caller is told, and the next work gets a new one."""
    database = Database(postgres)
    kill = Prepared(text("SELECT pg_terminate_backend(pg_backend_pid())"))
    with pytest.raises(DatabaseError, match="no connection"):
        database.run(kill)
    assert database.run(lambda connection: connection.execute(text("SELECT 1")).scalar()) == 1
    database.close()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("genie.db", "not a database URL: 'genie.db'; write sqlite:///file.db"),
        ("", "not a database URL"),
        ("genie.db//me:secret@host", r"not a database URL: 'genie.db//me:\*\*\*@host'"),
        ("nosuch://x", "nosuch is not supported; write sqlite:///file.db"),
        ("mysql+pymysql://u:secret@h/d", r"mysql\+pymysql is not supported"),
        ("postgresql+asyncpg://u:secret@h/d", r"postgresql\+asyncpg is not supported"),
        ("sqlite+aiosqlite:///x.db", r"sqlite\+aiosqlite is not supported"),
    ],
)
def test_bad_urls_say_what_to_write(url: str, message: str) -> None:
    """A URL that cannot be used is refused at once, in one line."""
    with pytest.raises(ConfigurationError, match=message) as refused:
        Database(url)
    assert "\n" not in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without psycopg installed, a PostgreSQL URL says what to install."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigurationError, match=r"needs its driver \(.*psycopg.*\); install bursar\[postgres\]$"):
        Database("postgresql://me@127.0.0.1/books")


@pytest.mark.postgres
def test_an_unreachable_server_is_one_line_without_the_password() -> None:
    """No server at the address: a `DatabaseError` of one line that keeps the password to itself."""
    database = Database("postgresql://someone:secret@127.0.0.1:1/nothing")
    with pytest.raises(
        DatabaseError, match=r"^postgresql\+psycopg://someone:\*\*\*@127\.0\.0\.1:1/nothing: no conn"
    ) as e:
        database.run(lambda connection: None)
    assert "secret" not in str(e.value)
    assert "\n" not in str(e.value)
    database.close()


def failure(url: str) -> str:
    database = Database(url)
    with pytest.raises(DatabaseError) as refused:
        database.run(lambda connection: connection.execute(text("CREATE TABLE more (x TEXT)")))
    database.close()
    return str(refused.value)


def test_sqlite_errors_say_what_to_do(tmp_path: Path) -> None:
    """A missing folder, a file of another kind and a read-only file are told apart, each with its remedy."""
    (tmp_path / "text.db").write_text("no database at all, but long enough to have a header" * 20)
    sqlite3.connect(tmp_path / "readonly.db").close()
    assert "check that the folder exists" in failure(f"sqlite:///{tmp_path}/none/x.db")
    assert "not an SQLite database, or damaged" in failure(f"sqlite:///{tmp_path}/text.db")
    assert "read-only; make the file" in failure(f"sqlite:///file:{tmp_path}/readonly.db?mode=ro&uri=true")


def test_a_read_only_file_can_be_read(tmp_path: Path) -> None:
    """Books that may only be read can still be read."""
    database = Database(f"sqlite:///{tmp_path}/x.db")
    database.run(lambda connection: connection.execute(text("CREATE TABLE notes (note TEXT)")))
    database.close()
    reader = Database(f"sqlite:///file:{tmp_path}/x.db?mode=ro&uri=true")
    assert notes(reader) == []
    reader.close()


def test_a_full_disk_is_said_and_loses_nothing(tmp_path: Path) -> None:
    """When there is no room, the work fails as a whole and what was there stays."""
    database = Database(f"sqlite:///{tmp_path}/x.db")
    database.run(lambda connection: connection.execute(text("CREATE TABLE notes (note TEXT)")))
    database.run(lambda connection: add("a", connection))
    with pytest.raises(DatabaseError, match="the disk is full"):
        database.run(lambda c: (c.execute(text("PRAGMA max_page_count = 2")), add("x" * 100_000, c)))
    assert notes(database) == ["a"]
    database.close()


def test_a_locked_file_is_said(tmp_path: Path) -> None:
    """A file that another process keeps locked is reported after the time-out, with what to do."""
    other = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    other.execute("PRAGMA journal_mode = WAL")
    other.execute("BEGIN IMMEDIATE")
    assert "locked by another process for over 0.01 s; end that process or try again" in failure(
        f"sqlite:///{tmp_path}/x.db?timeout=0.01"
    )
    other.close()


def test_sqlite_commits_are_durable(tmp_path: Path) -> None:
    """An SQLite file is in WAL mode and every commit reaches the disk before it returns."""
    database = Database(f"sqlite:///{tmp_path}/x.db")
    ask = ("PRAGMA journal_mode", "PRAGMA synchronous")
    assert database.run(lambda c: [c.execute(text(one)).scalar() for one in ask]) == ["wal", 2]
    assert os.path.exists(tmp_path / "x.db")
    database.close()
