"""The ledger as people use it, across processes and crashes."""

import copy
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bursar.checkpoints.ledger import postings, requests
from bursar.checkpoints.ledger.accounts import Account
from bursar.checkpoints.ledger.calls import Hold, Usage
from bursar.checkpoints.ledger.ledger import Ledger
from bursar.state.errors import AmountError, LedgerError
from bursar.state.money import USD
from bursar.state.refusals import BudgetExceeded

NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
KEY = b"a key of the tests"
CENT = 10_000_000
SESSION, REQUEST = "session:s-1", "request:r-1"
HOLD = Hold("c-1", "s-1", "r-1", "tax", "ns", "hash", 0, "gpt", "prices-1", 2 * CENT, (SESSION, REQUEST), NOW)

# A process of its own: opens the same request, holds as often as it can (or once, and waits to be killed).
CHILD = """
import sys
from datetime import datetime, UTC
from bursar.checkpoints.ledger import postings, requests
from bursar.checkpoints.ledger.accounts import Account
from bursar.checkpoints.ledger.calls import Hold
from bursar.checkpoints.ledger.ledger import Ledger
from bursar.state.refusals import BudgetExceeded
url, name, amount, times = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
now = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
ledger = Ledger(url, key=b"a key of the tests", clock=lambda: now)
run = ledger.run
run(requests.open_session, "s-1", "acme", at=now)
accounts = [Account("session:s-1", None), Account("request:r-1", 30_000_000)]
run(requests.open_request, "s-1", "r-1", accounts=accounts, text_hash="t", at=now)
print("ready", flush=True)
sys.stdin.readline()
granted = 0
for number in range(times):
    scopes = ("session:s-1", "request:r-1")
    hold = Hold(f"{name}-{number}", "s-1", "r-1", "tax", "ns", "hash", number, "gpt", "p", amount, scopes, now)
    try:
        run(postings.hold, hold)
        granted += 1
    except BudgetExceeded:
        pass
print(granted, flush=True)
sys.stdin.readline()
"""


def child(url: str, name: str, amount: int, times: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", CHILD, url, name, str(amount), str(times)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert line(process) == "ready"
    return process


def line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def say(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def end(process: "subprocess.Popen[str]") -> None:
    process.communicate(timeout=30)


def open_request(ledger: Ledger) -> None:
    run = ledger.run
    run(requests.open_session, "s-1", "acme", at=NOW)
    accounts = [Account(SESSION, None), Account(REQUEST, 3 * CENT)]
    run(requests.open_request, "s-1", "r-1", accounts=accounts, text_hash="t", at=NOW)


@pytest.mark.slow
def test_processes_never_hold_more_than_the_cap(url: str, ledger: Ledger) -> None:
    """Two processes that race for one cap of $0.03 in steps of $0.0007 get 42 steps between them, never 43."""
    racers = [child(url, name, 700_000, 40) for name in ("a", "b")]
    for racer in racers:
        say(racer)
    granted = [int(line(racer)) for racer in racers]
    for racer in racers:
        end(racer)
    assert sum(granted) == 42
    assert ledger.spend("s-1").held == USD("0.0294")
    assert len(ledger.open_holds()) == 42
    assert ledger.verify()


@pytest.mark.slow
def test_a_killed_call_stays_charged_until_reconciled(url: str, ledger: Ledger) -> None:
    """`kill -9` between hold and settlement loses nothing: charged, then unknown by name, then exact."""
    process = child(url, "c", 2 * CENT, 1)
    say(process)
    assert line(process) == "1"
    os.kill(process.pid, signal.SIGKILL)
    end(process)
    assert process.returncode == -signal.SIGKILL

    open_request(ledger)  # as a resume does
    with pytest.raises(BudgetExceeded, match=r"\$0\.02 asked, \$0\.01 of \$0\.03 left"):
        ledger.run(postings.hold, HOLD)
    assert [(h.call_id, h.state, h.amount) for h in ledger.open_holds()] == [("c-0", "held", USD("0.02"))]
    assert ledger.run(postings.recover, "s-1", at=NOW) == 1
    assert [(h.call_id, h.state) for h in ledger.open_holds()] == [("c-0", "unknown")]
    assert ledger.spend("s-1").spent == USD("0.02")
    ledger.reconcile("c-0", "0.0123456789")
    assert ledger.spend("s-1").spent == USD("0.012345679")  # finer than a nano-dollar is rounded up
    assert ledger.open_holds() == []
    assert ledger.verify()


def test_copies_are_the_same_ledger(ledger: Ledger) -> None:
    """A copied ledger, deep or shallow, is a door to the same books."""
    for other in (copy.copy(ledger), copy.deepcopy({"ledger": ledger})["ledger"]):
        open_request(other)
        assert other.database is ledger.database
    assert [row.session_id for row in ledger.sessions()] == ["s-1"]


def test_ledgers_of_one_memory_database_agree() -> None:
    """Two ledgers of SQLite's database in memory see the same books."""
    first, second = Ledger("sqlite://"), Ledger("sqlite://")
    open_request(first)
    assert second.spend("s-1").spent == USD(0)
    first.database.close()


def test_unknown_names_are_refused(ledger: Ledger) -> None:
    """Spend, audit and verification of a session that is not in the books say so."""
    for ask in (ledger.spend, ledger.audit, ledger.verify):
        with pytest.raises(LedgerError, match="no session s-9 in the books"):
            ask("s-9")


def test_audit_rows_are_plain(ledger: Ledger) -> None:
    """An audit row as a mapping holds plain values; amounts are decimal strings, never floats."""
    open_request(ledger)
    ledger.run(postings.hold, HOLD)
    row = ledger.audit("s-1")[1]
    assert row.as_dict() == {
        "sequence": 2,
        "at": "2026-11-23T09:30:00+00:00",
        "kind": "call_held",
        "call_id": "c-1",
        "request_id": "r-1",
        "agent": "tax",
        "model": "gpt",
        "amount": "0.020000000",
        "scopes": [SESSION, REQUEST],
        "hash": row.hash,
    }


def test_sessions_at_a_glance(ledger: Ledger) -> None:
    """Sessions come newest first, with their requests, spend and last outcome."""
    open_request(ledger)
    run = ledger.run
    run(postings.hold, HOLD)
    run(postings.settle, "c-1", cost=CENT, usage=Usage(), response=None, at=NOW)
    run(requests.close_request, "s-1", "r-1", outcome="completed", at=NOW)
    run(requests.open_session, "s-2", "acme", at=NOW.replace(hour=10))
    rows = [(r.session_id, r.tenant, r.opened, r.requests, r.spent, r.outcome) for r in ledger.sessions()]
    assert rows == [
        ("s-2", "acme", NOW.replace(hour=10), 0, USD(0), None),
        ("s-1", "acme", NOW, 1, USD("0.01"), "completed"),
    ]


def test_reconcile_takes_amounts_only(ledger: Ledger) -> None:
    """A float is no amount to reconcile with."""
    with pytest.raises(AmountError):
        ledger.reconcile("c-1", 0.1)  # pyright: ignore[reportArgumentType]


def test_the_key_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a key argument the environment's key signs the log; no key shows in a representation."""
    monkeypatch.setenv("BURSAR_AUDIT_KEY", "secret")
    ledger = Ledger(f"sqlite:///{tmp_path}/keyed.db")
    open_request(ledger)
    assert ledger.verify().keyed
    transaction = ledger.run(lambda transaction: transaction)
    assert "secret" not in repr(ledger) + repr(transaction)
    assert not Ledger(ledger.database, key=b"another").verify()
    monkeypatch.delenv("BURSAR_AUDIT_KEY")
    assert not Ledger(ledger.database).verify().keyed
    ledger.database.close()
