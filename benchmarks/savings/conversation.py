"""The prompts of a recorded run: of the recorded sizes, each one the one before it and something more.

Only sizes were recorded, so the text is filler, and a byte stands for a token. A clock is part of every prompt. Where
it stands decides what a cache can read again: nothing after a clock at the head, all before a clock at the end.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.messages.tool import tool_call

from benchmarks.savings.cache_rules import PromptCache
from benchmarks.savings.recorded_model import usage_of
from benchmarks.savings.records import AgentRun

CLOCK_BYTES = len("[00:00:00]")


@dataclass(frozen=True, slots=True)
class Prompt:
    """The messages of one call. The bytes before `stable` stay as they are in the next call, if the run goes on."""

    messages: tuple[BaseMessage, ...]
    stable: int

    @property
    def text(self) -> bytes:
        """All text of the messages, in their order."""
        return "".join(message.text for message in self.messages).encode()


def prompts(run: AgentRun, *, clock_first: bool) -> Iterator[Prompt]:
    """Yield the prompt of each call, with exactly the recorded number of bytes.

    If a recorded prompt is too short to hold the one before it, the run began anew: nothing of what was is in it.
    """
    said: list[BaseMessage] = []
    size, beginnings = 0, 0
    for number, call in enumerate(run.calls):
        clock, room = _clock(number), call.prompt_tokens - CLOCK_BYTES
        if room < size or not said:
            said.clear()
            said.append(SystemMessage(_filler(f"{run.name} began {beginnings}", room)))
            size, beginnings = room, beginnings + 1
        elif room > size:
            said.append(HumanMessage(_filler(f"result {number}", room - size)))
            size = room
        messages = [SystemMessage(clock), *said] if clock_first else [*said, HumanMessage(clock)]
        yield Prompt(tuple(messages), 0 if clock_first else size)
        said.append(AIMessage(_filler(f"answer {number}", call.completion_tokens)))
        size += call.completion_tokens


class RunSeller:
    """Who sells the calls of one run: answers as recorded, and counts what its prompt cache read and wrote."""

    def __init__(self, run: AgentRun, *, clock_first: bool) -> None:
        self._run, self._number = run, 0
        self._cache = PromptCache(run.seller)
        self._stable = [prompt.stable for prompt in prompts(run, clock_first=clock_first)]

    def answer(self, messages: list[BaseMessage]) -> AIMessage:
        """Return the recorded answer to the next call."""
        number, call = self._number, self._run.calls[self._number]
        self._number += 1
        prompt = "".join(message.text for message in messages).encode()
        if len(prompt) != call.prompt_tokens:
            raise AssertionError(f"call {number} of {self._run.name} has {len(prompt)} bytes, not {call.prompt_tokens}")
        return AIMessage(
            _filler(f"answer {number}", call.completion_tokens),
            tool_calls=[
                tool_call(name=name, args={"hash": arguments}, id=f"call-{number}-{place}")
                for place, (name, arguments) in enumerate(call.tool_calls)
            ],
            usage_metadata=usage_of(
                len(prompt), call.completion_tokens, self._cache.take(prompt, stable=self._stable[number])
            ),
        )


def _clock(number: int) -> str:
    minutes, seconds = divmod(number * 7, 60)
    return f"[{minutes // 60 % 24:02}:{minutes % 60:02}:{seconds:02}]"


def _filler(start: str, size: int) -> str:
    """Return a text of exactly `size` bytes that begins differently for each `start`."""
    return (f"{start}: " + "." * size)[:size]
