"""Real processes that share one tenant's budget. Run as a script, this file is one of them.

`SOAK_HOLDS=2500` runs the full race of 10,000 holds.
"""

import os
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from bursar.checkpoints.ledger import postings, requests
from bursar.checkpoints.ledger.accounts import Account, left
from bursar.checkpoints.ledger.calls import Hold, Usage
from bursar.checkpoints.ledger.ledger import Ledger
from bursar.state.money import USD
from bursar.state.refusals import BudgetExceeded

NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
KEY = b"a key of the tests"
PROCESSES = 4
HOLDS = int(os.environ.get("SOAK_HOLDS", "100"))  # by each process
AMOUNT = 1_000_000
TENANT = "tenant:acme:2026-11-23"


def spend(url: str, name: str, holds: int, cap: int) -> None:
    """Hold as often as told; void every fourth, leave every fourth held, settle the others at half their hold."""
    ledger = Ledger(url, key=KEY, clock=lambda: NOW)
    run = ledger.run
    scopes = (TENANT, f"session:{name}", f"request:{name}")
    run(requests.open_session, name, "acme", at=NOW)
    accounts = [Account(TENANT, cap), Account(scopes[1], None), Account(scopes[2], None)]
    run(requests.open_request, name, name, accounts=accounts, text_hash="t", at=NOW)
    print("ready", flush=True)
    sys.stdin.readline()
    granted = 0
    for number in range(holds):
        call = f"{name}-{number}"
        try:
            run(postings.hold, Hold(call, name, name, "tax", "ns", "h", number, "gpt", "p", AMOUNT, scopes, NOW))
        except BudgetExceeded:
            continue
        granted += 1
        if granted % 4 == 0:
            run(postings.void, call, reason="429", at=NOW)
        elif granted % 4 != 1:
            run(postings.settle, call, cost=AMOUNT // 2, usage=Usage(), response=None, at=NOW)
    print(granted, flush=True)
    ledger.database.close()


@pytest.mark.slow
def test_processes_share_one_tenants_budget(url: str) -> None:
    """Four processes that hold against one tenant's day are never over its cap, and every sum is exact."""
    cap = PROCESSES * HOLDS * AMOUNT // 4  # half of what they would be charged if all were granted
    command = [sys.executable, __file__, url]
    racers = [
        subprocess.Popen(
            [*command, f"s-{number}", str(HOLDS), str(cap)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for number in range(PROCESSES)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("\n")
        racer.stdin.flush()
    granted = [int(racer.communicate(timeout=600)[0]) for racer in racers]
    assert [racer.returncode for racer in racers] == [0] * PROCESSES

    ledger = Ledger(url, key=KEY, clock=lambda: NOW)
    rest = ledger.run(left, [TENANT])
    assert rest is not None
    (day,) = ledger.costs("day")
    held = sum(1 + (count - 1) // 4 for count in granted if count)
    void = sum(count // 4 for count in granted)
    settled = sum(granted) - held - void
    assert (day.held, day.spent) == (USD.from_nanos(held * AMOUNT), USD.from_nanos(settled * AMOUNT // 2))
    assert day.calls == held + settled
    assert rest == cap - held * AMOUNT - settled * AMOUNT // 2
    assert 0 <= rest < AMOUNT  # they wanted more, so it was used up to less than one hold
    assert sum(granted) < PROCESSES * HOLDS
    spent = {f"s-{number}" for number, count in enumerate(granted) if count}  # a fast process may leave others nothing
    assert {row.name for row in ledger.costs("session")} == spent
    verification = ledger.verify()
    assert verification, str(verification)
    ledger.database.close()


if __name__ == "__main__":
    spend(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
