"""The command line of the benchmarks."""

import sys
import warnings

import pytest

from benchmarks.__main__ import main
from benchmarks.harness import Result


@pytest.mark.parametrize("faults", [[], ["caching alone, spent: 1 before, 2 now"]])
def test_a_fault_fails_a_smoke_run_and_nothing_else_does(
    faults: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A benchmark that measures no time prints its lines, and its faults decide."""

    def run(*, smoke: bool) -> list[Result]:
        assert smoke
        return [Result("what saves money", notes=["a line", *faults], faults=faults)]

    monkeypatch.setattr("benchmarks.savings.run", run)
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--smoke", "savings"])
    with warnings.catch_warnings():  # the command line turns warnings off
        assert main() == len(faults)
    assert "a line" in capsys.readouterr().out
