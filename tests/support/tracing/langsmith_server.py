"""LangSmith on loopback: a real HTTP server that speaks what LangSmith's SDK 0.15 speaks, and keeps what it was told.

It takes runs as compressed and as plain multipart bodies, in batches and one by one; it takes feedback, and answers
queries for runs and projects. `runs` has the runs, merged as LangSmith merges them.
"""

import json
import socket
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, TypeAlias
from urllib.parse import parse_qs, urlsplit

from tests.support.tracing import run_filters, wire
from tests.support.tracing.received_runs import ReceivedRuns, project_id

Mode: TypeAlias = Literal["up", "500", "429", "hang"]
MAX_WAIT_SECONDS = 60
VERSION = "0.16.3"
TENANT = "00000000-0000-4000-8000-000000000001"
PAGE = 100


@dataclass(frozen=True)
class Exchange:
    """An HTTP request that the server got, the bytes of its body as sent and as unpacked, and how it was answered."""

    method: str
    path: str
    sent: int
    unpacked: int
    encoding: str
    key: str
    status: int


class _TracingServer(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = False


class LangSmithServer(ReceivedRuns):
    """LangSmith's server, which runs from its creation until `close`.

    `mode` says how it answers: as it should ("up"), with an error ("500", "429"), or not at all ("hang"). With
    `multipart=False` it says that it takes batches alone. `size_limit` and `size_limit_bytes` are the limits of one
    request that it announces. `exchanges` has every request that it got.
    """

    def __init__(
        self,
        *,
        multipart: bool = True,
        size_limit: int = 100,
        size_limit_bytes: int = 20_971_520,
        version: str = VERSION,
    ) -> None:
        super().__init__()
        self.mode: Mode = "up"
        self.exchanges: list[Exchange] = []
        self.connections: set[socket.socket] = set()
        self.multipart = multipart
        self.info = {
            "version": version,
            "batch_ingest_config": {
                "use_multipart_endpoint": multipart,
                "scale_up_qsize_trigger": 1000,
                "scale_up_nthreads_limit": 16,
                "scale_down_nempty_trigger": 4,
                "size_limit": size_limit,
                "size_limit_bytes": size_limit_bytes,
            },
            "instance_flags": {"zstd_compression_enabled": True},
        }
        self._released = threading.Event()
        self._handler = type("LangSmithHandler", (_LangSmithHandler,), {"langsmith": self})
        self._port = 0
        self._server: _TracingServer | None = None
        self._thread: threading.Thread | None = None
        self.open()

    @property
    def url(self) -> str:
        """The URL that `LANGSMITH_ENDPOINT` takes."""
        return f"http://127.0.0.1:{self._port}"

    def open(self) -> None:
        """Listen; after `close`, on the port of before."""
        self._released = threading.Event()
        self._server = _TracingServer(("127.0.0.1", self._port), self._handler)
        self._port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        """Close all connections and listen no more: who connects is refused. Does nothing if that is so already."""
        server, thread = self._server, self._thread
        self._server = self._thread = None
        if server is None or thread is None:
            return
        self.release()
        server.shutdown()
        thread.join()
        for connection in list(self.connections):
            with suppress(OSError):  # race: the client has closed it
                connection.shutdown(socket.SHUT_RD)
        server.server_close()

    def release(self) -> None:
        """Answer the requests that hang, with an error."""
        self._released.set()

    def wait(self) -> None:
        """Wait until `release` or `close`."""
        self._released.wait(MAX_WAIT_SECONDS)

    def ingested(self) -> list[Exchange]:
        """Return the requests that brought runs or feedback."""
        return [one for one in self.exchanges if one.method in {"POST", "PATCH"} and "query" not in one.path]

    @property
    def bytes_sent(self) -> int:
        """The bytes of all bodies, as they were sent."""
        return sum(one.sent for one in self.ingested())

    @property
    def bytes_unpacked(self) -> int:
        """The bytes of all bodies, uncompressed."""
        return sum(one.unpacked for one in self.ingested())


class _LangSmithHandler(BaseHTTPRequestHandler):
    langsmith: LangSmithServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        """Print nothing."""

    def setup(self) -> None:
        super().setup()
        self.langsmith.connections.add(self.connection)

    def finish(self) -> None:
        with suppress(OSError):  # race: the client has closed it
            super().finish()
        self.langsmith.connections.discard(self.connection)

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_PATCH(self) -> None:
        self._answer("PATCH")

    def _answer(self, method: str) -> None:
        sent = self.rfile.read(int(self.headers.get("content-length") or 0))
        encoding = self.headers.get("content-encoding") or ""
        status, answer, unpacked = self._processed(method, sent, encoding)
        key = self.headers.get("x-api-key") or ""
        self.langsmith.exchanges.append(Exchange(method, self.path, len(sent), len(unpacked), encoding, key, status))
        content = wire.write_json(answer)
        with suppress(OSError):  # the client has hung up
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    def _processed(self, method: str, sent: bytes, encoding: str) -> tuple[int, object, bytes]:
        mode = self.langsmith.mode
        if mode == "hang":
            self.langsmith.wait()
            self.close_connection = True
            return 503, {"detail": "hung"}, sent
        if mode != "up":
            return int(mode), {"detail": "down"}, sent
        try:
            body = wire.decompressed(sent, encoding)
            status, answer = self._routed(method, urlsplit(self.path).path.rstrip("/"), body)
        except (wire.Malformed, json.JSONDecodeError) as error:
            return 422, {"detail": str(error)}, sent
        return status, answer, body

    def _routed(self, method: str, path: str, body: bytes) -> tuple[int, object]:
        server = self.langsmith
        match method, path.strip("/").split("/"):
            case "GET", ["info"]:
                return 200, server.info
            case "POST", ["runs", "multipart"] if server.multipart:
                return self._taken(wire.parts_of_multipart(body, self.headers.get("content-type") or ""))
            case "POST", ["runs", "batch"]:
                return self._taken(wire.parts_of_batch(body))
            case "POST", ["runs"]:
                return self._taken([wire.Part("post", str(wire.read_json(body)["id"]), "", body)])
            case "PATCH", ["runs", run]:
                return self._taken([wire.Part("patch", run, "", body)])
            case "POST", ["feedback"]:
                return self._taken([wire.Part("feedback", str(wire.read_json(body)["id"]), "", body)])
            case "POST", ["runs", "query"]:
                return 200, _page(server, wire.read_json(body))
            case "POST", ["api", "v2", "runs", "query"]:
                return 200, _page_of_v2(server, wire.read_json(body))
            case "GET", ["runs", run]:
                runs = [one for one in server.runs() if one.id == run]
                return (200, run_filters.shown(runs[0])) if runs else (404, {"detail": "no such run"})
            case "GET", ["sessions"]:
                names = parse_qs(urlsplit(self.path).query).get("name") or sorted(_projects(server))
                return 200, [_project(name) for name in names if name in _projects(server)]
            case "GET", ["sessions", project]:
                [name] = [one for one in _projects(server) if project_id(one) == project] or [""]
                return (200, _project(name)) if name else (404, {"detail": "no such project"})
            case _:
                return 404, {"detail": f"{method} {path}"}

    def _taken(self, parts: Iterable[wire.Part]) -> tuple[int, object]:
        self.langsmith.add(list(parts))  # all or nothing: a malformed part refuses the whole request
        return 202, {}


def _page(server: LangSmithServer, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return one page of runs, and the cursor of the next, as the first version of a query answers."""
    runs, begin = run_filters.found(server.runs(), dict(asked)), int(asked.get("cursor") or 0)
    end = begin + min(int(asked.get("limit") or PAGE), PAGE)
    after = str(end) if end < len(runs) else None
    return {"runs": [run_filters.shown(run) for run in runs[begin:end]], "cursors": {"next": after, "prev": None}}


def _page_of_v2(server: LangSmithServer, asked: Mapping[str, Any]) -> dict[str, Any]:
    page = _page(server, {**asked, "limit": asked.get("page_size")})
    selected = {str(name).lower() for name in asked.get("selects") or ["id"]}
    items = [{key: value for key, value in run.items() if key in selected} for run in page["runs"]]
    return {"items": items, "next_cursor": page["cursors"]["next"]}


def _projects(server: LangSmithServer) -> set[str]:
    return {str(run.fields.get("session_name") or "default") for run in server.runs()}


def _project(name: str) -> dict[str, Any]:
    return {
        "id": project_id(name),
        "name": name,
        "tenant_id": TENANT,
        "reference_dataset_id": None,
        "start_time": "2026-01-01T00:00:00Z",
    }
