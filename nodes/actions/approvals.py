"""Approval by a person: the graph stops with an interrupt, and what was asked is done once, if it was approved."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from langgraph.types import interrupt

from bursar.checkpoints.ledger.approvals import ApprovalQuery, ApprovalRecord, answer, ask, refuse
from bursar.checkpoints.ledger.ledger import Ledger
from bursar.nodes.gateway.flow import Commit, Flow, do
from bursar.nodes.isolation.captured import Captured
from bursar.state.approval import ApprovalRequest, Approve, Deny, answer_of
from bursar.state.errors import ConfigurationError
from bursar.state.langgraph_private import CHECKPOINTER, current_config
from bursar.state.money import USD
from bursar.state.refusals import NotApproved
from bursar.state.run import Task
from bursar.state.session import Request

Approvers: TypeAlias = Collection[str] | Callable[[ApprovalRequest, str], bool]
# Specialists by name, or a function of the task that says whether its run needs approval.
MustApprove: TypeAlias = Collection[str] | Callable[[Task], bool]

DEFAULT_SECONDS = 3600.0
MAX_SECONDS = 366 * 86400.0
MAX_ANSWERS = 100  # resume values of one node that are looked through
NOBODY = "it needs a person's approval, and nobody may give it: name approvers in build_supervisor"
NO_CHECKPOINT = "it needs a person's approval, and without a checkpointer nothing can wait for one"
HOW = 'an answer is Approve(…), Deny(…), or {"verdict": "approve", "subject_hash": "…", "by": "…"}'


@dataclass(frozen=True, slots=True)
class Approvals:
    """Who may approve: these names, or whoever a predicate of what is shown and a name says; None is nobody.

    What is asked expires after `seconds`. Raises `ConfigurationError` for bad settings.
    """

    approvers: Approvers | None = None
    seconds: float = DEFAULT_SECONDS

    def __post_init__(self) -> None:
        if isinstance(self.approvers, str):
            raise ConfigurationError("approvers is a collection of names, or a function; write [name] for a single one")
        if not 0 < self.seconds <= MAX_SECONDS:
            raise ConfigurationError(f"approval_seconds must be above 0 and at most {MAX_SECONDS:.0f}")

    @property
    def nobody(self) -> bool:
        """Whether nobody may approve anything."""
        return self.approvers is None or (not callable(self.approvers) and not self.approvers)

    def permit(self, shown: ApprovalRequest, by: str) -> bool:
        """Whether `by` may approve this. A predicate that raises, or says anything but True, has said no."""
        if self.approvers is None or not by:
            return False
        if not callable(self.approvers):
            return by in self.approvers
        said = Captured[bool]()
        with said:
            said.value = self.approvers(shown, by)
        return said.value is True


NO_APPROVALS = Approvals()


@dataclass(frozen=True, slots=True)
class ActionContext:
    """What a run needs so that it may act: whose it is, and who approves. `acted` has its actions by name."""

    request: Request
    specialist: str
    ceiling: USD
    approvals: Approvals
    acted: dict[str, Any] = field(default_factory=dict[str, Any])

    def ask(self, what: str, *, now: datetime, **more: Any) -> ApprovalRequest:
        """What a person is shown, before the books have given it its id, attempt and hash."""
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


def await_approval(
    ledger: Ledger, approvals: Approvals, asking: ApprovalQuery, clock: Callable[[], datetime]
) -> Flow[str]:
    """The id of an approval that may be used for this. Raises `GraphInterrupt` until a person has answered.

    Raises `NotApproved`, with the reason, when it was denied or expired, when nobody may approve it, or when the answer
    names something else or comes from somebody who may not give it; asked again, it raises the same.
    """
    if approvals.nobody:
        raise NotApproved(NOBODY)
    if not _can_wait():
        raise NotApproved(NO_CHECKPOINT)
    database, bind = ledger.database, ledger.bind
    for _ in range(MAX_ANSWERS):
        asked, others = yield from do(Commit(database, bind(ask, asking, at=clock())))
        if asked.state == "waiting":
            verdict, by, why = _judged(approvals, asked, others)
            answered = bind(answer, asked.approval_id, verdict, by=by, reason=why, at=clock())
            asked, changed = yield from do(Commit(database, answered))
            if not changed:
                continue  # another answered meanwhile; what stands now is looked at anew
        elif asked.state == "approved" and not approvals.permit(_shown(asked), asked.by):
            why = f"{asked.by} may not approve it"
            yield from do(Commit(database, bind(refuse, asked, why, by=asked.by, at=clock())))
            raise NotApproved(why)
        if asked.state != "approved":
            raise NotApproved(asked.reason or f"the approval is {asked.state}")
        return asked.approval_id
    raise NotApproved("it was answered by others each time")


def _judged(approvals: Approvals, asked: ApprovalRecord, others: Sequence[ApprovalRecord]) -> tuple[str, str, str]:
    """The verdict on what waits, who gave it, and why. Raises `GraphInterrupt` until there is one."""
    answer, why = _answer(asked, others)
    match answer:
        case None:
            return "refused", "", why
        case Deny():
            return "denied", answer.by, f"denied by {answer.by}" + (f": {answer.reason}" if answer.reason else "")
        case Approve():
            if approvals.permit(_shown(asked), answer.by):
                return "approved", answer.by, ""
            return "refused", answer.by, f"{answer.by} may not approve it"


def _shown(asked: ApprovalRecord) -> ApprovalRequest:
    """What was shown, as it stands in the books. Raises `NotApproved` if it is not what was hashed."""
    if asked.shown is None or asked.shown.digest() != asked.subject_hash:
        raise NotApproved("what was shown to be approved is not in the books any more")
    return asked.shown


def _answer(asked: ApprovalRecord, others: Sequence[ApprovalRecord]) -> tuple[Approve | Deny | None, str]:
    """The answer to what was asked, or None and why there is none. Raises `GraphInterrupt` until there is one.

    A node that runs again is given its earlier resume values again: those that answered something else are passed over.
    """
    shown = _shown(asked)
    known = {other.subject_hash: other for other in others}
    used = False
    for _ in range(min(len(known) + 1, MAX_ANSWERS)):
        answer = answer_of(interrupt(shown))
        if answer is None:
            return None, HOW
        if answer.subject_hash == asked.subject_hash:
            return answer, ""
        other = known.get(answer.subject_hash)
        if other is None or (other.state == "waiting" and other.action == asked.action):
            return None, "what was approved is not what would be done now"
        used = True
    return None, "the approval was used before; an approval is used once" if used else HOW


def _can_wait() -> bool:
    config = current_config()
    return bool(config and config.get("configurable", {}).get(CHECKPOINTER))
