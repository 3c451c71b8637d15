"""A database of a PostgreSQL server on this machine, for the time of a benchmark; none where there is no server."""

import os
from collections.abc import Generator
from contextlib import contextmanager

SERVER = "postgresql://postgres@127.0.0.1:5432"


@contextmanager
def a_postgres_database() -> Generator[str | None]:
    """The URL of a new database, dropped afterwards; None where no server answers."""
    try:
        import psycopg

        admin = psycopg.connect(f"{SERVER}/postgres", autocommit=True, connect_timeout=2)
    except (ImportError, psycopg.OperationalError):
        yield None
        return
    name = f"bursar_bench_{os.getpid()}"
    try:
        admin.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        admin.execute(f'CREATE DATABASE "{name}"')
        yield f"{SERVER}/{name}"
        admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    finally:
        admin.close()
