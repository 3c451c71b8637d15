"""Fifty turns against providers with caches of their own: what may be a hit is one, and the books have the bill."""

import itertools
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from json import dumps
from pathlib import Path
from typing import Any, cast

import pytest
from langchain.agents import create_agent  # pyright: ignore[reportUnknownVariableType]
from langchain_anthropic import ChatAnthropic
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

from bursar import Budget, Ledger, Task, meter
from bursar.nodes.context.conversation import HISTORY_STEP, HISTORY_TURNS, given_to_model
from bursar.nodes.gateway.prompt_caches.memory import logger
from bursar.state.money import USD
from tests.nodes.gateway.providers.protocols import CLAUDE
from tests.support.bench import SECRET
from tests.support.graphs import build, free, session
from tests.support.prompt_caches.anthropic import CachingAnthropic
from tests.support.prompt_caches.openai import CachingOpenAI
from tests.support.provider import MODEL, Reply

TURNS = 50
LEAST_SHARE = 95  # percent of the tokens that the rules allow
BUDGET = Budget(per_request="20", per_session="50")
CEILING = "20"
INSTRUCTIONS = "You answer questions about one household's spending. " + "Name the source of each figure. " * 500


@dataclass
class Clock:
    """A clock that goes on by ten seconds at each reading of `turn`."""

    now: datetime = field(default_factory=lambda: datetime(2026, 11, 23, 9, 30, tzinfo=UTC))

    def __call__(self) -> datetime:
        return self.now

    def turn(self) -> None:
        """Let ten seconds pass: fewer than fifteen calls of two a turn are made in a minute."""
        self.now += timedelta(seconds=10)


@dataclass
class World:
    """A seller with a cache, the ledger, and a metered model of that seller."""

    clock: Clock
    seller: CachingOpenAI | CachingAnthropic
    ledger: Ledger

    def chat(self) -> BaseChatModel:
        """Return a metered model of the seller."""
        if isinstance(self.seller, CachingOpenAI):
            settings: dict[str, Any] = {"model": MODEL, "base_url": self.seller.url, "api_key": SECRET}
            return meter(ChatOpenAI(**settings), prompt_cache=True)
        settings = {"model": CLAUDE, "base_url": self.seller.root, "api_key": SECRET}
        return meter(ChatAnthropic(**settings))

    def prompts(self) -> list[str]:
        """Return each request's prompt as the seller got it: tools, system and messages, without marks."""
        return [_prompt(body) for body in self.seller.requests]

    def hits(self) -> tuple[int, int]:
        """Return the tokens that were hits, and those that the rules allow as hits."""
        return sum(bill.cached_tokens for bill in self.seller.bills), sum(self.seller.allowed)


@pytest.fixture(params=["openai", "anthropic"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """A seller with a cache and the books kept of it. When the test ends, the books must have the seller's bill."""
    clock = Clock()
    seller = CachingOpenAI(clock) if request.param == "openai" else CachingAnthropic(clock)
    ledger = Ledger(f"sqlite:///{tmp_path}/books.db", clock=clock)
    yield World(clock, seller, ledger)
    seller.close()
    [row] = ledger.costs("agent")
    assert row.spent == USD.from_nanos(seller.billed)
    assert row.input_tokens == sum(bill.input_tokens for bill in seller.bills)
    assert row.cache_read_tokens == sum(bill.cached_tokens for bill in seller.bills)
    assert row.cache_saved.nanos == _without_cache(seller) - seller.billed
    assert ledger.verify()
    ledger.database.close()


@tool
def look_up(month: int) -> str:
    """Return what was spent in a month, by category, with the number of postings in each."""
    return f"month {month}: food {month * 7} USD in {month} postings"


def test_a_session_of_fifty_requests_with_tools_hits_what_the_rules_allow(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """A supervisor's agent asks its tool and answers, fifty times: each prompt goes on where an earlier one ended."""
    model = world.chat().bind_tools([look_up])

    async def spending(task: Task) -> str:
        messages: list[Any] = [SystemMessage(INSTRUCTIONS), *given_to_model(task)]
        reply = await model.ainvoke(messages)
        for call in reply.tool_calls:
            messages += [reply, ToolMessage(look_up.invoke(call["args"]), tool_call_id=call["id"])]
        return (await model.ainvoke(messages)).text

    numbers = itertools.count(1)
    app = build(world.ledger, [free("spending", spending, ceiling=CEILING)], budget=BUDGET, clock=world.clock)
    with caplog.at_level(logging.WARNING, logger.name):
        for _ in range(TURNS):
            month = next(numbers)
            world.seller.will(Reply(tool="look_up", arguments={"month": month}), Reply(text=f"It was {month * 7} USD."))
            app.invoke({"messages": [("user", f"How much for food in month {month}?")]}, session())
            world.clock.turn()
    prompts = world.prompts()
    assert len(prompts) == 2 * TURNS
    firsts, seconds = prompts[::2], prompts[1::2]
    assert all(second.startswith(first) for first, second in zip(firsts, seconds, strict=True))
    moved = [turn for turn in range(1, TURNS) if not firsts[turn].startswith(firsts[turn - 1])]
    assert moved == [turn for turn in range(1, TURNS) if _left_out(turn) != _left_out(turn - 1)]
    hit, allowed = world.hits()
    assert 100 * hit >= LEAST_SHARE * allowed > 0
    assert caplog.messages == []


def test_an_agent_of_langchain_with_fifty_calls_hits_what_the_rules_allow(world: World) -> None:
    """Each call of one long run sends the prompt of the call before, byte for byte, and goes on."""
    replies = [Reply(tool="look_up", arguments={"month": month}) for month in range(1, TURNS)]
    world.seller.will(*replies, Reply(text="All of it was food."))
    agent = cast("Any", create_agent(world.chat(), [look_up], system_prompt=INSTRUCTIONS))
    spending = free("spending", agent, ceiling=CEILING, max_turns=TURNS, timeout=120)
    app = build(world.ledger, [spending], budget=BUDGET, clock=_ticking(world.clock))
    app.invoke({"messages": [("user", "How much for food, month by month?")]}, session())
    prompts = world.prompts()
    assert len(prompts) == TURNS
    assert all(after.startswith(before) for before, after in itertools.pairwise(prompts))
    hit, allowed = world.hits()
    assert 100 * hit >= LEAST_SHARE * allowed > 0


def test_a_clock_in_the_system_message_gets_few_hits_and_a_warning(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing behind the clock is ever a hit, and the log names the clock, once."""
    model = world.chat()

    async def spending(task: Task) -> str:
        clock = f"It is {world.clock():%H:%M:%S}. "
        return (await model.ainvoke([SystemMessage(clock + INSTRUCTIONS), *given_to_model(task)])).text

    app = build(world.ledger, [free("spending", spending, ceiling=CEILING)], budget=BUDGET, clock=world.clock)
    with caplog.at_level(logging.WARNING, logger.name):
        for turn in range(8):
            app.invoke({"messages": [("user", f"How much for food in month {turn}?")]}, session())
            world.clock.turn()
    hit, _ = world.hits()
    assert hit == 0
    [warning] = caplog.messages
    assert warning.startswith("spending: its system message is not that of its call before")
    assert 'a clock or a date in it changes: "' in warning
    assert "09:30:00" in warning
    assert "09:30:10" in warning


def _ticking(clock: Clock) -> Any:
    """Return the clock, so that each reading of it is five seconds later: a call reads it at least once."""

    def tick() -> datetime:
        clock.now += timedelta(seconds=5)
        return clock.now

    return tick


def _left_out(turn: int) -> int:
    """Return how many messages of the conversation the request number `turn` leaves out."""
    return max(0, 2 * turn - HISTORY_TURNS) // HISTORY_STEP


def _prompt(body: dict[str, Any]) -> str:
    parts = [*(body.get("tools") or ()), body.get("system"), *body["messages"]]
    return "\n".join(dumps(_unmarked(part)) for part in parts if part)


def _unmarked(part: Any) -> Any:
    """Return the part without marks. One text block is the same as its text: Anthropic's shorthand."""
    if isinstance(part, list):
        blocks = [_unmarked(block) for block in cast("list[Any]", part)]
        return blocks[0]["text"] if len(blocks) == 1 and set(blocks[0]) == {"type", "text"} else blocks
    if isinstance(part, dict):
        fields = cast("dict[str, Any]", part)
        return {key: _unmarked(value) for key, value in fields.items() if key != "cache_control"}
    return part


def _without_cache(seller: CachingOpenAI | CachingAnthropic) -> int:
    """Return what the seller would have billed if it had no cache, in nano-dollars."""
    per_input, per_output = (150, 600) if isinstance(seller, CachingOpenAI) else (1_000, 5_000)
    return sum(bill.input_tokens * per_input + bill.output_tokens * per_output for bill in seller.bills)
