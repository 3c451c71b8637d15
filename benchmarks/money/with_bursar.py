"""Bursar as a contestant: the programs as its users would write them."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

import httpx
import openai
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.tools import StructuredTool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from langgraph.prebuilt import create_react_agent  # pyright: ignore[reportUnknownVariableType, reportDeprecated]
from pydantic import BaseModel, SecretStr

from benchmarks.money.job import Job, Told, serve
from bursar import (
    Budget,
    Candidate,
    Ledger,
    Report,
    Scores,
    Specialist,
    SQLAlchemySaver,
    Task,
    build_supervisor,
    deterministic,
    meter,
    save_partial,
)

FAULTS = (openai.APIConnectionError, openai.InternalServerError, httpx.TransportError)
BEGINNING = 100  # characters of an answer that are handed on; its mark is among them


class Rating(BaseModel):
    """A rating."""

    note: str
    stars: int


class Everyone:
    """A router that chooses every specialist, for nothing."""

    free = True

    async def route(self, text: str, candidates: Sequence[Candidate]) -> Scores:
        """All of them, each with a score of 1."""
        names = tuple(candidate.name for candidate in candidates)
        return Scores(by_name=dict.fromkeys(names, 1.0), chosen=names, confidence=1.0, rule="everyone")


@deterministic
def rules(task: Task) -> Report:
    """The fallback of every specialist."""
    return Report(answer="No more can be asked.", confidence=0.1)


class Programs:
    """The handlers of one job, over its ledger."""

    def __init__(self, job: Job, ledger: Ledger, url: str) -> None:
        self.job, self.program, self.ledger, self.url = job, job.program, ledger, url

    def client(self, name: str) -> ChatOpenAI:
        """Return the client of a model, as it is without Bursar."""
        settings: dict[str, Any] = {"api_key": "none", "base_url": self.job.url, "timeout": self.program.timeout}
        if "service_tier" in self.program.options:
            settings["service_tier"] = self.program.options["service_tier"]
        return ChatOpenAI(model=name, max_completion_tokens=self.program.max_tokens, **settings)

    def metered(self) -> Any:
        """Return the program's model behind the gateway."""
        cheaper = [self.client(self.program.cheaper)] if self.program.cheaper else []
        return meter(self.client(self.program.model), cheaper=cheaper)

    def caller(self) -> Any:
        """Return the model with the program's options, retries and fallback."""
        options = {name: value for name, value in self.program.options.items() if name != "service_tier"}
        if self.program.extra_body:
            options["extra_body"] = dict(self.program.extra_body)
        model = self.metered().bind(**options) if options else self.metered()
        model = model.with_retry(
            retry_if_exception_type=FAULTS,
            wait_exponential_jitter=False,
            exponential_jitter_params={"initial": 0.01, "max": 0.02},
            stop_after_attempt=self.program.retries + 1,
        )
        if not self.program.fallback:
            return model
        dear = meter(self.client(self.program.fallback))
        return model.with_fallbacks([dear], exceptions_to_handle=(openai.OpenAIError,))

    async def call(self, model: Any, prompt: str, got: list[str]) -> None:
        """Ask once, and add what comes to `got`, which is kept as the run's work so far."""
        got.append("")
        place = len(got) - 1
        if self.program.stream:
            async for chunk in model.astream(prompt):
                got[place] = (got[place] + chunk.text)[:BEGINNING]
                save_partial(" / ".join(got))
        else:
            got[place] = (await model.ainvoke(prompt)).text[:BEGINNING]
            save_partial(" / ".join(got))

    async def calls(self, task: Task) -> Report:
        """Ask one question after another."""
        model, got = self.caller(), list[str]()
        for number in range(self.program.calls):
            await self.call(model, self.job.prompt(number), got)
        return Report(answer=" / ".join(got))

    async def fan_out(self, task: Task) -> Report:
        """Ask all questions at once."""
        model, got = self.caller(), list[str]()
        asked = [self.call(model, self.job.prompt(number), got) for number in range(self.program.calls)]
        ends = await asyncio.gather(*asked, return_exceptions=True)
        for end in ends:
            if isinstance(end, BaseException):
                raise end
        return Report(answer=" / ".join(got))

    async def sessions(self, task: Task) -> Report:
        """Answer one request of a session."""
        got = list[str]()
        await self.call(self.caller(), task.text, got)
        return Report(answer=got[0])

    async def structured(self, task: Task) -> Report:
        """Ask for a rating, and ask again with the error if the answer is none."""
        model = self.metered().with_structured_output(Rating, method="function_calling", include_raw=True)
        messages: list[BaseMessage] = [HumanMessage(self.job.prompt(0))]
        for _ in range(self.program.retries + 1):
            answer: dict[str, Any] = await model.ainvoke(messages)
            if isinstance(answer["parsed"], Rating):
                return Report(answer=answer["parsed"].note)
            raw: AIMessage = answer["raw"]
            wrong = [ToolMessage("This does not fit the schema.", tool_call_id=str(c["id"])) for c in raw.tool_calls]
            messages += [raw, *wrong]
        return Report(answer="no rating", confidence=0.0)

    async def embeddings(self, task: Task) -> Report:
        """Embed one batch of texts after another."""
        settings: dict[str, Any] = {"model": self.program.model, "base_url": self.job.url, "api_key": "none"}
        model = meter(OpenAIEmbeddings(**settings, check_embedding_ctx_length=False))
        got = list[str]()
        for number in range(self.program.calls):
            vectors = await model.aembed_documents([self.job.prompt(number)] * self.program.batch)
            got.append(f"a{int(vectors[0][0])}z")
            save_partial(" / ".join(got))
        return Report(answer=" / ".join(got))

    def agent(self) -> Any:
        """Return an agent with a tool that looks something up."""

        async def look_up(number: int) -> str:
            """Look up a number."""
            return "x" * self.program.tool_bytes

        return create_react_agent(self.metered(), [StructuredTool.from_function(coroutine=look_up)])  # pyright: ignore[reportUnknownVariableType, reportDeprecated]

    def team(self, depth: int = 0) -> Any:
        """Return an agent whose tool asks a supervisor, whose specialist is such an agent too, down to `depth`."""
        depth = depth or self.program.depth
        if depth == 1:
            return self.agent()
        inside = self.supervisor(self.team(depth - 1), checkpointer=None)

        async def ask_team(number: int) -> str:
            """Ask the team about a number."""
            result = await inside.ainvoke({"messages": [("user", f"{self.job.prompt(number)} (level {depth})")]})
            return str(result["messages"][-1].text)[:500]

        return create_react_agent(self.metered(), [StructuredTool.from_function(coroutine=ask_team)])  # pyright: ignore[reportUnknownVariableType, reportDeprecated]

    def supervisor(self, handler: Any, *, checkpointer: Any) -> Any:
        """Return a supervisor over one specialist with this handler, under the job's limit."""
        limit = self.job.limit
        caps = {"request": {}, "session": {"per_session": limit}, "tenant": {"per_tenant_day": limit}}[self.job.scope]
        specialist = Specialist(
            name="agent",
            description="Where the money goes",
            handler=handler,
            ceiling=limit,
            expected_cost="0",
            timeout=60,
            max_turns=100,
            fallbacks=[rules],
        )
        return build_supervisor(
            [specialist],
            budget=Budget(per_request=limit, **caps),
            ledger=self.ledger,
            checkpointer=checkpointer,
            router=Everyone(),
        )

    def handler(self) -> Any:
        """Return the handler of the program's shape."""
        if self.program.shape == "agent":
            return self.agent()
        return self.team() if self.program.shape == "team" else getattr(self, self.program.shape)


async def run(job: Job, told: Told) -> None:
    """Do the job, or resume it."""
    async with _programs(job) as programs:
        app = programs.supervisor(programs.handler(), checkpointer=SQLAlchemySaver(programs.url))
        if job.program.shape != "sessions":
            await _ask(app, job, told, job.session)
            return
        asked: list[Any] = []
        for number in range(job.program.calls):
            session = f"s-{job.process}-{number}"
            for turn in range(job.program.turns):
                asking = _regenerate if job.program.regenerates and turn else _ask
                request = asking(app, job, told, session, turn)
                asked.append(request) if job.program.at_once else await request
        await asyncio.gather(*asked)


async def _ask(app: Any, job: Job, told: Told, session: str, turn: int = 0) -> None:
    asked = None if job.leg else {"messages": [("user", job.prompt(turn))]}
    _hear(await app.ainvoke(asked, _config(session)), told)


async def _regenerate(app: Any, job: Job, told: Told, session: str, turn: int) -> None:
    history = app.aget_state_history(_config(session))
    asked = [state.config async for state in history if state.next == ("supervisor",)]
    _hear(await app.ainvoke(None, asked[-1]), told)


def _config(session: str) -> Any:
    return {"configurable": {"thread_id": session, "tenant": "acme"}}


def _hear(result: dict[str, Any], told: Told) -> None:
    told.said.append(result["messages"][-1].text)
    told.said += [run.report.answer for run in result["runs"] if run.report is not None]


@asynccontextmanager
async def _programs(job: Job) -> AsyncGenerator[Programs]:
    url = f"sqlite:///{job.folder}/books.db"
    ledger = Ledger(url)
    yield Programs(job, ledger, url)
    if not await ledger.averify():
        raise AssertionError("the books do not verify")


def _load() -> None:
    """Load what a first call would load, so that no job pays for it. No thread is started: jobs are forked."""
    for name in ("openai.resources.chat.completions", "openai.resources.embeddings", "sqlalchemy.dialects.sqlite"):
        import_module(name)
    meter(ChatOpenAI(model="gpt-4o-mini", api_key=SecretStr("none")))


if __name__ == "__main__":
    _load()
    serve(run, ("bursar",))
