"""One leg of a request, in a process that may die.

A line is JSON: database, provider, session, handler (`plain` or `stream`; `inside` or `inside a function`: the
specialist is a supervisor of its own; `remote`: it is the graph of a LangGraph server, whose address is in `provider`),
failpoint, how to start, how many calls.
Each leg is a process of its own with an empty gateway, and only what is on disk has come over from the last one.
"""

from typing import Any

from langchain_openai import ChatOpenAI
from langgraph.pregel.remote import RemoteGraph

from bursar import Budget, Ledger, Report, Specialist, SQLAlchemySaver, Task, build_supervisor, deterministic, meter
from bursar.nodes.gateway.prices import price_of
from tests.crash.programs import failpoints
from tests.crash.programs.forks import serve
from tests.support.graphs import RouteTo

QUESTION = "where does my money go?"


def app_of(leg: dict[str, Any]) -> Any:
    """The graph of a leg: one specialist that asks its model `calls` times, and a free fallback."""
    model = meter(ChatOpenAI(model="gpt-4o-mini", api_key="none", base_url=leg["provider"], timeout=20))  # pyright: ignore[reportArgumentType]

    def ask(number: int) -> str:
        prompt = f"question {number}{leg.get('changing', '')}"
        if leg["handler"] == "stream":
            return "".join(chunk.text for chunk in model.stream(prompt, max_tokens=100))
        return model.invoke(prompt, max_tokens=100).text

    def spending(task: Task) -> Report:
        return Report(answer="; ".join(ask(number) for number in range(leg["calls"])), confidence=0.9)

    @deterministic
    def rules(task: Task) -> Report:
        return Report(answer="by rules alone", confidence=0.5)

    url = leg["database"]
    ledger = Ledger(url)

    def supervisor(name: str, handler: Any, price: str | None = None, **own: Any) -> Any:
        specialist = Specialist(
            name=name,
            description="Where the money goes",
            handler=handler,
            price=price,
            ceiling="0.02",
            max_turns=leg.get("max_turns", 8),
            fallbacks=[rules],
            examples=[QUESTION, "what did I spend"],
        )
        return build_supervisor([specialist], budget=Budget("0.03"), ledger=ledger, router=RouteTo(), **own)

    if leg["handler"] == "remote":
        remote = RemoteGraph("agent", url=leg["provider"])
        return supervisor("spending", remote, price="0.005", checkpointer=SQLAlchemySaver(url))
    if not leg["handler"].startswith("inside"):
        return supervisor("spending", spending, checkpointer=SQLAlchemySaver(url))
    inner = supervisor("leaf", spending)

    def function(task: Task) -> Report:
        return Report(answer=inner.invoke({"messages": [("user", task.text)]})["messages"][-1].text)

    handler = function if leg["handler"] == "inside a function" else inner
    return supervisor("spending", handler, checkpointer=SQLAlchemySaver(url))


def run(leg: dict[str, Any]) -> dict[str, Any]:
    """Run the leg to its end, or to its failpoint; its answer."""
    leg = {"session": "s-1", "handler": "plain", "calls": 2, **leg}
    failpoints.arm(leg.get("failpoint", ""))
    start = {"messages": [("user", QUESTION)]} if leg["start"] else None
    result = app_of(leg).invoke(start, {"configurable": {"thread_id": leg["session"]}})
    return {"answer": result["messages"][-1].text, "outcomes": [str(one.outcome) for one in result["runs"]]}


if __name__ == "__main__":
    price_of("gpt-4o-mini", "openai")
    serve(run)
