"""What OpenTelemetry told, as plain values: spans, points of metrics and log records, from memory or from the wire."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Attributes = Mapping[str, Any]


@dataclass(frozen=True)
class SeenEvent:
    """An event of a span."""

    name: str
    attributes: Attributes


@dataclass(frozen=True)
class SeenLink:
    """A link of a span to another span, by the hexadecimal ids of its trace and its own."""

    trace: str
    span: str
    attributes: Attributes


@dataclass(frozen=True, kw_only=True)
class SeenSpan:
    """A span that has ended. Ids are hexadecimal. `kind` and `status` are such as "CLIENT" and "ERROR"."""

    name: str
    kind: str
    trace: str
    id: str
    parent: str | None
    attributes: Attributes
    events: Sequence[SeenEvent] = ()
    links: Sequence[SeenLink] = ()
    status: str = "UNSET"
    description: str = ""
    start: int = 0  # nanoseconds
    end: int = 0

    @property
    def operation(self) -> str:
        """The GenAI operation, such as "chat"; empty if it is none."""
        return str(self.attributes.get("gen_ai.operation.name") or "")

    def events_named(self, name: str) -> list[SeenEvent]:
        """Return the events with this name."""
        return [event for event in self.events if event.name == name]


@dataclass(frozen=True, kw_only=True)
class SeenPoint:
    """The newest point of a metric for one set of attributes. For a histogram, `value` is the sum of its values."""

    metric: str
    kind: str  # "sum", "gauge" or "histogram"
    unit: str
    attributes: Attributes
    value: float
    count: int = 1
    bounds: Sequence[float] = ()


@dataclass(frozen=True, kw_only=True)
class SeenLog:
    """A log record. The ids are hexadecimal, and empty if there was no span."""

    logger: str
    severity: str
    body: str
    trace: str
    span: str
    attributes: Attributes = field(default_factory=dict[str, Any])


class Seen:
    """Spans, points and log records with the questions that tests ask. A subclass says where they come from."""

    def spans(self) -> list[SeenSpan]:
        """Return all spans that have ended, in the order of their starts."""
        raise NotImplementedError

    def all_points(self) -> list[SeenPoint]:
        """Return the newest points of all metrics."""
        raise NotImplementedError

    def logs(self) -> list[SeenLog]:
        """Return all log records, in the order in which they came."""
        raise NotImplementedError

    def traces(self) -> dict[str, list[SeenSpan]]:
        """Return the spans of each trace by the trace's id."""
        traces: dict[str, list[SeenSpan]] = {}
        for span in self.spans():
            traces.setdefault(span.trace, []).append(span)
        return traces

    def roots(self) -> list[SeenSpan]:
        """Return the spans without a parent."""
        return [span for span in self.spans() if span.parent is None]

    def named(self, name: str) -> list[SeenSpan]:
        """Return the spans with this name."""
        return [span for span in self.spans() if span.name == name]

    def doing(self, operation: str) -> list[SeenSpan]:
        """Return the spans of a GenAI operation, such as "chat"."""
        return [span for span in self.spans() if span.operation == operation]

    def parent_of(self, span: SeenSpan) -> SeenSpan | None:
        """Return the span that `span` is in; None if there is none, or if it has not ended."""
        return next((one for one in self.spans() if one.id == span.parent and one.trace == span.trace), None)

    def above(self, span: SeenSpan) -> list[SeenSpan]:
        """Return the spans that `span` is in, nearest first."""
        found: list[SeenSpan] = []
        above = self.parent_of(span)
        while above is not None:
            found.append(above)
            above = self.parent_of(above)
        return found

    def events(self, name: str) -> list[SeenEvent]:
        """Return the events with this name, of all spans."""
        return [event for span in self.spans() for event in span.events_named(name)]

    def points(self, metric: str) -> list[SeenPoint]:
        """Return the newest points of a metric, one for each set of attributes."""
        return [point for point in self.all_points() if point.metric == metric]

    def metrics(self) -> set[str]:
        """Return the names of all metrics that have a point."""
        return {point.metric for point in self.all_points()}

    def tree(self) -> str:
        """Return the spans as indented lines, trace after trace, for the message of a failure."""
        lines = [""]
        for trace, spans in self.traces().items():
            lines.append(f"trace {trace}")
            known = {span.id for span in spans}
            for root in (span for span in spans if span.parent not in known):
                lines += self._lines(root, spans, 1)
        return "\n".join(lines)

    def _lines(self, span: SeenSpan, spans: Sequence[SeenSpan], depth: int) -> list[str]:
        events = " ".join(event.name for event in span.events)
        links = f" links={len(span.links)}" if span.links else ""
        lines = [f"{'  ' * depth}{span.kind}:{span.name} {span.status} {events}{links}"]
        for child in (one for one in spans if one.parent == span.id):
            lines += self._lines(child, spans, depth + 1)
        return lines

    def texts(self) -> str:
        """Return all that the spans, points and records say as one text, to look for what must not be in it."""
        return "\n".join(str(one) for one in [*self.spans(), *self.all_points(), *self.logs()])
