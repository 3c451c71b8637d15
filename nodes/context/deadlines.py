"""The time that a run, a router or a gate has: its own timeout, or what is left of the request's, whichever is less."""

import time
from datetime import datetime, timedelta

from bursar.state.run import Limit
from bursar.state.session import Request

# What must run even when the request's time is used up (the end of a chain, a gate) has this share of it on top.
GRACE_SHARE = 0.05
BOOKS_SECONDS = 0.25  # what the books have on top of a deadline at least: a busy database is not a locked one


def time_for(request: Request, timeout: float, *, now: datetime, last: bool) -> tuple[float, Limit]:
    """Seconds that it has, 0 or less if none, and which deadline is the nearer. `last`: it has the grace at least."""
    if request.deadline is None:
        return timeout, Limit.DEADLINE
    second = timedelta(seconds=1)
    left = (request.deadline - now) / second
    if last:
        left = max(left, (request.deadline - request.opened_at) / second * GRACE_SHARE)
    return (timeout, Limit.DEADLINE) if timeout <= left else (left, Limit.REQUEST_DEADLINE)


def books_until(deadline: float, seconds: float) -> float:
    """When writing something down is given up that had so many seconds until this deadline, by `time.monotonic`.

    That is a little after it: what cannot be written down has not happened, and whoever asked is told so in time.
    """
    return max(deadline, time.monotonic()) + max(seconds * GRACE_SHARE, BOOKS_SECONDS)


def request_until(request: Request, *, now: datetime) -> float | None:
    """As `books_until`, of a request; None where it has no deadline."""
    if request.deadline is None:
        return None
    second = timedelta(seconds=1)
    left = (request.deadline - now) / second
    return books_until(time.monotonic() + left, (request.deadline - request.opened_at) / second)
