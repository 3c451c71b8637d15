"""A provider that writes one word after the other, never more than `AHEAD` words ahead of its reader, and bills those.

The test says what has been read, by `read`. So nothing depends on time: a provider that is further ahead waits.
"""

import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

from tests.support.provider import MAX_WAIT_SECONDS, RATES, Bill, Handler, Provider, Reply

AHEAD = 4
MANY = 100_000


class PacedProvider(Provider):
    """A provider of streams that bills what it has written. `reports`: each chunk reports the tokens so far."""

    def __init__(self) -> None:
        super().__init__()
        self.written = 0
        self.inputs = 0
        self._permits = threading.Semaphore(AHEAD)

    def handler(self) -> "type[Handler]":
        return PacedHandler

    def bill(self, body: Mapping[str, Any], reply: Reply) -> Bill:
        bill = super().bill(body, reply)
        self.inputs += bill.input_tokens
        return bill

    @property
    def billed(self) -> int:
        """The nano-dollars of the input, and of the words written so far."""
        per_input, _, per_output = RATES["gpt-4o-mini"]
        with self.lock:
            return self.inputs * per_input + self.written * per_output

    def read(self, chunks: int = 1) -> None:
        """Let the provider write so many words more."""
        self._permits.release(chunks)

    def write_word(self) -> None:
        """Wait until the reader is near enough, and count one more word as billed."""
        self._permits.acquire(timeout=MAX_WAIT_SECONDS)
        with self.lock:
            self.written += 1


class PacedHandler(Handler):
    """Writes each piece of a stream when it is billed."""

    def _stream(self, body: dict[str, Any], reply: Reply, bill: Bill) -> None:
        provider = self.provider
        assert isinstance(provider, PacedProvider)
        self.send_response(200)
        self.send_header("content-type", self.stream_type)
        self.send_header("connection", "close")
        self.end_headers()
        for piece in self.events(body, reply, bill):
            if self.is_word(piece):
                provider.write_word()
            if not self._write(piece.encode()):
                return

    def is_word(self, piece: str) -> bool:
        """Whether the piece of the stream has a word of the model, which is billed."""
        return '"content": "' in piece and '"role"' not in piece


@contextmanager
def paced(made: type[PacedProvider] = PacedProvider) -> Generator[PacedProvider]:
    """Serve for the block. At its end the provider writes the rest, so that no thread waits."""
    provider = made()
    try:
        yield provider
    finally:
        provider.read(MANY)
        provider.close()
