"""What the model writes: the right specialist, a call of the tool, or words from what the tool found; or a fault."""

import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.mix.drawing import PASTED, Drawn
from benchmarks.mix.mix_file import Latency, Tokens

PADDING = "This is what the records on file show, and nothing was changed or moved. "
INVENTED = "987,654.32"  # dollars that no tool computed
PROMISE = "This gives you guaranteed returns"
LEAK = f"Your card is {PASTED[0][1]} and your account {PASTED[1][1]}."
WORDY_TOKENS = 50_000  # more than any cap


@dataclass(frozen=True, slots=True)
class Written:
    """What the model answers one HTTP request with.

    With `tool`, it calls the tool with `arguments`; otherwise it writes `text`. `status` is not 200 for a refusal,
    which is not billed. If `is_silent`, it is billed and never arrives; if `is_cut`, only its header arrives.
    """

    text: str = ""
    tool: str = ""
    arguments: str = ""
    status: int = 200
    tokens: int = 0
    was_capped: bool = False
    is_silent: bool = False
    is_cut: bool = False


class Conduct:
    """The model's conduct during one request of the mix, `drawn`. The same request gets the same answers."""

    def __init__(self, drawn: Drawn, tokens: Tokens, latency: Latency) -> None:
        self._drawn = drawn
        self._tokens = tokens
        self._latency = latency
        self._rng = random.Random(drawn.seed)
        self._calls = 0

    def write(self, body: Mapping[str, Any], cap: int) -> Written:
        """Return the answer to the next HTTP request of the request, of at most `cap` tokens."""
        first = self._calls == 0
        self._calls += 1
        match self._drawn.behaviour:
            case "down":
                return Written(status=503)
            case "limited" if first:
                return Written(status=429)
            case "failing" if first:
                return Written(status=500)
            case _:
                return self._answer(body, cap, first=first)

    def seconds(self, written: Written) -> float:
        """Return how long the model takes to write this."""
        if written.is_silent:
            return self._latency.silence
        waits = self._rng.lognormvariate(math.log(self._latency.first_token_median), self._latency.first_token_sigma)
        return waits + written.tokens / self._latency.tokens_per_second

    def _answer(self, body: Mapping[str, Any], cap: int, *, first: bool) -> Written:
        behaviour = self._drawn.behaviour
        tool = _tool(body)
        found = [message for message in body["messages"] if message["role"] == "tool"]
        if tool != "look_up":
            picks = [{"name": name, "value": 1.0} for name in self._drawn.agents]
            return self._called(tool, {"picks": picks, "confidence": 0.95}, cap)
        if not found or behaviour == "loops":
            arguments = {"wrong": 1} if behaviour == "garbled" and first else {"question": _asked(body["messages"])}
            return replace(self._called(tool, arguments, cap), is_silent=behaviour == "silent" and first)
        return self._words(str(found[-1]["content"]), cap)

    def _called(self, tool: str, arguments: Mapping[str, object], cap: int) -> Written:
        """Return a call of the tool, or nothing of use if the call does not fit the cap."""
        text = json.dumps(arguments)
        tokens = max(self._tokens.tool_call, self._size(text))
        if tokens > cap:
            return Written(tokens=cap, was_capped=True)
        return Written(tool=tool, arguments=text, tokens=tokens)

    def _words(self, found: str, cap: int) -> Written:
        """Return an answer from what the tool found, of the length that is drawn and of at most `cap` tokens."""
        drawn = round(self._rng.lognormvariate(math.log(self._tokens.answer_median), self._tokens.answer_sigma))
        tokens = WORDY_TOKENS if self._drawn.behaviour == "wordy" else max(1, drawn)
        text = _of_length(_with_fault(self._drawn.behaviour, found), min(tokens, cap) * self._tokens.bytes_each)
        is_cut = self._drawn.behaviour == "cut"
        return Written(text=text, tokens=min(cap, self._size(text)), was_capped=tokens > cap, is_cut=is_cut)

    def _size(self, text: str) -> int:
        return math.ceil(len(text.encode()) / self._tokens.bytes_each)


def _tool(body: Mapping[str, Any]) -> str:
    """Return the name of the tool that the request offers. Genie offers one."""
    [tool] = body["tools"]
    return str(tool["function"]["name"])


def _asked(messages: Sequence[Mapping[str, Any]]) -> str:
    return str([message for message in messages if message["role"] == "user"][-1]["content"])


def _with_fault(behaviour: str, found: str) -> str:
    """Return the first sentences that the model writes: the tool's text, or its head and a fault."""
    text = found.split("\n\nFacts:", maxsplit=1)[0]
    head = text.split("\n")[0]
    said = {"invents": f"In all that is ${INVENTED}.", "promises": f"{PROMISE}.", "leaks": LEAK}.get(behaviour)
    return f"{head} {said}" if said else text


def _of_length(text: str, size: int) -> str:
    """Return the lines of `text` that fit in so many bytes, or the head of its first, and padding without figures."""
    lines = text.split("\n")
    kept = lines[0]
    for line in lines[1:]:
        if len(f"{kept}\n{line}".encode()) > size:
            break
        kept = f"{kept}\n{line}"
    room = size - len(kept.encode()) - 1
    if room > len(PADDING):
        kept = f"{kept}\n{PADDING * (room // len(PADDING))}"
    return kept.encode()[:size].decode(errors="ignore").rstrip()
