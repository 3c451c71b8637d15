"""A provider on loopback with OpenAI's prompt cache, by the rules that OpenAI documents.

The guide "Prompt caching" says: a hit is an exact match of the prompt's beginning, in steps of 128 tokens, from 1,024
tokens on. Tools come before messages. A request goes to a machine by the hash of its first 256 tokens and of its
`prompt_cache_key`; above 15 requests a minute it goes to a further machine, whose cache is another. A prefix that
nobody read for five minutes is dropped.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256
from json import dumps
from typing import Any

from tests.support.provider import BYTES_PER_TOKEN, Bill, Provider, Reply

LEAST_TOKENS, STEP_TOKENS, ROUTING_TOKENS = 1_024, 128, 256
MOST_A_MINUTE = 15
KEPT_FOR = timedelta(minutes=5)
MINUTE = timedelta(minutes=1)


class CachingOpenAI(Provider):
    """The provider. `allowed` has, for each request, the most tokens that an unbounded cache of one machine would hit.

    Times are those of `clock`, so that no test waits.
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        super().__init__()
        self.allowed: list[int] = []
        self._clock = clock
        self._machines: dict[str, dict[str, datetime]] = {}
        self._arrivals: dict[str, list[datetime]] = {}
        self._all: set[str] = set()

    def take(self, body: dict[str, Any]) -> tuple[Reply, Bill]:
        """Return the reply with the tokens that the cache hits, and its bill, as `Provider.take` does."""
        with self.lock:
            self.requests.append(body)
            reply = self.script.popleft() if self.script else self.default
            prompt = prompt_bytes(body)
            prefixes = {size: _hash(prompt, size) for size in _sizes(len(prompt) // BYTES_PER_TOKEN)}
            self.allowed.append(max((size for size, hashed in prefixes.items() if hashed in self._all), default=0))
            reply = replace(reply, cached_tokens=self._hit(self._machine(body, prompt), prefixes))
            self._all |= set(prefixes.values())
            bill = self.bill(body, reply)
            self.bills.append(bill)
            return reply, bill

    def bill(self, body: Mapping[str, Any], reply: Reply) -> Bill:
        """Return the bill of a request: its input is the prompt whose beginning is cached."""
        return replace(super().bill(body, reply), input_tokens=len(prompt_bytes(body)) // BYTES_PER_TOKEN)

    def _machine(self, body: Mapping[str, Any], prompt: bytes) -> str:
        """Return the machine that serves the request: a further one if the first had too many within a minute."""
        now, routed = self._clock(), f"{body.get('prompt_cache_key', '')} {_hash(prompt, ROUTING_TOKENS)}"
        arrivals = self._arrivals.setdefault(routed, [])
        arrivals[:] = [*(at for at in arrivals if now - at < MINUTE), now]
        return f"{routed} {(len(arrivals) - 1) // MOST_A_MINUTE}"

    def _hit(self, machine: str, prefixes: Mapping[int, str]) -> int:
        """Return the tokens that the machine's cache has, and let it keep all prefixes of the prompt."""
        now, kept = self._clock(), self._machines.setdefault(machine, {})
        known = [size for size, hashed in prefixes.items() if hashed in kept and now - kept[hashed] <= KEPT_FOR]
        kept |= dict.fromkeys(prefixes.values(), now)
        return max(known, default=0)


def prompt_bytes(body: Mapping[str, Any]) -> bytes:
    """Return the prompt of a request as bytes, in the order in which it is matched: the tools, then the messages."""
    parts = [*(body.get("tools") or ()), body.get("response_format"), *body["messages"]]
    return "\n".join(dumps(part, ensure_ascii=False) for part in parts if part is not None).encode()


def _sizes(tokens: int) -> range:
    return range(LEAST_TOKENS, tokens + 1, STEP_TOKENS)


def _hash(prompt: bytes, tokens: int) -> str:
    return sha256(prompt[: tokens * BYTES_PER_TOKEN]).hexdigest()
