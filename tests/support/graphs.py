"""Helpers for tests of whole graphs: a router that chooses every specialist, priced model doubles, and graphs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, StateGraph

from bursar import (
    Budget,
    Ledger,
    Price,
    Report,
    Specialist,
    SQLAlchemySaver,
    Task,
    build_supervisor,
    deterministic,
    meter,
)
from bursar.nodes.gateway.chat_model import MeteredChatModel
from bursar.nodes.routers.base import Candidate, Scores
from bursar.nodes.specialists.definition import Handler
from bursar.testing import Scripted, ScriptedModel

NANOS_PER_WORD = 1_000_000  # a tenth of a cent
PRICE = Price(input=0, output=1_000)  # US dollars per million tokens: that tenth of a cent a word
App = Any  # LangGraph leaves its own type partly unknown
QUESTION: Any = {"messages": [("user", "how much?")]}


@dataclass
class RouteTo:
    """A router that chooses every candidate, or only those in `names`, and gives every candidate the same score."""

    names: tuple[str, ...] = ()

    async def route(self, question: str, candidates: Sequence[Candidate], /) -> Scores:
        chosen = tuple(c.name for c in candidates if not self.names or c.name in self.names)
        return Scores({c.name: 1.0 for c in candidates}, chosen, 1.0, "all of them")


class PayingRouter(RouteTo):
    """A router that makes so many paid calls before it chooses, so that the specialists may have less than they may."""

    def __init__(self, model: Any, calls: int = 3, names: tuple[str, ...] = ()) -> None:
        super().__init__(names)
        self.model = model
        self.calls = calls

    async def route(self, question: str, candidates: Sequence[Candidate], /) -> Scores:
        for number in range(self.calls):
            await self.model.ainvoke(f"which one? {number}")
        return await super().route(question, candidates)


@deterministic
def rules(task: Task) -> Report:
    """Answer by rule: the last resort of the tests' specialists."""
    return Report(answer=f"{task.specialist} by rule")


def priced(model: ScriptedModel, *, words: int = 5, least: int | None = None) -> MeteredChatModel:
    """Put the double behind the gateway. An answer may have `words` words, and each costs a tenth of a cent."""
    return meter(model, price=PRICE, max_output_tokens=words, min_output_tokens=words if least is None else least)


def scripted(*replies: Scripted) -> ScriptedModel:
    """Return a model double that gives these replies, in this order."""
    return ScriptedModel(replies=replies)


def words(number: int) -> str:
    """Return an answer of `number` words."""
    return " ".join(["word"] * number)


def billed(*models: ScriptedModel) -> int:
    """Return the nano-dollars that the doubles would have billed, by the usage that they recorded for each call."""
    usages = [call.usage for model in models for call in model.calls if call.usage is not None]
    return sum(usage["output_tokens"] for usage in usages) * NANOS_PER_WORD


def specialist(name: str, handler: Handler, **settings: Any) -> Specialist:
    """Return a specialist whose fallback is `rules`."""
    fields: dict[str, Any] = {"name": name, "description": name, "handler": handler, "fallbacks": [rules]}
    return Specialist(**{**fields, **settings})


def free(name: str, handler: Handler, **settings: Any) -> Specialist:
    """Return a specialist with an expected cost of nothing, so that the guardian admits any number of them."""
    return specialist(name, handler, expected_cost=0, **settings)


def build(ledger: Ledger, specialists: Sequence[Specialist], **settings: Any) -> App:
    """Build a graph whose checkpoints are in the ledger's database and whose router chooses every specialist."""
    usual: dict[str, Any] = {
        "budget": Budget("0.03"),
        "checkpointer": SQLAlchemySaver(ledger.database),
        "router": RouteTo(),
    }
    return build_supervisor(specialists, ledger=ledger, **{**usual, **settings})


def one_node(state: Any, body: Any, **settings: Any) -> Any:
    """Return a compiled graph of one node, such as an agent's own."""
    graph: Any = StateGraph(state, **settings)
    return graph.add_node("inside", body).add_edge(START, "inside").compile()


def session(name: str = "s-1", **more: Any) -> RunnableConfig:
    """Return the config for the session `name`; `more` are further `configurable` values."""
    return {"configurable": {"thread_id": name, "tenant": "acme", **more}}


def ask(app: App, text: str = "how much for food?", name: str = "s-1") -> Any:
    """Ask a question in a session, and return the graph's result."""
    return app.invoke({"messages": [("user", text)]}, session(name))


def answer_of(result: Any) -> str:
    """Return the text of a result's answer."""
    return str(result["messages"][-1].text)


def first_run(result: Any, name: str = "a") -> Any:
    """Return the run of the own handler of the specialist `name`, not a run of a fallback."""
    return next(run for run in result["runs"] if run.specialist == name and run.level == 0)
