"""How a handler ended, and what the outcome of its run is then."""

import time

import pytest

from bursar.nodes.context.outcome import verdict_of
from bursar.nodes.isolation.captured import Captured
from bursar.state.errors import DatabaseError
from bursar.state.run import Fault, Limit, Outcome, Report
from tests.support.bench import Bench


@pytest.mark.parametrize(("left", "limit", "fault"), [(-0.01, Limit.DEADLINE, None), (60.0, None, Fault.DATABASE)])
def test_a_database_that_kept_a_run_until_its_deadline(
    bench: Bench, left: float, limit: Limit | None, fault: Fault | None
) -> None:
    """A hold waits for a lock until the deadline: its error, heard after it, is the deadline; before it, a fault."""
    scope = bench.scope(deadline=time.monotonic() + left)
    end = Captured[Report](error=DatabaseError("the row is locked"))
    verdict = verdict_of(end, scope, seconds=5, deadline=Limit.DEADLINE)
    assert (verdict.limit, verdict.fault) == (limit, fault)
    assert verdict.outcome is (Outcome.EXHAUSTED if limit else Outcome.FAILED)
