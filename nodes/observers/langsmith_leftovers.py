"""What a dead process has left in LangSmith: its runs are ended, and what they had not told of costs is told."""

# The fields of LangSmith's `RunTree` have no types.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from langsmith.run_trees import RunTree
from pydantic_core import to_json

from bursar.checkpoints.ledger.ledger import Ledger
from bursar.checkpoints.ledger.spend import ChargedCall, charged_calls
from bursar.nodes.isolation.captured import capture_call
from bursar.state.session import Request

TIMEOUT_SECONDS = (2.0, 5.0)  # to connect, and to get an answer
PAGE, MOST_PAGES = 100, 50
FIELDS = ("id", "trace_id", "parent_run_id", "dotted_order", "end_time", "extra", "session_id", "start_time")
Runs = list[dict[str, Any]]
NewRun = Callable[[ChargedCall], RunTree]


@dataclass
class Leftovers:
    """The runs that an earlier process left of a request's session, as seen from the run `root` that goes on with it.

    `paid` has the calls that this process has paid for itself; it grows. `child` makes the run of a call.
    """

    root: RunTree
    request: Request
    ledger: Ledger
    paid: set[str]
    child: NewRun
    _thread: threading.Thread | None = field(default=None, repr=False)

    def clear(self) -> None:
        """Begin to end the runs, in the background. If LangSmith cannot be reached, they stay as they are."""
        # No daemon: a program that only goes on with a request ends right after it.
        self._thread = threading.Thread(target=capture_call, args=(self._work,), name="bursar-leftovers")
        self._thread.start()

    def join(self) -> None:
        """Wait until it is done, or has failed."""
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        charged = self.ledger.run(charged_calls, self.request.id)
        runs = self._runs()
        for run in runs:
            if not run.get("end_time"):
                self._end(run)
        received = {str(call) for run in runs if (call := _call_of(run)) is not None}
        for call in charged:
            if call.call_id not in received | self.paid:
                self._send("POST", "/runs", _fields(self.child(call)))

    def _runs(self) -> Runs:
        """Return the runs of the session that are of other traces than this one, the traces of dead processes too."""
        first = self.request.trace.get("langsmith_trace", "")
        found = list(self._asked({"trace": first})) if first else []
        projects = {str(run["session_id"]) for run in found if run.get("session_id")}
        since = self.request.opened_at.isoformat()
        thread = {"filter": f"eq(thread_id, {json.dumps(self.request.session_id)})", "start_time": since}
        found += self._asked({**thread, "session": sorted(projects)}) if projects else []
        by_id = {str(run["id"]): run for run in found if str(run.get("trace_id")) != str(self.root.trace_id)}
        return list(by_id.values())

    def _asked(self, query: Mapping[str, object]) -> Iterator[dict[str, Any]]:
        cursor: str | None = None
        for _ in range(MOST_PAGES):
            body = {**query, "limit": PAGE, "select": FIELDS, **({"cursor": cursor} if cursor else {})}
            page = self._send("POST", "/runs/query", body)
            yield from page["runs"]
            cursor = (page.get("cursors") or {}).get("next")
            if not cursor:
                return

    def _end(self, run: Mapping[str, Any]) -> None:
        """End a run at the time when this process began to go on with it."""
        kept = {name: run.get(name) for name in ("id", "trace_id", "parent_run_id", "dotted_order")}
        why = f"its process ended; the request goes on in {self.root.trace_id}"
        self._send("PATCH", f"/runs/{run['id']}", {**kept, "end_time": self.root.start_time, "error": why})

    def _send(self, method: Any, path: str, body: Mapping[str, object]) -> dict[str, Any]:
        """Send a request of its own: the SDK's queue may be closed before this thread ends."""
        asked = {"data": to_json(body), "timeout": TIMEOUT_SECONDS}
        return self.root.client.request_with_retries(method, path, request_kwargs=asked).json()


def _fields(run: RunTree) -> dict[str, object]:
    names = ("id", "name", "run_type", "inputs", "outputs", "extra", "error", "tags", "session_name", "start_time")
    more = ("end_time", "trace_id", "parent_run_id", "dotted_order")
    return {name: getattr(run, name) for name in (*names, *more)}


def _call_of(run: Mapping[str, Any]) -> UUID | str | None:
    """Return the call of the ledger whose cost the run has; a run of an answer from the ledger has none."""
    metadata: dict[str, Any] = (run.get("extra") or {}).get("metadata") or {}
    return (
        None
        if metadata.get("bursar.replayed") or not metadata.get("usage_metadata")
        else metadata.get("bursar.call_id")
    )
