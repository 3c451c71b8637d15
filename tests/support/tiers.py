"""Marks tests as quick or not: `pytest -m quick` runs the tests that have no other mark.

A folder or a fixture marks its tests. A single test is marked by hand if it takes seconds or starts a process. A
forgotten mark is found: a test without a mark that starts a process fails, and the error names the mark that it needs.
"""

import sys
from collections import Counter
from collections.abc import Generator
from pathlib import Path

import pytest

FOLDERS = {
    "tests/adversaries": "slow",
    "tests/benchmarks": "slow",
    "tests/conformance": "slow",
    "tests/crash": "crash",
    "tests/docs": "slow",
    "tests/graphs/never_stuck": "slow",
    "tests/graphs/never_two_writers": "slow",
    "tests/observability": "slow",
    "tests/properties": "slow",
    "tests/shape": "slow",
    "tests/simulation": "slow",
}
FIXTURES = {"new_postgres": "postgres", "studio": "studio", "program": "slow", "processes": "crash"}
MARKS = ("crash", "postgres", "slow", "studio")
STARTS = frozenset({"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system"})

ROOT = Path(__file__).parents[2]
left_out: Counter[str] = Counter()
_running: list[pytest.Item] = []


class ProcessStarted(AssertionError):
    """A test of the quick tier tried to start a process."""


def _watch(event: str, arguments: tuple[object, ...], starts: frozenset[str] = STARTS) -> None:
    # `starts` is a default argument because the interpreter clears this module's names before the last hooks run.
    if event in starts and _running and not marks_of(_running[-1]):
        raise ProcessStarted(f"{_running[-1].nodeid} starts a process: give it @pytest.mark.slow")


sys.addaudithook(_watch)


def marks_of(item: pytest.Item) -> list[str]:
    """Return those marks of a test that keep the test out of the quick tier; an empty list if it is quick."""
    return [mark for mark in MARKS if item.get_closest_marker(mark) is not None]


def is_quick(config: pytest.Config) -> bool:
    """Whether pytest was started with `-m quick`, for the quick tier only."""
    return str(config.getoption("markexpr")) == "quick"


def _folder_mark(path: Path) -> str | None:
    inside = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else ""
    return next((mark for folder, mark in FOLDERS.items() if f"{inside}/".startswith(f"{folder}/")), None)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Return True, which ignores the path, if pytest runs the quick tier and the path is in a folder of `FOLDERS`.

    So the tests of such a folder are not even imported. Otherwise return None, which leaves the decision to pytest.
    """
    return True if is_quick(config) and _folder_mark(collection_path) is not None else None


@pytest.hookimpl(tryfirst=True)  # before pytest looks at the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test by its folder and its fixtures; mark a test as quick if it has no mark then."""
    for item in items:
        if (mark := _folder_mark(item.path)) is not None:
            item.add_marker(mark)
        for fixture in set(FIXTURES) & set(getattr(item, "fixturenames", ())):
            item.add_marker(FIXTURES[fixture])
        if not marks_of(item):
            item.add_marker("quick")


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Count the tests that pytest leaves out, in `left_out`, by the first mark of each."""
    left_out.update(marks_of(item)[0] for item in items if marks_of(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Keep the test in `_running` while it runs: the audit hook `_watch` looks there."""
    _running.append(item)
    try:
        return (yield)
    finally:
        _running.pop()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """If this process is a pytest-xdist worker, send its counts to the process that prints them."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["left_out"] = dict(left_out)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object) -> None:
    """Take the counts of the first pytest-xdist worker that ends. Every worker has counted the same tests."""
    left_out.update(getattr(node, "workeroutput", {}).get("left_out", {}) if not left_out else {})


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """In a run of the quick tier, print how many tests and which folders it left out."""
    if is_quick(config):
        counts = ", ".join(f"{number} {mark}" for mark, number in sorted(left_out.items()))
        terminalreporter.write_line(f"Left out: {counts or 'no single tests'}, and the folders {', '.join(FOLDERS)}.")
        terminalreporter.write_line("`make test` runs everything.")
