"""OpenAI's Agents SDK as a contestant: `max_turns`, the one limit that it has, and its SQLite sessions."""

import asyncio
from typing import Any

import openai
from agents import (
    Agent,
    ModelBehaviorError,
    ModelSettings,
    OpenAIChatCompletionsModel,
    Runner,
    SQLiteSession,
    function_tool,
    set_tracing_disabled,
)
from openai import AsyncOpenAI
from pydantic import BaseModel

from benchmarks.money.job import Job, Told, serve

BEGINNING = 100  # characters of an answer that are handed on; its mark is among them


class Rating(BaseModel):
    """A rating."""

    note: str
    stars: int


class Programs:
    """The programs of one job. The turns that the limit pays are granted to each run: nothing counts across runs."""

    def __init__(self, job: Job, told: Told) -> None:
        self.job, self.program, self.told = job, job.program, told
        self.turns = job.calls_paid
        self.client = AsyncOpenAI(
            api_key="none", base_url=job.url, timeout=self.program.timeout, max_retries=self.program.retries
        )

    def agent(self, model: str = "", **more: Any) -> Any:
        """Return an agent with the program's options."""
        settings = ModelSettings(
            max_tokens=self.program.max_tokens,
            extra_args=dict(self.program.options) or None,
            extra_body=dict(self.program.extra_body) or None,
            include_usage=True,
        )
        chat = OpenAIChatCompletionsModel(model or self.program.model, openai_client=self.client)
        return Agent(name="agent", model=chat, model_settings=settings, **more)

    async def ask(self, agent: Any, asked: Any, session: Any = None) -> str:
        """Run the agent, and return its output; a stream's text is handed on as it comes."""
        if not self.program.stream:
            return (await Runner.run(agent, asked, max_turns=self.turns, session=session)).final_output
        self.told.said.append("")
        place, text = len(self.told.said) - 1, ""
        result = Runner.run_streamed(agent, asked, max_turns=self.turns, session=session)
        async for event in result.stream_events():
            if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
                text += event.data.delta
                self.told.said[place] = text[:BEGINNING]
        return text

    async def say(self, agent: Any, asked: Any, session: Any = None) -> None:
        """Ask, and hand the answer on; the fallback is the program's own."""
        try:
            text = await self.ask(agent, asked, session)
        except openai.OpenAIError:
            if not self.program.fallback:
                raise
            text = await self.ask(self.agent(self.program.fallback), asked, session)
        if not self.program.stream:
            self.told.said.append(text[:BEGINNING])

    async def calls(self) -> None:
        """Ask one question after another. After a crash all are asked again."""
        agent = self.agent()
        for number in range(self.program.calls):
            for attempt in range(self.program.retries + 1):
                try:
                    await self.say(agent, self.job.prompt(number))
                    break
                except (openai.OpenAIError, openai.APIConnectionError):
                    if not self.program.stream or attempt == self.program.retries:
                        raise

    async def fan_out(self) -> None:
        """Ask all questions at once."""
        agent = self.agent()
        asked = [self.say(agent, self.job.prompt(number)) for number in range(self.program.calls)]
        for end in await asyncio.gather(*asked, return_exceptions=True):
            if isinstance(end, BaseException):
                raise end

    def looping(self) -> Any:
        """Return an agent with a tool."""

        @function_tool
        async def look_up(number: int) -> str:
            """Look up a number."""
            return "x" * self.program.tool_bytes

        return self.agent(tools=[look_up])

    def inner(self, depth: int) -> Any:
        """Return an agent whose tool asks another such agent, down to `depth`."""
        if depth == 1:
            return self.looping()
        inside = self.inner(depth - 1)

        @function_tool(failure_error_function=None)
        async def ask_team(number: int) -> str:
            """Ask the team about a number."""
            prompt = f"{self.job.prompt(number)} (level {depth})"
            return str((await Runner.run(inside, prompt, max_turns=self.turns)).final_output)[:500]

        return self.agent(tools=[ask_team])

    async def one(self) -> None:
        """Run one agent or team; its session goes on after a crash with what it had kept."""
        agent = self.inner(self.program.depth) if self.program.shape == "team" else self.looping()
        session = SQLiteSession(self.job.session, "sessions.db")
        kept = await session.get_items()
        await self.say(agent, [] if kept else self.job.prompt(0), session)

    async def sessions(self) -> None:
        """Ask in each session, turn by turn."""
        agent = self.agent()
        asked: list[Any] = []
        for _ in range(self.program.calls):
            for turn in range(self.program.turns):
                request = self.say(agent, self.job.prompt(0 if self.program.regenerates else turn))
                asked.append(request) if self.program.at_once else await request
        await asyncio.gather(*asked)

    async def structured(self) -> None:
        """Ask for a rating, and ask again if the answer is none."""
        agent = self.agent(output_type=Rating)
        for attempt in range(self.program.retries + 1):
            try:
                rating = (await Runner.run(agent, self.job.prompt(0), max_turns=self.turns)).final_output
            except ModelBehaviorError:
                if attempt == self.program.retries:
                    raise
            else:
                self.told.said.append(rating.note[:BEGINNING])
                return

    async def embeddings(self) -> None:
        """Embed one batch after another, with the SDK's client: nothing limits it."""
        for number in range(self.program.calls):
            texts = [self.job.prompt(number)] * self.program.batch
            answer = await self.client.embeddings.create(model=self.program.model, input=texts, encoding_format="float")
            self.told.said.append(f"a{int(answer.data[0].embedding[0])}z")


async def run(job: Job, told: Told) -> None:
    """Do the job, or what can be done of its resumption."""
    set_tracing_disabled(True)
    programs = Programs(job, told)
    if job.program.shape in {"agent", "team"}:
        await programs.one()
    else:
        await getattr(programs, job.program.shape)()


def no_way(job: Job) -> str:
    """Say what the limit cannot be told."""
    if job.program.shape == "embeddings":
        return "no limit on embeddings"
    if job.program.cheaper:
        return "no cheaper model in place of a dear one"
    if job.scope != "request" or job.program.calls > 1:
        return "no limit across runs"
    return "no resume of a run: its turns are granted anew" if job.leg else ""


if __name__ == "__main__":
    serve(run, ("openai-agents", "openai"), no_way=no_way)
