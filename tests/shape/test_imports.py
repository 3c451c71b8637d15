"""Imports go one way, between folders and between the rooms of a folder; what is private stays in one file."""

import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from tests.shape.sources import ROOT, SOURCES, imported_modules, module_of

# Exceptions: each list may only shrink, and a test fails too when an entry is no longer needed.
TWO_WAY_FOLDERS: set[tuple[str, str]] = set()
KNOWS_DIALECTS = {
    "checkpoints/leases.py",
    "checkpoints/ledger/accounts.py",
    "checkpoints/ledger/hash_chain.py",
    "checkpoints/ledger/postings.py",
    "checkpoints/saver/rebasing.py",
    "checkpoints/saver/secure_delete.py",
    "checkpoints/saver/sql.py",
    "checkpoints/saver/store.py",
    "checkpoints/schema/metadata.py",
    "checkpoints/schema/migrate.py",
    "genie/agents/database_connector/connector.py",
    "genie/household/schema.py",
    "genie/importing/store.py",
    "nodes/runs/run.py",
}
PRIVATE_LANGGRAPH_HOME = "state/langgraph_private.py"
MODULES = {module_of(file).removesuffix(".__init__"): file for file in SOURCES}
FACE = "src/bursar/__init__.py"  # hands on names of every folder


def _lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    environment = {**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "200"}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment)


def _plant(folder: Path, wrong: str, imports: str) -> None:
    """A copy of the house in which only the imports that the contracts except, and one that is wrong, are left."""
    for file in [*(file.removeprefix("src/bursar/") for file in SOURCES), f"{wrong}.py"]:
        made = folder / "bursar" / file
        made.parent.mkdir(parents=True, exist_ok=True)
        made.touch()
    settings = (ROOT / "pyproject.toml").read_text()
    for importer, imported in re.findall(r'"(bursar\S+) -> (bursar\S+)"', settings):
        file = folder / Path(*importer.split(".")).with_suffix(".py")
        file.write_text(file.read_text() + f"import {imported}\n")
    (folder / "bursar" / f"{wrong}.py").write_text(f"import {imports}\n")
    (folder / "pyproject.toml").write_text(settings)


def test_layers_hold() -> None:
    """import-linter finds no import against the arrow."""
    checked = _lint_imports(ROOT)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize(
    ("wrong", "imports"),
    [
        ("state/wrong", "bursar.nodes.specialist_node"),
        ("nodes/routers/wrong", "bursar.genie.roster"),
        ("checkpoints/schema/wrong", "bursar.checkpoints.saver.rows"),
        ("checkpoints/ledger/wrong", "bursar.checkpoints.leases"),
        ("nodes/planning/wrong", "bursar.nodes.report"),
        ("nodes/isolation/wrong", "bursar.nodes.specialists.definition"),
        ("cli/wrong", "bursar.genie.app"),
        ("genie/wrong", "bursar.nodes.gateway.meter"),
        ("state/rules/wrong", "time"),
        ("state/rules/wrong", "sqlalchemy"),
    ],
)
def test_the_layer_check_bites(tmp_path: Path, wrong: str, imports: str) -> None:
    """A planted import against the arrow is found and named: between folders, and between rooms."""
    _plant(tmp_path, wrong, imports)
    checked = _lint_imports(tmp_path)
    assert checked.returncode == 1, checked.stdout + checked.stderr
    assert f"bursar.{wrong.replace('/', '.')}" in checked.stdout
    assert "1 broken" in checked.stdout


def test_no_two_folders_import_each_other() -> None:
    """Whoever reads one folder knows which others it may lead to, at every depth."""
    leads_to: defaultdict[str, set[str]] = defaultdict(set)
    for file, source in SOURCES.items():
        for name in imported_modules(source):
            target = MODULES.get(name) or MODULES.get(name.rpartition(".")[0])
            if target is not None and FACE not in {file, target}:
                leads_to[file.rpartition("/")[0]].add(target.rpartition("/")[0])
    pairs = {(a, b) for a, others in leads_to.items() for b in others if a < b and a in leads_to.get(b, ())}
    assert pairs == TWO_WAY_FOLDERS


def test_a_file_in_nodes_is_the_body_of_a_node() -> None:
    """What lies directly in `nodes/` is what the wiring adds to the graph; everything else has a room."""
    wiring = set(imported_modules(SOURCES["graphs/supervisor.py"]))
    nodes = {name for name, file in MODULES.items() if re.fullmatch(r"nodes/\w+\.py", file)}
    assert nodes == {name for name in nodes if any(wired.startswith(f"{name}.") for wired in wiring)}


def test_a_dialect_is_known_in_the_database_alone() -> None:
    """What PostgreSQL and SQLite do not share is written in `checkpoints/database/`."""
    files = {file for file, source in SOURCES.items() if re.search("dialect", source)}
    assert {file for file in files if not file.startswith("checkpoints/database/")} == KNOWS_DIALECTS


def test_private_parts_of_langgraph_are_named_in_one_file() -> None:
    """An upgrade of LangGraph has one file to look at."""
    private = r"langgraph\._internal|__pregel_|var_child_runnable_config"
    assert {file for file, source in SOURCES.items() if re.search(private, source)} == {PRIVATE_LANGGRAPH_HOME}
