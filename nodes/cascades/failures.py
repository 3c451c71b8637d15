"""What a rung's error means: the end of the whole run, or a reason to go on without that rung's answer."""

import logging
from asyncio import CancelledError

from langgraph.errors import GraphBubbleUp

from bursar.nodes.context.outcome import in_one_line, text_of
from bursar.nodes.gateway.paid_calls.scope import Scope
from bursar.state.errors import BadOutput, ConfigurationError, DatabaseError
from bursar.state.refusals import (
    AccountClosed,
    ActionRefused,
    LeaseLost,
    NoSession,
    Paused,
    Refused,
    ScopeClosed,
    Unmetered,
)
from bursar.state.text import clean, one_line

REASON_CHARACTERS = 300
# Refusals after which no rung of the run can be asked, or which only a person can mend.
_OF_THE_RUN = (LeaseLost, ScopeClosed, AccountClosed, ActionRefused, NoSession, Unmetered)

_log = logging.getLogger("bursar")


def raise_if_of_the_run(error: BaseException | None, scope: Scope | None) -> None:
    """Raise the error if it ends the run, and not the rung alone.

    That are exits, cancellations, LangGraph's interrupts, a fault of the database or of the configuration, and refusals
    that hold for each rung. A refusal latches in the run. After the run's deadline every error is raised.
    """
    if error is None or not _is_of_the_run(error, scope):
        return
    if isinstance(error, Refused) and scope is not None:
        scope.latch(error)
    raise error


def _is_of_the_run(error: BaseException, scope: Scope | None) -> bool:
    if isinstance(error, Refused):
        everywhere = isinstance(error, Paused) and not error.scope.startswith("agent:")
        return everywhere or isinstance(error, _OF_THE_RUN)
    if isinstance(error, GraphBubbleUp | CancelledError | DatabaseError | ConfigurationError):
        return True
    return not isinstance(error, Exception) or (scope is not None and scope.is_overdue)


def reason_of(error: BaseException) -> str:
    """Return in words that a user may read why a rung gave no answer. What a foreign exception says is left out."""
    if isinstance(error, Refused | BadOutput):
        return one_line(clean(text_of(error)), REASON_CHARACTERS)
    if isinstance(error, TimeoutError):
        return "no answer in its time"
    return f"it failed ({type(error).__name__})"


def log_rung(agent: str, rung: str, error: BaseException) -> None:
    """Write to the logger `bursar` what the operator must know of a rung's error."""
    if not isinstance(error, Refused):
        _log.warning("rung %s of %s failed: %s", rung, agent or "a cascade", in_one_line(error))
