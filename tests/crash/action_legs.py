"""One leg of a request that acts, in a process that may die: forks a fresh process for each line it reads.

A line is JSON: database, world, session, kind (`check`, `idempotent` or `bare`), failpoint, fails, start, approve.
"""

import importlib
import json
import os
import sys
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
from bursar.nodes.gateway import failpoints
from tests.crash.legs import SLOW_IMPORTS, Everyone
from tests.crash.world import tell


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
        router=Everyone(),
        approvers=["ann"],
    )


def run(leg: dict[str, Any]) -> None:
    """Run the leg to its end, or to its failpoint."""
    failpoints.arm({"BURSAR_TESTING": "1", "BURSAR_FAILPOINT": leg.get("failpoint", "")})
    ledger = Ledger(leg["database"])
    start: Any = {"messages": [("user", "book my journey")]} if leg["start"] else None
    if leg.get("resume"):
        start = Command(resume=Approve(subject_hash=leg["resume"], by="ann"))
    result = app_of(leg, ledger).invoke(start, {"configurable": {"thread_id": leg["session"]}})
    waits = [one.value.subject_hash for one in result.get("__interrupt__", [])]
    answer = {"answer": result["messages"][-1].text, "gaps": result.get("gaps", []), "waits": waits}
    os.write(1, (json.dumps(answer) + "\n").encode())


def main() -> None:
    """Fork for each line; afterwards a line with the child's exit status, negative for the signal that killed it."""
    for name in SLOW_IMPORTS:
        importlib.import_module(name)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            run(json.loads(line))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        os.write(1, f"{os.waitstatus_to_exitcode(status)}\n".encode())


if __name__ == "__main__":
    main()
