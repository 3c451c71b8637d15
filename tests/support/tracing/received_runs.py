"""The runs that a LangSmith server has received, merged from their parts as LangSmith merges them."""

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from tests.support.tracing.wire import Part, read_json

NANO = Decimal("1e-9")


@dataclass
class TracedRun:
    """A run of a trace. `fields` has what the posts and patches said of it; a later patch wins, None says nothing."""

    id: str
    fields: dict[str, Any] = field(default_factory=dict[str, Any])
    feedback: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    size: int = 0  # bytes, uncompressed
    posts: int = 0
    patches: int = 0

    @property
    def name(self) -> str:
        return str(self.fields.get("name") or "?")

    @property
    def run_type(self) -> str:
        return str(self.fields.get("run_type") or "?")

    @property
    def inputs(self) -> Any:
        return self.fields.get("inputs")

    @property
    def outputs(self) -> Any:
        return self.fields.get("outputs")

    @property
    def error(self) -> str | None:
        return self.fields.get("error")

    @property
    def metadata(self) -> dict[str, Any]:
        extra: dict[str, Any] = self.fields.get("extra") or {}
        return extra.get("metadata") or {}

    @property
    def usage(self) -> dict[str, Any]:
        """The run's `usage_metadata`, with its costs; empty if there is none."""
        return self.metadata.get("usage_metadata") or {}

    @property
    def total_cost(self) -> Decimal | None:
        """US dollars, exactly as they were written; None if no cost was written."""
        cost = self.usage.get("total_cost")
        return None if cost is None else Decimal(str(cost))

    @property
    def parent(self) -> str | None:
        return self.fields.get("parent_run_id")

    @property
    def trace_id(self) -> str:
        return str(self.fields.get("trace_id") or self.id)

    @property
    def dotted_order(self) -> str:
        return str(self.fields.get("dotted_order") or "")

    @property
    def is_pending(self) -> bool:
        """Whether the run has no end."""
        return not self.fields.get("end_time")

    @property
    def is_error(self) -> bool:
        """Whether LangSmith shows the run as an error: it has one, and no mark that it is an interrupt."""
        return bool(self.error) and not self.metadata.get("ls_is_error_interrupt")

    @property
    def status(self) -> str:
        """LangSmith's word for how the run stands."""
        return "pending" if self.is_pending else "error" if self.is_error else "success"

    @property
    def project(self) -> str:
        """The id of the run's project, which follows from the project's name."""
        return str(self.fields.get("session_id") or project_id(str(self.fields.get("session_name") or "default")))

    def score_of(self, key: str) -> list[Any]:
        """Return the scores, or where there is none the values, of the feedback with this key."""
        found = [one for one in self.feedback if one.get("key") == key]
        return [one["value"] if one.get("score") is None else one["score"] for one in found]


def project_id(name: str) -> str:
    """Return the id of the project with this name."""
    return str(uuid5(NAMESPACE_URL, f"langsmith:{name}"))


class ReceivedRuns:
    """All runs that a server received. Threads may add parts while others read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: dict[str, TracedRun] = {}
        self._loose: list[dict[str, Any]] = []
        self._heard: list[str] = []
        self._complaints: list[str] = []

    def add(self, parts: Iterable[Part]) -> None:
        """Take the parts of one request, in their order."""
        with self._lock:
            for part in parts:
                self._heard.append(part.content.decode(errors="replace"))
                if part.operation == "feedback":
                    self._add_feedback(part)
                else:
                    self._add_run(part)

    def _add_run(self, part: Part) -> None:
        run = self._runs.setdefault(part.id, TracedRun(part.id))
        run.size += len(part.content)
        if part.operation == "attachment":
            return
        value = read_json(part.content)
        said = {part.field: value} if part.field else value
        if not part.field and part.operation == "post":
            run.posts += 1
            if run.posts > 1:
                self._complaints.append(f"{run.name} {run.id} was posted twice")
        elif not part.field:
            run.patches += 1
        said = {key: one for key, one in said.items() if one is not None}
        # A patch may overtake the post of its run: what the patch said stays.
        run.fields = {**said, **run.fields} if part.operation == "post" and run.patches else {**run.fields, **said}

    def _add_feedback(self, part: Part) -> None:
        feedback = read_json(part.content)
        self._loose.append(feedback)

    def runs(self) -> list[TracedRun]:
        """Return all runs, each with its feedback, in the order of their traces and of their starts."""
        with self._lock:
            for run in self._runs.values():
                run.feedback = [one for one in self._loose if str(one.get("run_id") or one.get("trace_id")) == run.id]
            return sorted(self._runs.values(), key=lambda run: (run.dotted_order, run.id))

    def feedback(self) -> list[dict[str, Any]]:
        """Return all feedback, that of runs that nobody posted too."""
        with self._lock:
            return list(self._loose)

    def traces(self) -> dict[str, list[TracedRun]]:
        """Return the runs of each trace by the trace's id."""
        traces: dict[str, list[TracedRun]] = {}
        for run in self.runs():
            traces.setdefault(run.trace_id, []).append(run)
        return traces

    def roots(self) -> list[TracedRun]:
        """Return the runs that have no parent, in the order of their starts."""
        return [run for run in self.runs() if run.parent is None]

    def pending(self) -> list[TracedRun]:
        """Return the runs without an end."""
        return [run for run in self.runs() if run.is_pending]

    def named(self, name: str) -> list[TracedRun]:
        """Return the runs with this name."""
        return [run for run in self.runs() if run.name == name]

    def of_type(self, run_type: str) -> list[TracedRun]:
        """Return the runs of this type, such as "llm" or "tool"."""
        return [run for run in self.runs() if run.run_type == run_type]

    def children(self, run: TracedRun) -> list[TracedRun]:
        """Return the runs right below `run`."""
        return [one for one in self.runs() if one.parent == run.id]

    def below(self, run: TracedRun) -> list[TracedRun]:
        """Return all runs below `run`."""
        return [one for one in self.runs() if one.dotted_order.startswith(f"{run.dotted_order}.")]

    def cost(self) -> Decimal:
        """Return the sum of the costs that are written on the runs, in US dollars, to the nano-dollar."""
        return _sum(self.runs())

    def costs_of(self, trace: str) -> Decimal:
        """Return the sum of the costs of one trace's runs, in US dollars, to the nano-dollar."""
        return _sum(self.traces().get(trace, []))

    def unpriced(self) -> list[TracedRun]:
        """Return the runs of models without a cost: LangSmith would price them by a table of its own."""
        return [run for run in self.of_type("llm") if run.total_cost is None]

    def bytes_of(self, trace: str) -> int:
        """Return the bytes that were received for a trace, uncompressed, without the protocol around them."""
        return sum(run.size for run in self.traces().get(trace, []))

    def texts(self) -> str:
        """Return everything that was received as one text, to look for what must not be in it."""
        with self._lock:
            return "\n".join(self._heard)

    def tree(self, trace: str | None = None) -> str:
        """Return the runs as indented lines of type, name, state, model and cost, for the message of a failure."""
        runs = self.runs() if trace is None else self.traces().get(trace, [])
        return "\n".join(["", *(_line(run) for run in runs)])

    def complaints(self) -> list[str]:
        """Return what a strict server would refuse: runs posted twice or never, or at a place where they cannot be."""
        with self._lock:
            found = list(self._complaints)
        runs = {run.id: run for run in self.runs()}
        return found + [f"{run.name} {run.id}: {what}" for run in runs.values() for what in _faults(run, runs)]

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            for kept in (self._runs, self._loose, self._heard, self._complaints):
                kept.clear()


def _sum(runs: Iterable[TracedRun]) -> Decimal:
    return sum((run.total_cost or Decimal(0) for run in runs), Decimal(0)).quantize(NANO)


def _line(run: TracedRun) -> str:
    depth = run.dotted_order.count(".")
    model = run.metadata.get("ls_model_name") if run.run_type == "llm" else None
    cost = None if run.total_cost is None else f"${run.total_cost}"
    error = None if run.error is None else f"error={run.error.splitlines()[0][:60]!r}" if run.error else "error=''"
    notes = [model, cost, run.status, error]
    return "  " * depth + f"{run.run_type}:{run.name}  " + " ".join(str(note) for note in notes if note)


def _time(written: str) -> datetime:
    time = datetime.fromisoformat(written)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _faults(run: TracedRun, runs: dict[str, TracedRun]) -> Iterator[str]:
    if not run.posts:
        yield "patched, but never posted"
        return
    places = run.dotted_order.split(".")
    ids = [place.rpartition("Z")[2] for place in places]
    if ids[-1] != run.id:
        yield f"its dotted order {run.dotted_order} ends with another run"
    if ids[0] != run.trace_id:
        yield f"its dotted order {run.dotted_order} begins with another trace than {run.trace_id}"
    above = ids[-2] if len(ids) > 1 else None
    if above != run.parent:
        yield f"its dotted order {run.dotted_order} is not below its parent {run.parent}"
    if run.parent is not None and run.parent not in runs:
        yield f"its parent {run.parent} is unknown"
    begun, ended = run.fields.get("start_time"), run.fields.get("end_time")
    if begun and ended and _time(ended) < _time(begun):
        yield f"it ended at {ended}, before its start at {begun}"
