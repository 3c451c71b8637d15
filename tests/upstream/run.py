"""LangGraph's own test suite with its checkpointer fixtures pointed at our saver, against the savers it ships with.

`make upstream` runs it: it downloads the source of the LangGraph that is installed, runs each test that takes a
checkpointer on SQLite and on PostgreSQL, sync and async, with our saver and with the bundled one, and fails if ours
fails a test that the bundled one passes. It ends with a reason, and 0, where the package index cannot be reached.
`sqlite` or `postgres` as an argument runs one of the two.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parents[2]
UV = ROOT / ".uv/bin/uv"
NEEDED = ("pytest", "pytest-mock", "pytest-xdist", "pytest-timeout", "syrupy", "httpx", "pycryptodome", "redis")
SAVERS = (("bundled-sqlite", "sqlite"), ("bundled-postgres", "postgres"))
OTHERS = ("test_prune_postgres.py",)  # tests a bundled saver by name
TEST_SECONDS = 60
Outcomes = dict[str, str]  # test: passed, failed, skipped


def main() -> int:
    """0 if ours fails nothing that the bundled saver passes."""
    folder = Path(tempfile.gettempdir()) / f"bursar-upstream-{version('langgraph')}"
    folder.mkdir(exist_ok=True)
    source = download(folder)
    if source is None:
        print("skipped: the source of langgraph cannot be downloaded from the package index")
        return 0
    shutil.copy(Path(__file__).with_name("fixtures.py"), source / "tests/conftest_checkpointer.py")
    python = environment(folder)
    worse: list[str] = []
    for bundled, ours in SAVERS:
        if len(sys.argv) > 1 and ours not in sys.argv[1:]:
            continue
        theirs, found = (run(folder, source, python, saver) for saver in (bundled, ours))
        only_ours = sorted(name for name, how in found.items() if how == "failed" and theirs.get(name) != "failed")
        if only_ours:  # some tests measure time: on a busy machine they are asked once more, alone
            found |= run(folder, source, python, ours, only_ours)
            only_ours = [name for name in only_ours if found[name] == "failed"]
        for saver, outcomes in ((bundled, theirs), (ours, found)):
            counts = {how: list(outcomes.values()).count(how) for how in ("passed", "failed", "skipped")}
            print(f"{saver}: {', '.join(f'{count} {how}' for how, count in counts.items())}")
        print("\n".join(f"  fails with ours alone: {name}" for name in only_ours))
        if len(found) < len(theirs) or "passed" not in found.values():
            only_ours.append("tests that did not run")
        worse += only_ours
    return 1 if worse else 0


def download(folder: Path) -> Path | None:
    """The unpacked source of the langgraph that is installed; None where it cannot be had."""
    name = f"langgraph-{version('langgraph')}"
    if not (folder / name).is_dir():
        command = [
            ROOT / ".uv/bin/python",
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
        ]
        command += ["--no-binary=:all:", "--dest", folder, name.replace("-", "==")]
        if subprocess.run(command, check=False).returncode:
            return None
        with tarfile.open(folder / f"{name}.tar.gz") as packed:
            packed.extractall(folder, filter="data")
    return folder / name


def environment(folder: Path) -> Path:
    """An interpreter that has our saver, the bundled ones, and what LangGraph's tests need, at the locked versions."""
    python = folder / "venv/bin/python"
    if not python.exists():
        subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, folder / "venv"], check=True)
    locked = [f"{name}=={version(name)}" for name in ("langgraph", "langgraph-checkpoint", "langchain-core")]
    bundled = [
        f"langgraph-checkpoint-{name}=={version(f'langgraph-checkpoint-{name}')}" for name in ("sqlite", "postgres")
    ]
    command = [UV, "pip", "install", "--quiet", "--python", python, "--editable", f"{ROOT}[postgres,cipher]"]
    subprocess.run([*command, *locked, *bundled, *NEEDED], check=True)
    return python


def run(folder: Path, source: Path, python: Path, saver: str, only: Sequence[str] = ()) -> Outcomes:
    """The outcome of each test that takes a checkpointer, or of those that are named."""
    report = folder / f"{saver}.xml"
    report.unlink(missing_ok=True)
    files = [str(file) for file in sorted(source.glob("tests/test_*.py")) if takes_a_checkpointer(file)]
    if only:
        files = [f"{name.partition('::')[0].replace('.', '/')}.py::{name.partition('::')[2]}" for name in only]
    command = [str(python), "-m", "pytest", *files, "-q", "-k", "sqlite", "-n", "0" if only else "2"]
    command += ["--timeout", str(TEST_SECONDS), "-p", "no:cacheprovider", "--tb=short", f"--junitxml={report}"]
    variables = {**os.environ, "BURSAR_UPSTREAM": saver, "NO_DOCKER": "true", "LANGSMITH_TRACING": "false"}
    with (folder / f"{saver}.txt").open("w") as output:
        subprocess.run(command, cwd=source, env=variables, stdout=output, stderr=output, check=False)
    if not report.exists():
        raise SystemExit(f"LangGraph's tests did not run; see {folder / saver}.txt")
    return {
        f"{case.get('classname')}::{case.get('name')}": outcome(case)
        for case in ElementTree.parse(report).iter("testcase")
    }


def takes_a_checkpointer(file: Path) -> bool:
    """Whether a file's tests use the fixtures."""
    return "_checkpointer" in file.read_text() and file.name not in OTHERS


def outcome(case: ElementTree.Element) -> str:
    """How a test ended."""
    if case.find("failure") is not None or case.find("error") is not None:
        return "failed"
    return "skipped" if case.find("skipped") is not None else "passed"


if __name__ == "__main__":
    sys.exit(main())
