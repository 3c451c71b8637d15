"""The policy of approvals: which runs and actions a person must approve, and who may approve them."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, TypeAlias

from bursar.nodes.isolation.captured import capture_call
from bursar.state.approval import ApprovalRequest
from bursar.state.errors import ConfigurationError
from bursar.state.money import USD
from bursar.state.run import Task
from bursar.state.session import Request

Approvers: TypeAlias = Collection[str] | Callable[[ApprovalRequest, str], bool]
# Specialists by name, or a function of the task that says whether its run needs approval.
MustApprove: TypeAlias = Collection[str] | Callable[[Task], bool]
OnDenied: TypeAlias = Literal["end", "tell"]

DEFAULT_SECONDS = 3600.0
MAX_SECONDS = 366 * 86400.0


@dataclass(frozen=True, slots=True)
class Approvals:
    """Who may approve runs and actions, and for how long. If `approvers` is None, nobody may approve.

    `approvers` has the names of the people who may approve, or is a function that returns True for them. The function
    gets what the person is shown, and the person's name. A request for approval expires after `seconds`. If `on_denied`
    is "tell", an action that was not approved returns a text that says so to its caller; if it is "end", it ends the
    run. Raises `ConfigurationError` for bad settings.
    """

    approvers: Approvers | None = None
    seconds: float = DEFAULT_SECONDS
    on_denied: OnDenied = "end"

    def __post_init__(self) -> None:
        if isinstance(self.approvers, str):
            raise ConfigurationError("approvers is a collection of names, or a function; write [name] for a single one")
        if not 0 < self.seconds <= MAX_SECONDS:
            raise ConfigurationError(f"approval_seconds must be above 0 and at most {MAX_SECONDS:.0f}")
        if self.on_denied not in ("end", "tell"):
            raise ConfigurationError(f"on_denied is 'end' or 'tell', not {self.on_denied!r}")

    @property
    def nobody(self) -> bool:
        """Whether nobody may approve anything."""
        return self.approvers is None or (not callable(self.approvers) and not self.approvers)

    def permit(self, shown: ApprovalRequest, by: str) -> bool:
        """Whether the person called `by` may approve what is `shown`.

        If `approvers` is a function, the person may approve only if the function returns True. If the function raises,
        the person may not approve.
        """
        if self.approvers is None or not by:
            return False
        if not callable(self.approvers):
            return by in self.approvers
        return capture_call(self.approvers, shown, by).value is True


NO_APPROVALS = Approvals()


@dataclass(frozen=True, slots=True)
class ActionContext:
    """What a run needs so that it may do actions: its request, its specialist and the approvals.

    `acted` has the actions that the run called, by name.
    """

    request: Request
    specialist: str
    ceiling: USD
    approvals: Approvals
    acted: dict[str, Any] = field(default_factory=dict[str, Any])

    def ask(self, what: str, *, now: datetime, **more: Any) -> ApprovalRequest:
        """Return the request for approval that a person is shown. The ledger adds its id, attempt and hash.

        `what` says what waits for approval, and `more` has further fields. If the user's request has an earlier
        deadline, the request for approval expires at that deadline.
        """
        expires = now + timedelta(seconds=self.approvals.seconds)
        if self.request.deadline is not None:
            expires = min(expires, self.request.deadline)
        return ApprovalRequest(
            approval_id="",
            session_id=self.request.session_id,
            request_id=self.request.id,
            request=self.request.text,
            specialist=self.specialist,
            what=what,
            ceiling=self.ceiling,
            expires_at=expires,
            **more,
        )
