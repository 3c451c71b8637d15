"""The house rules, as tests: words that must not be there, the switch that keeps tests offline, what is public."""

import ast
import re
import runpy
import socket
import subprocess
import sys

import pytest

from tests.shape.sources import ROOT, SOURCES

# Exceptions that may only shrink.
BROAD_HANDLERS = {
    "nodes/gateway/send_with_retries.py": 2,  # money is put in order on any end, then the error goes on
    "nodes/gateway/paid_calls/admission.py": 1,
    "nodes/gateway/paid_calls/flow.py": 3,
    "nodes/observers/telling.py": 1,  # an observer that raises is logged and dropped
}


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
