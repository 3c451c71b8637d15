"""A provider of chat completions on loopback that fails on demand: a real HTTP server, for drills."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal, TypeAlias

Mode: TypeAlias = Literal["answers", "429", "500", "cut", "hang"]
MAX_WAIT_SECONDS = 60.0
USED = {"prompt_tokens": 40, "completion_tokens": 4, "total_tokens": 44}


class FailingProvider:
    """A server that answers every request as `mode` says. `requests` counts the requests.

    The modes are a good answer ("answers"), an HTTP error ("429", "500"), half an answer ("cut"), and no answer
    ("hang").
    """

    def __init__(self) -> None:
        self.mode: Mode = "answers"
        self.requests = 0
        self._hung_up = threading.Event()
        handler = type("Handler", (_Handler,), {"provider": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def url(self) -> str:
        """The URL of this server, which a client takes as its base URL."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def release(self) -> None:
        """Close the connections of all requests that wait. A request that comes later waits again."""
        self._hung_up.set()
        self._hung_up = threading.Event()

    def wait(self) -> None:
        """Wait until `release` is called, for `MAX_WAIT_SECONDS` at most."""
        self._hung_up.wait(MAX_WAIT_SECONDS)

    def close(self) -> None:
        """Close all connections and stop the server."""
        self.release()
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    provider: FailingProvider
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        """Log nothing."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        provider, self.close_connection = self.provider, True
        provider.requests += 1
        if provider.mode in {"429", "500"}:
            self._send(int(provider.mode), {"error": {"message": "drill", "type": "drill", "code": None}})
        elif provider.mode == "hang":
            provider.wait()
        else:
            message = {"role": "assistant", "content": "This is a drill."}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            head = {"id": "drill", "object": "chat.completion", "created": 1_700_000_000, "model": body.get("model")}
            self._send(200, {**head, "choices": [choice], "usage": USED}, cut=provider.mode == "cut")

    def _send(self, status: int, answer: object, *, cut: bool = False) -> None:
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.send_header("connection", "close")
        self.end_headers()
        try:
            self.wfile.write(content[: len(content) // 2] if cut else content)
        except OSError:  # the client has hung up
            return
