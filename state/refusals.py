"""Refusals: the errors that LangGraph passes on to the caller. `bursar.state.errors` shows the tree of all errors.

They have a module of their own because they import LangGraph, which takes long. `bursar --help` does not need them.
"""

from langgraph.errors import GraphBubbleUp

from bursar.state.errors import BursarError


class Refused(GraphBubbleUp, BursarError):
    """A paid call was not sent, or an action was not done. Nothing was spent or changed by it.

    It is a `GraphBubbleUp`: LangGraph does not retry the node, a tool node does not turn it into an error text, and
    nodes that run in parallel keep their work.
    """


class BudgetExceeded(Refused):
    """The call's worst case is above what is left of an account. `scope` names that account.

    `needs` is the least worst case with which the call is useful, in nano-dollars; 0 if more money would not help.
    `left` is what was left of the account, in nano-dollars; None if the account is no account of money.
    """

    def __init__(self, message: str, *, scope: str = "", needs: int = 0, left: int | None = None) -> None:
        super().__init__(message)
        self.scope = scope
        self.needs = needs
        self.left = left


class AccountClosed(BudgetExceeded):
    """An incident closed the session's account; `ledger.acknowledge` opens it again. Trying again does not help."""


class Looping(BudgetExceeded):
    """The agent made the same tool call with the same arguments over and over, so its run goes no further."""


class ActionRefused(Refused):
    """An action was not done; the message says why."""


class InDoubt(ActionRefused):
    """Nobody knows whether an earlier attempt did the action, so it is not done before a person has found that out."""


class NotApproved(ActionRefused):
    """The action or run needs a person's approval and has none that is in force, so it is not done."""


class BreakerOpen(Refused):
    """The model or agent to be called has failed for several sessions lately, so its breaker is open.

    `breaker` is the breaker's name. After a while the breaker lets a probe through.
    """

    def __init__(self, message: str, breaker: str = "") -> None:
        super().__init__(message)
        self.breaker = breaker


class Paused(Refused):
    """A person has paused `scope`: `all`, `tenant:NAME` or `agent:NAME`. The session can be resumed later."""

    def __init__(self, message: str, scope: str = "") -> None:
        super().__init__(message)
        self.scope = scope


class NoSession(Refused):
    """A metered model was called outside any session, so there is no budget for the call."""


class ScopeClosed(Refused):
    """The agent's run has an outcome, or its deadline has passed. Code of the run that goes on may pay for nothing."""


class LeaseLost(Refused):
    """Another run has taken the session over. This run can pay for nothing more, and its further writes are refused."""


class NetworkRefused(Refused):
    """A last resort tried to open a connection. A last resort must answer without the network."""


class Unmetered(Refused):
    """A chat model that was not metered was called inside a session."""
