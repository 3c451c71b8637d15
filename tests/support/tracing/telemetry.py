"""OpenTelemetry for one test at a time: the process's one provider of each kind, which tests switch on and off.

OpenTelemetry allows one global provider a process, and whoever asked it for a tracer keeps that tracer. So the global
provider here is a switch: its tracers ask the test's own provider, and do nothing where no test has one.
"""

import logging
import math
import warnings
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest
from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import (
    BatchLogRecordProcessor,
    InMemoryLogRecordExporter,
    SimpleLogRecordProcessor,
)
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NoOpTracer, Span, SpanContext, format_span_id, format_trace_id

from tests.support.tracing.collector import Collector
from tests.support.tracing.seen_spans import Seen, SeenEvent, SeenLink, SeenLog, SeenPoint, SeenSpan

FLUSH_MILLIS = 30_000


class SwitchedProvider(trace.TracerProvider):
    """A provider whose tracers make the spans of `current`, and no spans while that is None."""

    current: TracerProvider | None = None

    def get_tracer(self, *scope: Any, **named: Any) -> trace.Tracer:
        return _SwitchedTracer(self, scope, named)


class _SwitchedTracer(NoOpTracer):
    def __init__(self, provider: SwitchedProvider, scope: tuple[Any, ...], named: dict[str, Any]) -> None:
        self._provider, self._scope, self._named = provider, scope, named

    def start_span(self, *what: Any, **named: Any) -> Span:
        current = self._provider.current
        if current is None:
            return super().start_span(*what, **named)
        return current.get_tracer(*self._scope, **self._named).start_span(*what, **named)


_tracers = SwitchedProvider()
_meters: list[MeterProvider] = []


def _install() -> MeterProvider:
    """Make the switch and a provider of meters the process's own, once; return the latter."""
    if not _meters:
        trace.set_tracer_provider(_tracers)
        _meters.append(MeterProvider(shutdown_on_exit=False))
        metrics.set_meter_provider(_meters[0])
    assert trace.get_tracer_provider() is _tracers, "somebody else set the process's provider"
    return _meters[0]


@contextmanager
def listening(tracers: TracerProvider, reader: MetricReader, loggers: LoggerProvider) -> Generator[None]:
    """For the block, send what OpenTelemetry is told to these, and the records of the logger `bursar` to `loggers`."""
    meters = _install()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # its successor is in a package of its own
        handler = LoggingHandler(logger_provider=loggers)
    logger = logging.getLogger("bursar")
    meters.add_metric_reader(reader)
    _tracers.current = tracers
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        _tracers.current = None
        meters.remove_metric_reader(reader)
        tracers.shutdown()
        loggers.shutdown()


class Remembered(Seen):
    """What OpenTelemetry was told, kept in this process."""

    def __init__(self) -> None:
        self.exporter, self.reader, self.records = (
            InMemorySpanExporter(),
            InMemoryMetricReader(),
            InMemoryLogRecordExporter(),
        )
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.loggers = LoggerProvider(shutdown_on_exit=False)
        self.loggers.add_log_record_processor(SimpleLogRecordProcessor(self.records))

        self._frozen: list[SeenPoint] | None = None

    def freeze(self) -> None:
        """Keep the points of all metrics as they are now, for the time when nothing is measured any more."""
        self._frozen = self.all_points()

    def spans(self) -> list[SeenSpan]:
        return sorted((_span(one) for one in self.exporter.get_finished_spans()), key=lambda span: span.start)

    def all_points(self) -> list[SeenPoint]:
        if self._frozen is not None:
            return self._frozen
        data: Any = self.reader.get_metrics_data()
        scopes = [] if data is None else [scope for all_ in data.resource_metrics for scope in all_.scope_metrics]
        return [point for scope in scopes for metric in scope.metrics for point in _points(metric)]

    def logs(self) -> list[SeenLog]:
        return [_log(cast(Any, one)) for one in self.records.get_finished_logs()]


class Exported:
    """Providers that export to a collector. `flush` returns when the collector has everything."""

    def __init__(self, collector: Collector) -> None:
        url = collector.url
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{url}/v1/traces")))
        self.reader = PeriodicExportingMetricReader(
            OTLPMetricExporter(f"{url}/v1/metrics"), export_interval_millis=math.inf
        )
        self.loggers = LoggerProvider(shutdown_on_exit=False)
        self.loggers.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter(f"{url}/v1/logs")))

    def flush(self) -> None:
        """Send what is waiting."""
        assert self.tracers.force_flush(FLUSH_MILLIS)
        assert self.reader.force_flush(FLUSH_MILLIS)
        assert self.loggers.force_flush(FLUSH_MILLIS)


class ExportedTo(Collector):
    """A collector whose exporters are flushed before anything is looked up."""

    exported: Exported | None = None

    def spans(self) -> list[SeenSpan]:
        self._flush()
        return super().spans()

    def all_points(self) -> list[SeenPoint]:
        self._flush()
        return super().all_points()

    def logs(self) -> list[SeenLog]:
        self._flush()
        return super().logs()

    def _flush(self) -> None:
        if self.exported is not None:
            self.exported.flush()


@pytest.fixture
def telemetry() -> Iterator[Remembered]:
    """What OpenTelemetry is told during one test, in memory."""
    kept = Remembered()
    with listening(kept.tracers, kept.reader, kept.loggers):
        yield kept


@pytest.fixture
def collector() -> Iterator[ExportedTo]:
    """A collector to which everything that OpenTelemetry is told during one test is exported by OTLP/HTTP."""
    made = ExportedTo()
    made.exported = Exported(made)
    with listening(made.exported.tracers, made.exported.reader, made.exported.loggers):
        yield made
        made.exported.flush()
    made.exported = None
    made.close()


def _span(span: ReadableSpan) -> SeenSpan:
    context = cast(SpanContext, span.context)
    return SeenSpan(
        name=span.name,
        kind=span.kind.name,
        trace=format_trace_id(context.trace_id),
        id=format_span_id(context.span_id),
        parent=None if span.parent is None else format_span_id(span.parent.span_id),
        attributes=dict(span.attributes or {}),
        events=tuple(SeenEvent(event.name, dict(event.attributes or {})) for event in span.events),
        links=tuple(
            SeenLink(
                format_trace_id(link.context.trace_id),
                format_span_id(link.context.span_id),
                dict(link.attributes or {}),
            )
            for link in span.links
        ),
        status=span.status.status_code.name,
        description=span.status.description or "",
        start=span.start_time or 0,
        end=span.end_time or 0,
    )


def _points(metric: Any) -> Iterator[SeenPoint]:
    for point in metric.data.data_points:
        is_histogram = hasattr(point, "explicit_bounds")
        yield SeenPoint(
            metric=metric.name,
            kind="histogram" if is_histogram else "sum" if hasattr(metric.data, "is_monotonic") else "gauge",
            unit=metric.unit,
            attributes=dict(point.attributes or {}),
            value=point.sum if is_histogram else point.value,
            count=point.count if is_histogram else 1,
            bounds=tuple(point.explicit_bounds) if is_histogram else (),
        )


def _log(data: Any) -> SeenLog:
    record = data.log_record
    return SeenLog(
        logger=data.instrumentation_scope.name,
        severity=record.severity_text or "",
        body=str(record.body),
        trace=format_trace_id(record.trace_id) if record.trace_id else "",
        span=format_span_id(record.span_id) if record.span_id else "",
        attributes=dict(record.attributes or {}),
    )
