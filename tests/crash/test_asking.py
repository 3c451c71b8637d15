"""`kill -9` around a raise of a budget: it is made once, and nothing is paid twice."""

import signal

import pytest

from bursar.checkpoints.ledger.ledger import Ledger
from bursar.state.money import USD
from tests.crash.programs import forks
from tests.support.approvals import verdicts

KILLED = -signal.SIGKILL


@pytest.mark.parametrize("deaths", [["approved"], ["approved", "raised"]], ids=" ".join)
def test_it_goes_on_in_another_process(url: str, deaths: list[str]) -> None:
    """Killed between approval and resume, and again after the raise: another process goes on where it stood."""
    leg = {"database": url, "session": "s-1"}
    with forks.legs("tests.crash.programs.capped") as legs:
        for number, death in enumerate(deaths):
            assert legs.run(**leg, start=not number, replies=6, dies=death) == (KILLED, None)
        status, answer = legs.run(**leg, start=False, replies=9, dies="")
    assert status == 0
    assert answer == {"answer": "done", "calls": 3 - len(deaths), "gaps": []}
    ledger = Ledger(url)
    spend = ledger.spend("s-1")
    assert (spend.spent, spend.calls) == (USD("0.04"), 8)
    assert verdicts(ledger) == ["asked", "approved", "used"]
    assert [row.kind for row in ledger.audit("s-1")].count("topped_up") == 2
    assert ledger.verify()
    ledger.close()
