"""Refusals: the errors that LangGraph passes on. `bursar.state.errors` shows the whole tree of errors.

Refusals stand apart because they need LangGraph, which takes long to load: `bursar --help` does without them.
"""

from langgraph.errors import GraphBubbleUp

from bursar.state.errors import BursarError


class Refused(GraphBubbleUp, BursarError):
    """A paid call was not sent, or an action was not done. Nothing was spent or changed by it.

    A `GraphBubbleUp`, so that LangGraph neither retries it nor hands it to a tool node's error text,
    and siblings of the refused node keep their work.
    """


class BudgetExceeded(Refused):
    """The call's worst case does not fit what is left of an account. `scope` names the account that refused."""

    def __init__(self, message: str, *, scope: str = "") -> None:
        super().__init__(message)
        self.scope = scope


class AccountClosed(BudgetExceeded):
    """An incident closed the session's account; `ledger.acknowledge` opens it again. Trying again does not help."""


class Looping(BudgetExceeded):
    """The agent made the same tool call with the same arguments over and over, so its run goes no further."""


class ActionRefused(Refused):
    """An action was not done; the message says why."""


class InDoubt(ActionRefused):
    """Nobody knows whether an earlier attempt did the action, so it is not done again before a person settles that."""


class NotApproved(ActionRefused):
    """The action or run needs a person's approval and has none that holds, so it is not done."""


class BreakerOpen(Refused):
    """What was to be called has failed for several sessions lately. `breaker` names it; later it admits a probe."""

    def __init__(self, message: str, breaker: str = "") -> None:
        super().__init__(message)
        self.breaker = breaker


class Paused(Refused):
    """A person has paused `scope`: `all`, `tenant:NAME` or `agent:NAME`. The session can be resumed later."""

    def __init__(self, message: str, scope: str = "") -> None:
        super().__init__(message)
        self.scope = scope


class NoSession(Refused):
    """A metered model was called outside any session, so there is no budget to hold it to."""


class ScopeClosed(Refused):
    """The agent's run has ended, by its deadline or its outcome, so code of the run that still works cannot spend."""


class LeaseLost(Refused):
    """Another run has taken the session over. Nothing more of this one is paid for, and none of its writes is kept."""


class NetworkRefused(Refused):
    """A last resort tried to open a connection. It must answer from what is there."""


class Unmetered(Refused):
    """A chat model that was not metered was called inside a session."""
