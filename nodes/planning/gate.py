"""Calls of a gate: its verdict is written to the log, and a gate that raises denies what it reviews."""

import inspect
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeAlias, cast

from bursar.checkpoints.ledger.postings import record
from bursar.checkpoints.ledger.transaction import Transaction
from bursar.nodes.context.coordinator import Coordinator
from bursar.nodes.context.deadlines import time_for
from bursar.nodes.gates.base import Gate, Verdict
from bursar.nodes.isolation.captured import Captured, capture_call
from bursar.nodes.isolation.workers import TooManyAbandoned, run_coroutine, run_in_thread
from bursar.nodes.observers.request_observers import tell_request
from bursar.nodes.planning.guardian import record_plan
from bursar.state.decision import Considered, Decision
from bursar.state.events import PolicyVerdict
from bursar.state.session import Plan, Request

Review: TypeAlias = Callable[[], Verdict | Awaitable[Verdict]]


async def ask(
    coordinator: Coordinator,
    gate: Gate,
    request: Request,
    review: Review,
    *,
    and_write: Callable[[Transaction, Verdict], object] = lambda transaction, verdict: None,
) -> Verdict:
    """Call `review`, which asks the gate for its verdict. Write the verdict to the log, and return the verdict.

    `and_write` writes what follows from the verdict in the same transaction, so that a crash cannot part the two.

    """
    verdict = await verdict_of(coordinator, gate, request, review)
    event = PolicyVerdict(
        request_id=request.id,
        gate=gate.name,
        action=verdict.action,
        rules=verdict.rules,
        policy_hash=verdict.policy_hash,
    )
    at = coordinator.clock()

    def work(transaction: Transaction) -> None:
        record(transaction, request.session_id, event, at=at)
        and_write(transaction, verdict)

    await coordinator.commit(work, request)
    tell_request("reviewed", gate.name, verdict)
    return verdict


async def verdict_of(coordinator: Coordinator, gate: Gate, request: Request, review: Review) -> Verdict:
    """Call `review`, which asks the gate for its verdict, and return the verdict.

    If the gate raises, or gives no verdict by its deadline, the verdict is a denial that names the gate. The gate is
    called in a thread of its own: it may read a database, and the event loop serves other sessions meanwhile. If it
    returns an awaitable, that is awaited where `run_coroutine` says.
    """
    seconds, _ = time_for(request, coordinator.gate_timeout_seconds, now=coordinator.clock(), last=True)
    end = await _reviewed(gate, review, seconds=seconds)
    if end is not None and isinstance(end.error, KeyboardInterrupt):
        raise end.error
    if end is not None and end.value is not None:
        return end.value
    fault = "no answer in time" if end is None else type(end.error).__name__
    reason = f"{gate.name} could not review this ({fault}); it is withheld"
    return Verdict("deny", rules=("gate.fault",), reason=reason)


async def _reviewed(gate: Gate, review: Review, *, seconds: float) -> Captured[Verdict] | None:
    until = time.monotonic() + seconds
    try:
        end = await run_in_thread(gate.name, review, seconds=seconds)
        if end is not None and inspect.isawaitable(waiting := end.value):
            waits = partial(_awaited, waiting)
            end = await run_coroutine(gate.name, waits, seconds=until - time.monotonic())
    except TooManyAbandoned as error:
        return Captured[Verdict](error=error)
    if end is None or end.error is not None:
        return cast("Captured[Verdict] | None", end)
    return capture_call(_checked, end.value)


async def _awaited(waiting: Awaitable[Verdict]) -> Verdict:
    return await waiting


def _checked(verdict: object) -> Verdict:
    if not isinstance(verdict, Verdict):
        raise TypeError(f"a gate returns a Verdict, not {type(verdict).__name__}")
    return verdict


async def review_plan(
    coordinator: Coordinator, gate: Gate, request: Request, plan: Plan, admitted: Decision
) -> tuple[Plan, Decision]:
    """Take the specialists that the gate denies out of the plan. Return the plan, and the decision that says so.

    The decision and the answer name them with the gate's reason.
    """
    names = tuple(dict.fromkeys(step.specialist for step in plan.steps))

    def write(transaction: Transaction, verdict: Verdict) -> None:
        record_plan(transaction, request, *judged(gate, plan, admitted, verdict), at=coordinator.clock())

    verdict = await ask(
        coordinator,
        gate,
        request,
        lambda: gate.review_plan(request, names, now=request.opened_at),
        and_write=write,
    )
    return judged(gate, plan, admitted, verdict)


def judged(gate: Gate, plan: Plan, admitted: Decision, verdict: Verdict) -> tuple[Plan, Decision]:
    """Return the plan without what the verdict denies, and the decision."""
    expected = {step.name: step.expects for step in plan.steps}
    reasons = {step.name: verdict.denied.get(step.specialist, "") for step in plan.steps}
    denied = {step.name: reasons[step.name] for step in plan.steps if step.specialist in verdict.denied}
    if verdict.action == "deny":
        denied = {name: reasons[name] or verdict.reason or f"{gate.name} gave no reason" for name in expected}
        if not plan.steps and not plan.denied:  # no specialist fits the request, so the gate's own name stands there
            denied = {gate.name: verdict.reason or f"{gate.name} gave no reason"}
    decision = Decision(
        kind="policy",
        by=gate.name,
        rule=", ".join(verdict.rules) or "nothing against the plan",
        chosen=tuple(name for name in expected if name not in denied),
        candidates=tuple(
            Considered(
                name=name,
                score=0.0,
                expected_cost=expects,
                verdict="policy" if name in denied else "chosen",
                reason=denied.get(name, ""),
            )
            for name, expects in expected.items()
        ),
        left=admitted.left,
    )
    kept = tuple(step for step in plan.steps if step.name not in denied)
    return plan.model_copy(update={"steps": kept, "denied": (*plan.denied, *denied.items())}), decision
