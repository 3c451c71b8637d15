"""A LangGraph server on loopback: it speaks the part of the protocol that `RemoteGraph` uses, and counts its runs."""

import json
import threading
from collections import deque
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from langgraph.pregel.remote import RemoteGraph

MAX_WAIT_SECONDS = 20


@dataclass(frozen=True, kw_only=True)
class RemoteRun:
    """How the server runs its graph once. Its last state has an answer of `text`, and what is in `more`.

    If there is an `error`, the run ends with it after that state. The server waits for `waits_for` before the answer.
    """

    text: str = "remote answer"
    more: Mapping[str, object] = field(default_factory=dict[str, object])
    error: str = ""
    status: int = 200
    waits_for: threading.Event | None = None


class LangGraphServer:
    """The server. `inputs` has the input of each run, in the order of their arrival."""

    def __init__(self) -> None:
        self.inputs: list[Any] = []
        self.coming: deque[RemoteRun] = deque()
        self.arrived = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                assert self.path == "/runs/stream" or self.path.startswith("/threads/")
                sent = "".join(
                    f"event: {kind}\ndata: {json.dumps(data)}\n\n" for kind, data in server.run(body["input"])
                )
                status = server.status
                with suppress(ConnectionError):  # the client may have gone at its deadline
                    self.send_response(status)
                    self.send_header("Content-Type", "text/event-stream")
                    self.send_header("Content-Length", str(len(sent.encode())))
                    self.end_headers()
                    self.wfile.write(sent.encode())

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name in the base class
                pass

        self.status = 200
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def run(self, given: Any) -> Iterator[tuple[str, object]]:
        """Run the graph on the input, and yield its events: their kind, and their data."""
        self.inputs.append(given)
        planned = self.coming.popleft() if self.coming else RemoteRun()
        self.status = planned.status
        self.arrived.set()
        if planned.waits_for is not None:
            planned.waits_for.wait(MAX_WAIT_SECONDS)
        asked = [{"type": "human", "content": one["content"], "id": "q"} for one in given["messages"]]
        answer: dict[str, object] = {
            "type": "ai",
            "content": planned.text,
            "id": "a",
            "tool_calls": [],
            "response_metadata": {},
        }
        yield "metadata", {"run_id": "1"}
        yield "values", {"messages": asked}
        yield "values", {"messages": [*asked, answer], **planned.more}
        if planned.error:
            yield "error", {"error": "RuntimeError", "message": planned.error}

    @property
    def graph(self) -> RemoteGraph:
        """A `RemoteGraph` of the server's graph."""
        return RemoteGraph("agent", url=self.url)


@contextmanager
def langgraph_server() -> Generator[LangGraphServer]:
    """Run a server for the block."""
    server = LangGraphServer()
    try:
        yield server
    finally:
        server.http.shutdown()
        server.http.server_close()
