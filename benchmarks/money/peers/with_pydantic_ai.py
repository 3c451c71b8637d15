"""pydantic-ai as a contestant: `UsageLimits(cost_limit=…)`, and the harness's `SpendLimits` in Redis."""

import asyncio
import os
from decimal import Decimal
from typing import Any

from openai import AsyncOpenAI
from pydantic import BaseModel
from pydantic_ai import Agent, RunContext, capture_run_messages
from pydantic_ai.embeddings import Embedder
from pydantic_ai.embeddings.openai import OpenAIEmbeddingModel
from pydantic_ai.exceptions import ModelAPIError, UsageLimitExceeded
from pydantic_ai.messages import ModelResponse
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.usage import RunUsage, UsageLimits
from pydantic_ai_harness import SpendLimits
from pydantic_ai_harness.spend import Budget, InMemorySpendStore, RedisSpendStore
from redis.asyncio import Redis

from benchmarks.money.job import Job, Told, serve

BEGINNING = 100  # characters of an answer that are handed on; its mark is among them
REDIS = os.environ.get("MONEY_REDIS", "")


class Rating(BaseModel):
    """A rating."""

    note: str
    stars: int


class Programs:
    """The programs of one job. `deps` of a run names whose budget it is: a request's, a session's or a tenant's."""

    def __init__(self, job: Job, told: Told) -> None:
        self.job, self.program, self.told = job, job.program, told
        limit = Decimal(job.limit)
        self.usage = RunUsage()
        # A budget of 0 is refused as a mistake by `SpendLimits`, and lets the first call through as `cost_limit`.
        self.limits = UsageLimits(cost_limit=limit, request_limit=10_000 if limit else 0)
        store = RedisSpendStore(Redis.from_url(REDIS)) if REDIS else InMemorySpendStore()
        budget = Budget(usd=limit or None, window="total", scope=lambda run: run.deps, name="limit", retain="forever")
        self.spend = SpendLimits(budgets=[budget], store=store)
        self.payer = f"{job.folder}:{job.session if job.scope == 'session' else 'acme'}"

    def model(self) -> Any:
        """Return the program's model; retries are the SDK's."""
        names = [self.program.model, *([self.program.fallback] if self.program.fallback else [])]
        models = [OpenAIChatModel(name, provider=OpenAIProvider(openai_client=self._client())) for name in names]
        return FallbackModel(*models) if len(models) > 1 else models[0]

    def _client(self) -> AsyncOpenAI:
        return AsyncOpenAI(
            api_key="none", base_url=self.job.url, timeout=self.program.timeout, max_retries=self.program.retries
        )

    def agent(self, **more: Any) -> Any:
        """Return an agent with both limits."""
        options = dict(self.program.options)
        settings: dict[str, Any] = {"extra_body": {**self.program.extra_body}}
        if "service_tier" in options:
            settings["openai_service_tier"] = options.pop("service_tier")
        settings["extra_body"] |= options
        if self.program.max_tokens:
            settings["max_tokens"] = self.program.max_tokens
        return Agent(self.model(), deps_type=str, model_settings=settings, capabilities=[self.spend], **more)

    async def ask(self, agent: Any, prompt: str, *, payer: str = "", usage: RunUsage | None = None) -> Any:
        """Run the agent within the limits, and return its output; a stream's text is handed on as it comes."""
        within = {
            "usage": self.usage if usage is None else usage,
            "usage_limits": self.limits,
            "deps": payer or self.payer,
        }
        if not self.program.stream:
            with capture_run_messages() as messages:
                try:
                    return (await agent.run(prompt, **within)).output
                except UsageLimitExceeded:
                    # The run ends without a result, but what it had paid for can be read here.
                    said = [message.text or "" for message in messages if isinstance(message, ModelResponse)]
                    self.told.said += [text[:BEGINNING] for text in said[-1:]]
                    raise
        self.told.said.append("")
        place, text = len(self.told.said) - 1, ""
        async with agent.run_stream(prompt, **within) as stream:
            async for delta in stream.stream_text(delta=True):
                text += delta
                self.told.said[place] = text[:BEGINNING]
        return text

    async def say(self, agent: Any, prompt: str, **more: Any) -> None:
        """Ask, and hand the answer on."""
        text = await self.ask(agent, prompt, **more)
        if not self.program.stream:
            self.told.said.append(text[:BEGINNING])

    async def calls(self) -> None:
        """Ask one question after another, with one usage. After a crash all are asked again."""
        agent = self.agent()
        for number in range(self.program.calls):
            for attempt in range(self.program.retries + 1):
                try:
                    await self.say(agent, self.job.prompt(number))
                    break
                except ModelAPIError:
                    if not self.program.stream or attempt == self.program.retries:
                        raise

    async def fan_out(self) -> None:
        """Ask all questions at once, with one usage."""
        agent = self.agent()
        asked = [self.say(agent, self.job.prompt(number)) for number in range(self.program.calls)]
        for end in await asyncio.gather(*asked, return_exceptions=True):
            if isinstance(end, BaseException):
                raise end

    def looping(self) -> Any:
        """Return an agent with a tool."""
        agent = self.agent()

        @agent.tool_plain
        async def look_up(number: int) -> str:
            """Look up a number."""
            return "x" * self.program.tool_bytes

        return agent

    def inner(self, depth: int) -> Any:
        """Return an agent whose tool asks another such agent with the same usage, down to `depth`."""
        if depth == 1:
            return self.looping()
        agent, inside = self.agent(), self.inner(depth - 1)

        @agent.tool
        async def ask_team(run: RunContext[str], number: int) -> str:
            """Ask the team about a number."""
            prompt = f"{self.job.prompt(number)} (level {depth})"
            result = await inside.run(prompt, usage=run.usage, usage_limits=self.limits, deps=run.deps)
            return result.output[:500]

        return agent

    async def one(self) -> None:
        """Run one agent or team."""
        agent = self.inner(self.program.depth) if self.program.shape == "team" else self.looping()
        await self.say(agent, self.job.prompt(0))

    async def sessions(self) -> None:
        """Ask in each session, turn by turn; the budget is the session's or the tenant's."""
        agent = self.agent()
        asked: list[Any] = []
        for number in range(self.program.calls):
            session = f"{self.job.folder}:s-{self.job.process}-{number}"
            payer = session if self.job.scope == "session" else self.payer
            for turn in range(self.program.turns):
                prompt = self.job.prompt(0 if self.program.regenerates else turn)
                request = self.say(agent, prompt, payer=payer, usage=RunUsage())
                asked.append(request) if self.program.at_once else await request
        await asyncio.gather(*asked)

    async def structured(self) -> None:
        """Ask for a rating; the agent repairs what does not fit."""
        agent = self.agent(output_type=Rating, retries=self.program.retries)
        self.told.said.append((await self.ask(agent, self.job.prompt(0))).note)

    async def embeddings(self) -> None:
        """Embed one batch after another; nothing limits it."""
        provider = OpenAIProvider(openai_client=self._client())
        embedder = Embedder(OpenAIEmbeddingModel(self.program.model, provider=provider))
        for number in range(self.program.calls):
            result = await embedder.embed_documents([self.job.prompt(number)] * self.program.batch)
            self.told.said.append(f"a{int(result.embeddings[0][0])}z")


async def run(job: Job, told: Told) -> None:
    """Do the job; a resumption begins anew, under what Redis kept."""
    programs = Programs(job, told)
    if job.program.shape in {"agent", "team"}:
        await programs.one()
    else:
        await getattr(programs, job.program.shape)()


def no_way(job: Job) -> str:
    """Say what the limits cannot be told."""
    if job.program.shape == "embeddings":
        return "no limit on embeddings"
    if job.program.cheaper:
        return "no cheaper model in place of a dear one"
    return "no resume without a durable engine: the program begins anew" if job.leg else ""


if __name__ == "__main__":
    serve(run, ("pydantic-ai-slim", "pydantic-ai-harness", "genai-prices", "openai"), no_way=no_way)
