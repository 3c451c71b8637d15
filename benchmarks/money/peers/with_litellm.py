"""LiteLLM's SDK as a contestant: `BudgetManager`, asked before each call and told after it, and `max_budget`."""

import asyncio
import json
import os
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # no network

import litellm
import openai
from litellm import BudgetManager
from litellm.exceptions import BudgetExceededError
from pydantic import BaseModel, ValidationError

from benchmarks.money.job import Job, Told, serve

BEGINNING = 100  # characters of an answer that are handed on; its mark is among them
LOOK_UP = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Look up a number.",
        "parameters": {"type": "object", "properties": {"number": {"type": "integer"}}, "required": ["number"]},
    },
}


class Rating(BaseModel):
    """A rating."""

    note: str
    stars: int


class Programs:
    """The programs of one job, with a budget that is kept in `user_cost.json`, in the working directory."""

    def __init__(self, job: Job, told: Told) -> None:
        self.job, self.program, self.told = job, job.program, told
        self.limit = float(job.limit)
        self.budget = BudgetManager(project_name="money", client_type="local")
        self.user = job.session if job.scope == "session" else "acme"
        self._open(self.user)
        litellm.max_budget = self.limit
        litellm.suppress_debug_info = True

    def _open(self, user: str) -> None:
        if not self.budget.is_valid_user(user):
            self.budget.create_budget(total_budget=self.limit, user=user)

    def _affords(self, model: str, messages: list[dict[str, Any]]) -> bool:
        texts = [{"content": str(message.get("content") or "")} for message in messages]
        projected = self.budget.projected_cost(model=model, messages=texts, user=self.user)
        return projected < self.budget.get_total_budget(self.user)

    async def ask(self, messages: list[dict[str, Any]], **more: Any) -> Any:
        """Ask once if the projected cost is within the budget, and book what the answer cost."""
        model = self.program.model
        if not self._affords(model, messages) and self.program.cheaper:
            model = self.program.cheaper
        if not self._affords(model, messages):
            raise BudgetExceededError(current_cost=self.budget.get_current_cost(self.user), max_budget=self.limit)
        settings = {
            "messages": messages,
            "api_base": self.job.url,
            "api_key": "none",
            "timeout": self.program.timeout,
            "max_retries": self.program.retries,
            **({"max_tokens": self.program.max_tokens} if self.program.max_tokens else {}),
            **({"extra_body": dict(self.program.extra_body)} if self.program.extra_body else {}),
            **self.program.options,
            **more,
        }
        try:
            return await self._send(model, settings)
        except openai.OpenAIError:
            if not self.program.fallback:
                raise
        return await self._send(self.program.fallback, settings)

    async def _send(self, model: str, settings: dict[str, Any]) -> Any:
        if not self.program.stream:
            answer = await litellm.acompletion(model=model, **settings)
            self.budget.update_cost(completion_obj=answer, user=self.user)
            return answer
        self.told.said.append("")
        place, chunks, text = len(self.told.said) - 1, [], ""
        try:
            options = {"include_usage": True}
            async for chunk in await litellm.acompletion(model=model, stream=True, stream_options=options, **settings):
                chunks.append(chunk)
                text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
                self.told.said[place] = text[:BEGINNING]
        except Exception:
            asked = "".join(str(message["content"]) for message in settings["messages"])
            self.budget.update_cost(model=model, input_text=asked, output_text=text or " ", user=self.user)
            raise
        answer = litellm.stream_chunk_builder(chunks, messages=settings["messages"])
        self.budget.update_cost(completion_obj=answer, user=self.user)
        return answer

    async def say(self, prompt: str) -> None:
        """Ask, and hand the answer on."""
        answer = await self.ask([{"role": "user", "content": prompt}])
        if not self.program.stream:
            self.told.said.append((answer.choices[0].message.content or "")[:BEGINNING])

    async def calls(self) -> None:
        """Ask one question after another. After a crash all are asked again."""
        for number in range(self.program.calls):
            for attempt in range(self.program.retries + 1):
                try:
                    await self.say(self.job.prompt(number))
                    break
                except openai.OpenAIError:
                    if not self.program.stream or attempt == self.program.retries:
                        raise

    async def fan_out(self) -> None:
        """Ask all questions at once."""
        asked = [self.say(self.job.prompt(number)) for number in range(self.program.calls)]
        for end in await asyncio.gather(*asked, return_exceptions=True):
            if isinstance(end, BaseException):
                raise end

    async def loop(self, prompt: str, depth: int) -> str:
        """Run a loop with a tool, which looks something up or, above depth 1, asks another loop."""
        messages: list[dict[str, Any]] = [{"role": "user", "content": prompt}]
        for _ in range(100):
            message = (await self.ask(messages, tools=[LOOK_UP])).choices[0].message
            if not message.tool_calls:
                return message.content or ""
            messages.append(message.model_dump(exclude_none=True))
            results = await asyncio.gather(*(self._use(call, depth) for call in message.tool_calls))
            for call, result in zip(message.tool_calls, results, strict=True):
                messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
        return "too many turns"

    async def _use(self, call: Any, depth: int) -> str:
        if depth == 1:
            return "x" * self.program.tool_bytes
        number = json.loads(call.function.arguments)["number"]
        return (await self.loop(f"{self.job.prompt(number)} (level {depth})", depth - 1))[:500]

    async def agent(self) -> None:
        """Run one loop."""
        self.told.said.append((await self.loop(self.job.prompt(0), 1))[:BEGINNING])

    async def team(self) -> None:
        """Run a loop whose tool is another loop."""
        self.told.said.append((await self.loop(self.job.prompt(0), self.program.depth))[:BEGINNING])

    async def sessions(self) -> None:
        """Ask in each session, turn by turn; the budget is the session's or the tenant's."""
        asked: list[Any] = []
        for number in range(self.program.calls):
            if self.job.scope == "session":
                self.user = f"s-{self.job.process}-{number}"
                self._open(self.user)
            for turn in range(self.program.turns):
                request = self.say(self.job.prompt(0 if self.program.regenerates else turn))
                asked.append(request) if self.program.at_once else await request
        await asyncio.gather(*asked)

    async def structured(self) -> None:
        """Ask for a rating, and ask again with the error if the answer is none."""
        messages: list[dict[str, Any]] = [{"role": "user", "content": self.job.prompt(0)}]
        for _ in range(self.program.retries + 1):
            text = (await self.ask(messages, response_format=Rating)).choices[0].message.content
            try:
                rating = Rating.model_validate_json(text)
            except ValidationError:
                messages += [{"role": "assistant", "content": text}, {"role": "user", "content": "This is no rating."}]
            else:
                self.told.said.append(rating.note[:BEGINNING])
                return

    async def embeddings(self) -> None:
        """Embed one batch after another."""
        for number in range(self.program.calls):
            texts = [self.job.prompt(number)] * self.program.batch
            if not self._affords(self.program.model, [{"content": "".join(texts)}]):
                raise BudgetExceededError(current_cost=self.budget.get_current_cost(self.user), max_budget=self.limit)
            answer = await litellm.aembedding(
                model=self.program.model, input=texts, api_base=self.job.url, api_key="none"
            )
            self.budget.update_cost(completion_obj=answer, user=self.user)
            self.told.said.append(f"a{int(answer.data[0]['embedding'][0])}z")


async def run(job: Job, told: Told) -> None:
    """Do the job; a resumption begins anew, under the budget that was kept."""
    await getattr(Programs(job, told), job.program.shape)()


def no_way(job: Job) -> str:
    """Say what the budget cannot be told."""
    return "no resume: the program begins anew" if job.leg else ""


if __name__ == "__main__":
    serve(run, ("litellm", "openai"), no_way=no_way)
