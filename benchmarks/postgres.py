"""Makes a database on this machine's PostgreSQL server for the time of a benchmark, if there is a server."""

import importlib.util
import uuid
from collections.abc import Generator
from contextlib import contextmanager

SERVER = "postgresql://postgres@127.0.0.1:5432"


@contextmanager
def a_postgres_database() -> Generator[str | None]:
    """Yield the URL of a new database, which is dropped at the end of the block; yield None if no server answers."""
    if importlib.util.find_spec("psycopg") is None:
        yield None
        return
    import psycopg
    from psycopg import sql

    try:
        admin = psycopg.connect(f"{SERVER}/postgres", autocommit=True, connect_timeout=2)
    except psycopg.OperationalError:
        yield None
        return
    name = f"bursar_bench_{uuid.uuid4().hex[:12]}"
    quoted = sql.Identifier(name)
    try:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(quoted))
        yield f"{SERVER}/{name}"
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(quoted))
    finally:
        admin.close()
