"""Failed calls, by HTTP status and class of exception: what is owed, whether to send again, who is at fault."""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import cast

from bursar.nodes.gateway.providers.base import Failure
from bursar.state.causes import causes
from bursar.state.rules.calls import SOON_SECONDS

# Statuses that a proxy may send while the provider behind the proxy still works on the call, and bills it.
AMBIGUOUS_STATUSES = frozenset({408, 499, 502, 504, 524})
RETRIED_STATUSES = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 524, 529})
# Raised by httpx and its relatives before a request leaves.
UNSENT_ERRORS = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol", "InvalidURL"})
# Raised by httpx, requests and aiohttp if the server does not answer, or breaks off its answer.
BROKEN_ERRORS = frozenset(
    {"ConnectError", "ReadError", "WriteError", "RemoteProtocolError", "ConnectionError", "ChunkedEncodingError"}
    | {"ClientConnectorError", "ServerDisconnectedError"}
)
TIMEOUTS = frozenset(
    {"ConnectTimeout", "ReadTimeout", "WriteTimeout", "APITimeoutError", "Timeout", "ServerTimeoutError"}
)


def failure_of(error: BaseException, *, answered: bool, now: datetime, seconds_left: float | None = None) -> Failure:
    """Return what is owed after an error of sending, whether to send again, and whether the provider is at fault.

    `answered` says that part of the answer had arrived. `now` is the current time, for a date in `Retry-After`.
    `seconds_left` is the time to the run's deadline: a timeout that the deadline caused is not the provider's fault.

    The failure's `reason` has the error's type and status, never its text, which may quote the request.
    """
    name = type(error).__name__
    status, headers = _status_of(error)
    at_fault = _is_at_fault(error, status, seconds_left)
    if answered:
        return Failure("unknown", retry=False, reason=f"cut off by {name}", at_fault=at_fault)
    if status is not None and 400 <= status < 600:
        return Failure(
            owed="unknown" if status in AMBIGUOUS_STATUSES else "nothing",
            retry=status in RETRIED_STATUSES and headers.get("x-should-retry") != "false",
            reason=f"{name}: HTTP {status}",
            pause_seconds=_retry_after(headers, now),
            at_fault=at_fault,
        )
    if any(type(cause).__name__ in UNSENT_ERRORS for cause in causes(error)):
        return Failure("nothing", retry=True, reason=f"{name}: not sent", at_fault=at_fault)
    return Failure("unknown", retry=False, reason=name, at_fault=at_fault)


def is_timeout(error: BaseException) -> bool:
    """Whether the error, or an error that caused it, says that somebody did not answer in time."""
    return any(isinstance(cause, TimeoutError) or type(cause).__name__ in TIMEOUTS for cause in causes(error))


def _is_at_fault(error: BaseException, status: int | None, seconds_left: float | None) -> bool:
    """Whether the provider is at fault: a timeout before the run's deadline, a 5xx or a broken connection.

    A refused or cancelled call and an answer that could not be read are not the provider's fault.
    """
    if not isinstance(error, Exception):
        return False
    if status is not None:
        return status == 408 or status >= 500
    if is_timeout(error):
        return seconds_left is None or seconds_left > SOON_SECONDS
    return any(isinstance(cause, ConnectionError) or type(cause).__name__ in BROKEN_ERRORS for cause in causes(error))


def _status_of(error: BaseException) -> tuple[int | None, Mapping[str, str]]:
    for cause in causes(error):
        response = getattr(cause, "response", None)
        status = getattr(cause, "status_code", getattr(response, "status_code", None))
        if isinstance(status, int):
            headers = getattr(response, "headers", None)
            return status, cast(Mapping[str, str], headers) if isinstance(headers, Mapping) else {}
    return None, {}


def _retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return how long the server asks the client to wait, in seconds; None if it does not ask.

    The hint is `retry-after-ms`, or `Retry-After` as seconds or as a date (RFC 9110, 10.2.3).
    """
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        text = headers.get(name, "").strip()
        if text.replace(".", "", 1).isdecimal() and text.isascii():
            return float(text) * unit
    try:
        at = parsedate_to_datetime(headers.get("retry-after", ""))
    except ValueError:
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds())
