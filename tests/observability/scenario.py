"""One conversation with everything that a trace must tell: what answers, what fails, what is paid, refused and asked.

`play` asks a supervisor on SQLite, whose models are real clients of a provider on loopback, question after question. A
`Story` is what came of it by the ledger, which tests compare with what a tracer was told.
"""

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from langchain_core.outputs import ChatResult
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from langgraph.types import Command

from bursar import (
    Approve,
    Budget,
    Ledger,
    ModelComposer,
    ModelRouter,
    Report,
    Specialist,
    Task,
    Verdict,
    action,
    as_tool,
    meter,
    priced,
)
from bursar.nodes.isolation.workers import abandoned_count
from bursar.nodes.routers.base import Candidate, Scores
from bursar.state.session import Request
from bursar.testing import ScriptedModel
from tests.support.clock import wait_until
from tests.support.graphs import App, RouteTo, build, free, rules, session
from tests.support.provider import DEAR_MODEL, EMBEDDING_MODEL, MODEL, Provider, Reply

SESSION, STUCK_SESSION = "s-1", "s-2"
PASSWORD = "hunter2-correct-horse"
LOOKUP_PRICE = "0.002"
DEADLINE_SECONDS = 3.0  # the call must be on its way by then, on a slow machine too
SAME: dict[str, object] = {"title": "Same", "type": "object", "properties": {}, "description": "always the same"}
ROUTING: dict[str, object] = {
    "picks": [{"name": "food", "value": 1.0, "after": []}, {"name": "rent", "value": 1.0, "after": []}],
    "confidence": 1.0,
    "done": True,
}


@dataclass(frozen=True)
class Asked:
    """A question of the story and what it cost: `results` has the graph's results, the last one the answer's."""

    name: str
    session: str
    results: Sequence[Any]
    request: str
    nanos: int

    @property
    def result(self) -> Any:
        return self.results[-1]


@dataclass
class Story:
    """What was asked, by its name, and the ledger in which it stands."""

    ledger: Ledger
    asked: dict[str, Asked] = field(default_factory=dict[str, Asked])
    seen: Any = None  # what was observed while a call was stuck

    @property
    def nanos(self) -> int:
        """The nano-dollars that the ledger charges to both sessions."""
        return sum(spent(self.ledger, name) for name in (SESSION, STUCK_SESSION))


def spent(ledger: Ledger, name: str) -> int:
    """Return the nano-dollars that the ledger charges to a session; none if nobody has asked in it."""
    return ledger.spend(name).spent.nanos if name in {row.session_id for row in ledger.sessions()} else 0


class NeverAnswers(ScriptedModel):
    """A model whose async calls wait until they are cancelled. No timeout of a client ends them."""

    def __init__(self) -> None:
        super().__init__(replies=[])

    async def _agenerate(self, *what: Any, **options: Any) -> ChatResult:
        await asyncio.Event().wait()
        raise AssertionError("nobody sets the event")


class Gatekeeper:
    """A gate that denies the specialist `forbidden`, by a rule and a policy."""

    name = "gatekeeper"

    def review_plan(self, request: Request, specialists: tuple[str, ...], *, now: datetime) -> Verdict:
        if "forbidden" in specialists:
            return Verdict("deny", rules=("no-forbidden",), reason="that is forbidden", policy_hash="f" * 64)
        return Verdict("allow", rules=("all-else",), policy_hash="f" * 64)

    def review_answer(self, request: Request, answer: str, reports: Mapping[str, Report], *, now: datetime) -> Verdict:
        return Verdict("allow", policy_hash="f" * 64)


class RouteByName:
    """A router that chooses the specialists that the question names; a question that begins with "think" pays."""

    def __init__(self, paying: ModelRouter) -> None:
        self.paying = paying

    async def route(self, question: str, candidates: Sequence[Candidate], /) -> Scores:
        if question.startswith("think"):
            return await self.paying.route(question, candidates)
        return await RouteTo(tuple(question.split())).route(question, candidates)


def chat(provider: Provider, model: str = MODEL, **settings: Any) -> ChatOpenAI:
    """Return a client of the provider."""
    fixed: dict[str, Any] = {
        "model": model,
        "api_key": "sk-test-0123456789abcdef",
        "base_url": provider.url,
        "timeout": 30,
    }
    return ChatOpenAI(**{**fixed, **settings})


@priced(LOOKUP_PRICE)
def look_up(what: str) -> str:
    """A paid look-up."""
    return f"the price of {what}"


@action(compensate=lambda call: None)
def stamp(what: str) -> str:
    """An action that nobody must approve."""
    return f"stamped {what}"


@action(irreversible=True, approval=True)
def wire(to: str, cents: int) -> str:
    """An action that a person must approve."""
    return f"{cents} cents to {to}"


def team(ledger: Ledger, provider: Provider, released: threading.Event, **settings: Any) -> list[Specialist]:
    """Return the specialists of the story."""
    model = meter(chat(provider), max_output_tokens=100, min_output_tokens=1)
    cheap = meter(chat(provider, DEAR_MODEL), cheaper=[chat(provider)], min_output_tokens=200)

    async def ask(task: Task) -> Report:
        answer = (await model.ainvoke(f"{task.specialist}: {task.text}")).text
        return Report(answer=answer, confidence=0.9)

    async def rent(task: Task) -> Report:
        return Report(answer="".join([chunk.text async for chunk in model.astream(task.text)]), confidence=0.8)

    def broken(task: Task) -> Report:
        model.invoke("before it breaks")
        raise ValueError(f"cannot log in as ann:{PASSWORD}")

    def helper(task: Task) -> Report:
        return Report(answer=f"helped: {model.invoke('help').text}", confidence=0.7)

    def dear(task: Task) -> Report:
        return Report(answer=cheap.invoke(task.text).text)

    def cutter(task: Task) -> Report:
        return Report(answer="".join(chunk.text for chunk in model.stream(task.text)))

    def looper(task: Task) -> Report:
        asked = model.bind_tools([SAME])
        for number in range(9):
            asked.invoke(f"again, {number}")
        raise AssertionError("nobody may ask so often for the same")

    def transfer(task: Task) -> Report:
        to = model.invoke("to whom?").text
        return Report(answer=wire(to, 500))

    return [
        free("food", ask),
        free("rent", rent),
        free("broken", broken, fallbacks=[helper, rules]),
        free("dear", dear, ceiling="0.0019"),
        free("flaky", ask),
        free("cutter", cutter),
        free("looper", looper, max_repeats=2),
        free("transfer", transfer),
        free("boss", _boss(ledger, model, **settings)),
        free("finder", _finder(provider)),
        free("greedy", ask, ceiling="0.0000001"),
        free("forbidden", ask),
        *_slow(released),
    ]


def _slow(released: threading.Event) -> list[Specialist]:
    """Return a specialist whose call is cancelled at its deadline, and one whose call waits in a thread."""

    def never_answers(messages: Any) -> str:
        released.wait(60)  # a thread that no deadline can end
        return "too late"

    hanging = meter(ScriptedModel(replies=[never_answers]), max_output_tokens=100)

    waiting = meter(NeverAnswers(), max_output_tokens=100)

    async def late(task: Task) -> Report:
        return Report(answer=(await waiting.ainvoke(task.text)).text)

    def stuck(task: Task) -> Report:
        return Report(answer=hanging.invoke("never answered").text)

    return [free("late", late, timeout=DEADLINE_SECONDS), free("stuck", stuck, timeout=DEADLINE_SECONDS)]


def _boss(ledger: Ledger, model: Any, **settings: Any) -> Callable[[Task], Report]:
    """Return a handler that asks another supervisor, and another specialist as a tool."""

    def leaf(task: Task) -> Report:
        return Report(answer=model.invoke(f"leaf: {task.text}").text)

    def aide(task: Task) -> Report:
        return Report(answer=model.invoke(f"aide: {task.text}").text)

    inner = build(ledger, [free("leaf", leaf)], checkpointer=None, name="inner", budget=Budget("1"), **settings)
    tool = as_tool(free("aide", aide))

    def boss(task: Task) -> Report:
        first = inner.invoke({"messages": [("user", "what does the leaf say?")]})
        second = tool.invoke({"request": "what does the aide say?"})
        return Report(answer=f"{first['messages'][-1].text} and {second}")

    return boss


def _finder(provider: Provider) -> Callable[[Task], Report]:
    """Return a handler that pays for embeddings and for a function, and does an action."""
    fixed: dict[str, Any] = {"model": EMBEDDING_MODEL, "api_key": "sk-test", "base_url": provider.url, "timeout": 30}
    embeddings = meter(OpenAIEmbeddings(**fixed, check_embedding_ctx_length=False))

    def finder(task: Task) -> Report:
        vectors = embeddings.embed_documents(["groceries", "rent"])
        return Report(answer=f"{len(vectors)} found, {look_up('milk')}, {stamp('the list')}")

    return finder


def app_of(ledger: Ledger, provider: Provider, released: threading.Event, **settings: Any) -> App:
    """Return the supervisor of the story."""
    model = meter(chat(provider), max_output_tokens=200, min_output_tokens=1)
    return build(
        ledger,
        team(ledger, provider, released, **settings),
        budget=Budget("0.05", per_session="2"),
        router=RouteByName(ModelRouter(model)),
        gate=Gatekeeper(),
        composer=ModelComposer(model),
        approvers=["ann"],
        **settings,
    )


def play(ledger: Ledger, provider: Provider, *, observe: Callable[[], Any] = lambda: None, **settings: Any) -> Story:
    """Ask everything, and return the story.

    `observe` is called while a call is still stuck in its thread, and what it returns is kept. `settings` are those of
    `build_supervisor`, such as `observers`.
    """
    released, story = threading.Event(), Story(ledger)
    app = app_of(ledger, provider, released, **settings)

    def ask(name: str, question: str, *replies: Reply, where: str = SESSION) -> Any:
        provider.will(*replies)
        before = spent(ledger, where)
        results = [app.invoke({"messages": [("user", question)]}, session(where))]
        while "__interrupt__" in results[-1]:
            [stop] = results[-1]["__interrupt__"]
            approved = Approve(subject_hash=stop.value.subject_hash, by="ann")
            results.append(app.invoke(Command(resume=approved), session(where)))
        request = app.get_state(session(where)).values["request"]
        nanos = spent(ledger, where) - before
        story.asked[name] = Asked(name, where, results, request.id, nanos)
        provider.script.clear()

    ask("fan-out", "food rent broken")
    ask("cheaper", "dear")
    ask("retry", "flaky", Reply(status=500), Reply(text="at last"))
    ask("cut stream", "cutter", Reply(text="one two three four five six", cut_after=4))
    ask("loop", "looper", *[Reply(tool="Same")] * 3)
    ask("approval", "transfer", Reply(text="bob"))
    ask("nested", "boss", Reply(text="the leaf"), Reply(text="the aide"))
    ask("tools", "finder")
    ask("budget refusal", "greedy")
    ask("gate refusal", "forbidden")
    ask("model router", "think about food and rent", Reply(tool="Routing", arguments=ROUTING))
    try:
        ask("late", "late")
        ask("stuck", "stuck", where=STUCK_SESSION)
        story.seen = observe()
    finally:
        released.set()
    wait_until(lambda: abandoned_count("stuck") == 0)
    return story
