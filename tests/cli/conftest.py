"""The command line over databases of its own: run in this process, or as a program where only that shows it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from bursar.cli import main as cli
from tests.support.household import sample_file

__all__ = ["Ended", "Run", "program", "run", "sample", "sample_file"]


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code and what it printed."""

    code: int
    out: str
    err: str

    def refused_in_one_line(self, code: int, word: str) -> bool:
        """Whether it ended with `code` and one line on stderr that holds `word`, and no traceback."""
        return (
            self.code == code and len(self.err.splitlines()) == 1 and word in self.err and "Traceback" not in self.err
        )


Run = Callable[..., Ended]
HEAVY = ("numpy", "scipy", "sklearn", "pandas", "cvxpy", "openai", "langchain_openai", "genai_prices")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """`run("ask", "…")` runs `bursar ask …` in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["bursar", *arguments])
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        captured = capsys.readouterr()
        return Ended(code, captured.out, captured.err)

    return call


@pytest.fixture
def program(tmp_path: Path) -> Callable[[Sequence[str]], "subprocess.Popen[str]"]:
    """`program(["ask", "…"])` starts `python -m bursar ask …` in an empty folder."""

    def start(arguments: Sequence[str]) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "bursar", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.fixture
def sample(sample_file: Path, tmp_path: Path) -> Path:
    """The sample household as `genie.db`, the default database, in the test's own folder."""
    return Path(shutil.copy(sample_file, tmp_path / "genie.db"))
