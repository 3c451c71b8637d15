"""How a handler ended, and what the outcome of its run is then."""

import time

import httpx
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


@pytest.mark.parametrize(
    ("error", "left", "limit", "fault"),
    [
        (httpx.ReadTimeout("slow"), 0.0, Limit.DEADLINE, None),
        (httpx.ReadTimeout("slow"), 60.0, None, Fault.PROVIDER),  # the client's own, shorter patience
        (httpx.ConnectError("refused"), 0.0, None, Fault.PROVIDER),
    ],
)
def test_a_model_that_is_waited_for_until_the_deadline(
    bench: Bench, error: Exception, left: float, limit: Limit | None, fault: Fault | None
) -> None:
    """Its client gives up at the same moment: whichever is heard first, it is the deadline."""
    scope = bench.scope(deadline=time.monotonic() + left)
    scope.provider_failed(error)
    verdict = verdict_of(Captured[Report](error=error), scope, seconds=5, deadline=Limit.DEADLINE)
    assert (verdict.limit, verdict.fault) == (limit, fault)
