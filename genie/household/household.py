"""Opens the database that holds the household's data."""

from sqlalchemy import Engine, create_engine
from sqlalchemy.engine import URL
from sqlalchemy.pool import StaticPool

from bursar.genie.household.schema import prepare

BUSY_TIMEOUT_SECONDS = 10


def open_household(url: URL) -> Engine:
    """Create the household's tables at `url` if they are missing, and return an engine over them.

    The engine has its own connections; it does not share the ledger's.
    """
    if url.get_backend_name() != "sqlite":
        # A pooler such as PgBouncer may be in between, so no statement is prepared on the server.
        unprepared = {"prepare_threshold": None}
        engine = create_engine(url, pool_size=4, max_overflow=4, pool_pre_ping=True, connect_args=unprepared)
    elif url.database in {None, "", ":memory:"}:
        engine = create_engine(url, poolclass=StaticPool, connect_args={"check_same_thread": False})
    else:
        engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_SECONDS})
    prepare(engine)
    return engine
