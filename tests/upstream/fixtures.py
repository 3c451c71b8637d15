"""What stands in for `tests/conftest_checkpointer.py` of LangGraph's own tests: its fixtures, on the saver under test.

`BURSAR_UPSTREAM` names it: `sqlite` or `postgres` for ours, `bundled-sqlite` or `bundled-postgres` for LangGraph's. The
names are LangGraph's. "sqlite_aes" is the saver with a cipher.
"""

import atexit
import os
import tempfile
from collections.abc import AsyncGenerator, Generator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

pytest.register_assert_rewrite("tests.memory_assert")

SAVER = os.environ["BURSAR_UPSTREAM"]
SERVER = os.environ.get("BURSAR_TEST_POSTGRES", "postgresql://postgres@127.0.0.1:5432/postgres").replace(
    "+psycopg", "", 1
)
KEY = b"1234567890123456"


@contextmanager
def _database() -> Generator[str]:
    """Where an empty database is: a new file, or this process's own database, emptied."""
    if SAVER.endswith("sqlite"):
        with tempfile.TemporaryDirectory() as folder:
            yield str(Path(folder, "saver.db"))
        return
    url = _own_database()
    with psycopg.connect(url, autocommit=True) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        for (table,) in tables:
            if not table.endswith(("migrations", "version")):
                connection.execute(f'DELETE FROM "{table}"'.encode())
    yield url


@cache
def _own_database() -> str:
    name = f"bursar_upstream_{uuid4().hex[:12]}"
    with psycopg.connect(SERVER, autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{name}"'.encode())
    atexit.register(_drop, name)
    return f"{SERVER.rpartition('/')[0]}/{name}"


def _drop(name: str) -> None:
    with psycopg.connect(SERVER, autocommit=True) as admin:
        admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


@contextmanager
def _ours(*, sealed: bool = False) -> Generator[Any]:
    """Our saver, with LangGraph's own serde: its tests put types of their own into the state."""
    from bursar import Cipher, SQLAlchemySaver

    cipher = Cipher({"test": KEY}, "test") if sealed else None
    with _database() as where:
        url = where if "://" in where else f"sqlite:///{where}"
        saver = SQLAlchemySaver(url, serde=JsonPlusSerializer(), cipher=cipher)
        try:
            yield saver
        finally:
            saver.database.close()


@contextmanager
def _checkpointer_sqlite(*, sealed: bool = False) -> Generator[Any]:
    if not SAVER.startswith("bundled"):
        with _ours(sealed=sealed) as saver:
            yield saver
        return
    from langgraph.checkpoint.postgres import PostgresSaver
    from langgraph.checkpoint.sqlite import SqliteSaver

    with (
        _database() as where,
        (SqliteSaver if SAVER.endswith("sqlite") else PostgresSaver).from_conn_string(where) as saver,
    ):
        saver.setup()
        if sealed:
            saver.serde = EncryptedSerializer.from_pycryptodome_aes(key=KEY)
        yield saver


@contextmanager
def _checkpointer_sqlite_aes() -> Generator[Any]:
    with _checkpointer_sqlite(sealed=True) as saver:
        yield saver


@asynccontextmanager
async def _checkpointer_sqlite_aio() -> AsyncGenerator[Any]:
    async with AsyncExitStack() as stack:
        if not SAVER.startswith("bundled"):
            yield stack.enter_context(_ours())
            return
        from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
        from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

        where = stack.enter_context(_database())
        made = (AsyncSqliteSaver if SAVER.endswith("sqlite") else AsyncPostgresSaver).from_conn_string(where)
        saver = await stack.enter_async_context(made)
        await saver.setup()
        yield saver


@contextmanager
def _not_run(*_: object) -> Generator[Any]:
    """LangGraph's other savers: not what is tested here."""
    pytest.skip("not the saver under test")
    yield


_checkpointer_memory = _checkpointer_memory_migrate_sends = _not_run
_checkpointer_postgres = _checkpointer_postgres_pipe = _checkpointer_postgres_pool = _not_run
_checkpointer_postgres_aio = _checkpointer_postgres_aio_pipe = _checkpointer_postgres_aio_pool = _not_run
