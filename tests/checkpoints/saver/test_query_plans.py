# pyright: reportPrivateUsage=false
"""What every paid call and every run asks of the database is found by an index, however long the session is."""

import pytest

from bursar.checkpoints.database.database import Database
from bursar.checkpoints.database.statement import Statement
from bursar.checkpoints.ledger import accounts, calls, costs
from bursar.checkpoints.ledger import hash_chain as audit_chain
from bursar.checkpoints.ledger.admission_facts import _standing
from bursar.checkpoints.ledger.reconciliation import unknown_calls

ASKED: dict[str, tuple[Statement, tuple[str, ...]]] = {
    "hold": (accounts._reserve_one, ("autoindex_bursar_accounts_1 (scope=?)",)),
    "move": (accounts._move_one, ("autoindex_bursar_accounts_1 (scope=?)",)),
    "journal": (calls._replayable, ("bursar_calls_journal (session_id=? AND request_hash=? AND occurrence=?)",)),
    "lost": (unknown_calls._lost_at, ("bursar_calls_journal (session_id=? AND request_hash=? AND occurrence=?)",)),
    "recover": (calls._lock_held, ("bursar_calls_open (session_id=?)",)),
    "log": (audit_chain._advance, ("autoindex_bursar_sessions_1 (session_id=?)",)),
    "standing": (
        _standing(1, 1, 1, True),
        (
            "autoindex_bursar_accounts_1 (scope=?)",
            "autoindex_bursar_pauses_1 (scope=?)",
            "autoindex_bursar_breakers_1 (name=?)",
            "bursar_calls_request (request_id=? AND agent=?)",
            "bursar_actions_run (session_id=? AND checkpoint_ns=?)",
            "bursar_calls_open (session_id=?)",
        ),
    ),
}

VALUES = dict.fromkeys(
    (
        *("account", "amount", "by_held", "by_spent", "session", "checkpoint", "length", "request", "nth", "before"),
        *("previous", "last", "hash", "pays", "account_0", "pause_0", "breaker_0", "now", "agent"),
    ),
    0,
)


@pytest.mark.parametrize("name", ASKED)
def test_sqlite_finds_it_by_an_index_and_sorts_nothing(name: str, migrated_file: str) -> None:
    """Each table of a statement is searched by the index that is meant, none is read through, and none is built."""
    statement, indexes = ASKED[name]
    database = Database(f"sqlite:///{migrated_file}")
    plan = database.run(lambda connection: statement.explained(connection, **VALUES), readonly=True)
    database.close()
    lines = [row[3] for row in plan]
    searched = [line for line in lines if line.startswith(("SEARCH", "SCAN"))]
    assert len(searched) == len(indexes)
    assert all(index in line for line, index in zip(searched, indexes, strict=True)), lines
    assert not any("TEMP B-TREE" in line or "AUTOMATIC" in line for line in lines), lines


def test_sqlite_finds_the_last_runs_of_a_handler_by_an_index(migrated_file: str) -> None:
    """Only these runs are read and sorted by cost, however many there were."""
    database = Database(f"sqlite:///{migrated_file}")
    plan = database.run(lambda connection: costs._middle_costs(1).explained(connection, handler_0=""), readonly=True)
    database.close()
    read = [row[3] for row in plan if "bursar_events" in row[3]]
    assert read == ["SEARCH bursar_events USING COVERING INDEX bursar_events_run (run_of=?)"]
