"""`bursar drill`: the matrix for people, one document for machines, and an exit code that tells."""

import json

import pytest

from bursar.testing import drill_runner
from tests.cli.conftest import Run

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def short_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what hangs waits, for a small share of the request's deadline; all else has half a minute."""
    monkeypatch.setattr(drill_runner, "AGENT_SHARE", 0.02)
    monkeypatch.setattr(drill_runner, "ROUTER_SHARE", 0.02)


def test_the_matrix(run: Run) -> None:
    """A row for each fault, a column for each agent, and a line that sums up."""
    ended = run("drill", "--agent", "fraud_detection", "--fault", "exception", "--fault", "hang", "--deadline", "30")
    assert ended.code == 0, ended.out + ended.err
    assert "fraud detection" in ended.out
    assert "3 of 3 passed" in ended.out


def test_one_document(run: Run) -> None:
    """`--json` has every cell with its end and what answered instead."""
    ended = run("drill", "--agent", "supervisor", "--agent", "compliance_checker", "--deadline", "30", "--json")
    found = json.loads(ended.out)
    assert (ended.code, found["passed"]) == (0, True), ended.out
    assert {(cell["agent"], cell["end"]) for cell in found["cells"]} == {
        ("supervisor", "replaced"),
        ("compliance_checker", "refused"),
    }


def test_wrong_use_is_one_line(run: Run) -> None:
    """An agent that there is not is named, with those that there are."""
    assert run("drill", "--agent", "ghost").refused_in_one_line(2, "no agent ghost; there are account_analysis")
    assert run("drill", "--deadline", "0").refused_in_one_line(2, "deadline")
