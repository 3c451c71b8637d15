"""One door to a database: transactions, sharing, forks, cancellation, and errors that say what to do."""

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import Connection, bindparam, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from bursar.checkpoints.database.database import Database
from bursar.checkpoints.database.statement import Statement
from bursar.state.errors import BursarError, ConfigurationError, DatabaseError
from tests.support.notes import add, notes, with_notes


@pytest.fixture
def database(fresh_url: str) -> Iterator[Database]:
    """A database with one table of notes."""
    with with_notes(fresh_url) as made:
        yield made


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
    insert = Statement(text("INSERT INTO notes (note) VALUES (:note)").bindparams(bindparam("note")))
    database.run(lambda connection: insert(connection, note="100% :a ?"))
    with pytest.raises(IntegrityError):
        database.run(lambda connection: (insert(connection, note="b"), insert(connection, note="b")))
    assert notes(database) == ["100% :a ?"]


def test_cancelled_callers_do_not_tear_work(database: Database) -> None:
    """Work that was submitted is finished and committed though its caller was cancelled meanwhile."""
    started, go_on = threading.Event(), threading.Event()

    def work(connection: Connection) -> None:
        started.set()
        assert go_on.wait(60)
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


KILLED = """
import asyncio, sys
from sqlalchemy import text
from bursar.checkpoints.database.database import Database
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


@pytest.mark.slow
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
from bursar.checkpoints.database.database import Database
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


@pytest.mark.slow
def test_a_forked_child_uses_connections_of_its_own(database: Database, fresh_url: str) -> None:
    """A child of `fork` can use its parent's database, and the parent can go on using it."""
    command = [sys.executable, "-W", "ignore", "-c", FORK, fresh_url]
    subprocess.run(command, check=True, timeout=60)
    assert notes(database) == ["child", "parent after", "parent before"]


@pytest.mark.postgres
def test_a_lost_connection_is_said_and_replaced(postgres: str) -> None:
    """When the server ends a connection in the middle of work, the caller is told, and the next work gets a new one."""
    database = Database(postgres)
    kill = Statement(text("SELECT pg_terminate_backend(pg_backend_pid())"))
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
