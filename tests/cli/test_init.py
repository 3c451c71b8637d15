"""`bursar init`: a small app and its test that run as they are, from an install without extras."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Run

STARTER = ["app.py", "test_app.py"]
EXTRAS = ("sklearn", "scipy", "numpy", "pandas", "psycopg", "cryptography", "pypfopt", "stdnum")
MAX_LINES = 32


def test_it_writes_an_app_and_its_test_and_says_how_to_run_them(run: Run, tmp_path: Path) -> None:
    """Into a folder that it makes; the commands that it names begin in that folder."""
    ended = run("init", "new/app")
    assert ended.code == 0
    assert sorted(path.name for path in (tmp_path / "new/app").iterdir()) == STARTER
    assert "cd new/app && python app.py" in ended.out
    assert sum(map(bool, (tmp_path / "new/app/app.py").read_text().splitlines())) <= MAX_LINES


def test_it_writes_here_if_no_folder_is_named(run: Run, tmp_path: Path) -> None:
    """Machines get the names of the files."""
    assert json.loads(run("init", "--json").out) == {"written": STARTER}
    assert sorted(path.name for path in tmp_path.iterdir()) == STARTER


@pytest.mark.parametrize("there", STARTER)
def test_it_overwrites_nothing(there: str, run: Run, tmp_path: Path) -> None:
    """If one of the files is there it writes neither, and says which is in the way and what to do."""
    (tmp_path / there).write_text("mine")
    ended = run("init")
    assert ended.refused_in_one_line(2, f"{there} would be overwritten; name another folder: bursar init FOLDER")
    assert [path.name for path in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "mine"


def test_a_folder_that_cannot_be_made_is_one_line(run: Run, tmp_path: Path) -> None:
    """As where a file has its name."""
    (tmp_path / "file").write_text("")
    assert run("init", "file/app").refused_in_one_line(2, "file")


@pytest.mark.slow
def test_the_app_answers_and_its_test_passes(run: Run, tmp_path: Path) -> None:
    """Without extras, without a key, outside the checkout; the audit command that it names works."""
    run("init")
    # A package that is None in `sys.modules` is not installed, as far as an import can tell.
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nfor name in {EXTRAS!r}:\n    sys.modules[name] = None\n")
    answer = _python(tmp_path, "app.py", "Where did my money go in March?").splitlines()
    assert answer[0] == "Most of it went to rent."
    assert answer[1].startswith("answered for $0.00")
    assert "call_settled" in _python(tmp_path, "-m", *answer[1].partition("To see why: ")[2].split())
    assert "2 passed" in _python(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider")


def _python(folder: Path, *arguments: str) -> str:
    settings = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "BURSAR_"))}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**settings, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
