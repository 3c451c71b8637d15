"""The end of a run that did actions: actions in doubt are checked, finished actions are undone if the run failed."""

import inspect
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from bursar.checkpoints.ledger import actions
from bursar.checkpoints.ledger.actions import ActionRecord
from bursar.nodes.actions.attempts import is_running_here, may_be_running, new_attempt, running
from bursar.nodes.actions.call import ActionCallState, called, encode_result
from bursar.nodes.actions.registry import Action, known
from bursar.nodes.context.outcome import RunVerdict, in_one_line
from bursar.nodes.gateway.paid_calls.flow import Flow, Invoke, do
from bursar.nodes.gateway.paid_calls.scope import Scope
from bursar.nodes.isolation.callables import is_async
from bursar.nodes.isolation.captured import Captured
from bursar.nodes.isolation.workers import run_coroutine, run_in_thread
from bursar.state.action import ActionCall, Happened
from bursar.state.run import Outcome

UNDO_SECONDS = 30.0  # for each check and each compensation at the end of a run


async def conclude_actions(scope: Scope, why: RunVerdict) -> RunVerdict:
    """Bring the run's actions to an end. Return the verdict `why`, whose reason then says what became of the actions.

    Actions in doubt are checked. If the run completed, finished actions stay. Otherwise finished actions are undone,
    the last first, unless an irreversible action was done or may have been done. An action that cannot be brought to an
    end is an incident, and waits for a person.
    """
    run = scope.ledger.arun
    deeds = await run(actions.of_run, scope.session_id, scope.checkpoint_ns)
    told: list[str] = []
    for deed in deeds:
        if deed.state in {"intended", "in_doubt"}:
            await _find_out(scope, deed)
    deeds = await run(actions.of_run, scope.session_id, scope.checkpoint_ns)
    doubtful = [deed for deed in deeds if deed.state in {"intended", "in_doubt"}]
    for deed in doubtful:
        what = f"nobody knows whether {deed.short} was done"
        told.append(what)
        await run(actions.tell_incident, scope.session_id, deed.key, what, at=scope.clock())
    if why.outcome is not Outcome.COMPLETED:
        told += await _undone(scope, deeds)
    return why.adding("; ".join(told))


async def _undone(scope: Scope, deeds: Sequence[ActionRecord]) -> list[str]:
    """Undo finished actions, the last first, and return sentences that say what became of them.

    If an irreversible action was done or may have been done, nothing is undone.
    """
    last = next((deed for deed in deeds if deed.irreversible and deed.state in {"intended", "in_doubt", "done"}), None)
    done = [deed for deed in deeds if deed.state in {"done", "undoing"}]
    if last is not None:
        return [f"{last.short} cannot be undone, so what was done stays: {_names(done)}"] if done else []
    undone: list[ActionRecord] = []
    stuck: list[ActionRecord] = []
    for deed in done:
        (undone if await _undo(scope, deed) else stuck).append(deed)
    return [
        *([f"undone: {_names(undone)}"] if undone else []),
        *([f"not undone, a person must look: {_names(stuck)}"] if stuck else []),
    ]


async def _find_out(scope: Scope, deed: ActionRecord) -> None:
    """Call the check of an action that has not ended, and write to the ledger whether the action was done.

    If another process may still be doing the action, change nothing. If the action still runs in this process, has no
    check, or has a check that raises, leave the action in doubt.
    """
    run, at = scope.ledger.arun, scope.clock
    here = is_running_here(deed.attempt)
    if deed.state == "intended":
        if not here and may_be_running(deed.attempt, until=deed.until, now=at()):
            return  # another process may be doing it
        reason = "its run ended before it did" if here else "its process died before it told the end"
        await run(actions.doubt, deed.key, attempt=deed.attempt, reason=reason, at=at())
    declared = _declared(scope, deed)
    if here or declared is None or declared.check is None:
        return
    found = await _apart(scope, declared.check, called(deed))
    if found.error is not None:
        return
    if found.value is None:
        reason = "the outside says that it was not done"
        await run(actions.void, deed.key, attempt=deed.attempt, reason=reason, at=at())
    else:
        result = encode_result(found.value.result if isinstance(found.value, Happened) else None)
        await run(actions.done, deed.key, attempt=deed.attempt, result=result, at=at())


async def _undo(scope: Scope, deed: ActionRecord) -> bool:
    """Undo a finished action, and return whether it is undone.

    If another attempt is undoing the action, return False. If the compensation fails, or if this program has no
    compensation for the action, record an incident and return False.
    """
    run, at = scope.ledger.arun, scope.clock
    if deed.state == "undoing" and may_be_running(deed.attempt, until=deed.until, now=at()):
        return False
    declared, attempt = _declared(scope, deed), new_attempt(scope.new_id)
    until = at() + timedelta(seconds=2 * UNDO_SECONDS)
    with running(attempt):
        # Race: another attempt may begin to undo this action; the ledger lets one of them change its state.
        if not await run(actions.undoing, deed, attempt=attempt, until=until, at=at()):
            return False
        sys.audit("bursar.failpoint", "before_undo")
        if declared is None or declared.compensate is None:
            why = "this program has no action of that name"
        else:
            end = await _apart(scope, declared.compensate, called(deed))
            why = "" if end.error is None else in_one_line(end.error)
        if not why:
            sys.audit("bursar.failpoint", "in_undo")
            await run(actions.undone, deed.key, attempt=attempt, at=at())
            sys.audit("bursar.failpoint", "after_undo")
            return True
    what = f"{deed.short} could not be undone: {why}"
    await run(actions.tell_incident, scope.session_id, deed.key, what, at=at())
    return False


async def _apart(scope: Scope, function: Callable[[ActionCall], Any], call: ActionCall) -> Captured[Any]:
    """Call a check or a compensation, and return its value or error.

    An async function runs on the event loop of the run's handler, a sync function in a thread. If the function has not
    ended after `UNDO_SECONDS`, it is abandoned, and the error is a `TimeoutError`.
    """
    if is_async(function):
        end = await run_coroutine(scope.agent, partial(function, call), seconds=UNDO_SECONDS, apart=scope.apart)
    else:
        end = await run_in_thread(scope.agent, partial(function, call), seconds=UNDO_SECONDS)
    if end is None:
        end = Captured[Any]()
        end.error = TimeoutError(f"no answer within {UNDO_SECONDS:g} s")
    return end


def _declared(scope: Scope, deed: ActionRecord) -> Action | None:
    acted = {} if scope.acting is None else scope.acting.acted
    return acted.get(deed.name) or known(deed.name)


def _names(deeds: Sequence[ActionRecord]) -> str:
    return ", ".join(deed.short for deed in deeds)


def compensate_late(doing: ActionCallState) -> Flow[None]:
    """Undo an action that was done after its run had ended.

    If the action has no compensation, or if the compensation fails, record an incident.
    """
    clock, name = doing.scope.clock, doing.declared.short
    deed = yield from doing.transact(actions.find, doing.key)
    ended = Captured[None]()
    with ended:
        if deed is not None and doing.declared.compensate is not None:
            attempt = new_attempt(doing.scope.new_id)
            with running(attempt):
                until = doing.intent.until
                # Race: the end of the run may undo this action too; the ledger lets one of them change its state.
                if (yield from doing.transact(actions.undoing, deed, attempt=attempt, until=until, at=clock())):
                    yield from do(call_step(doing.declared.compensate, called(deed)))
                    yield from doing.transact(actions.undone, deed.key, attempt=attempt, at=clock())
            return
    what = f"{name} was done after its run had ended" + (
        f", and was not undone: {in_one_line(ended.error)}" if ended.error else ""
    )
    yield from doing.transact(actions.tell_incident, doing.scope.session_id, doing.key, what, at=clock())


def call_step(function: Callable[[ActionCall], Any], call: ActionCall) -> Invoke[Any]:
    """Return the step that calls `function` with `call`. The function is the check or the compensation of an action."""

    async def asynchronous() -> Any:
        result = function(call)
        return await result if inspect.isawaitable(result) else result

    return Invoke(lambda: function(call), asynchronous)
