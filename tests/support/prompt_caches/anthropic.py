"""A provider on loopback with Anthropic's prompt cache, by the rules that Anthropic documents.

The page "Prompt caching" says: the prompt is tools, system, messages. A `cache_control` on a block writes the prompt up
to that block, at 1.25 times the price of input, if it has the model's minimum of tokens; one of the whole request
stands on the last block. At most four are allowed. A request reads the longest prefix that was written before and that
ends at most 20 blocks before one of its marks, at a tenth of the price. A prefix is dropped five minutes after its last
use. A text in place of a list of blocks stands for one text block.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256
from json import dumps
from typing import Any

from tests.nodes.gateway.providers.protocols import (
    CLAUDE_TOOL_PROMPT_TOKENS,
    Anthropic,
    ClaudeBill,
    ClaudeReply,
)
from tests.support.provider import BYTES_PER_TOKEN, Bill, Reply

LEAST_TOKENS = 4_096  # of claude-haiku-4-5
LOOK_BACK_BLOCKS = 20
MOST_MARKS = 4
KEPT_FOR = timedelta(minutes=5)
MARK = "cache_control"


class CachingAnthropic(Anthropic):
    """The provider. `allowed` has, for each request, the most tokens that a cache of all prefixes so far would hit."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        super().__init__()
        self.allowed: list[int] = []
        self._clock = clock
        self._kept: dict[str, datetime] = {}
        self._all: set[str] = set()

    def take(self, body: dict[str, Any]) -> tuple[Reply, Bill]:
        """Return the reply with the tokens read and written, and its bill, as `Provider.take` does.

        The status is 400 if the request has too many marks.
        """
        with self.lock:
            self.requests.append(body)
            reply = self.script.popleft() if self.script else self.default
            prefixes, marks = _prefixes(body)
            self.allowed.append(max((size for size, hashed in prefixes if hashed in self._all), default=0))
            self._all |= {hashed for size, hashed in prefixes if size >= LEAST_TOKENS}
            if len(marks) > MOST_MARKS:
                return replace(reply, status=400), self.bill(body, reply)
            read, written = self._use(prefixes, marks)
            fields = {name: getattr(reply, name) for name in ("text", "tool", "arguments", "usage")}
            cached = ClaudeReply(**fields, cached_tokens=read, short_writes=written)
            bill = self.bill(body, cached)
            self.bills.append(bill)
            return cached, bill

    def bill(self, body: Mapping[str, Any], reply: Reply) -> ClaudeBill:
        """Return the bill of a request: its input is the prompt whose beginning is cached."""
        return replace(super().bill(body, reply), input_tokens=_prefixes(body)[0][-1][0])

    def _use(self, prefixes: list[tuple[int, str]], marks: list[int]) -> tuple[int, int]:
        """Return the tokens that are read, and those that are written; let the cache keep what is marked."""
        now, read = self._clock(), 0
        for mark in marks:
            for size, hashed in prefixes[max(0, mark - LOOK_BACK_BLOCKS) : mark + 1]:
                if hashed in self._kept and now - self._kept[hashed] <= KEPT_FOR and size > read:
                    read = size
                    self._kept[hashed] = now
        written = [prefixes[mark] for mark in marks if prefixes[mark][0] >= LEAST_TOKENS]
        self._kept |= {hashed: now for _, hashed in written}
        return read, max(0, max((size for size, _ in written), default=0) - read)


def _prefixes(body: Mapping[str, Any]) -> tuple[list[tuple[int, str]], list[int]]:
    """Return tokens and hash of the prompt up to each block, and the places of the blocks that are marked."""
    so_far, size = sha256(), CLAUDE_TOOL_PROMPT_TOKENS * BYTES_PER_TOKEN if body.get("tools") else 0
    prefixes: list[tuple[int, str]] = []
    marks: list[int] = []
    for place, block in enumerate(_blocks(body)):
        if block.get(MARK):
            marks.append(place)
        written = dumps({key: value for key, value in block.items() if key != MARK}, ensure_ascii=False).encode()
        so_far.update(written + b"\n")
        size += len(written)
        prefixes.append((size // BYTES_PER_TOKEN, so_far.hexdigest()))
    if body.get(MARK):
        marks.append(len(prefixes) - 1)
    return prefixes, marks


def _blocks(body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    yield from body.get("tools") or ()
    yield from _as_blocks(body.get("system") or [])
    for message in body["messages"]:
        yield from ({"role": message["role"], **block} for block in _as_blocks(message["content"]))


def _as_blocks(content: Any) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content
