"""A provider of chat completions on loopback. It records what it billed, and tests compare the ledger with its bills.

It speaks OpenAI's protocol: plain and streamed answers, tool calls, structured output, embeddings, and every fault of a
provider. A word is a token; the prompt's tokens are a third of its bytes. `RATES` has the prices of its models.
"""

import json
import socket
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, cast

import pytest

BYTES_PER_TOKEN = 3
MODEL, DEAR_MODEL, EMBEDDING_MODEL = "gpt-4o-mini", "gpt-4o", "text-embedding-3-small"
DEAREST_MODEL = "o1-pro"
RATES = {  # nano-dollars for a token of input, of cached input and of output
    MODEL: (150, 75, 600),
    DEAR_MODEL: (2_500, 1_250, 10_000),
    DEAREST_MODEL: (150_000, 150_000, 600_000),
    EMBEDDING_MODEL: (20, 20, 0),
}
PRIORITY_RATES = {MODEL: (250, 125, 1_000), DEAR_MODEL: (4_250, 2_125, 17_000)}
MAX_WAIT_SECONDS = 20
NO_CAP = 16_384  # what a model writes at most if a request has no cap
# How a server reports what it bills. "cumulative" and "repeated": in each chunk of a stream, so far or in all.
Shape = Literal["sound", "cumulative", "repeated", "cache beside", "reasoning beside", "only in the total", "too low"]


@dataclass(frozen=True, kw_only=True)
class Reply:
    """How the provider answers one HTTP request.

    With `tool`, the answer is a call of this tool, otherwise `text`. If `usage`, the answer reports its tokens. If
    `ignores_cap`, the answer may be longer than the request allows.
    """

    text: str = "all is well"
    tool: str = ""
    arguments: Mapping[str, object] = field(default_factory=dict[str, object])
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    usage: bool = True
    ignores_cap: bool = False
    cut_after: int | None = None  # a stream stops after so many chunks; 0: a plain answer has only its header
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    shape: Shape = "sound"
    waits_for: threading.Event | None = None  # set before the last chunk or a plain answer is sent

    def words(self, cap: int) -> list[str]:
        """Return the words that the model writes under an output cap of `cap` tokens."""
        written = json.dumps(self.arguments) if self.tool else self.text
        words = [written] if self.tool else written.split(" ")
        return words if self.ignores_cap else words[: max(0, cap - self.reasoning_tokens)]


@dataclass(frozen=True)
class Bill:
    """The tokens that the provider bills for one HTTP request."""

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    model: str = MODEL
    tier: str = ""

    @property
    def nanos(self) -> int:
        """The cost of the tokens, in nano-dollars."""
        rates = RATES | (PRIORITY_RATES if self.tier == "priority" else {})
        per_input, per_cached, per_output = rates.get(self.model, rates[MODEL])
        fresh = self.input_tokens - self.cached_tokens
        return fresh * per_input + self.cached_tokens * per_cached + self.output_tokens * per_output


class _Server(ThreadingHTTPServer):
    request_queue_size = 256  # of Python's 5, the kernel resets connections if many clients connect at once


class Provider:
    """The provider's server, which runs from its creation until `close`.

    `script` has the replies to the next requests; if `script` is empty, the reply is `default`. If `keeps_alive`, it
    leaves a connection open after a request, as real providers do. `callers` has each request's address at the client,
    which tells connections apart. `connections` are the open connections.
    """

    def __init__(self) -> None:
        self.script: deque[Reply] = deque()
        self.default = Reply()
        self.requests: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.bills: list[Bill] = []
        self.keeps_alive = False
        self.callers: list[object] = []
        self.connections: set[socket.socket] = set()
        self.hung_up = threading.Condition()
        self.arrived = threading.Event()
        self.lock = threading.Lock()
        handler = type("Handler", (self.handler(),), {"provider": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self._server.daemon_threads = False
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    @property
    def root(self) -> str:
        """The URL of the server, without a path."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def url(self) -> str:
        """The base URL for clients."""
        return f"{self.root}/v1"

    @property
    def billed(self) -> int:
        """The nano-dollars billed so far."""
        with self.lock:
            return sum(bill.nanos for bill in self.bills)

    def will(self, *replies: Reply) -> None:
        """Add these replies to the script: the provider gives them to its next requests, in this order."""
        self.script.extend(replies)

    def is_left(self) -> bool:
        """Whether all clients hang up within `MAX_WAIT_SECONDS`."""
        with self.hung_up:
            return self.hung_up.wait_for(lambda: not self.connections, MAX_WAIT_SECONDS)

    def close(self) -> None:
        """Stop the server, after it has answered every request."""
        self._server.shutdown()
        self._thread.join()
        for connection in list(self.connections) if self.keeps_alive else []:
            with suppress(OSError):  # race: the client has closed it
                connection.shutdown(socket.SHUT_RD)
        self._server.server_close()

    def take(self, body: dict[str, Any]) -> tuple[Reply, Bill]:
        """Return the reply to a request, and its bill. If the reply's status is 200, add the bill to `bills`.

        So the request is billed before any of the reply is sent.
        """
        # Race: threads of several requests take from the script and add bills. The lock makes that one step for each.
        with self.lock:
            self.requests.append(body)
            reply = self.script.popleft() if self.script else self.default
            bill = self.bill(body, reply)
            if reply.status == 200:
                self.bills.append(bill)
            self.arrived.set()
            return reply, bill

    def handler(self) -> "type[Handler]":
        """Return the class that answers requests in the protocol of this provider."""
        return Handler

    def cap(self, body: Mapping[str, Any]) -> int:
        """Return the most output tokens that a request allows."""
        return int(body.get("max_completion_tokens") or body.get("max_tokens") or NO_CAP)

    def bill(self, body: Mapping[str, Any], reply: Reply) -> Bill:
        """Return what a request costs that is answered with this reply."""
        asked = body["input"] if "input" in body else [body["messages"], body.get("tools"), body.get("response_format")]
        words = [] if "input" in body else reply.words(self.cap(body))
        return Bill(
            input_tokens=count_tokens(asked),
            output_tokens=(len(words) + reply.reasoning_tokens) * _answers(body),
            cached_tokens=reply.cached_tokens,
            model=str(body.get("model")),
            tier=str(body.get("service_tier")),
        )


class Handler(BaseHTTPRequestHandler):
    """Answers requests in OpenAI's protocol. Another protocol overrides `whole`, `events` and `stream_type`."""

    provider: Provider
    stream_type = "text/event-stream"
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        """Print nothing; the base class would print a line for each request."""

    def setup(self) -> None:
        super().setup()
        self.provider.connections.add(self.connection)

    def finish(self) -> None:
        super().finish()
        with self.provider.hung_up:
            self.provider.connections.discard(self.connection)
            self.provider.hung_up.notify_all()

    def do_POST(self) -> None:
        body = cast("dict[str, Any]", json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.provider.paths.append(self.path)
        self.provider.callers.append(self.client_address)
        reply, bill = self.provider.take(body)
        self.close_connection = not self.provider.keeps_alive
        if reply.status != 200:
            self._plain({"error": {"message": "no", "type": "test", "code": None}}, reply.status, reply.headers)
        elif "input" in body:
            self._embed(body, reply, bill)
        elif self.is_streamed(body):
            self._stream(body, reply, bill)
        else:
            self._answer(body, reply, bill)

    def _answer(self, body: dict[str, Any], reply: Reply, bill: Bill) -> None:
        if reply.waits_for is not None:
            reply.waits_for.wait(MAX_WAIT_SECONDS)
        if reply.cut_after is not None:
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", "1000")
            self.end_headers()
            return
        self._plain(self.whole(body, reply, bill), 200, {})

    @property
    def _after(self) -> str:
        return "keep-alive" if self.provider.keeps_alive else "close"

    def is_streamed(self, body: Mapping[str, Any]) -> bool:
        """Whether the request asks for a stream."""
        return bool(body.get("stream"))

    def whole(self, body: Mapping[str, Any], reply: Reply, bill: Bill) -> dict[str, Any]:
        """Return the reply as a whole answer."""
        words = reply.words(self.provider.cap(body))
        message: dict[str, Any] = {"role": "assistant", "content": " ".join(words)}
        if reply.tool:
            message = {"role": "assistant", "content": None, "tool_calls": [_tool_call(reply)]}
        answer = {**_head("chat.completion"), "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
        return {**answer, "usage": _usage(reply, bill)} if reply.usage else answer

    def events(self, body: Mapping[str, Any], reply: Reply, bill: Bill) -> Iterator[str]:
        """Yield the reply as the pieces of a stream, as they are written to the client."""
        for chunk in _chunks(body, reply, bill, self.provider.cap(body)):
            yield f"data: {json.dumps(chunk)}\n\n"
        yield "data: [DONE]\n\n"

    def _embed(self, body: dict[str, Any], reply: Reply, bill: Bill) -> None:
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        data = [{"object": "embedding", "index": i, "embedding": [float(len(t)), 0.5]} for i, t in enumerate(texts)]
        answer: dict[str, Any] = {"object": "list", "data": data, "model": body["model"]}
        used = {"prompt_tokens": bill.input_tokens, "total_tokens": bill.input_tokens}
        self._plain({**answer, "usage": used} if reply.usage else answer, 200, {})

    def _plain(self, answer: dict[str, Any], status: int, headers: Mapping[str, str]) -> None:
        content = json.dumps(answer).encode()
        self.send_response(status)
        for name, value in {
            "content-type": "application/json",
            "content-length": str(len(content)),
            "connection": self._after,
            **headers,
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self._write(content)

    def _stream(self, body: dict[str, Any], reply: Reply, bill: Bill) -> None:
        self.send_response(200)
        for name, value in (("content-type", self.stream_type), ("transfer-encoding", "chunked")):
            self.send_header(name, value)
        self.send_header("connection", self._after)
        self.end_headers()
        pieces = list(self.events(body, reply, bill))
        for index, piece in enumerate(pieces):
            if reply.cut_after == index:
                return
            if reply.waits_for is not None and index == len(pieces) - 2:  # the last piece before the end mark
                reply.waits_for.wait(MAX_WAIT_SECONDS)
            content = piece.encode()
            if not self._write(f"{len(content):x}\r\n".encode() + content + b"\r\n"):
                return
        self._write(b"0\r\n\r\n")

    def _write(self, content: bytes) -> bool:
        try:
            self.wfile.write(content)
            self.wfile.flush()
        except OSError:  # the client has hung up
            return False
        return True


def count_tokens(asked: object) -> int:
    """Return the tokens of a prompt, by its bytes."""
    return len(json.dumps(asked, ensure_ascii=False).encode()) // BYTES_PER_TOKEN


def _answers(body: Mapping[str, Any]) -> int:
    """Return how many answers the request has the model write; each is billed."""
    return max(int(body.get("n") or 1), int(body.get("best_of") or 1))


def _head(kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": kind, "created": 1_700_000_000, "model": MODEL}


def _tool_call(reply: Reply) -> dict[str, Any]:
    function = {"name": reply.tool, "arguments": json.dumps(reply.arguments)}
    return {"index": 0, "id": "call_1", "type": "function", "function": function}


def _usage(reply: Reply, bill: Bill, share: float = 1.0) -> dict[str, Any]:
    """Return the usage that is reported when this share of the output is written."""
    prompt, cached = bill.input_tokens, reply.cached_tokens
    completion, reasoning = round(bill.output_tokens * share), reply.reasoning_tokens
    total = prompt + completion
    match reply.shape:
        case "cache beside":
            prompt -= cached
        case "reasoning beside":
            completion -= reasoning
        case "only in the total":
            completion, reasoning = completion - reasoning, 0
        case "too low":
            completion, reasoning = min(completion, 1), 0
            total = prompt + completion
        case _:
            pass
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": total,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }


def _chunks(body: Mapping[str, Any], reply: Reply, bill: Bill, cap: int) -> Iterator[dict[str, Any]]:
    def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return {**_head("chat.completion.chunk"), "choices": [choice]}

    yield chunk({"role": "assistant", "content": ""})
    if reply.tool:
        yield chunk({"tool_calls": [_tool_call(reply)]})
    else:
        words = reply.words(cap)
        for index, word in enumerate(words):
            written = chunk({"content": word if index == 0 else f" {word}"})
            if reply.shape == "cumulative":
                written["usage"] = _usage(reply, bill, (index + 1) / len(words))
            elif reply.shape == "repeated":
                written["usage"] = _usage(reply, bill)
            yield written
    yield chunk({}, finish="stop")
    if reply.usage and body.get("stream_options") == {"include_usage": True}:
        yield {**_head("chat.completion.chunk"), "choices": [], "usage": _usage(reply, bill)}


@pytest.fixture
def provider() -> Iterator[Provider]:
    """A provider of chat completions for one test. The root conftest makes this fixture available to every test."""
    made = Provider()
    yield made
    made.close()
