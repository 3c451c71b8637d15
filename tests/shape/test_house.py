"""The house rules, as tests: sizes, layers, words that must not be there, the switch that keeps tests offline."""

import ast
import os
import re
import runpy
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("state", "checkpoints", "nodes", "graphs", "genie", "src/bursar")
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_POSITIONAL = 5

# Exceptions that may only shrink: "file" or "file:function".
LONG_FILES: set[str] = set()
LONG_FUNCTIONS: set[str] = set()
BROAD_HANDLERS = {
    "nodes/gateway/chat_call.py": 2,  # money is settled on any end, then the error goes on
    "nodes/gateway/admission.py": 1,
    "nodes/gateway/flow.py": 3,
}


def _sources() -> Iterator[tuple[str, str]]:
    for folder in FOLDERS:
        for file in sorted((ROOT / folder).rglob("*.py")):
            inside = file.relative_to(ROOT)
            if not any(parent.is_symlink() for parent in [file, *file.parents]):
                yield str(inside), file.read_text()


SOURCES = dict(_sources())


def _functions(source: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_there_is_something_to_check() -> None:
    """The rules below look at real files of every folder."""
    assert {file.split("/")[0] for file in SOURCES} == {"state", "checkpoints", "nodes", "graphs", "genie", "src"}


def test_a_file_has_at_most_400_lines() -> None:
    """A file has one idea."""
    long = {file for file, source in SOURCES.items() if source.count("\n") > MAX_FILE_LINES}
    assert long == LONG_FILES


def test_a_function_has_at_most_60_lines() -> None:
    """A function can be read at a glance."""
    long = {
        f"{file}:{function.name}"
        for file, source in SOURCES.items()
        for function in _functions(source)
        if (function.end_lineno or 0) - function.lineno >= MAX_FUNCTION_LINES
    }
    assert long == LONG_FUNCTIONS


def test_a_function_takes_at_most_five_positional_parameters() -> None:
    """Beyond five, parameters are named."""
    wide = [
        f"{file}:{function.name}"
        for file, source in SOURCES.items()
        for function in _functions(source)
        if len([a for a in function.args.posonlyargs + function.args.args if a.arg not in {"self", "cls"}])
        > MAX_POSITIONAL
    ]
    assert wide == []


def test_state_knows_no_any() -> None:
    """`state/` is typed throughout."""
    loose = [f for f, source in SOURCES.items() if f.startswith("state/") and re.search(r"\bAny\b", source)]
    assert loose == []


def test_broad_handlers_stand_only_at_the_boundaries() -> None:
    """`except Exception` is written where a fault becomes an outcome, nowhere else."""
    found: dict[str, int] = {}
    for file, source in SOURCES.items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ExceptHandler):
                caught = "" if node.type is None else ast.unparse(node.type)
                if node.type is None or re.search(r"\b(Exception|BaseException)\b", caught):
                    found[file] = found.get(file, 0) + 1
    assert found == BROAD_HANDLERS


def test_money_is_never_a_float() -> None:
    """No conversion to float stands in the files that move money."""
    paths = ("state/money.py", "state/budget.py", "checkpoints/", "nodes/gateway/prices.py", "nodes/gateway/bounds.py")
    floats = [file for file, source in SOURCES.items() if file.startswith(paths) and re.search(r"\bfloat\(", source)]
    assert floats == []


def test_the_clock_is_passed_in() -> None:
    """Nobody reads the clock or draws an id in a core; the edges that do are listed."""
    allowed = {
        "graphs/supervisor.py",
        "genie/app.py",
        "nodes/gateway/standalone.py",
        "checkpoints/ledger/ledger.py",
        "checkpoints/saver/saver.py",
        "genie/cli.py",
    }
    reading = {
        file
        for file, source in SOURCES.items()
        if re.search(r"datetime\.now\(|date\.today\(|uuid\.uuid4\(|time\.time\(|random\.random\(", source)
    }
    assert reading <= allowed


def _lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    environment = {**os.environ, "PYTHONPATH": str(folder)} if folder != ROOT else None
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment)


def test_layers_hold() -> None:
    """import-linter finds no import against the arrow."""
    checked = _lint_imports(ROOT)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize(
    ("wrong", "imports"),
    [
        ("state/wrong", "bursar.nodes.specialist_node"),
        ("nodes/wrong", "bursar.genie.roster"),
        ("cli/wrong", "bursar.genie.app"),
        ("genie/wrong", "bursar.nodes.gateway.meter"),
    ],
)
def test_the_layer_check_bites(tmp_path: Path, wrong: str, imports: str) -> None:
    """A planted import against the arrow, of Genie, or by Genie of what is not public, is found and named."""
    for module in [*(file.removeprefix("src/bursar/") for file in SOURCES), f"{wrong}.py"]:
        file = tmp_path / "bursar" / module
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"import {imports}\n" if module == f"{wrong}.py" else "")
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    checked = _lint_imports(tmp_path)
    assert checked.returncode == 1, checked.stdout + checked.stderr
    assert f"bursar.{wrong.replace('/', '.')}" in checked.stdout


def test_tests_cannot_reach_beyond_loopback() -> None:
    """The kill switch of the root conftest bites."""
    with socket.socket() as outside, pytest.raises(AssertionError, match=r"203\.0\.113\.1"):
        outside.connect(("203.0.113.1", 80))


def test_the_import_stays_light() -> None:
    """`import bursar` loads none of the libraries that only some users need."""
    heavy = ("sklearn", "numpy", "scipy", "pandas", "pypfopt", "cvxpy", "alembic", "genai_prices", "openai", "typer")
    code = f"import sys, bursar; print([m for m in {heavy!r} if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_help_is_quick() -> None:
    """`bursar --help` loads neither LangGraph nor a database's library."""
    command = [sys.executable, "-X", "importtime", "-m", "bursar", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "bursar.cli.main" in shown.stderr
    assert "Usage" in shown.stdout
    assert not re.search(r"\| +(langgraph|langchain_core|sqlalchemy)\b", shown.stderr)


def test_every_public_name_is_there() -> None:
    """Names that load on first use are all found, are listed, and are the ones that type checkers see."""
    import bursar

    source = (ROOT / "src/bursar/__init__.py").read_text()
    [seen] = [
        node
        for node in ast.parse(source).body
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    ]
    declared = {alias.name for node in seen.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert declared == set(bursar.__all__)
    for name in bursar.__all__:
        assert getattr(bursar, name) is not None
        assert name in dir(bursar)
    with pytest.raises(AttributeError, match="no attribute 'ghost'"):
        bursar.ghost  # type: ignore[attr-defined]  # noqa: B018


def test_every_mutant_finds_its_text() -> None:
    """A fault that cannot be planted any more would count as caught by nobody."""
    mutants = runpy.run_path(str(ROOT / "tests/mutation/mutants.py"))["MUTANTS"]
    stale = [mutant.name for mutant in mutants if (ROOT / mutant.file).read_text().count(mutant.old) != 1]
    assert stale == []
