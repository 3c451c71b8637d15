"""Breakers and pauses in the database: one probe among many, kept over restarts, audited, seen at once."""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from bursar.checkpoints.database.database import Database
from bursar.checkpoints.ledger import circuit_breakers as breakers
from bursar.checkpoints.ledger import requests
from bursar.checkpoints.ledger.admission_facts import read_admission_facts
from bursar.checkpoints.ledger.circuit_breakers import Caller
from bursar.checkpoints.ledger.ledger import Ledger
from bursar.state.circuit_breaker import RULE
from bursar.state.errors import LedgerError
from bursar.state.events import BreakerChanged
from tests.checkpoints.conftest import KEY, NOW

NAME = "model:openai/gpt-4o-mini"
LATER = NOW + timedelta(seconds=RULE.rest_seconds)
CLAIM = """
import sys
from datetime import datetime
from concurrent.futures import ThreadPoolExecutor
from bursar.checkpoints.ledger import circuit_breakers as breakers
from bursar.checkpoints.ledger.circuit_breakers import Caller
from bursar.checkpoints.ledger.ledger import Ledger
url, name, at, key, process = sys.argv[1:]
ledger, when = Ledger(url, key=key.encode()), datetime.fromisoformat(at)
def claim(number):
    caller = Caller(f"{process}-{number}", "acme", f"s-{number}")
    return ledger.run(breakers.claim, name, caller, when)
with ThreadPoolExecutor(20) as pool:
    print(sum(pool.map(claim, range(100))))
ledger.database.close()
"""


def fail(ledger: Ledger, sessions: int = 3, *, calls: int = 1) -> None:
    for number in range(200):
        ledger.database.run(ledger.bind(requests.open_session, f"s-{number}", "acme", at=NOW), durable=False)
    for number in range(sessions * calls):
        caller = Caller(f"c-{number}", "acme", f"s-{number % sessions}")
        ledger.run(breakers.failed, NAME, caller, NOW)


@pytest.mark.slow
def test_of_200_callers_in_two_processes_one_probes(ledger: Ledger, url: str) -> None:
    """A half-open breaker lets exactly one of them through, and it stays open for a process that starts later."""
    fail(ledger)
    command = [sys.executable, "-c", CLAIM, url, NAME, LATER.isoformat(), KEY.decode()]
    processes = [subprocess.Popen([*command, str(n)], stdout=subprocess.PIPE, text=True) for n in range(2)]
    assert sum(int(process.communicate(timeout=120)[0]) for process in processes) == 1
    assert [process.returncode for process in processes] == [0, 0]
    [row] = Ledger(Database(url), key=KEY, clock=lambda: LATER).breakers()
    assert (row.name, row.state, row.probing) == (NAME, "half_open", True)
    told = [row.event for number in range(100) for row in ledger.audit(f"s-{number}")]
    assert sorted(event.change for event in told if isinstance(event, BreakerChanged)) == ["opened", "probed"]
    assert ledger.verify()


def test_of_200_tasks_one_probes(ledger: Ledger) -> None:
    """On one event loop as in threads; given back, the next one has it."""
    fail(ledger)

    async def claim(number: int) -> bool:
        caller = Caller(f"p-{number}", "acme", f"s-{number}")
        return await ledger.arun(breakers.claim, NAME, caller, LATER)

    async def all_of_them() -> list[bool]:
        return await asyncio.gather(*(claim(number) for number in range(200)))

    first = asyncio.run(all_of_them())
    assert first.count(True) == 1
    caller = Caller(f"p-{first.index(True)}", "acme", "s-0")
    ledger.run(breakers.released, NAME, caller, LATER)
    assert asyncio.run(all_of_them()).count(True) == 1


def test_of_200_threads_one_probes_and_its_success_closes(ledger: Ledger) -> None:
    """One of two hundred; its fault opens it anew, a success makes the row go, and then everybody is let through."""
    fail(ledger)

    def claim(number: int) -> bool:
        caller = Caller(f"p-{number}", "acme", f"s-{number}")
        return ledger.run(breakers.claim, NAME, caller, LATER)

    with ThreadPoolExecutor(40) as pool:
        claimed = list(pool.map(claim, range(200)))
    assert claimed.count(True) == 1
    caller = Caller(f"p-{claimed.index(True)}", "acme", "s-0")
    ledger.run(breakers.succeeded, NAME, caller, LATER)
    assert ledger.breakers() == []
    assert all(claim(number) for number in range(3))


def test_one_session_opens_it_for_nobody(ledger: Ledger) -> None:
    """A hundred faults of one session leave it closed, and visible."""
    fail(ledger, 1, calls=100)
    [row] = ledger.breakers()
    assert (row.state, row.failing, row.calling) == ("closed", 1, 1)


def test_a_record_that_cannot_be_read_stops_nobody(ledger: Ledger, execute: Callable[..., int]) -> None:
    """A damaged row is as good as none."""
    fail(ledger)
    execute("UPDATE bursar_breakers SET record = 'x'")
    now = ledger.run(read_admission_facts, ("global",), pauses=("all",), breakers=[NAME], at=NOW)
    assert now.breakers[NAME].admits(NOW)


def test_a_pause_is_kept_and_audited(ledger: Ledger, execute: Callable[..., int]) -> None:
    """Who, when and why; another ledger sees it; the log verifies, is no session, and a row behind its back shows."""
    assert ledger.pause("agent:tax", by="ann", note="wrong rates")
    assert not ledger.pause("agent:tax", by="bob")
    assert [(row.scope, row.by, row.note) for row in ledger.pauses()] == [("agent:tax", "ann", "wrong rates")]
    assert ledger.verify(), str(ledger.verify())
    assert ledger.sessions() == []
    assert [row.kind for row in ledger.audit("bursar:pauses")] == ["pause_set"]
    execute("DELETE FROM bursar_pauses")
    assert "agent:tax was paused and not lifted" in str(ledger.verify())
    assert ledger.pause("agent:tax", by="ann")
    assert ledger.unpause("agent:tax", by="ann", note="mended")
    assert not ledger.unpause("agent:tax")
    assert ledger.verify(), str(ledger.verify())
    execute("INSERT INTO bursar_pauses VALUES ('all', :at, 'eve', '')", at=NOW.isoformat())
    assert "its log does not say so" in str(ledger.verify())


@pytest.mark.parametrize("what", ["", "tax", "agent:", "tenant: ", "session:s-1", "agent:a\nb"])
def test_only_what_can_be_paused_is(ledger: Ledger, what: str) -> None:
    """Anything else is refused in one line, and nothing is written."""
    with pytest.raises(LedgerError, match="all, agent:NAME or tenant:NAME"):
        ledger.pause(what)
    assert ledger.pauses() == []


def test_no_session_takes_the_name_of_the_log(ledger: Ledger) -> None:
    """Else its events would stand among the pauses."""
    with pytest.raises(LedgerError, match="name the session otherwise"):
        ledger.run(requests.open_session, "bursar:pauses", "acme", at=NOW)
