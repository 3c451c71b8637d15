"""What providers' prompt caches give, by their documentation.

OpenAI (guide "Prompt caching"): a prompt that begins as an earlier one did, byte for byte, reads that part from the
cache, from 1,024 tokens, in steps of 128. Nothing is paid for writing.

Anthropic (guide "Prompt caching"): what stands before a breakpoint is written at 1.25 times the price of input, and
read at a tenth of it by a later prompt that begins with all of it. Claude Opus 4.6 caches nothing below 4,096 tokens.
"""

from dataclasses import dataclass, field

OPENAI_MINIMUM, OPENAI_STEP = 1_024, 128
ANTHROPIC_MINIMUM = 4_096  # of Claude Opus 4.6


@dataclass(frozen=True, slots=True)
class CacheUse:
    """The tokens of one prompt that were read from the cache, and those that were written to it."""

    read: int
    written: int


def common_prefix(first: bytes, second: bytes) -> int:
    """Return the number of bytes that both begin with."""
    low, high = 0, min(len(first), len(second))
    while low < high:  # halves each time, so it ends
        middle = (low + high + 1) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def openai_hits(common: int) -> int:
    """Return how many tokens OpenAI reads from its cache if a prompt shares its first `common` tokens with another."""
    return common - common % OPENAI_STEP if common >= OPENAI_MINIMUM else 0


@dataclass(slots=True)
class PromptCache:
    """The cache that a seller keeps for one conversation. A byte of a prompt stands for a token.

    It never forgets: the calls of a run follow each other within the minutes for which sellers keep a prefix.
    """

    seller: str
    seen: list[bytes] = field(default_factory=list[bytes])

    def take(self, prompt: bytes, *, stable: int) -> CacheUse:
        """Count one prompt, and keep it. `stable` is where its breakpoint stands: the bytes before what changes."""
        if self.seller == "anthropic":
            return self._write(prompt[:stable])
        common = max((common_prefix(earlier, prompt) for earlier in self.seen), default=0)
        self.seen.append(prompt)
        return CacheUse(openai_hits(common), 0)

    def _write(self, prefix: bytes) -> CacheUse:
        if len(prefix) < ANTHROPIC_MINIMUM:
            return CacheUse(0, 0)
        read = max((len(earlier) for earlier in self.seen if prefix.startswith(earlier)), default=0)
        self.seen.append(prefix)
        return CacheUse(read, len(prefix) - read)
