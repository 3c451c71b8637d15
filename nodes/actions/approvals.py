"""Approval by a person: an interrupt stops the graph until a person has answered. An approval is used once."""

from collections.abc import Callable, Sequence
from datetime import datetime

from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphInterrupt
from langgraph.types import interrupt

from bursar.checkpoints.ledger.approvals import ApprovalQuery, ApprovalRecord, answer, ask, refuse
from bursar.checkpoints.ledger.ledger import Ledger
from bursar.nodes.gateway.paid_calls.flow import Commit, Flow, do
from bursar.nodes.observers.request_observers import tell_request
from bursar.nodes.specialists.approval_policy import Approvals
from bursar.state.approval import RAISE, ApprovalRequest, Approve, Deny, answer_of
from bursar.state.langgraph_private import CHECKPOINTER, current_config
from bursar.state.refusals import NotApproved

MAX_ANSWERS = 100  # resume values of one node that are read
NOBODY = "it needs a person's approval, and nobody may give it: name approvers in build_supervisor"
NO_CHECKPOINT = "it needs a person's approval, and without a checkpointer nothing can wait for one"
HOW = 'an answer is Approve(…), Deny(…), or {"verdict": "approve", "subject_hash": "…", "by": "…"}'


def await_approval(
    ledger: Ledger, approvals: Approvals, asking: ApprovalQuery, clock: Callable[[], datetime]
) -> Flow[str]:
    """Return the id of an approval that may be used for `asking`. Raises `GraphInterrupt` until a person has answered.

    Raises `NotApproved`, with the reason, if the approval was denied or expired, if nobody may give it, if there is no
    checkpointer, or if the answer names another approval or comes from a person who may not give this one. The ledger
    keeps how an approval ended: if it was denied, refused or expired, a later call for it raises `NotApproved` again.
    """
    if approvals.nobody:
        raise NotApproved(NOBODY)
    if not can_wait(current_config()):
        raise NotApproved(NO_CHECKPOINT)
    database, bind = ledger.database, ledger.bind
    for _ in range(MAX_ANSWERS):
        asked, others = yield from do(Commit(database, bind(ask, asking, at=clock())))
        if asked.state == "waiting":
            try:
                verdict, by, why = _judged(approvals, asked, others)
            except GraphInterrupt:
                tell_request("approval_asked", asked.shown)
                raise
            answered = bind(answer, asked.approval_id, verdict, by=by, reason=why, at=clock())
            asked, changed = yield from do(Commit(database, answered))
            if not changed:
                continue  # race: another resume answered first; the next turn reads that answer
            tell_request("approval_ended", asked.shown, verdict, by)
        elif asked.state == "approved" and not approvals.permit(_shown(asked), asked.by):
            why = f"{asked.by} may not approve it"
            yield from do(Commit(database, bind(refuse, asked, why, by=asked.by, at=clock())))
            raise NotApproved(why)
        if asked.state != "approved":
            raise NotApproved(asked.reason or f"the approval is {asked.state}")
        return asked.approval_id
    raise NotApproved("it was answered by others each time")


def _judged(approvals: Approvals, asked: ApprovalRecord, others: Sequence[ApprovalRecord]) -> tuple[str, str, str]:
    """Return the verdict on the waiting approval `asked`, the name of the person who answered, and the reason.

    The verdict is "denied" if the person denied, "approved" if a person who may approve approved, and "refused" if the
    person may not approve. It is also "refused", with the name "", if the graph was resumed with no valid answer.
    Answers to `others`, the approvals of the same run, are skipped. Raises `GraphInterrupt` until there is an answer.
    """
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
    """Return the request for approval that the person was shown, read from the ledger.

    Raises `NotApproved` if the ledger no longer has that request, or if its hash is not the approval's `subject_hash`.
    """
    if asked.shown is None or asked.shown.digest() != asked.subject_hash:
        raise NotApproved("what was shown to be approved is not in the books any more")
    return asked.shown


def _answer(asked: ApprovalRecord, others: Sequence[ApprovalRecord]) -> tuple[Approve | Deny | None, str]:
    """Return the person's answer to `asked`, and an empty string.

    If the graph was resumed with no valid answer, return None, and the reason why the approval is refused. Raises
    `GraphInterrupt` until there is an answer.

    A node that runs again gets its earlier resume values again. So a value that answered another approval of the same
    run, one of `others`, is skipped. A raise of a budget is asked for after all interrupts of the handler, so a value
    that is no answer is skipped too.
    """
    shown = _shown(asked)
    known = {other.subject_hash: other for other in others}
    used, is_raise = False, asked.action == RAISE
    for _ in range(MAX_ANSWERS if is_raise else min(len(known) + 1, MAX_ANSWERS)):
        answer = answer_of(interrupt(shown))
        if answer is None and is_raise:
            continue
        if answer is None:
            return None, HOW
        if answer.subject_hash == asked.subject_hash:
            return answer, ""
        other = known.get(answer.subject_hash)
        if other is None or (other.state == "waiting" and other.action == asked.action):
            return None, "what was approved is not what would be done now"
        used = True
    return None, "the approval was used before; an approval is used once" if used else HOW


def can_wait(config: RunnableConfig | None) -> bool:
    """Whether a node with this config has a checkpointer, so that it can be resumed after an interrupt."""
    return bool(config and config.get("configurable", {}).get(CHECKPOINTER))
