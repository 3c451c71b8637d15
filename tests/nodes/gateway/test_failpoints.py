"""Failpoints: nothing unless armed, the named place at the named hit if armed, and no other name."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from bursar.nodes.gateway import failpoints
from bursar.state.errors import ConfigurationError


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    """Whatever a test armed is not armed after it."""
    yield
    failpoints.arm({})


@pytest.mark.slow
def test_the_process_is_killed_at_the_hit_that_was_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other names and earlier hits pass; the third hit is the last of the process, by a signal it cannot catch."""
    killed: list[tuple[int, int]] = []

    def kill(process: int, number: int) -> None:
        killed.append((process, number))

    monkeypatch.setattr(os, "kill", kill)
    failpoints.arm({"BURSAR_TESTING": "1", "BURSAR_FAILPOINT": "after_hold:3"})
    for name in ("after_hold", "before_hold", "after_hold", "after_settle"):
        failpoints.hit(name)
    assert killed == []
    failpoints.hit("after_hold")
    assert killed == [(os.getpid(), signal.SIGKILL)]


def test_without_one_armed_every_hit_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty environment arms nothing."""
    killed: list[int] = []

    def kill(process: int, number: int) -> None:
        killed.append(process)

    monkeypatch.setattr(os, "kill", kill)
    failpoints.arm({})
    for name in failpoints.NAMES:
        failpoints.hit(name)
    assert killed == []


@pytest.mark.parametrize("value", ["no_such_place", "after_hold:0", "after_hold:soon"])
def test_a_wrong_name_or_number_is_an_error(value: str) -> None:
    """A test that arms nothing by mistake would prove nothing."""
    with pytest.raises(ConfigurationError, match="BURSAR_FAILPOINT"):
        failpoints.arm({"BURSAR_TESTING": "1", "BURSAR_FAILPOINT": value})


@pytest.mark.slow
@pytest.mark.parametrize(("testing", "status"), [("1", -signal.SIGKILL), ("0", 0), (None, 0)])
def test_only_a_process_for_tests_is_killed(testing: str | None, status: int) -> None:
    """The variable that kills a test's process does nothing in one that was not started for tests."""
    environment = {**os.environ, "BURSAR_FAILPOINT": "after_hold"}
    environment.pop("BURSAR_TESTING", None)
    if testing is not None:
        environment["BURSAR_TESTING"] = testing
    code = "from bursar.nodes.gateway import failpoints; failpoints.hit('after_hold')"
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == status
