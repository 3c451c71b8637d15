"""One leg of a request whose specialist is a cascade of two models, in a process that may die.

A line is JSON: database, provider, session, failpoint, how to start.
"""

from typing import Any

from langchain_openai import ChatOpenAI

from bursar import Budget, Cascade, Ledger, Report, SQLAlchemySaver, Task, build_supervisor, meter
from bursar.nodes.gateway.prices import price_of
from tests.crash.programs import failpoints
from tests.crash.programs.forks import serve
from tests.support.graphs import RouteTo, specialist
from tests.support.provider import DEAR_MODEL, MODEL

STAKE, PRICES = "0.04", {"cheap": "0.0005", "dear": "0.006"}


def run(leg: dict[str, Any]) -> dict[str, Any]:
    """Run the leg to its end, or to its failpoint; its answer and its decisions."""
    failpoints.arm(leg.get("failpoint", ""))

    def model(name: str) -> Any:
        key: Any = "none"
        return meter(ChatOpenAI(model=name, api_key=key, base_url=leg["provider"], timeout=60), max_output_tokens=100)

    cheap, dear = model(MODEL), model(DEAR_MODEL)

    async def unsure(task: Task) -> Report:
        return Report(answer=(await cheap.ainvoke(task.text)).text, confidence=0.2)

    cascade = Cascade({"cheap": unsure, "dear": dear}, accept=0.5, stake=STAKE, prices=PRICES)
    app: Any = build_supervisor(
        [specialist("spending", cascade, ceiling="0.02", timeout=300)],
        budget=Budget("0.03"),
        ledger=Ledger(leg["database"]),
        checkpointer=SQLAlchemySaver(leg["database"]),
        router=RouteTo(),
    )
    start: Any = {"messages": [("user", "is it worth it?")]} if leg["start"] else None
    result = app.invoke(start, {"configurable": {"thread_id": leg["session"]}})
    return {
        "answer": result["messages"][-1].text,
        "gaps": result["gaps"],
        "way": [[one.rung, one.accepted, *one.chosen] for one in result["decisions"] if one.kind == "cascade"],
    }


if __name__ == "__main__":
    price_of("gpt-4o-mini", "openai")
    serve(run)
