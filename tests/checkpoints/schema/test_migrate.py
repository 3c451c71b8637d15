"""Bringing a database to the version of this Bursar."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, inspect, text
from sqlalchemy.engine.interfaces import ReflectedIndex

from bursar.checkpoints.database.database import Database
from bursar.checkpoints.ledger.ledger import Ledger
from bursar.checkpoints.schema.metadata import metadata
from bursar.checkpoints.schema.migrate import VERSION_TABLE, known_versions, migrate, upgrade
from bursar.state.errors import DatabaseError


@pytest.fixture
def database(fresh_url: str) -> Iterator[Database]:
    """A database without tables."""
    made = Database(fresh_url)
    yield made
    made.close()


def tables(database: Database) -> set[str]:
    return set(database.run(lambda connection: inspect(connection).get_table_names()))


def test_migrations_make_the_tables_of_the_schema(database: Database) -> None:
    """The migration makes the tables, columns and indices that the code declares, and no others."""
    database.run(upgrade)

    def differences(connection: Connection) -> list[object]:
        options = {"version_table": VERSION_TABLE, "compare_type": True}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))

    assert tables(database) == {*metadata.tables, VERSION_TABLE}
    assert database.run(differences) == []


def described(database: Database) -> dict[str, object]:
    """All that the database knows of its tables."""

    def options(index: ReflectedIndex) -> dict[str, object]:
        return index.get("dialect_options", {})

    def work(connection: Connection) -> dict[str, object]:
        found = inspect(connection)
        return {
            name: (
                [{**column, "type": repr(column["type"])} for column in found.get_columns(name)],
                found.get_pk_constraint(name),
                {
                    index["name"]: (index["column_names"], {key: str(one) for key, one in options(index).items()})
                    for index in found.get_indexes(name)
                },
                found.get_check_constraints(name),
            )
            for name in found.get_table_names()
        }

    return database.run(work)


def test_a_new_database_is_as_a_migrated_one(database: Database, another_url: str) -> None:
    """The tables that a new database is given at once are those that the migration makes, and so is its version."""
    database.run(upgrade)
    new = Database(another_url)
    migrate(new)
    version = text(f"SELECT version_num FROM {VERSION_TABLE}")
    try:
        assert described(new) == described(database)
        assert new.run(lambda connection: connection.execute(version).scalar()) == known_versions()[-1]
    finally:
        new.close()


def test_constraints_are_made(database: Database) -> None:
    """No account can hold or have spent less than nothing."""
    migrate(database)
    checks = database.run(lambda connection: inspect(connection).get_check_constraints("bursar_accounts"))
    assert [check["name"] for check in checks] == ["bursar_accounts_not_negative"]


def test_migrating_again_changes_nothing(database: Database) -> None:
    """A database at the newest version is left alone, and its data stay."""
    migrate(database)
    insert = "INSERT INTO bursar_accounts (scope, cap, spent, held) VALUES ('global', 1, 0, 0)"
    database.run(lambda connection: connection.execute(text(insert)))
    migrate(database)
    count = text("SELECT count(*) FROM bursar_accounts")
    assert database.run(lambda connection: connection.execute(count).scalar()) == 1


def described_rows(database: Database) -> dict[str, list[tuple[object, ...]]]:
    """All that the database holds."""
    names = tables(database)
    found = {name: text(f"SELECT * FROM {name}") for name in names}
    return database.run(lambda c: {name: [tuple(row) for row in c.execute(query)] for name, query in found.items()})


@pytest.mark.parametrize("version", ["0001", "0008", None])
def test_an_older_database_is_refused(database: Database, another_url: str, version: str | None) -> None:
    """A database that was made before the first release is refused with the remedy, and nothing in it is changed."""
    database.run(lambda c: c.execute(text("CREATE TABLE bursar_sessions (session_id TEXT PRIMARY KEY)")))
    database.run(lambda c: c.execute(text("INSERT INTO bursar_sessions VALUES ('s-1')")))
    if version is not None:
        database.run(lambda c: c.execute(text(f"CREATE TABLE {VERSION_TABLE} (version_num VARCHAR(32) NOT NULL)")))
        database.run(lambda c: c.execute(text(f"INSERT INTO {VERSION_TABLE} VALUES ('{version}')")))
    before = described(database), described_rows(database)
    said = rf"before the first release \(version {version or 'unknown'}; .*\).* name a new database in the URL$"
    for attempt in (lambda: migrate(database), lambda: Ledger(database)):
        with pytest.raises(DatabaseError, match=said) as refused:
            attempt()
        assert "\n" not in str(refused.value)
    assert (described(database), described_rows(database)) == before
    new = Database(another_url)
    try:
        assert Ledger(new).sessions() == []
    finally:
        new.close()


def test_a_newer_database_is_left_alone(database: Database) -> None:
    """A database that a newer Bursar wrote is refused with the remedy, by the ledger too, and nothing is changed."""
    migrate(database)
    database.run(lambda connection: connection.execute(text("UPDATE bursar_version SET version_num = '9999'")))
    for attempt in (lambda: migrate(database), lambda: Ledger(database)):
        with pytest.raises(DatabaseError, match=r"written by a newer Bursar \(version 9999; .*\); upgrade bursar$"):
            attempt()
    kept = database.run(lambda connection: connection.execute(text("SELECT version_num FROM bursar_version")).scalar())
    assert kept == "9999"


def test_other_tables_are_left_alone(database: Database) -> None:
    """An application's own tables of everyday names do not clash with the books."""
    for name in ("accounts", "sessions", "events", "calls", "requests", "alembic_version"):
        database.run(lambda c, name=name: c.execute(text(f"CREATE TABLE {name} (mine TEXT)")))
    migrate(database)
    assert "accounts" in tables(database)
    assert inspect(database.engine).get_columns("accounts")[0]["name"] == "mine"


START = "import sys; from bursar.checkpoints.ledger.ledger import Ledger; Ledger(sys.argv[1]).database.close()"


@pytest.mark.slow
def test_processes_may_start_at_once(fresh_url: str) -> None:
    """Processes that open a new database at the same time all succeed: one migrates, the others wait."""
    command = [sys.executable, "-c", START, fresh_url]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], errors
    database = Database(fresh_url)
    assert set(metadata.tables) < tables(database)
    database.close()


@pytest.mark.slow
def test_a_database_opens_without_alembic(fresh_url: str) -> None:
    """Making a database, or opening one of the newest version, does not load alembic: it takes half a second."""
    code = f"{START}; assert 'alembic' not in sys.modules"
    for _ in range(2):
        subprocess.run([sys.executable, "-c", code, fresh_url], check=True, timeout=60)
