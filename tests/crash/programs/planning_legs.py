"""One leg of a request whose supervisor's node may die: its router asks a model, and a gate reviews the plan.

A line is JSON: database, provider, session, tenant, failpoint, how to start, and the time that the leg's clock shows.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from langchain_openai import ChatOpenAI

from bursar import Budget, Ledger, Report, SQLAlchemySaver, Task, build_supervisor, meter
from bursar.nodes.gates.base import Verdict
from bursar.nodes.gateway.prices import price_of
from tests.crash.programs import failpoints
from tests.crash.programs.forks import serve
from tests.support.graphs import PayingRouter, specialist


class OneOut:
    """A gate that denies the specialist `out`, and nothing else."""

    name = "one_out"

    def review_plan(self, request: Any, specialists: tuple[str, ...], *, now: datetime) -> Verdict:
        return Verdict("allow_with_changes", rules=("out",), denied={"out": "it is denied"})

    def review_answer(self, request: Any, answer: str, reports: Mapping[str, Report], *, now: datetime) -> Verdict:
        return Verdict("allow")


def run(leg: dict[str, Any]) -> dict[str, Any]:
    """Run the leg to its end, or to its failpoint; what the session's state has then."""
    failpoints.arm(leg.get("failpoint", ""))
    model = meter(ChatOpenAI(model="gpt-4o-mini", api_key="none", base_url=leg["provider"], timeout=20))  # pyright: ignore[reportArgumentType]

    def here(task: Task) -> Report:
        return Report(answer=f"{task.tenant} at {task.now:%H:%M}")

    now = datetime.fromisoformat(leg["now"])
    app: Any = build_supervisor(
        [specialist("here", here), specialist("out", here), specialist("there", here)],
        budget=Budget("0.03"),
        ledger=Ledger(leg["database"]),
        checkpointer=SQLAlchemySaver(leg["database"]),
        router=PayingRouter(model, 2),
        gate=OneOut(),
        timeout=3600,
        rounds=leg.get("rounds", 1),
        clock=lambda: now,
    )
    start: Any = {"messages": [("user", "who are you?")]} if leg["start"] else None
    result = app.invoke(start, {"configurable": {"thread_id": leg["session"], **leg.get("more", {})}})
    state = app.get_state({"configurable": {"thread_id": leg["session"]}}).values
    return {
        "answers": [report.answer for report in result["reports"].values()],
        "decisions": [decision.kind for decision in result["decisions"]],
        "gaps": result["gaps"],
        "deadline": state["request"].deadline.isoformat(),
        "spent": result["spend"].spent.nanos,
    }


if __name__ == "__main__":
    price_of("gpt-4o-mini", "openai")
    serve(run)
