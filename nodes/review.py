"""Asking a gate: what it decides is written to the books, and a gate that raises has denied."""

import asyncio
from collections.abc import Callable

from langchain_core.runnables import RunnableConfig

from bursar.nodes.coordinator import Coordinator
from bursar.nodes.edge import Update
from bursar.nodes.gate import Gate, Verdict
from bursar.state.decision import Considered, Decision
from bursar.state.events import PolicyVerdict
from bursar.state.money import ZERO
from bursar.state.session import Request, SessionState


async def ask(coordinator: Coordinator, gate: Gate, request: Request, review: Callable[[], Verdict]) -> Verdict:
    """The gate's verdict, recorded. An exception inside the gate is a denial that names the gate.

    The gate runs in a worker thread: it may read a database, and the event loop serves other sessions meanwhile.
    """
    try:
        verdict = _checked(await asyncio.to_thread(review))
    except Exception as error:  # noqa: BLE001 - a gate fails closed, whatever its fault
        reason = f"{gate.name} could not review this ({type(error).__name__}); it is withheld"
        verdict = Verdict("deny", rules=("gate.fault",), reason=reason)
    event = PolicyVerdict(
        request_id=request.id,
        gate=gate.name,
        action=verdict.action,
        rules=verdict.rules,
        policy_hash=verdict.policy_hash,
    )
    record = coordinator.books.record(request.session_id, event, at=coordinator.clock())
    await coordinator.database.arun(record, durable=False, brief=True)
    return verdict


def _checked(verdict: object) -> Verdict:
    if not isinstance(verdict, Verdict):
        raise TypeError(f"a gate returns a Verdict, not {type(verdict).__name__}")
    return verdict


async def review_plan(coordinator: Coordinator, gate: Gate, state: SessionState, config: RunnableConfig) -> Update:
    """Take what the gate denies out of the plan; the decision and the answer name it."""
    request, plan = state["request"], state["plan"]
    names = tuple(step.name for step in plan.steps)
    verdict = await ask(coordinator, gate, request, lambda: gate.review_plan(request, names, now=request.opened_at))
    denied = dict.fromkeys(names, verdict.reason) if verdict.action == "deny" else dict(verdict.denied)
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
