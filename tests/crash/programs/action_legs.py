"""One leg of a request that acts, in a process that may die.

A line is JSON: database, world, session, kind (`check`, `idempotent` or `bare`), failpoint, fails, start, approve.
"""

from typing import Any

from langgraph.types import Command

from bursar import (
    ActionCall,
    Approve,
    Budget,
    Happened,
    Ledger,
    Report,
    Specialist,
    SQLAlchemySaver,
    Task,
    action,
    build_supervisor,
    deterministic,
)
from tests.crash.programs import failpoints
from tests.crash.programs.forks import serve
from tests.crash.programs.world import tell
from tests.support.graphs import RouteTo


def app_of(leg: dict[str, Any], ledger: Ledger) -> Any:
    """The graph of a leg: one specialist that pays for a flight, then for a hotel, and then perhaps fails."""
    world, kind = leg["world"], leg["kind"]

    def refund(call: ActionCall) -> None:
        tell(world, "refund", name=call.arguments["name"], key=call.key)

    def happened(call: ActionCall) -> Happened | None:
        found = tell(world, "look", name=call.arguments["name"], key=call.key)
        return Happened(found) if found["paid"] else None

    @action(compensate=refund, check=happened if kind == "check" else None, idempotent=kind == "idempotent")
    def pay(name: str, idempotency_key: str = "") -> dict[str, Any]:
        return tell(world, "pay", name=name, key=idempotency_key, honour=kind == "idempotent")

    def travel(task: Task) -> Report:
        paid = [pay(name)["name"] for name in ("flight", "hotel")]
        if leg["fails"]:
            raise ValueError("no room")
        return Report(answer=f"paid {' and '.join(paid)}")

    @deterministic
    def rules(task: Task) -> Report:
        return Report(answer="by rules alone")

    specialist = Specialist(
        name="travel",
        description="Books a journey",
        handler=travel,
        risk="high" if leg.get("approve") else "low",
        fallbacks=[rules],
    )
    return build_supervisor(
        [specialist],
        budget=Budget(per_request="0.03"),
        ledger=ledger,
        checkpointer=SQLAlchemySaver(ledger.database),
        router=RouteTo(),
        approvers=["ann"],
    )


def run(leg: dict[str, Any]) -> dict[str, Any]:
    """Run the leg to its end, or to its failpoint; its answer."""
    failpoints.arm(leg.get("failpoint", ""))
    ledger = Ledger(leg["database"])
    start: Any = {"messages": [("user", "book my journey")]} if leg["start"] else None
    if leg.get("resume"):
        start = Command(resume=Approve(subject_hash=leg["resume"], by="ann"))
    result = app_of(leg, ledger).invoke(start, {"configurable": {"thread_id": leg["session"]}})
    waits = [one.value.subject_hash for one in result.get("__interrupt__", [])]
    return {"answer": result["messages"][-1].text, "gaps": result.get("gaps", []), "waits": waits}


if __name__ == "__main__":
    serve(run)
