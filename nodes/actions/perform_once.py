"""Performs an action once: goes on from its state in the ledger until it is done or refused."""

import json
import sys
from datetime import datetime
from typing import Any

from bursar.checkpoints.ledger import actions
from bursar.checkpoints.ledger.actions import ActionIntent, ActionRecord
from bursar.checkpoints.ledger.approvals import ApprovalQuery
from bursar.checkpoints.ledger.transaction import Transaction
from bursar.nodes.actions.approvals import await_approval
from bursar.nodes.actions.attempts import is_running_here, may_be_running, running
from bursar.nodes.actions.call import ActionCallState, encode_result
from bursar.nodes.actions.compensate import call_step, compensate_late
from bursar.nodes.gateway.paid_calls.admission import seconds_left
from bursar.nodes.gateway.paid_calls.flow import Flow, Invoke, Sleep, do
from bursar.nodes.isolation.captured import Captured
from bursar.state.action import Happened
from bursar.state.refusals import ActionRefused, InDoubt, LeaseLost, NotApproved

MAX_CHANGES = 10  # changes of state that one call follows, not counting waits for another attempt
WAIT_SECONDS = 0.05


def perform(doing: ActionCallState) -> Flow[Any]:
    """Do the action, and return its result. If the action was done before, return the result that the ledger keeps.

    If no person approved it, and denials are told, return a text that says so: a model that called a tool reads it.
    Raises every error that the function raises, `ActionRefused` if the action may not be done, and `LeaseLost` if the
    run has lost the lease of its session.
    """
    told = doing.described()
    ended = Captured[Any]()
    with ended:
        ended.value = yield from _follow(doing)
    if (observers := doing.scope.observers) is not None and observers.hears_calls:
        observers.call_ended(told, doing.end_of(ended))
    if ended.error is not None:
        doing.scope.give_back(doing.counted, doing.occurrence)  # a retry is the same call, with the same key
        if isinstance(ended.error, NotApproved) and doing.acting.approvals.on_denied == "tell":
            return f"{doing.declared.short} was not done, because it was not approved: {ended.error}"
        raise doing.refuse(ended.error) if isinstance(ended.error, ActionRefused | LeaseLost) else ended.error
    return ended.value


def _follow(doing: ActionCallState) -> Flow[Any]:
    """Go on from the action's state in the ledger until the action is done, and return its result.

    Raises `ActionRefused` if the action may not be done, and every error that the function raises.
    """
    deed = yield from doing.transact(actions.find, doing.key)
    if deed is None:
        deed = yield from _intended(doing)
        if deed is None:
            return (yield from _do(doing))
    changes = 0
    while changes < MAX_CHANGES:
        if deed.arguments_hash != doing.intent.arguments_hash:
            raise ActionRefused(f"{deed.short} was not done: its key belongs to a call with other arguments")
        if deed.state == "done":
            return _replayed(deed)
        if deed.state in {"undoing", "undone"}:
            raise ActionRefused(f"{deed.short} was undone, and is not done again")
        if deed.state == "intended" and _may_run(doing, deed):
            yield from _wait(doing, deed)
        else:
            changes += 1
            again = yield from _resolved(doing, deed)
            if again:
                return (yield from _do(doing))
        deed = yield from doing.transact(actions.find, doing.key)
        if deed is None:
            raise ActionRefused(f"{doing.declared.short} was not done: its row is gone")
    raise InDoubt(f"{doing.declared.short} changes under way; resume the session later")


def _intended(doing: ActionCallState) -> Flow[ActionRecord | None]:
    """Commit the intent, use up the approval if the action needs one, and return None: the caller does the action.

    If the ledger has the action from another attempt already, commit nothing, and return the record of the action. The
    caller then goes on from the state in that record.
    """
    _check_open(doing)
    approval = None
    if doing.declared.approval:
        acting, now = doing.acting, doing.scope.clock()
        shown = acting.ask(
            f"{doing.declared.short} in {doing.scope.agent}",
            now=now,
            action=doing.declared.name,
            arguments={"key": doing.key, **doing.call.arguments},
        )
        asking = ApprovalQuery(shown, doing.scope.checkpoint_ns)
        approval = yield from await_approval(doing.scope.ledger, acting.approvals, asking, doing.scope.clock)
    sys.audit("bursar.failpoint", "before_intent")
    ended = Captured[ActionRecord | None]()
    with ended:
        # Race: several attempts intend the same key. The ledger takes the first, and gives its record to the others.
        ended.value = yield from doing.transact(_intend, doing, doing.intent, approval, doing.scope.clock())
    if isinstance(ended.error, NotApproved):  # race: another resume intended this action with the same approval first
        deed = yield from doing.transact(actions.find, doing.key)
        if deed is not None:
            return deed
    if ended.error is None and ended.value is None:
        sys.audit("bursar.failpoint", "after_intent")
    return ended.result()


def _intend(
    transaction: Transaction, doing: ActionCallState, intent: ActionIntent, approval: str | None, at: datetime
) -> ActionRecord | None:
    doing.scope.check_lease(transaction)
    return actions.intend(transaction, intent, approval=approval, at=at)


def _claim(transaction: Transaction, doing: ActionCallState, deed: ActionRecord, until: datetime, at: datetime) -> bool:
    doing.scope.check_lease(transaction)
    return actions.claim(transaction, deed, attempt=doing.attempt, until=until, at=at)


def _may_run(doing: ActionCallState, deed: ActionRecord) -> bool:
    return may_be_running(deed.attempt, until=deed.until, now=doing.scope.clock())


def _wait(doing: ActionCallState, deed: ActionRecord) -> Flow[None]:
    """Wait a moment, because another attempt may still be doing the action `deed`.

    Raises `InDoubt` if the run has ended, or if its deadline leaves no time to wait.
    """
    left = seconds_left(doing.scope)
    if doing.scope.closed or (left is not None and left <= WAIT_SECONDS):
        raise InDoubt(f"{deed.short} is being done by another attempt; its result did not come in time")
    yield Sleep(WAIT_SECONDS)


def _resolved(doing: ActionCallState, deed: ActionRecord) -> Flow[bool]:
    """Find out what became of an action that an earlier attempt did not end. Return whether this call must do it.

    If the action is in doubt and has a check, the check is called. If the result is True, the ledger names this call's
    attempt as the one that does the action. If it is False, the action's state may have changed, and the caller reads
    the state again. Raises `InDoubt` if the earlier attempt still runs in this process, or if only a person can tell
    whether the action was done; `ActionRefused` if the run has ended.
    """
    clock = doing.scope.clock
    if is_running_here(deed.attempt):
        raise InDoubt(f"{deed.short} has outlived the run that it was called in, and has not ended")
    _check_open(doing)
    if deed.state == "intended":
        reason = "its process died before it told the end"
        yield from doing.transact(actions.doubt, deed.key, attempt=deed.attempt, reason=reason, at=clock())
        return False
    if deed.state == "in_doubt":
        declared = doing.declared
        if declared.check is not None:
            happened = yield from do(call_step(declared.check, doing.call))
            if happened is not None:
                result = encode_result(happened.result if isinstance(happened, Happened) else None)
                yield from doing.transact(actions.done, deed.key, attempt=deed.attempt, result=result, at=clock())
                return False
        elif not declared.idempotent:
            raise InDoubt(
                f"nobody knows whether {deed.short} was done; settle it with: bursar settle-action {deed.key}"
            )
    return (yield from doing.transact(_claim, doing, deed, doing.intent.until, clock()))


def _do(doing: ActionCallState) -> Flow[Any]:
    """Run the function, let the ledger keep its result, and return the result.

    The caller has committed the intent, and no other attempt may do the action. If the function raises one of
    `not_done_on`, the ledger records that the action was not done; if it raises anything else, that the action is in
    doubt. In both cases the exception is raised on. Raises `ActionRefused` if the run has ended before the function is
    called, and `InDoubt` if a person or another attempt settled the action while the function ran.
    """
    clock, attempt, doing.is_done_here = doing.scope.clock, doing.attempt, True
    with running(attempt):  # until its end is committed: otherwise another attempt could take it for dead
        if (why := _closed(doing)) is not None:
            yield from doing.transact(actions.void, doing.key, attempt=attempt, reason=why, at=clock())
            raise ActionRefused(why)
        ended = Captured[Any]()
        with ended:
            ended.value = yield from do(_effect(doing))
        if ended.error is not None:
            reason = type(ended.error).__name__
            keep = actions.void if isinstance(ended.error, doing.declared.not_done_on) else actions.doubt
            yield from doing.transact(keep, doing.key, attempt=attempt, reason=reason, at=clock())
            raise ended.error
        result = encode_result(ended.value)
        kept = yield from doing.transact(actions.done, doing.key, attempt=attempt, result=result, at=clock())
        sys.audit("bursar.failpoint", "after_result")
    if not kept:  # race: a person or another attempt settled the action while the function ran
        raise InDoubt(f"{doing.declared.short} was done, and was settled by others meanwhile")
    if doing.scope.closed:  # race: the run ended while the function ran, when its action could not be undone yet
        yield from compensate_late(doing)
    return ended.value


def _effect(doing: ActionCallState) -> Invoke[Any]:
    def sync() -> Any:
        result = doing.invoke()
        sys.audit("bursar.failpoint", "after_effect")
        return result

    async def asynchronous() -> Any:
        result = await doing.invoke()
        sys.audit("bursar.failpoint", "after_effect")
        return result

    return Invoke(sync, asynchronous)


def _closed(doing: ActionCallState) -> str | None:
    scope, left = doing.scope, seconds_left(doing.scope)
    if scope.closed:
        return f"{doing.declared.short} was not done: the run of {scope.agent} has ended"
    return (
        f"{doing.declared.short} was not done: the deadline of {scope.agent} has passed"
        if left is not None and left <= 0
        else None
    )


def _check_open(doing: ActionCallState) -> None:
    if (why := _closed(doing)) is not None:
        raise ActionRefused(why)


def _replayed(deed: ActionRecord) -> Any:
    if deed.result is None:
        raise ActionRefused(f"{deed.short} was done, and its result was erased")
    return json.loads(deed.result)
