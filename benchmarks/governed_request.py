"""Measures one request through a supervisor. One specialist answers it, with one tool call and one model call.

Bursar's ledger and saver are on one SQLite file under sync durability: every hold, settlement, decision and checkpoint
is on disk when the answer is given. The peers keep their state in memory, and they have no ledger.
"""

# pyright: reportDeprecated=false, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import asyncio
import itertools
import tempfile
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, AnyMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph, add_messages
from langgraph_supervisor import create_supervisor

from benchmarks.doubled import ANSWER, QUESTION, DoubledModel, food_total
from benchmarks.harness import Result, interleave
from benchmarks.postgres import a_postgres_database
from bursar import Budget, Ledger, Report, Specialist, SQLAlchemySaver, Task, build_supervisor, deterministic, meter

SUPERVISOR_BOUND = 1.5
CONCURRENT = 20
PROMPT = "Answer from this total: {}"
SPECIALISTS = {"food": "what was spent on food", "rent": "what the rent is, and when it is due"}
EXAMPLES = {
    "food": ["how much did I spend on food", "what did groceries cost in May", "my spending on restaurants"],
    "rent": ["what is my rent", "when is the rent due", "did the rent go up"],
}


class Conversation(TypedDict):
    """The state of the peers' graphs."""

    messages: Annotated[list[AnyMessage], add_messages]


@dataclass(frozen=True)
class App:
    """A compiled graph, and the function `rest`, which runs after each round and empties an in-memory saver.

    Making an instance asks one question, and raises `AssertionError` if the answer is wrong.
    """

    graph: Any
    rest: Callable[[], None]

    def __post_init__(self) -> None:
        answer = self.graph.invoke({"messages": [("user", QUESTION)]}, _session("first"))["messages"][-1].text
        if ANSWER not in answer:
            raise AssertionError(f"{self.graph.name} did not do the work; it said {answer!r}")

    def sync(self, operations: int) -> None:
        """Run `operations` requests one after the other, by `invoke`."""
        for _ in range(operations):
            self.graph.invoke({"messages": [("user", QUESTION)]}, _session())
        self.rest()

    def one_by_one(self, operations: int) -> None:
        """Run `operations` requests one after the other, by `ainvoke`."""

        async def ask() -> None:
            for _ in range(operations):
                await self.graph.ainvoke({"messages": [("user", QUESTION)]}, _session())

        asyncio.run(ask())
        self.rest()

    def together(self, operations: int) -> None:
        """Run `operations` requests, `CONCURRENT` at once, by `ainvoke`."""

        async def ask() -> None:
            numbers = iter(range(operations))

            async def one() -> None:
                for _ in numbers:
                    await self.graph.ainvoke({"messages": [("user", QUESTION)]}, _session())

            await asyncio.gather(*(one() for _ in range(min(CONCURRENT, operations))))

        asyncio.run(ask())
        self.rest()


_numbers = itertools.count()


def _session(name: str = "") -> Any:
    return {"configurable": {"thread_id": name or f"s-{next(_numbers)}"}}


def bursar(url: str) -> App:
    """Return a Bursar supervisor with its ledger and its saver in the database at `url`."""
    model = meter(DoubledModel())

    async def food(task: Task) -> Report:
        reply = await model.ainvoke([("system", PROMPT.format(food_total())), ("user", task.text)])
        return Report(answer=reply.text)

    async def rent(task: Task) -> Report:
        return Report(answer=(await model.ainvoke(task.text)).text)

    @deterministic
    def rules(task: Task) -> Report:
        return Report(answer=f"You spent {food_total()}.")

    handlers = {"food": food, "rent": rent}
    specialists = [
        Specialist(
            name=name,
            description=described,
            handler=handlers[name],
            fallbacks=[rules],
            models=[model],
            examples=EXAMPLES[name],
        )
        for name, described in SPECIALISTS.items()
    ]
    app = build_supervisor(
        specialists, budget=Budget(per_request="0.03"), ledger=Ledger(url), checkpointer=SQLAlchemySaver(url)
    )
    return App(app, lambda: None)


def hand_written() -> App:
    """Return a supervisor written by hand in LangGraph: a model routes, each specialist is a node, a node reports."""
    model = DoubledModel()
    router = DoubledModel(answer="food")

    def route(state: Conversation) -> list[Any]:
        return [("system", str(SPECIALISTS)), *state["messages"]]

    def chosen(state: Conversation) -> str:
        return state["messages"][-1].text

    def asked(state: Conversation) -> list[Any]:
        return _prompt(state["messages"][-2:-1])

    def report(state: Conversation) -> dict[str, Any]:
        return {"messages": [AIMessage(state["messages"][-1].text)]}

    graph = StateGraph(Conversation)
    graph.add_node("supervisor", _node(router, route))
    for name in SPECIALISTS:
        graph.add_node(name, _node(model, asked))
    graph.add_node("report", report)
    graph.add_edge(START, "supervisor")
    graph.add_conditional_edges("supervisor", chosen, [*SPECIALISTS])
    for name in SPECIALISTS:
        graph.add_edge(name, "report")
    graph.add_edge("report", END)
    saver = InMemorySaver()
    return App(graph.compile(checkpointer=saver, name="hand-written"), partial(_forget, saver))


def langgraph_supervisor() -> App:
    """Return `langgraph-supervisor` over agents that do as much as Bursar's specialists: a tool, then a model call."""
    model = DoubledModel()

    def all_of_it(state: Conversation) -> list[Any]:
        return _prompt(state["messages"])

    agents: list[Any] = []
    for name in SPECIALISTS:
        graph = StateGraph(Conversation)
        graph.add_node("answer", _node(model, all_of_it))
        graph.add_edge(START, "answer")
        agents.append(graph.compile(name=name))
    return _supervised(agents, "langgraph-supervisor")


def prebuilt_agents() -> App:
    """Return `langgraph-supervisor` as in its documentation: over prebuilt agents, whose model asks for the tool."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from langgraph.prebuilt import create_react_agent

        tools = {"food": tool(food_total), "rent": tool(food_total)}
        agents = [create_react_agent(DoubledModel(), [tools[name]], name=name) for name in SPECIALISTS]
    return _supervised(agents, "langgraph-supervisor, prebuilt agents")


def _supervised(agents: list[Any], name: str) -> App:
    saver = InMemorySaver()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = create_supervisor(agents, model=DoubledModel()).compile(checkpointer=saver, name=name)
    return App(graph, partial(_forget, saver))


def _prompt(messages: list[AnyMessage]) -> list[Any]:
    return [("system", PROMPT.format(food_total())), *messages]


def _node(model: DoubledModel, prompt: Callable[[Conversation], list[Any]]) -> Any:
    """Return a node that calls the model with `prompt(state)`; sync callers run it sync, async callers async."""

    def sync(state: Conversation) -> dict[str, Any]:
        return {"messages": [model.invoke(prompt(state))]}

    async def asynchronous(state: Conversation) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(prompt(state))]}

    return RunnableLambda(sync, afunc=asynchronous)


def _forget(saver: InMemorySaver) -> None:
    for kept in (saver.storage, saver.writes, saver.blobs):
        kept.clear()


def run(*, smoke: bool) -> list[Result]:
    """Measure requests one after the other (async and sync) and many at once, and return a result for each way."""
    rounds, operations = (1, 3) if smoke else (12, 20)
    results: list[Result] = []
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        apps = {
            "bursar, SQLite": bursar(f"sqlite:///{folder}/books.db"),
            "hand-written": hand_written(),
            "langgraph-supervisor": langgraph_supervisor(),
            "its prebuilt agents": prebuilt_agents(),
        }
        server = stack.enter_context(a_postgres_database())
        if server:
            apps["bursar, PostgreSQL"] = bursar(server)
        for title, way in (("one by one", App.one_by_one), (f"{CONCURRENT} at once", App.together), ("sync", App.sync)):
            result = Result(f"governed request, {title}")
            contenders = [(name, partial(way, app)) for name, app in apps.items()]
            result.rounds = interleave(contenders, rounds=rounds, operations=operations)
            for ours in [name for name in apps if name.startswith("bursar")]:
                bound = SUPERVISOR_BOUND if ours.endswith("SQLite") and way is App.one_by_one else None
                result.compare(ours, "langgraph-supervisor", bound=bound)
                result.compare(ours, "its prebuilt agents")
                result.compare(ours, "hand-written")
            results.append(result)
    return results
