"""Feedback for LangSmith: sent in the background, and never waited for."""

# The fields of LangSmith's `RunTree` have no types.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false

import queue
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from uuid import UUID
from weakref import WeakKeyDictionary

from langchain_core.tracers.langchain import wait_for_all_tracers
from langsmith import Client
from langsmith.run_trees import RunTree
from langsmith.utils import LangSmithNotFoundError

from bursar.nodes.isolation.captured import capture_call
from bursar.state.langgraph_private import known_info

MOST_WAITING = 1_000  # of a server that is down; what comes then is dropped
LOOKS, PAUSE_SECONDS = 10, 0.5  # for a project, which is there when its first runs have arrived
REST_SECONDS = 60.0  # after a project was not found, until it is looked for again


class Feedback(NamedTuple):
    """One value of a run: a number as its `score`, or a word as its `value`."""

    client: Client
    project: str | None
    run: UUID
    trace: UUID
    key: str
    said: Mapping[str, Any]

    @classmethod
    def of(cls, run: RunTree, key: str, **said: Any) -> "Feedback":
        """Return the feedback of this run."""
        return cls(run.client, run.session_name, run.id, run.trace_id, key, said)


class _Sender:
    """The one thread of the process that sends feedback. It is started by the first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: queue.Queue[Feedback] = queue.Queue(MOST_WAITING)
        self._thread: threading.Thread | None = None
        self._projects: WeakKeyDictionary[Client, dict[str, UUID]] = WeakKeyDictionary()
        self._resting: WeakKeyDictionary[Client, float] = WeakKeyDictionary()
        self._stop = threading.Event()

    def put(self, feedback: Feedback) -> None:
        """Send it later; drop it if too many wait."""
        with self._lock:  # race: two threads would each start one
            if self._thread is None or not self._thread.is_alive():  # a fork inherits no threads
                self._thread = threading.Thread(target=self._run, name="bursar-feedback", daemon=True)
                self._thread.start()
        capture_call(self._waiting.put_nowait, feedback)

    def wait(self, seconds: float) -> None:
        """Wait until all is handed to the SDK, `seconds` at most."""
        with self._waiting.all_tasks_done:
            self._waiting.all_tasks_done.wait_for(lambda: not self._waiting.unfinished_tasks, seconds)

    def _run(self) -> None:
        while True:
            feedback = self._waiting.get()
            capture_call(self._send, feedback)
            self._waiting.task_done()

    def _send(self, one: Feedback) -> None:
        if not _takes(one.client) or one.project is None:
            return
        session = self._project(one.client, one.project)
        if session is not None:
            one.client.create_feedback(
                one.run, key=one.key, trace_id=one.trace, session_id=session, stop_after_attempt=1, **one.said
            )

    def _project(self, client: Client, name: str) -> UUID | None:
        known = self._projects.setdefault(client, {})
        if name not in known and time.monotonic() >= self._resting.get(client, 0.0):
            if (found := self._look(lambda: client.read_project(project_name=name).id)) is None:
                self._resting[client] = time.monotonic() + REST_SECONDS
            else:
                known[name] = found
        return known.get(name)

    def _look(self, read: Callable[[], UUID]) -> UUID | None:
        for _ in range(LOOKS):
            found = capture_call(read)
            if not isinstance(found.error, LangSmithNotFoundError):
                return found.value
            self._stop.wait(PAUSE_SECONDS)
        return None


def _takes(client: Client) -> bool:
    """Whether the client sends feedback beside its runs. Otherwise it would take a request for each."""
    info: Any = known_info(client) or client.info
    batches = info.batch_ingest_config or {}
    return bool(info.version) and bool(batches.get("use_multipart_endpoint")) and client.tracing_queue is not None


_sender = _Sender()
send, wait = _sender.put, _sender.wait


def finish(seconds: float) -> bool:
    """Send what is waiting for LangSmith, runs too, for `seconds` at most. Return whether nothing is left.

    The SDK itself waits as long as its server takes, and tries again if there is none.
    """
    _sender.wait(seconds / 2)
    flushing = threading.Thread(target=wait_for_all_tracers, name="bursar-flush", daemon=True)
    flushing.start()
    flushing.join(seconds)
    return not flushing.is_alive()
