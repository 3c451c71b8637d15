"""The notebooks as they are committed: no outputs, nothing of one machine. `make check` runs them."""

import json
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


def test_there_are_notebooks() -> None:
    """The rules below look at the four notebooks that the README names."""
    assert [file.name.split("_")[0] for file in NOTEBOOKS] == ["1", "2", "3", "4"]


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_is_committed_clean(file: Path) -> None:
    """Cells have no outputs and no counts, and the kernel is any Python 3."""
    notebook: dict[str, Any] = json.loads(file.read_text())
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert code
    assert [cell["id"] for cell in code if cell["outputs"] or cell["execution_count"] or cell["metadata"]] == []
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_checks_what_it_shows(file: Path) -> None:
    """A notebook asserts, so that running it is a test."""
    assert "assert " in file.read_text()
