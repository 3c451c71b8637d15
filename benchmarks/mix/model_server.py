"""A provider on loopback: it speaks OpenAI's protocol, bills by its own count of tokens, and keeps what it was sent."""

import json
import math
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

from benchmarks.mix.behaviour import Conduct, Written

RATES = {"gpt-4o-mini": (150, 600), "gpt-4o": (2_500, 10_000)}  # nano-dollars a token of input and of output, as listed
NO_CAP = 16_384  # what these models write at most if a request has no cap
BROKEN_LENGTH = "100000"  # the length that the header of a cut answer states


class ModelServer:
    """The provider's server, which runs from its creation until `close`.

    It answers as `conduct` says, which is set before each request of the mix. `billed` is in nano-dollars. All that is
    counted is counted since `begin`. `received` is what it was sent. `seconds` is what its answers take by the mix; it
    waits `scale` times that, by default not at all.
    """

    def __init__(self, *, bytes_each: int, scale: float = 0.0) -> None:
        self._bytes_each = bytes_each
        self._scale = scale
        self._lock = threading.Lock()
        self._conduct: Conduct | None = None
        self.billed = 0
        self.received = ""
        self.seconds = 0.0
        self.input_tokens = 0
        self.output_tokens = 0
        self.calls = 0
        handler = type("Handler", (_Protocol,), {"model": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def url(self) -> str:
        """The base URL for clients."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def begin(self, conduct: Conduct) -> None:
        """Take this conduct from now on, and forget what was received, billed and written before."""
        with self._lock:
            self._conduct = conduct
            self.billed = self.input_tokens = self.output_tokens = self.calls = 0
            self.received, self.seconds = "", 0.0

    def close(self) -> None:
        """Stop the server."""
        self._server.shutdown()
        self._server.server_close()

    def take(self, body: dict[str, Any]) -> tuple[Written, Mapping[str, int], float]:
        """Return what the model writes, the tokens that this bills, and the seconds to wait before it is sent."""
        # Race: agents that run in parallel send at once. The lock makes each answer and its bill one step.
        with self._lock:
            if self._conduct is None:
                raise RuntimeError("a request before `begin`")
            cap = int(body.get("max_completion_tokens") or body.get("max_tokens") or NO_CAP)
            read = math.ceil(len(json.dumps([body["messages"], body["tools"]]).encode()) / self._bytes_each)
            written = self._conduct.write(body, cap)
            self.calls += 1
            self.received += json.dumps(body["messages"], ensure_ascii=False)
            seconds = self._conduct.seconds(written)
            self.seconds += seconds
            if written.status == 200:
                per_input, per_output = RATES[body["model"]]
                self.billed += read * per_input + written.tokens * per_output
                self.input_tokens += read
                self.output_tokens += written.tokens
        usage = {"prompt_tokens": read, "completion_tokens": written.tokens, "total_tokens": read + written.tokens}
        return written, usage, seconds * self._scale


class _Protocol(BaseHTTPRequestHandler):
    """Answers requests for chat completions that are no streams."""

    model: ModelServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        """Print nothing; the base class would print a line for each request."""

    def do_POST(self) -> None:
        body = cast("dict[str, Any]", json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.close_connection = True
        written, usage, wait = self.model.take(body)
        if wait:
            time.sleep(wait)
        if written.is_silent:
            return  # the connection ends without a byte
        if written.status != 200:
            error = {"error": {"message": "no", "type": "mix", "code": None}}
            self._send(error, written.status, {"retry-after-ms": "1"})
        else:
            self._send(_completion(body, written, usage), 200, {}, is_cut=written.is_cut)

    def _send(
        self, answer: Mapping[str, Any], status: int, headers: Mapping[str, str], *, is_cut: bool = False
    ) -> None:
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", BROKEN_LENGTH if is_cut else str(len(content)))
        self.send_header("connection", "close")
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if not is_cut:
            self.wfile.write(content)


def _completion(body: Mapping[str, Any], written: Written, usage: Mapping[str, int]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": written.text}
    if written.tool:
        function = {"name": written.tool, "arguments": written.arguments}
        calls = [{"id": f"call_{len(body['messages'])}", "type": "function", "function": function}]
        message = {"role": "assistant", "content": None, "tool_calls": calls}
    finish = "tool_calls" if written.tool else "length" if written.was_capped else "stop"
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return {
        "id": "chatcmpl-mix",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": body["model"],
        "choices": [choice],
        "usage": dict(usage),
    }
