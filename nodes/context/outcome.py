"""Maps a handler's result or exception to its run's outcome: which limit or fault, in words a user can read."""

from typing import NamedTuple

from langchain_core.exceptions import OutputParserException
from langgraph.errors import GraphDrained, GraphInterrupt, GraphRecursionError
from pydantic import ValidationError

from bursar.nodes.gateway.scope import Scope
from bursar.nodes.isolation.captured import Captured, capture_call
from bursar.nodes.isolation.workers import TooManyAbandoned
from bursar.state.causes import causes
from bursar.state.errors import BadOutput, DatabaseError
from bursar.state.refusals import BreakerOpen, BudgetExceeded, LeaseLost, Looping, NotApproved, Refused, ScopeClosed
from bursar.state.run import Fault, Limit, Outcome, Report
from bursar.state.text import clean, one_line

INTERRUPTS = (KeyboardInterrupt, GraphInterrupt, GraphDrained)  # they end no run
SHOWN_CHARACTERS = 300
# Raised if a model's tool call does not fit the tool. Compared by name: their package may not be installed.
MISFITS = frozenset({"ToolInvocationError"})


class RunVerdict(NamedTuple):
    """How a run ended: its outcome, the reason, and the limit that exhausted the run or the fault that made it fail."""

    outcome: Outcome
    reason: str = ""
    limit: Limit | None = None
    fault: Fault | None = None


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
    # A hold waits for a lock until just after the deadline. On a busy machine its error comes before the loop's timer.
    if isinstance(error, DatabaseError) and scope.is_overdue:
        return deadline_verdict(seconds, deadline)
    if isinstance(error, GraphRecursionError):
        reason = "its graph took all the steps that its turns allow"
        return RunVerdict(Outcome.EXHAUSTED, reason, limit=Limit.RECURSION)
    return RunVerdict(Outcome.FAILED, in_one_line(error), fault=_fault(error, scope))


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
    """Return an exception's type and the beginning of its text, in one line."""
    text = one_line(text_of(error), SHOWN_CHARACTERS)
    return clean(f"{type(error).__name__}: {text}" if text else type(error).__name__)


def text_of(error: BaseException) -> str:
    """Return an exception's text, empty if its `__str__` raises."""
    return capture_call(str, error).value or ""


def _fault(error: BaseException, scope: Scope) -> Fault:
    if isinstance(error, TooManyAbandoned):
        return Fault.UNAVAILABLE
    if isinstance(error, DatabaseError):
        return Fault.DATABASE
    if scope.provider_error is not None and any(cause is scope.provider_error for cause in causes(error)):
        return Fault.PROVIDER
    misfit = isinstance(error, BadOutput | OutputParserException | ValidationError)
    return Fault.BAD_OUTPUT if misfit or type(error).__name__ in MISFITS else Fault.HANDLER_ERROR
