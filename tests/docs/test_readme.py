"""What the README says, tried: its sample runs in a base install without a key, and it stays a front door."""

import os
import subprocess
import sys
from pathlib import Path

from tests.docs.pages import README, blocks, first_column

PAGE = README.read_text()
EXTRAS = ("sklearn", "scipy", "numpy", "pandas", "psycopg", "cryptography", "pypfopt", "stdnum")
LIMIT_BYTES = 9_000


def test_the_sample_runs_in_a_base_install_without_a_key(tmp_path: Path) -> None:
    """No extra is installed, no key is set, no server answers: the first block runs as it stands."""
    _, sample = next(blocks(PAGE, "python"))
    absent = f"import sys\nfor name in {EXTRAS!r}:\n    sys.modules[name] = None\n"
    settings = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "BURSAR_"))}
    done = subprocess.run(
        [sys.executable, "-c", absent + sample],
        cwd=tmp_path,
        env=settings,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:2] == ["Most of it went to rent.", "answered []"]


def test_the_real_model_takes_the_scripted_ones_place() -> None:
    """One line changes: the name that the handler uses is bound anew."""
    first, second = (source for _, source in blocks(PAGE, "python"))
    assert "model = meter(ScriptedModel(" in first
    assert "model = meter(ChatOpenAI(" in second


def test_it_is_a_front_door() -> None:
    """It has the two commands first, the six promises, and a size that is read in minutes."""
    assert len(PAGE.encode()) <= LIMIT_BYTES
    _, commands = next(blocks(PAGE, "sh"))
    assert [line.split("#")[0].strip() for line in commands.splitlines()] == ["make demo", "make test"]
    assert len(first_column(PAGE, "promise")) == 6
