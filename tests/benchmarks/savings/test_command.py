"""`python -m benchmarks.savings` without the recorded runs."""

import sys
from pathlib import Path

import pytest

from benchmarks.savings import run
from benchmarks.savings.__main__ import main


def test_without_the_recorded_runs_it_says_so_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And fails nothing: the recordings are not part of the repository."""
    monkeypatch.setattr(sys, "argv", ["savings", "--data", str(tmp_path)])
    assert main() == 0
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert "not here" in said


def test_without_them_the_benchmark_has_no_figures_and_no_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is one of many that are run together."""

    def is_there(folder: Path) -> bool:
        return False

    monkeypatch.setattr("benchmarks.savings.measure.is_there", is_there)
    [result] = run(smoke=False)
    assert result.figures == {}
    assert result.faults == []
    assert len(result.notes) == 1


def test_what_is_kept_is_printed_without_playing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The page's picture is drawn from the totals in the repository."""
    picture = tmp_path / "savings.svg"
    monkeypatch.setattr(sys, "argv", ["savings", "--kept", "--markdown", "--plot", str(picture)])
    assert main() == 0
    assert picture.read_text().startswith("<svg")
