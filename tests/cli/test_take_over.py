"""`bursar resume` after a kill, from elsewhere, and from a process that still lives: the session goes on, once."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bursar import Ledger
from bursar.checkpoints.database.database import Database
from tests.cli.conftest import Run

ROOT = Path(__file__).parents[2]
QUESTION = ("ask", "What did I spend on groceries in March 2025?", "--session", "s-1", "--as-of", "2025-12-31")
RESUME = ("resume", "s-1", "--as-of", "2025-12-31", "--json")
DYING = """
from tests.crash.programs import failpoints
failpoints.arm("before_node_end")
from bursar.cli.main import main
main()
"""
# Stops where a failpoint would have killed it: a process that lives and does not get on. The thread itself gets the
# signal: if another one got it, this one could go on a little further.
STOPPING = f"""
import os, signal, threading
os.kill = lambda process, number: signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
{DYING}"""


def interrupted(folder: Path, program: str) -> "subprocess.Popen[str]":
    """`bursar ask` in a process of its own, which comes as far as the end of a specialist's node."""
    return subprocess.Popen(
        [sys.executable, "-c", program, *QUESTION],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def leases(sample: Path) -> list[str]:
    """What the log says of the session's lease; log and sums agree."""
    ledger = Ledger(f"sqlite:///{sample}")
    told = [row.event.action for row in ledger.audit("s-1") if row.event.kind == "lease"]
    assert ledger.verify()
    ledger.database.close()
    return told


@pytest.mark.slow
def test_a_killed_session_is_resumed_at_once(run: Run, sample: Path) -> None:
    """On the same host its lease does not hold anybody up."""
    killed = interrupted(sample.parent, DYING)
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    ended = run(*RESUME)
    assert ended.code == 0, ended.err or ended.out
    assert json.loads(ended.out)["answer"]
    assert leases(sample) == ["taken", "taken_over", "released"]


@pytest.mark.slow
def test_a_session_killed_elsewhere_is_taken_over_on_purpose(run: Run, sample: Path) -> None:
    """From another host nobody can tell that the process is gone: its lease counts, unless a person knows better."""
    killed = interrupted(sample.parent, DYING)
    killed.communicate(timeout=60)
    database = Database(f"sqlite:///{sample}")
    moved = database.run(lambda c: c.exec_driver_sql("UPDATE bursar_leases SET host = 'elsewhere'").rowcount)
    database.close()
    assert moved == 1
    assert run(*RESUME).refused_in_one_line(3, "bursar resume s-1 --take-over")
    ended = run(*RESUME, "--take-over")
    assert ended.code == 0, ended.err or ended.out
    assert leases(sample) == ["taken", "taken_over", "released"]


@pytest.mark.slow
def test_a_process_that_lives_is_superseded_and_keeps_nothing(run: Run, sample: Path) -> None:
    """It is stopped in the middle, taken over, and let go on: it is told in one line, and its work is not kept."""
    stopped = interrupted(sample.parent, STOPPING)
    try:
        assert os.WIFSTOPPED(os.waitpid(stopped.pid, os.WUNTRACED)[1])
        assert run(*RESUME).refused_in_one_line(3, f"process {stopped.pid} on ")
        ended = run(*RESUME, "--take-over")
        assert ended.code == 0, ended.err or ended.out
        stopped.send_signal(signal.SIGCONT)
        out, errors = stopped.communicate(timeout=60)
    finally:
        stopped.kill()
    assert stopped.returncode == 3
    assert out == ""
    assert len(errors.splitlines()) == 1
    assert "no longer owns it: another took it over" in errors
    assert leases(sample) == ["taken", "taken_over", "released"]
    again = run(*RESUME)
    assert json.loads(again.out)["answer"] == json.loads(ended.out)["answer"]
