"""Calls of a gate: its verdict is written to the log, and a gate that raises denies what it reviews."""

from collections.abc import Callable

from langchain_core.runnables import RunnableConfig

from bursar.checkpoints.ledger.postings import record
from bursar.nodes.context.coordinator import Coordinator
from bursar.nodes.context.deadlines import time_for
from bursar.nodes.gates.base import Gate, Verdict
from bursar.nodes.isolation.captured import Captured
from bursar.nodes.isolation.sync_bridge import Update
from bursar.nodes.isolation.workers import TooManyAbandoned, run_in_thread
from bursar.state.decision import Considered, Decision
from bursar.state.events import PolicyVerdict
from bursar.state.money import ZERO
from bursar.state.session import Request, SessionState


async def ask(coordinator: Coordinator, gate: Gate, request: Request, review: Callable[[], Verdict]) -> Verdict:
    """Call `review`, which asks the gate for its verdict. Write the verdict to the log, and return the verdict.

    If the gate raises, or gives no verdict by its deadline, the verdict is a denial that names the gate. The gate runs
    in a thread of its own: it may read a database, and the event loop serves other sessions meanwhile.
    """
    seconds, _ = time_for(request, coordinator.gate_timeout_seconds, now=coordinator.clock(), last=True)
    end = await _reviewed(gate, review, seconds=seconds)
    if end is not None and isinstance(end.error, KeyboardInterrupt):
        raise end.error
    if end is not None and end.value is not None:
        verdict = end.value
    else:
        fault = "no answer in time" if end is None else type(end.error).__name__
        reason = f"{gate.name} could not review this ({fault}); it is withheld"
        verdict = Verdict("deny", rules=("gate.fault",), reason=reason)
    event = PolicyVerdict(
        request_id=request.id,
        gate=gate.name,
        action=verdict.action,
        rules=verdict.rules,
        policy_hash=verdict.policy_hash,
    )
    at = coordinator.clock()
    await coordinator.commit(lambda transaction: record(transaction, request.session_id, event, at=at), request)
    return verdict


async def _reviewed(gate: Gate, review: Callable[[], Verdict], *, seconds: float) -> Captured[Verdict] | None:
    try:
        return await run_in_thread(gate.name, lambda: _checked(review()), seconds=seconds)
    except TooManyAbandoned as error:
        end = Captured[Verdict]()
        end.error = error
        return end


def _checked(verdict: object) -> Verdict:
    if not isinstance(verdict, Verdict):
        raise TypeError(f"a gate returns a Verdict, not {type(verdict).__name__}")
    return verdict


async def review_plan(coordinator: Coordinator, gate: Gate, state: SessionState, config: RunnableConfig) -> Update:
    """Take the specialists that the gate denies out of the plan.

    The decision and the answer name them with the gate's reason.
    """
    request, plan = state["request"], state["plan"]
    names = tuple(step.name for step in plan.steps)
    verdict = await ask(coordinator, gate, request, lambda: gate.review_plan(request, names, now=request.opened_at))
    denied = dict(verdict.denied)
    if verdict.action == "deny":
        denied = {name: denied.get(name) or verdict.reason or f"{gate.name} gave no reason" for name in names}
    decision = Decision(
        kind="policy",
        by=gate.name,
        rule=", ".join(verdict.rules) or "nothing against the plan",
        chosen=tuple(name for name in names if name not in denied),
        candidates=tuple(
            Considered(
                name=name,
                score=0.0,
                expected_cost=coordinator.chains[name].specialist.expects,
                verdict="policy" if name in denied else "chosen",
                reason=denied.get(name, ""),
            )
            for name in names
        ),
        left=max(state["spend"].left or ZERO, ZERO),
    )
    kept = tuple(step for step in plan.steps if step.name not in denied)
    return {
        "plan": plan.model_copy(update={"steps": kept, "denied": (*plan.denied, *denied.items())}),
        "decisions": [decision],
    }
