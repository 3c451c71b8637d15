"""Maps a handler's result or exception to its run's outcome: which limit or fault, in words a user can read.

What a foreign exception says is for the operator: it may quote addresses, keys and SQL. The user reads the kind of
the fault, and a reference, by which the operator finds that text in the log.
"""

import logging
from collections.abc import Mapping
from hashlib import sha256
from typing import NamedTuple

from langchain_core.exceptions import OutputParserException
from langgraph.errors import GraphDrained, GraphInterrupt, GraphRecursionError
from pydantic import ValidationError

from bursar.nodes.gateway.paid_calls.admission import seconds_left
from bursar.nodes.gateway.paid_calls.scope import Scope
from bursar.nodes.gateway.providers.failures import is_timeout
from bursar.nodes.isolation.captured import Captured, capture_call
from bursar.nodes.isolation.workers import TooManyAbandoned
from bursar.state.causes import causes
from bursar.state.errors import BadOutput, DatabaseError
from bursar.state.masking import mask_secrets
from bursar.state.refusals import BreakerOpen, BudgetExceeded, LeaseLost, Looping, NotApproved, Refused, ScopeClosed
from bursar.state.rules.calls import SOON_SECONDS
from bursar.state.run import Fault, Limit, Outcome, Report
from bursar.state.session import Request
from bursar.state.text import clean, one_line

INTERRUPTS = (KeyboardInterrupt, GraphInterrupt, GraphDrained)  # they end no run
SHOWN_CHARACTERS = 300
REFERENCE_CHARACTERS = 8
# Raised if a model's tool call does not fit the tool. Compared by name: their package may not be installed.
MISFITS = frozenset({"ToolInvocationError"})
IN_WORDS: Mapping[Fault, str] = {
    Fault.HANDLER_ERROR: "it failed with an error",
    Fault.BAD_OUTPUT: "its output could not be used",
    Fault.PROVIDER: "the provider of its model failed",
    Fault.DATABASE: "the database of the ledger failed",
    Fault.UNAVAILABLE: "it could not be started",
}

_log = logging.getLogger("bursar")
_log.addHandler(logging.NullHandler())  # an application that sets up no logging reads none


class RunVerdict(NamedTuple):
    """How a run ended: its outcome, the reason, and the limit that exhausted the run or the fault that made it fail.

    `reason` is for the user. `detail`, if it is not empty, is the reason for the operator.
    """

    outcome: Outcome
    reason: str = ""
    limit: Limit | None = None
    fault: Fault | None = None
    detail: str = ""

    @property
    def logged(self) -> str:
        """The reason as the operator reads it in the log."""
        return self.detail or self.reason

    def adding(self, told: str) -> "RunVerdict":
        """Return the verdict with `told` at the end of what both readers are told; unchanged if `told` is empty."""
        if not told:
            return self
        reason, detail = (f"{text}; {told}" if text else told for text in (self.reason, self.logged))
        return self._replace(reason=reason, detail=detail if self.detail else "")


def verdict_of(end: Captured[Report] | None, scope: Scope, *, seconds: float, deadline: Limit) -> RunVerdict:
    """Return the outcome of a run that had `seconds` until a deadline of the kind `deadline`.

    `end` is the handler's report or error; None means that the deadline has passed. If a paid call was refused, the
    first refusal is the outcome, even if the handler swallowed it. Raises interrupts, which end no run, and
    `LeaseLost`, because the session's new owner runs the handler again.
    """
    if end is None:
        return deadline_verdict(seconds, deadline)
    error = end.error
    refusal = scope.refusal
    if isinstance(error, INTERRUPTS):
        raise error
    if isinstance(refusal, LeaseLost):
        raise refusal
    if refusal is not None:
        return refusal_verdict(refusal, deadline)
    if error is None:
        return RunVerdict(Outcome.COMPLETED)
    if isinstance(error, Refused):
        return refusal_verdict(error, deadline)
    if _is_of_the_deadline(error, scope):
        return deadline_verdict(seconds, deadline)
    if isinstance(error, GraphRecursionError):
        reason = "its graph took all the steps that its turns allow"
        return RunVerdict(Outcome.EXHAUSTED, reason, limit=Limit.RECURSION)
    fault = _fault(error, scope)
    words = IN_WORDS[fault]
    if isinstance(error, BadOutput) and error.kind:  # the name of a type is no secret
        words = f"its output, a {error.kind}, could not be used"
    reason, detail = for_two_readers(words, error, scope.request_id, scope.agent)
    return RunVerdict(Outcome.FAILED, reason, fault=fault, detail=detail)


def for_two_readers(words: str, error: BaseException, request_id: str, node: str) -> tuple[str, str]:
    """Return why `node` failed in the request: in `words` for the user, and by what `error` says for the operator.

    Both end with one reference. It is short, and the same whenever the node fails in the request.
    """
    reference = sha256(f"{request_id} {node}".encode()).hexdigest()[:REFERENCE_CHARACTERS]
    return f"{words} (reference {reference})", f"{in_one_line(error)} (reference {reference})"


def log_failure(request: Request, node: str, detail: str) -> None:
    """Write to the logger `bursar` why `node` failed in the request, as the operator reads it.

    The record has the attributes `session`, `request` and `agent`, by which a log is filtered.
    """
    told = {"session": request.session_id, "request": request.id, "agent": node}
    _log.warning("%s failed in request %s of session %s: %s", node, request.id, request.session_id, detail, extra=told)


def deadline_verdict(seconds: float, deadline: Limit) -> RunVerdict:
    """Return the outcome of a run that had no answer by its deadline.

    `deadline` says whose deadline it was, the run's or the request's.
    """
    if deadline is Limit.DEADLINE:
        return RunVerdict(Outcome.EXHAUSTED, f"no answer within {seconds:g} s", limit=deadline)
    return RunVerdict(Outcome.EXHAUSTED, "the time for this request is used up", limit=deadline)


def refusal_verdict(refusal: Refused, deadline: Limit = Limit.DEADLINE) -> RunVerdict:
    """Return the outcome of a run whose paid call, action or approval was refused.

    If the call was refused because the run's time was up, the outcome names `deadline` as its limit.
    """
    reason = clean(text_of(refusal))
    match refusal:
        case Looping():
            return RunVerdict(Outcome.EXHAUSTED, reason, limit=Limit.LOOP)
        case BudgetExceeded(scope="turns"):
            return RunVerdict(Outcome.EXHAUSTED, reason, limit=Limit.TURNS)
        case BudgetExceeded():
            own = refusal.scope.startswith("agent:")
            return RunVerdict(Outcome.EXHAUSTED, reason, limit=Limit.CEILING if own else Limit.BUDGET)
        case BreakerOpen():
            return RunVerdict(Outcome.FAILED, reason, fault=Fault.PROVIDER)
        case ScopeClosed():
            return RunVerdict(Outcome.EXHAUSTED, reason, limit=deadline)
        case NotApproved():
            return RunVerdict(Outcome.FAILED, f"not approved: {reason}", fault=Fault.NOT_APPROVED)
        case _:
            return RunVerdict(Outcome.FAILED, reason, fault=Fault.POLICY)


def in_one_line(error: BaseException) -> str:
    """Return an exception's type and the beginning of its text, in one line, with known shapes of secrets masked."""
    text = one_line(mask_secrets(text_of(error)), SHOWN_CHARACTERS)
    return clean(f"{type(error).__name__}: {text}" if text else type(error).__name__)


def text_of(error: BaseException) -> str:
    """Return an exception's text, empty if its `__str__` raises."""
    return capture_call(str, error).value or ""


def _is_of_the_deadline(error: BaseException, scope: Scope) -> bool:
    """Whether the run's deadline is the cause of the error.

    A hold waits for a lock until just after the deadline, and a model's client waits for an answer until the deadline.
    On a busy machine either error comes before the timer of the event loop.
    """
    if isinstance(error, DatabaseError):
        return scope.is_overdue
    left = seconds_left(scope)
    return left is not None and left <= SOON_SECONDS and _is_of_the_provider(error, scope) and is_timeout(error)


def _is_of_the_provider(error: BaseException, scope: Scope) -> bool:
    return scope.provider_error is not None and any(cause is scope.provider_error for cause in causes(error))


def _fault(error: BaseException, scope: Scope) -> Fault:
    if isinstance(error, TooManyAbandoned):
        return Fault.UNAVAILABLE
    if isinstance(error, DatabaseError):
        return Fault.DATABASE
    if _is_of_the_provider(error, scope):
        return Fault.PROVIDER
    misfit = isinstance(error, BadOutput | OutputParserException | ValidationError)
    return Fault.BAD_OUTPUT if misfit or type(error).__name__ in MISFITS else Fault.HANDLER_ERROR
