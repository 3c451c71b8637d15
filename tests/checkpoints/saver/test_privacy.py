"""What is sealed, what is not stored at all, and what is really gone."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import Checkpoint, empty_checkpoint
from langgraph.checkpoint.base.id import uuid6
from sqlalchemy import Table, select, update

from bursar.checkpoints.database.database import Database
from bursar.checkpoints.ledger import requests
from bursar.checkpoints.ledger.ledger import Ledger
from bursar.checkpoints.saver.cipher import Cipher
from bursar.checkpoints.saver.pruning import id_at
from bursar.checkpoints.saver.saver import SQLAlchemySaver
from bursar.checkpoints.schema.saver_tables import channel_values, checkpoints, task_writes
from bursar.state.errors import CipherError, ConfigurationError

SESSION: RunnableConfig = {"configurable": {"thread_id": "s-1", "checkpoint_ns": ""}}
OLD, NEW = bytes(range(32)), bytes(range(1, 33))
TABLES = (checkpoints, channel_values, task_writes)
TEXT = "what nobody may read " * 40


def converse(saver: SQLAlchemySaver, steps: int, *, first: int = 0, config: RunnableConfig = SESSION) -> RunnableConfig:
    """A session whose list gets a text longer at each step; each step has a write, too."""
    for step in range(first, first + steps):
        made = empty_checkpoint()
        version = saver.get_next_version(step)
        made.update(
            channel_values={"texts": [f"{TEXT}{number}" for number in range(step + 1)]},
            channel_versions={"texts": version},
        )
        config = saver.put(config, made, {"step": step, "source": "loop"}, {"texts": version})
        saver.put_writes(config, [("texts", [TEXT])], f"task-{step}")
    return config


def read(saver: SQLAlchemySaver, config: RunnableConfig = SESSION) -> list[str]:
    """The texts; every checkpoint, write and metadata of the session is read on the way."""
    for listed in saver.list(config):
        assert listed.metadata.get("source") == "loop"
        assert [value for _, _, value in listed.pending_writes or []] == [[TEXT]]
    found = saver.get_tuple(config)
    assert found is not None
    return found.checkpoint["channel_values"]["texts"]


def texts(count: int) -> list[str]:
    """What so many steps have said."""
    return [f"{TEXT}{number}" for number in range(count)]


def stored(url: str, table: Table) -> list[Any]:
    """All rows of a table."""
    return list(Database.at(url).run(lambda connection: connection.execute(select(table)).all()))


def test_everything_that_was_said_is_sealed(url: str) -> None:
    """With a cipher no stored payload shows a text, and all of it is read back: values, writes, metadata, copies."""
    saver = SQLAlchemySaver(url, cipher=Cipher({"2025": OLD}, "2025"))
    converse(saver, 20)
    for table in TABLES:
        rows = stored(url, table)
        assert rows
        assert all(row.coding.endswith("@2025") for row in rows)
        assert b"nobody" not in b"".join(row.payload for row in rows)
    saver.copy_thread("s-1", "s-2")
    reopened = SQLAlchemySaver(url, cipher=Cipher({"2025": OLD}, "2025"))
    assert read(reopened) == texts(20)
    assert read(reopened, {"configurable": {"thread_id": "s-2", "checkpoint_ns": ""}}) == texts(20)


def test_equal_texts_are_not_stored_alike(url: str) -> None:
    """Who reads the database cannot see that two sessions say the same."""
    saver = SQLAlchemySaver(url, cipher=Cipher({"2025": OLD}, "2025"))
    for name in ("s-1", "s-2"):
        converse(saver, 3, config={"configurable": {"thread_id": name, "checkpoint_ns": ""}})
    for table in TABLES:
        payloads = [row.payload for row in stored(url, table)]
        assert len(set(payloads)) == len(payloads)


def test_a_key_is_replaced_and_then_withdrawn(url: str) -> None:
    """Old rows are read with the old key, new ones are under the new; without the old key its rows fail, in one line.

    A session that was pruned after the change no longer needs the old key.
    """
    converse(SQLAlchemySaver(url, cipher=Cipher({"2025": OLD}, "2025")), 5)
    both = SQLAlchemySaver(url, cipher=Cipher({"2026": NEW, "2025": OLD}, "2026"))
    assert read(both) == texts(5)
    head = both.get_tuple(SESSION)
    assert head is not None
    converse(both, 2, first=5, config=head.config)
    assert read(both) == texts(7)
    newest = [row for row in stored(url, channel_values) if row.coding.endswith("@2026")]
    assert {row.base for row in newest} <= {None, *(row.version for row in newest)}
    assert len(newest) == 2
    withdrawn = SQLAlchemySaver(url, cipher=Cipher({"2026": NEW}, "2026"))
    assert withdrawn.get_tuple(SESSION) is not None
    with pytest.raises(
        CipherError, match=r"^sealed under key '2025', which is not given; add it to the cipher's keys$"
    ):
        list(withdrawn.list(SESSION))
    both.prune(["s-1"])
    assert read(withdrawn) == texts(7)


def test_wrong_keys_and_changed_rows_fail_closed(url: str) -> None:
    """No cipher, another key under the same id, and a payload that was changed or moved: each is one line, no value."""
    saver = SQLAlchemySaver(url, cipher=Cipher({"2025": OLD}, "2025"))
    converse(saver, 2)
    with pytest.raises(CipherError, match=r"^sealed under key '2025'; give the saver cipher=Cipher\(.*\)$"):
        SQLAlchemySaver(url).get_tuple(SESSION)
    with pytest.raises(
        CipherError, match=r"^cannot be opened with key '2025': another key sealed it, or it was changed$"
    ):
        SQLAlchemySaver(url, cipher=Cipher({"2025": NEW}, "2025")).get_tuple(SESSION)
    one, other = (row.payload for row in stored(url, task_writes))
    moved = update(task_writes).where(task_writes.c.payload == one).values(payload=other)
    Database.at(url).run(lambda connection: connection.execute(moved))
    with pytest.raises(CipherError, match="it was changed"):
        list(saver.list(SESSION))


def test_rows_from_before_the_cipher_are_read_on_request(url: str) -> None:
    """A database that had no cipher needs `accept_plain`; nobody slips in a row that is not sealed without it."""
    converse(SQLAlchemySaver(url), 3)
    with pytest.raises(CipherError, match="stored without a cipher; give the cipher accept_plain=True"):
        SQLAlchemySaver(url, cipher=Cipher({"2025": OLD}, "2025")).get_tuple(SESSION)
    later = SQLAlchemySaver(url, cipher=Cipher({"2025": OLD}, "2025", accept_plain=True))
    head = later.get_tuple(SESSION)
    assert head is not None
    converse(later, 1, first=3, config=head.config)
    assert read(later) == texts(4)


def test_a_cipher_comes_from_the_environment() -> None:
    """The first key is the current one; nothing set is no cipher; what cannot be used is told in one line."""
    encoded = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
    made = Cipher.from_environment({"BURSAR_CIPHER_KEYS": f"2026={encoded}, 2025={encoded}"})
    assert made is not None
    assert (repr(made), made.current) == ("Cipher(keys of 2026, 2025, current='2026')", "2026")
    assert Cipher.from_environment({}) is None
    for wrong, told in (("2026=?", "not base64"), ("2026=AAEC", "not 16, 24 or 32 bytes"), ("=AAEC", "not a key id")):
        with pytest.raises(ConfigurationError, match=told):
            Cipher.from_environment({"BURSAR_CIPHER_KEYS": wrong})
    with pytest.raises(ConfigurationError, match="the current key 'x' is not among the keys: 2025"):
        Cipher({"2025": OLD}, "x")


def test_secrets_in_the_config_are_not_stored(url: str) -> None:
    """Of `configurable`, what is named as a secret is stored nowhere, also where LangGraph copied it to metadata."""
    saver = SQLAlchemySaver(url)
    secrets = {"openai_api_key": "s3cret", "AuthHeader": "s3cret", "db_password": "s3cret", "session_cookie": "s3cret"}
    config: RunnableConfig = {
        "configurable": {**SESSION.get("configurable", {}), **secrets, "user": "u-1"},
        "metadata": {"openai_api_key": "s3cret", "session_cookie": "s3cret", "topic": "rent"},
    }
    at = saver.put(config, empty_checkpoint(), {"step": 1}, {})
    saver.put_writes({**config, "configurable": {**at.get("configurable", {}), **secrets}}, [("a", 1)], "task")
    found = saver.get_tuple(SESSION)
    assert found is not None
    assert found.metadata == {"step": 1, "user": "u-1", "topic": "rent"}
    for table in TABLES:
        assert "s3cret" not in repr(stored(url, table))


def test_a_deleted_session_is_not_in_the_file(tmp_path: Path) -> None:
    """After `delete_thread` and after pruning, neither SQLite's file nor its log contains what was said."""
    url = f"sqlite:///{tmp_path}/erased.db"
    saver = SQLAlchemySaver(url)
    for delete in (lambda: saver.delete_thread("s-1"), lambda: saver.prune(["s-1"], strategy="delete")):
        converse(saver, 5)
        assert any(b"nobody may read" in file.read_bytes() for file in tmp_path.iterdir())
        delete()
        assert not any(b"nobody may read" in file.read_bytes() for file in tmp_path.iterdir())
    saver.database.close()


def test_the_audit_log_outlives_the_session(url: str) -> None:
    """Deleting a session's checkpoints leaves the ledger's log whole."""
    ledger, saver = Ledger(url, key=b"key"), SQLAlchemySaver(url)
    now = datetime(2026, 1, 1, tzinfo=UTC)
    ledger.run(requests.open_session, "s-1", "acme", at=now)
    ledger.run(requests.open_request, "s-1", "r-1", accounts=[], text_hash="t", at=now)
    converse(saver, 2)
    saver.delete_thread("s-1")
    assert saver.get_tuple(SESSION) is None
    assert len(ledger.audit("s-1")) == 1
    assert ledger.verify("s-1")


START = datetime(2026, 3, 1, tzinfo=UTC)


def aged(saver: SQLAlchemySaver, name: str, days: list[int], **configurable: str) -> list[str]:
    """A session with a checkpoint on each of these days, oldest first; their ids."""
    config: RunnableConfig = {"configurable": {"thread_id": name, "checkpoint_ns": "", **configurable}}
    made: list[str] = []
    for day in days:
        checkpoint: Checkpoint = empty_checkpoint()
        version = saver.get_next_version(day)
        checkpoint.update(
            id=id_at(START + timedelta(days=day)) + "-8000-000000000000",
            channel_values={"texts": [TEXT] * (day + 1)},
            channel_versions={"texts": version},
        )
        config = saver.put(config, checkpoint, {"step": day}, {"texts": version})
        made.append(checkpoint["id"])
    return made


def left(saver: SQLAlchemySaver) -> dict[str, list[str]]:
    """Each session with the ids that are left of it, oldest first."""
    found: dict[str, list[str]] = {}
    for listed in saver.list(None):
        at = listed.config.get("configurable", {})
        assert set(listed.checkpoint["channel_values"]["texts"]) == {TEXT}
        found.setdefault(at["thread_id"], []).insert(0, at["checkpoint_id"])
    return found


def test_pruning_by_age(url: str) -> None:
    """`keep_latest` removes what is older, save the latest; `delete` removes sessions in which nothing is younger."""
    saver = SQLAlchemySaver(url, clock=lambda: START + timedelta(days=100))
    old, mixed, fresh = (
        aged(saver, name, days) for name, days in [("old", [1, 2]), ("mixed", [3, 60, 95]), ("fresh", [92, 99])]
    )
    saver.prune(["fresh"], older_than=timedelta(days=30))
    assert left(saver) == {"old": old, "mixed": mixed, "fresh": fresh}
    saver.prune(None, older_than=timedelta(days=30))
    assert left(saver) == {"old": old[1:], "mixed": mixed[2:], "fresh": fresh}
    saver.prune(None, strategy="delete", older_than=timedelta(days=6))
    assert left(saver) == {"mixed": mixed[2:], "fresh": fresh}
    assert {row.thread_id for table in TABLES for row in stored(url, table)} == {"mixed", "fresh"}


def test_pruning_by_age_from_a_coroutine(url: str) -> None:
    """The async method does the same."""
    saver = SQLAlchemySaver(url, clock=lambda: START + timedelta(days=100))
    aged(saver, "old", [1, 2])
    fresh = aged(saver, "fresh", [92])
    asyncio.run(saver.aprune(None, strategy="delete_all", older_than=timedelta(days=50)))
    assert left(saver) == {"fresh": fresh}


def test_ages_that_make_no_sense_are_refused(url: str) -> None:
    """Every session without an age, no time at all, and ids that tell no time: nothing is removed."""
    saver = SQLAlchemySaver(url)
    converse(saver, 1)
    with pytest.raises(ValueError, match="name the sessions to prune, or give older_than"):
        saver.prune(None)
    with pytest.raises(ValueError, match="older_than must be positive"):
        saver.prune(["s-1"], older_than=timedelta(0))
    saver.prune(None, strategy="delete", older_than=timedelta(days=1))
    assert read(saver) == texts(1)


def test_ids_tell_when_they_were_made() -> None:
    """LangGraph's ids sort as the moments they are made at."""
    before = datetime.now(UTC)
    made = str(uuid6())
    after = datetime.now(UTC) + timedelta(milliseconds=1)
    assert id_at(before - timedelta(milliseconds=1)) < made < id_at(after)
