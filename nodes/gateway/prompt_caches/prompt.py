"""A prompt as a provider's cache sees it: a static part, then messages, each beginning told by a hash."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256


@dataclass(frozen=True)
class Prompt:
    """A prompt in the order in which providers match it: tools, the system messages before all others, the rest.

    Tools and messages are JSON. `system` is how many of the messages are system messages before all others.
    """

    tools: str
    messages: Sequence[str]
    system: int

    @property
    def static(self) -> tuple[str, str]:
        """The part that should be the same in each call of an agent: its tools, and its system messages."""
        return self.tools, "\n".join(self.messages[: self.system])

    @cached_property
    def beginnings(self) -> tuple[str, ...]:
        """A hash for each beginning of the prompt: the static part alone, then one message more each."""
        so_far = sha256("\n".join(self.static).encode())
        hashes = [so_far.hexdigest()]
        for message in self.messages[self.system :]:
            so_far.update(b"\n" + message.encode())
            hashes.append(so_far.hexdigest())
        return tuple(hashes)

    @property
    def size(self) -> int:
        """The bytes of the whole prompt, which has at most as many tokens."""
        return len(self.tools.encode()) + sum(len(message.encode()) for message in self.messages)

    @property
    def static_size(self) -> int:
        """The bytes of the static part."""
        return sum(len(part.encode()) for part in self.static)
