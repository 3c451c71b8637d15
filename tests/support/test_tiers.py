"""A test of the quick tier cannot start a process."""

import subprocess
import sys

import pytest

from tests.support.tiers import ProcessStarted, marks_of


def test_a_quick_test_cannot_start_a_process(request: pytest.FixtureRequest) -> None:
    """A test without a mark that starts a process fails, and the error names the mark that the test needs."""
    assert request.node.get_closest_marker("quick") is not None
    assert marks_of(request.node) == []
    with pytest.raises(ProcessStarted, match="test_a_quick_test_cannot_start_a_process starts a process: give it @"):
        subprocess.run([sys.executable, "-c", ""], check=True)


@pytest.mark.slow
def test_a_marked_test_may(request: pytest.FixtureRequest) -> None:
    """A test with the mark `slow` can start a process, and has no other mark."""
    assert marks_of(request.node) == ["slow"]
    subprocess.run([sys.executable, "-c", ""], check=True)
