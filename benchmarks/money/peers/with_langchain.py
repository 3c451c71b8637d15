"""LangChain's `create_agent` as a contestant: limits on model calls and tool calls, kept with the thread in SQLite."""

import asyncio
import contextvars
from contextlib import AsyncExitStack
from typing import Any

from langchain.agents import create_agent
from langchain.agents.middleware import ModelCallLimitMiddleware, ModelFallbackMiddleware, ToolCallLimitMiddleware
from langchain.agents.structured_output import ToolStrategy
from langchain_core.messages import RemoveMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.func import entrypoint, task
from langgraph.graph.message import REMOVE_ALL_MESSAGES
from pydantic import BaseModel

from benchmarks.money.job import Job, Told, serve

BEGINNING = 100  # characters of an answer that are handed on; its mark is among them
STOPPED = "Model call limits exceeded"


class Rating(BaseModel):
    """A rating."""

    note: str
    stars: int


class Programs:
    """The programs of one job."""

    def __init__(self, job: Job, told: Told, saver: Any) -> None:
        self.job, self.program, self.told, self.saver = job, job.program, told, saver

    def client(self, name: str) -> ChatOpenAI:
        """Return a client with the program's options; its own retries are LangChain's."""
        return ChatOpenAI(
            model=name,
            api_key="none",
            base_url=self.job.url,
            timeout=self.program.timeout,
            max_retries=self.program.retries,
            max_completion_tokens=self.program.max_tokens,
            stream_usage=True,
            extra_body=dict(self.program.extra_body) or None,
            **self.program.options,
        )

    def agent(self, tools: Any = (), *, saver: Any = None, **more: Any) -> Any:
        """Return an agent with every limit that there is: on a run, on a thread, on models and on tools."""
        most = self.job.calls_paid
        middleware: list[Any] = [ModelCallLimitMiddleware(thread_limit=most, run_limit=most, exit_behavior="end")]
        if tools:
            middleware.append(ToolCallLimitMiddleware(thread_limit=max(1, most), run_limit=max(1, most)))
        if self.program.fallback:
            middleware.append(ModelFallbackMiddleware(self.client(self.program.fallback)))
        model = self.client(self.program.model)
        return create_agent(model, list(tools), middleware=middleware, checkpointer=saver, **more)

    async def ask(self, agent: Any, messages: Any, thread: str) -> str:
        """Run the agent in its thread, and return its answer; a stream's text is handed on as it comes."""
        config = {"configurable": {"thread_id": thread}, "recursion_limit": 1_000}
        asked = None if messages is None else {"messages": messages}
        if not self.program.stream:
            result = await agent.ainvoke(asked, config, durability="sync")
            return str(result["messages"][-1].text)[:BEGINNING]
        self.told.said.append("")
        place = len(self.told.said) - 1
        async for chunk, _ in agent.astream(asked, config, stream_mode="messages", durability="sync"):
            self.told.said[place] = (self.told.said[place] + chunk.text)[:BEGINNING]
        return self.told.said[place]

    async def calls(self) -> None:
        """Ask one question after another: a durable workflow, whose finished calls are not made again."""
        agent = self.agent(saver=self.saver)

        @task
        async def call(number: int) -> str:
            asked = [RemoveMessage(id=REMOVE_ALL_MESSAGES), ("user", self.job.prompt(number))]
            # In a context of its own, because the agent's thread is not the workflow's.
            asking = asyncio.create_task(self.ask(agent, asked, "count"), context=contextvars.Context())
            return await asking

        @entrypoint(checkpointer=self.saver)
        async def workflow(calls: int) -> None:
            for number in range(calls):
                text = await call(number)
                self.told.said.append(text)
                if STOPPED in text:
                    return

        config = {"configurable": {"thread_id": self.job.session}}
        await workflow.ainvoke(None if self.job.leg else self.program.calls, config, durability="sync")

    async def fan_out(self) -> None:
        """Ask all questions at once, in one thread."""
        agent = self.agent(saver=self.saver)
        asked = [self.ask(agent, [("user", self.job.prompt(n))], "count") for n in range(self.program.calls)]
        ends = await asyncio.gather(*asked, return_exceptions=True)
        self.told.said += [end for end in ends if isinstance(end, str)]
        for end in ends:
            if isinstance(end, BaseException):
                raise end

    async def embeddings(self) -> None:
        """Embed one batch after another; nothing limits it."""
        model = OpenAIEmbeddings(
            model=self.program.model, api_key="none", base_url=self.job.url, check_embedding_ctx_length=False
        )
        for number in range(self.program.calls):
            vectors = await model.aembed_documents([self.job.prompt(number)] * self.program.batch)
            self.told.said.append(f"a{int(vectors[0][0])}z")

    def looping(self, *, saver: Any = None) -> Any:
        """Return an agent with a tool."""

        @tool
        async def look_up(number: int) -> str:
            """Look up a number."""
            return "x" * self.program.tool_bytes

        return self.agent([look_up], saver=saver)

    def team(self, depth: int, *, saver: Any = None) -> Any:
        """Return an agent whose tool asks another such agent, down to `depth`."""
        if depth == 1:
            return self.looping()
        inside = self.team(depth - 1)

        @tool
        async def ask_team(number: int) -> str:
            """Ask the team about a number."""
            asked = {"messages": [("user", f"{self.job.prompt(number)} (level {depth})")]}
            result = await inside.ainvoke(asked, {"recursion_limit": 1_000})
            return str(result["messages"][-1].text)[:500]

        return self.agent([ask_team], saver=saver)

    async def sessions(self) -> None:
        """Ask in each session, turn by turn; each question stands by itself, as for the others."""
        agent = self.agent(saver=self.saver)
        asked: list[Any] = []
        for number in range(self.program.calls):
            thread = f"s-{self.job.process}-{number}"
            for turn in range(self.program.turns):
                messages: list[Any] = [RemoveMessage(id=REMOVE_ALL_MESSAGES), ("user", self.job.prompt(turn))]
                if self.program.regenerates and turn:
                    state = await agent.aget_state({"configurable": {"thread_id": thread}})
                    messages = [RemoveMessage(id=state.values["messages"][-1].id)]
                request = self._say(agent, messages, thread)
                asked.append(request) if self.program.at_once else await request
        await asyncio.gather(*asked)

    async def _say(self, agent: Any, messages: Any, thread: str) -> None:
        self.told.said.append(await self.ask(agent, messages, thread))

    async def one(self, agent: Any) -> None:
        """Run one durable agent."""
        messages = None if self.job.leg else [("user", self.job.prompt(0))]
        self.told.said.append(await self.ask(agent, messages, self.job.session))

    async def structured(self) -> None:
        """Ask for a rating; the agent repairs what does not fit."""
        agent = self.agent(saver=self.saver, response_format=ToolStrategy(Rating))
        config = {"configurable": {"thread_id": self.job.session}, "recursion_limit": 1_000}
        result = await agent.ainvoke({"messages": [("user", self.job.prompt(0))]}, config)
        rating = result.get("structured_response")
        self.told.said.append(rating.note if rating else str(result["messages"][-1].text))


async def run(job: Job, told: Told) -> None:
    """Do the job, or resume it."""
    async with AsyncExitStack() as stack:
        saver = await stack.enter_async_context(AsyncSqliteSaver.from_conn_string("threads.db"))
        programs = Programs(job, told, saver)
        if job.program.shape == "agent":
            await programs.one(programs.looping(saver=saver))
        elif job.program.shape == "team":
            await programs.one(programs.team(job.program.depth, saver=saver))
        else:
            await getattr(programs, job.program.shape)()


def no_way(job: Job) -> str:
    """Say what the limits cannot be told."""
    if job.program.shape == "embeddings":
        return "no limit on embeddings"
    if job.program.cheaper:
        return "no cheaper model in place of a dear one"
    return "no limit across sessions" if job.scope == "tenant" else ""


if __name__ == "__main__":
    serve(run, ("langchain", "langgraph", "langchain-openai", "openai"), no_way=no_way)
