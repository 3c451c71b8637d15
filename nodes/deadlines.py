"""The time that a run, a router or a gate has: its own timeout, or what is left of the request's, whichever is less."""

from datetime import datetime, timedelta

from bursar.state.report import Limit
from bursar.state.session import Request

# What must run even when the request's time is used up (the end of a chain, a gate) has this share of it on top.
GRACE_SHARE = 0.05


def time_for(request: Request, timeout: float, *, now: datetime, last: bool) -> tuple[float, Limit]:
    """Seconds that it has, 0 or less if none, and which deadline is the nearer. `last`: it has the grace at least."""
    if request.deadline is None:
        return timeout, Limit.DEADLINE
    second = timedelta(seconds=1)
    left = (request.deadline - now) / second
    if last:
        left = max(left, (request.deadline - request.opened_at) / second * GRACE_SHARE)
    return (timeout, Limit.DEADLINE) if timeout <= left else (left, Limit.REQUEST_DEADLINE)
