"""What a failed call owes, and whether to send it again: read from the provider's error, whatever its SDK."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal, cast

from bursar.checkpoints.ledger.postings import Usage

MAX_ATTEMPTS = 3
FIRST_PAUSE_SECONDS = 0.5
MAX_PAUSE_SECONDS = 30.0
MAX_CAUSES = 8  # how far a chain of causes is followed

# A status that a proxy may give while the provider behind it works on, and bills.
AMBIGUOUS_STATUSES = frozenset({408, 499, 502, 504, 524})
RETRIED_STATUSES = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 524, 529})
# Raised by httpx and its relatives before a request leaves.
UNSENT_ERRORS = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol", "InvalidURL"})


# Raised by httpx, requests and aiohttp when the other side does not answer, or not to the end.
BROKEN_ERRORS = frozenset(
    {"ConnectError", "ReadError", "WriteError", "RemoteProtocolError", "ConnectionError", "ChunkedEncodingError"}
    | {"ClientConnectorError", "ServerDisconnectedError"}
)
TIMEOUTS = frozenset(
    {"ConnectTimeout", "ReadTimeout", "WriteTimeout", "APITimeoutError", "Timeout", "ServerTimeoutError"}
)
SOON_SECONDS = 0.05  # a timeout so near to its run's deadline is the deadline's


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed call. `owed` is nothing when the provider refused it or never saw it, else unknown.

    `real`: the provider is at fault, not the call. That is what opens a breaker.
    """

    owed: Literal["nothing", "unknown"]
    retried: bool
    reason: str
    pause_seconds: float | None = None  # the server's own hint
    real: bool = False


def failure_of(error: BaseException, *, answered: bool, now: datetime, seconds_left: float | None = None) -> Failure:
    """Read an error raised by sending. `answered` says that part of the answer had arrived.

    `seconds_left` is what the deadline of its run leaves: a timeout that the deadline caused is not the provider's.

    `reason` holds the error's type and status, never its text, which may quote the request.
    """
    name = type(error).__name__
    status, headers = _status_of(error)
    real = _is_real(error, status, seconds_left)
    if answered:
        return Failure("unknown", retried=False, reason=f"cut off by {name}", real=real)
    if status is not None and 400 <= status < 600:
        return Failure(
            owed="unknown" if status in AMBIGUOUS_STATUSES else "nothing",
            retried=status in RETRIED_STATUSES and headers.get("x-should-retry") != "false",
            reason=f"{name}: HTTP {status}",
            pause_seconds=_retry_after(headers, now),
            real=real,
        )
    if any(type(cause).__name__ in UNSENT_ERRORS for cause in _causes(error)):
        return Failure("nothing", retried=True, reason=f"{name}: not sent", real=real)
    return Failure("unknown", retried=False, reason=name, real=real)


def _is_real(error: BaseException, status: int | None, seconds_left: float | None) -> bool:
    """Timeouts, 5xx and broken connections; not what was refused, cancelled, or could not be read."""
    if not isinstance(error, Exception):
        return False
    if status is not None:
        return status == 408 or status >= 500
    causes = list(_causes(error))
    if any(isinstance(cause, TimeoutError) or type(cause).__name__ in TIMEOUTS for cause in causes):
        return seconds_left is None or seconds_left > SOON_SECONDS
    return any(isinstance(cause, ConnectionError) or type(cause).__name__ in BROKEN_ERRORS for cause in causes)


def pause_before_retry(fault: Failure, attempt: int, seconds_left: float | None) -> float | None:
    """Seconds to wait before attempt number `attempt` + 1, counted from 0; None if it is not to be made."""
    if not fault.retried or attempt + 1 >= MAX_ATTEMPTS:
        return None
    pause = FIRST_PAUSE_SECONDS * 2**attempt if fault.pause_seconds is None else fault.pause_seconds
    if pause > MAX_PAUSE_SECONDS or (seconds_left is not None and pause >= seconds_left):
        return None
    return pause


def usage_in(error: BaseException) -> Usage | None:
    """The usage of an answer that arrived whole and could not be parsed, where the SDK's error keeps it."""
    usage = getattr(getattr(error, "completion", None), "usage", None)
    sent, received = getattr(usage, "prompt_tokens", None), getattr(usage, "completion_tokens", None)
    if not isinstance(sent, int) or not isinstance(received, int) or sent <= 0 or received < 0:
        return None
    return Usage(input_tokens=sent, output_tokens=received)


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    for _ in range(MAX_CAUSES):
        if cause is None:
            return
        yield cause
        cause = cause.__cause__ or cause.__context__


def _status_of(error: BaseException) -> tuple[int | None, Mapping[str, str]]:
    for cause in _causes(error):
        response = getattr(cause, "response", None)
        status = getattr(cause, "status_code", getattr(response, "status_code", None))
        if isinstance(status, int):
            headers = getattr(response, "headers", None)
            return status, cast(Mapping[str, str], headers) if isinstance(headers, Mapping) else {}
    return None, {}


def _retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """The server's hint in seconds: `retry-after-ms`, or `Retry-After` as seconds or as a date (RFC 9110, 10.2.3)."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        text = headers.get(name, "").strip()
        if text.replace(".", "", 1).isdecimal() and text.isascii():
            return float(text) * unit
    try:
        at = parsedate_to_datetime(headers.get("retry-after", ""))
    except ValueError:
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds())
