"""The time that a run, a router or a gate has: its own timeout or what is left of the request's, whichever is less."""

import time
from datetime import datetime, timedelta

from bursar.state.run import Limit
from bursar.state.session import Request

# A last resort and a gate run even if the request's time is used up: they have at least this share of all its time.
GRACE_SHARE = 0.05
BOOKS_SECONDS = 0.25  # what a write gets on top of a deadline at least: a busy database is not a locked one


def time_for(request: Request, timeout: float, *, now: datetime, last: bool) -> tuple[float, Limit]:
    """Return the seconds that a run has left (0 or less: no time is left), and the limit that will end the run.

    The limit is `DEADLINE` if the run's own `timeout`, in seconds, ends first, otherwise `REQUEST_DEADLINE`. With
    `last`, for a last resort or a gate, the request counts as having at least `GRACE_SHARE` of its whole time left.
    """
    if request.deadline is None:
        return timeout, Limit.DEADLINE
    second = timedelta(seconds=1)
    left = (request.deadline - now) / second
    if last:
        left = max(left, (request.deadline - request.opened_at) / second * GRACE_SHARE)
    return (timeout, Limit.DEADLINE) if timeout <= left else (left, Limit.REQUEST_DEADLINE)


def books_until(deadline: float, seconds: float) -> float:
    """Return when a write to the ledger is given up, in seconds of `time.monotonic`: a little after `deadline`.

    The write comes after the work that must end at `deadline`, so it gets time of its own: `GRACE_SHARE` of `seconds`,
    all the time that the work had, and at least `BOOKS_SECONDS`. If `deadline` has passed, this time counts from now.
    It is short, because an outcome that cannot be written must be reported in time too.
    """
    return max(deadline, time.monotonic()) + max(seconds * GRACE_SHARE, BOOKS_SECONDS)


def request_until(request: Request, *, now: datetime) -> float | None:
    """Return when a write to the ledger for the request is given up: a little after the request's deadline.

    The result is in seconds of `time.monotonic`, or None if the request has no deadline.
    """
    if request.deadline is None:
        return None
    second = timedelta(seconds=1)
    left = (request.deadline - now) / second
    return books_until(time.monotonic() + left, (request.deadline - request.opened_at) / second)
