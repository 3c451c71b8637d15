"""Bringing a database to the version of this Bursar."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from langgraph.checkpoint.base import Checkpoint
from sqlalchemy import Connection, inspect, text
from sqlalchemy.engine.interfaces import ReflectedIndex

from bursar.checkpoints.database.database import Database
from bursar.checkpoints.ledger.accounts import Account
from bursar.checkpoints.ledger.hash_chain import FIRST, digest
from bursar.checkpoints.ledger.ledger import Ledger
from bursar.checkpoints.ledger.postings import Hold
from bursar.checkpoints.saver.saver import SQLAlchemySaver
from bursar.checkpoints.saver.serde import default_serde
from bursar.checkpoints.schema import saver_tables as checkpoint_tables
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
    """Every migration in turn makes the tables, columns and indices that the code declares, and no others."""
    database.run(upgrade)

    def differences(connection: Connection) -> list[object]:
        options = {"version_table": VERSION_TABLE, "compare_type": True}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), checkpoint_tables.metadata))

    assert tables(database) == {*checkpoint_tables.metadata.tables, VERSION_TABLE}
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
    """The tables that a new database is given at once are those that all migrations make, and so is its version."""
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


def test_from_every_older_version(database: Database) -> None:
    """A database of any older version is brought to the newest, and can be taken back to nothing."""
    from alembic import command
    from alembic.config import Config

    for version in known_versions():

        def to(connection: Connection, target: str) -> None:
            config = Config(attributes={"connection": connection})
            config.set_main_option("script_location", "bursar.checkpoints.schema:migrations")
            (command.downgrade if target == "base" else command.upgrade)(config, target)

        database.run(lambda connection, version=version, to=to: to(connection, version))
        migrate(database)
        assert set(checkpoint_tables.metadata.tables) < tables(database)
        database.run(lambda connection, to=to: to(connection, "base"))
        assert tables(database) == {VERSION_TABLE}


# What Bursar 0.1 wrote, at the first and second version of the database: a settled call, an overrun, a held call.
OLDER = [
    "INSERT INTO bursar_sessions VALUES ('s-1', 'acme', '2026-11-23T09:30:00.000000+00:00', 0, '{first}')",
    "INSERT INTO bursar_requests VALUES ('r-1', 's-1', 't', '2026-11-23T09:30:00.000000+00:00', NULL, NULL)",
    "INSERT INTO bursar_accounts VALUES ('session:s-1', 90, 25, 5), ('request:r-1', 30, 25, 5)",
    "INSERT INTO bursar_calls (call_id, session_id, request_id, agent, checkpoint_ns, request_hash, occurrence, model,"
    " price_version, state, amount, cost, scopes, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens,"
    " reasoning_tokens, held_at, response) VALUES"
    " ('c-1', 's-1', 'r-1', 'tax', 'ns', 'h', 0, 'gpt', 'p', 'settled', 20, 25, '{scopes}',"
    " 10, 2, 0, 0, 0, '{at}', NULL),"
    " ('c-2', 's-1', 'r-1', 'tax', 'ns', 'h', 1, 'gpt', 'p', 'held', 5, NULL, '{scopes}', NULL, NULL, NULL, NULL, NULL,"
    " '{at}', NULL)",
]
OLDER_EVENTS = [
    '{"version":1,"kind":"request_opened","request_id":"r-1","text_hash":"t","budget":"0.000000030"}',
    '{"version":1,"kind":"call_held","call_id":"c-1","request_id":"r-1","agent":"tax","model":"gpt",'
    '"amount":"0.000000020","scopes":["session:s-1","request:r-1"]}',
    '{"version":1,"kind":"call_settled","call_id":"c-1","cost":"0.000000025","input_tokens":10,"output_tokens":2,'
    '"cache_read_tokens":0,"cache_write_tokens":0,"reasoning_tokens":0,"response_hash":null}',
    '{"version":1,"kind":"incident","call_id":"c-1","what":"cost $0.000000025, above its hold of $0.00000002"}',
    '{"version":1,"kind":"call_held","call_id":"c-2","request_id":"r-1","agent":"tax","model":"gpt",'
    '"amount":"0.000000005","scopes":["session:s-1","request:r-1"]}',
]
AT = "2026-11-23T09:30:00.000000+00:00"


def write_older(connection: Connection) -> None:
    """Rows as that version of Bursar wrote them, chained without a key."""
    scopes = '["session:s-1", "request:r-1"]'
    for sql in OLDER:
        connection.exec_driver_sql(sql.format(first=FIRST, scopes=scopes, at=AT))
    head = FIRST
    insert = text("INSERT INTO bursar_events VALUES ('s-1', :n, :at, :kind, :payload, :previous, :hash)")
    for number, payload in enumerate(OLDER_EVENTS, 1):
        kind = payload.split('"')[5]
        previous, head = head, digest(None, ("s-1", number, AT, kind, payload, head))
        values = {"n": number, "at": AT, "kind": kind, "payload": payload, "previous": previous, "hash": head}
        connection.execute(insert, values)
    count = {"n": len(OLDER_EVENTS), "head": head}
    connection.execute(text("UPDATE bursar_sessions SET sequence = :n, head = :head"), count)


@pytest.mark.parametrize("version", ["0001", "0002"])
def test_older_books_go_on(database: Database, version: str) -> None:
    """Books that an older Bursar wrote keep every row and sum, verify, stay open, and take new calls and top-ups."""
    from alembic import command
    from alembic.config import Config

    def older(connection: Connection) -> None:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", "bursar.checkpoints.schema:migrations")
        command.upgrade(config, version)
        write_older(connection)

    database.run(older)
    ledger = Ledger(database)
    assert ledger.verify("s-1"), str(ledger.verify("s-1"))
    assert [row.closes for row in ledger.incidents()] == [False]
    assert (ledger.spend("s-1").spent.nanos, ledger.spend("s-1").held.nanos) == (25, 5)
    run, books, now = database.run, ledger.books, datetime.fromisoformat(AT)
    assert run(books.turns("r-1", "tax")) == 2
    assert run(books.recover("s-1", at=now)) == 1
    ledger.top_up("r-1", "0.000000010")
    accounts = ("session:s-1", "request:r-1")
    run(books.hold(Hold("c-3", "s-1", "r-1", "tax", "ns", "h", 2, "gpt", "p", 10, accounts, now)))
    run(books.open_request("s-1", "r-2", accounts=[Account("session:s-1", 50)], text_hash="t", at=now))
    assert run(books.left(["session:s-1"])) == 10
    assert ledger.verify(), str(ledger.verify())


# What the saver of that version wrote: a checkpoint, a value that a later one changes, and a write.
OLDER_CHECKPOINT = [
    "INSERT INTO bursar_checkpoints (thread_id, checkpoint_ns, checkpoint_id, hidden, versions, kind, payload)"
    " VALUES ('s-1', '', '1', false, '{\"texts\": \"1\"}', 'msgpack', :checkpoint)",
    "INSERT INTO bursar_channel_values (thread_id, checkpoint_ns, version, channel, kind, payload)"
    " VALUES ('s-1', '', '1', 'texts', 'msgpack', :value)",
    "INSERT INTO bursar_task_writes"
    " (thread_id, checkpoint_ns, checkpoint_id, task_id, idx, task_path, channel, kind, payload)"
    " VALUES ('s-1', '', '1', 't-1', 0, '', 'texts', 'msgpack', :value)",
]


@pytest.mark.parametrize("version", ["0002", "0003"])
def test_older_checkpoints_go_on(database: Database, version: str) -> None:
    """A session that an older Bursar stored is read as it was, listed, and goes on."""
    from alembic import command
    from alembic.config import Config

    serde = default_serde()
    rest: dict[str, object] = {
        "v": 4,
        "ts": "2026-01-01T00:00:00+00:00",
        "versions_seen": {},
        "updated_channels": ["texts"],
    }
    payloads = {
        "checkpoint": serde.dumps_typed((rest, {"source": "loop", "step": 1}))[1],
        "value": serde.dumps_typed(["said"])[1],
    }

    def older(connection: Connection) -> None:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", "bursar.checkpoints.schema:migrations")
        command.upgrade(config, version)
        for sql in OLDER_CHECKPOINT:
            used = {name: value for name, value in payloads.items() if f":{name}" in sql}
            connection.execute(text(sql), used)

    database.run(older)
    saver = SQLAlchemySaver(database)
    [found] = saver.list({"configurable": {"thread_id": "s-1"}})
    assert found.checkpoint["channel_values"] == {"texts": ["said"]}
    assert found.pending_writes == [("t-1", "texts", ["said"])]
    new = saver.get_next_version("1")
    later: Checkpoint = {**found.checkpoint, "id": "2", "channel_values": {"texts": ["said", "more"]}}
    later["channel_versions"] = {"texts": new}
    saver.put(found.config, later, {"step": 2}, {"texts": new})
    read = saver.get_tuple({"configurable": {"thread_id": "s-1"}})
    assert read is not None
    assert (read.checkpoint["channel_values"], read.parent_config) == ({"texts": ["said", "more"]}, found.config)


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


def test_processes_may_start_at_once(fresh_url: str) -> None:
    """Processes that open a new database at the same time all succeed: one migrates, the others wait."""
    command = [sys.executable, "-c", START, fresh_url]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], errors
    database = Database(fresh_url)
    assert set(checkpoint_tables.metadata.tables) < tables(database)
    database.close()


def test_a_database_opens_without_alembic(fresh_url: str) -> None:
    """Making a database, or opening one of the newest version, does not load alembic: it takes half a second."""
    code = f"{START}; assert 'alembic' not in sys.modules"
    for _ in range(2):
        subprocess.run([sys.executable, "-c", code, fresh_url], check=True, timeout=60)
