"""Bring a database to the version of this Bursar at start-up: create its tables, or change them."""

import math
import threading
from importlib.resources import files
from pathlib import Path

from sqlalchemy import Column, Connection, MetaData, PrimaryKeyConstraint, String, Table, insert, inspect, text
from sqlalchemy.exc import OperationalError, ProgrammingError

from bursar.checkpoints.database.database import Database
from bursar.checkpoints.schema import lease_table, ledger_tables, saver_tables
from bursar.checkpoints.schema.metadata import metadata
from bursar.state.errors import DatabaseError

VERSION_TABLE = "bursar_version"
MIGRATIONS = "bursar.checkpoints.schema.migrations"
ADVISORY_LOCK = 0x627572736172  # "bursar": any constant that nobody else locks

TABLES = (ledger_tables, saver_tables, lease_table)  # importing them declares what is made

_alembic_lock = threading.Lock()  # alembic keeps its context in module globals


def migrate(database: Database) -> None:
    """Bring `database` to the newest version: create its tables, or migrate them. If it has that version, do nothing.

    If two processes start at once, one migrates and the other waits for it. Raises `DatabaseError`, and changes
    nothing, if the database cannot be used, or was written by a newer Bursar or by one from before the first release.
    """
    known = known_versions()
    # Race: another process may migrate after this look. `_upgrade` looks again under a lock.
    if _is_at(database, known):
        return
    with _alembic_lock:
        database.run(lambda connection: _upgrade(connection, database, known), until=math.inf)


def known_versions() -> list[str]:
    """Return the ids of the migrations that this Bursar has, oldest first."""
    names = (entry.name for entry in files(f"{MIGRATIONS}.versions").iterdir())
    return sorted(name.partition("_")[0] for name in names if name[0].isdigit() and name.endswith(".py"))


def _is_at(database: Database, known: list[str]) -> bool:
    try:
        version = database.run(_version, readonly=True)
    except (OperationalError, ProgrammingError):  # no version table yet
        return False
    _check_known(database, version, known)
    return version == known[-1]


def _version(connection: Connection) -> str | None:
    return connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608 - a constant


def _check_known(database: Database, version: str | None, known: list[str]) -> None:
    if version in known:
        return
    where = database.url.render_as_string(hide_password=True)
    if version is not None and version > known[-1]:
        raise DatabaseError(
            f"{where}: written by a newer Bursar (version {version}; this one knows {known[-1]}); upgrade bursar"
        )
    raise DatabaseError(
        f"{where}: written by a Bursar from before the first release (version {version or 'unknown'}; this one needs "
        f"{known[0]} or later), which is not converted; name a new database in the URL"
    )


def _upgrade(connection: Connection, database: Database, known: list[str]) -> None:
    if connection.dialect.name == "postgresql":  # SQLite has taken its write lock with BEGIN IMMEDIATE
        # Race: another process may migrate now. This waits for its lock, for as long as that takes.
        connection.execute(text("SET LOCAL statement_timeout TO 0"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
    there = set(inspect(connection).get_table_names())
    if there.isdisjoint({VERSION_TABLE, *metadata.tables}):
        _create(connection, known[-1])
        return
    found = _version(connection) if VERSION_TABLE in there else None
    _check_known(database, found, known)
    if found != known[-1]:  # otherwise another process was quicker
        upgrade(connection)


def upgrade(connection: Connection) -> None:
    """Run, in the connection's transaction, the migrations that the database has not had yet."""
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(str(files(MIGRATIONS)))).replace("%", "%%"))
    command.upgrade(config, "head")


def _create(connection: Connection, newest: str) -> None:
    """Create the tables of the newest version directly, because running every migration takes ten times as long."""
    metadata.create_all(connection, checkfirst=False)
    versions = MetaData()
    version = Table(
        VERSION_TABLE,
        versions,
        Column("version_num", String(32), nullable=False),
        PrimaryKeyConstraint("version_num", name=f"{VERSION_TABLE}_pkc"),
    )
    versions.create_all(connection, checkfirst=False)
    connection.execute(insert(version).values(version_num=newest))
