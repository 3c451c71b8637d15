"""An OpenTelemetry collector on loopback: a real HTTP server that takes traces, metrics and logs by OTLP/HTTP."""

import gzip
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.support.tracing.seen_spans import Seen, SeenEvent, SeenLink, SeenLog, SeenPoint, SeenSpan

PATHS = {"traces": ExportTraceServiceRequest, "metrics": ExportMetricsServiceRequest, "logs": ExportLogsServiceRequest}


class Collector(Seen):
    """A collector, which runs from its creation until `close`. If `is_down`, it answers with an error.

    `requests` counts the requests by their path.
    """

    def __init__(self) -> None:
        self.is_down = False
        self.requests: dict[str, int] = {}
        self._lock = threading.Lock()
        self._spans: list[SeenSpan] = []
        self._points: dict[tuple[str, str], SeenPoint] = {}
        self._logs: list[SeenLog] = []
        handler = type("CollectorHandler", (_CollectorHandler,), {"collector": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = False
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    @property
    def url(self) -> str:
        """The URL that `OTEL_EXPORTER_OTLP_ENDPOINT` takes."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """Stop the server, after it has answered every request."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def spans(self) -> list[SeenSpan]:
        with self._lock:
            return sorted(self._spans, key=lambda span: span.start)

    def all_points(self) -> list[SeenPoint]:
        with self._lock:
            return list(self._points.values())

    def logs(self) -> list[SeenLog]:
        with self._lock:
            return list(self._logs)

    def take(self, signal: str, content: bytes) -> None:
        """Keep what one request brings. Raises `KeyError` for a signal that there is not."""
        message: Any = PATHS[signal].FromString(content)
        with self._lock:
            self.requests[signal] = self.requests.get(signal, 0) + 1
            if signal == "traces":
                self._spans += [
                    _span(one) for all_ in message.resource_spans for part in all_.scope_spans for one in part.spans
                ]
            elif signal == "metrics":
                metrics = (
                    one for all_ in message.resource_metrics for part in all_.scope_metrics for one in part.metrics
                )
                for point in (point for metric in metrics for point in _points(metric)):
                    self._points[point.metric, str(sorted(point.attributes.items()))] = point
            else:
                for part in (part for all_ in message.resource_logs for part in all_.scope_logs):
                    self._logs += [_log(part.scope.name, one) for one in part.log_records]


class _CollectorHandler(BaseHTTPRequestHandler):
    collector: Collector

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        """Print nothing."""

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["content-length"]))
        status = 503 if self.collector.is_down else 200
        if status == 200:
            content = gzip.decompress(content) if self.headers.get("content-encoding") == "gzip" else content
            try:
                self.collector.take(self.path.rpartition("/")[2], content)
            except KeyError:
                status = 404
        with suppress(OSError):  # the client has hung up
            self.send_response(status)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", "0")
            self.end_headers()


def _span(span: Span) -> SeenSpan:
    return SeenSpan(
        name=span.name,
        kind=Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex() or None,
        attributes=_attributes(span.attributes),
        events=tuple(SeenEvent(event.name, _attributes(event.attributes)) for event in span.events),
        links=tuple(
            SeenLink(link.trace_id.hex(), link.span_id.hex(), _attributes(link.attributes)) for link in span.links
        ),
        status=Status.StatusCode.Name(span.status.code).removeprefix("STATUS_CODE_"),
        description=span.status.message,
        start=span.start_time_unix_nano,
        end=span.end_time_unix_nano,
    )


def _points(metric: Metric) -> Iterator[SeenPoint]:
    kind = metric.WhichOneof("data") or ""
    points: Any = getattr(metric, kind).data_points if kind else ()
    for point in points:
        is_histogram = kind == "histogram"
        yield SeenPoint(
            metric=metric.name,
            kind=kind,
            unit=metric.unit,
            attributes=_attributes(point.attributes),
            value=point.sum if is_histogram else getattr(point, point.WhichOneof("value") or "as_int"),
            count=point.count if is_histogram else 1,
            bounds=tuple(point.explicit_bounds) if is_histogram else (),
        )


def _log(logger: str, record: Any) -> SeenLog:
    return SeenLog(
        logger=logger,
        severity=record.severity_text,
        body=str(_value(record.body)),
        trace=record.trace_id.hex(),
        span=record.span_id.hex(),
        attributes=_attributes(record.attributes),
    )


def _attributes(pairs: Iterable[KeyValue]) -> Mapping[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return tuple(_value(one) for one in value.array_value.values)
    if kind == "kvlist_value":
        return _attributes(value.kvlist_value.values)
    return None if kind is None else getattr(value, kind)
