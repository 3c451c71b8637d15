"""Failpoints: nothing unless armed, the named place at the named hit if armed, and no other name."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.programs import failpoints

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    """Whatever a test armed is not armed after it."""
    yield
    failpoints.arm("")


def reach(name: str) -> None:
    """Do what gateway and nodes do at such a place."""
    sys.audit("bursar.failpoint", name)


@pytest.mark.slow
def test_the_process_is_killed_at_the_hit_that_was_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other names and earlier hits pass; the third hit is the last of the process, by a signal it cannot catch."""
    killed: list[tuple[int, int]] = []

    def kill(process: int, number: int) -> None:
        killed.append((process, number))

    monkeypatch.setattr(os, "kill", kill)
    failpoints.arm("after_hold:3")
    for name in ("after_hold", "before_hold", "after_hold", "after_settle"):
        reach(name)
    assert killed == []
    reach("after_hold")
    assert killed == [(os.getpid(), signal.SIGKILL)]


def test_without_one_armed_every_hit_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is armed by nothing."""
    killed: list[int] = []

    def kill(process: int, number: int) -> None:
        killed.append(process)

    monkeypatch.setattr(os, "kill", kill)
    failpoints.arm("")
    for name in failpoints.NAMES:
        reach(name)
    assert killed == []


@pytest.mark.parametrize("value", ["no_such_place", "after_hold:0", "after_hold:soon"])
def test_a_wrong_name_or_number_is_an_error(value: str) -> None:
    """A test that arms nothing by mistake would prove nothing."""
    with pytest.raises(ValueError, match="a failpoint is one of"):
        failpoints.arm(value)


def test_each_name_is_a_place_in_the_source() -> None:
    """A place that was renamed or forgotten is found here."""
    sources = "".join(file.read_text() for file in (ROOT / "nodes").rglob("*.py"))
    places = set(re.findall(r'sys\.audit\("bursar\.failpoint", "(\w+)"\)', sources))
    assert places == set(failpoints.ALL_NAMES)


@pytest.mark.slow
def test_only_a_process_that_arms_one_is_killed() -> None:
    """In a process of a user nobody listens, so the same place does nothing."""
    reached = "import sys, bursar; sys.audit('bursar.failpoint', 'after_hold')"
    armed = f"from tests.crash.programs import failpoints; failpoints.arm('after_hold'); {reached}"
    for code, status in ((reached, 0), (armed, -signal.SIGKILL)):
        assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == status
