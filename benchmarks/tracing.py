"""Measures one request without tracing, traced to LangSmith, and traced by OpenTelemetry.

One specialist answers with one call of a model. LangSmith's client is real, and sends to a sink in the same process;
OpenTelemetry's spans go to an exporter that drops them. The CPU time is that of the whole process, sending included.
Then a request whose model takes a fifth of a second is measured without tracing, and with a LangSmith that is down.
"""

import asyncio
import itertools
import logging
import tempfile
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from langsmith import Client, run_helpers
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from requests import PreparedRequest, Response, Session

from benchmarks.doubled import ANSWER, QUESTION, DoubledModel
from benchmarks.harness import Contender, Result, interleave
from bursar import Budget, Ledger, Report, Specialist, SQLAlchemySaver, Task, build_supervisor, deterministic, meter
from bursar.nodes.observers import opentelemetry
from bursar.nodes.routers.word_overlap import WordOverlapRouter

BOUND = 1.3
DOWN_BOUND = 1.1
MODEL_SECONDS = 0.2
INFO = (
    b'{"version": "0.16.3", "batch_ingest_config": {"use_multipart_endpoint": true, "size_limit": 100,'
    b' "size_limit_bytes": 20971520, "scale_up_nthreads_limit": 16, "scale_up_qsize_trigger": 1000,'
    b' "scale_down_nempty_trigger": 4}, "instance_flags": {"zstd_compression_enabled": true}}'
)


class SinkSession(Session):
    """An HTTP session that sends nothing. Each request is accepted."""

    def send(self, request: PreparedRequest, **kwargs: Any) -> Response:
        """Answer as LangSmith's server does."""
        response = Response()
        response.status_code = 200 if request.method == "GET" else 202
        response._content = INFO if str(request.url).endswith("/info") else b"{}"  # pyright: ignore[reportPrivateUsage]
        response.request, response.url = request, str(request.url)
        return response


class SinkExporter(SpanExporter):
    """An exporter that drops what it gets."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Drop the spans."""
        return SpanExportResult.SUCCESS


def run(*, smoke: bool = False) -> list[Result]:
    """Measure the three round by round, then a request while LangSmith is down."""
    return [_traced(smoke=smoke), _down(smoke=smoke)]


def _traced(*, smoke: bool) -> Result:
    client = Client(api_url="http://127.0.0.1:9", api_key="none", session=SinkSession())
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(SinkExporter()))

    @contextmanager
    def langsmith() -> Generator[None]:
        with run_helpers.tracing_context(enabled=True, client=client, project_name="benchmarks"):  # pyright: ignore[reportUnknownMemberType]
            yield
        client.flush()

    @contextmanager
    def spans() -> Generator[None]:
        before, opentelemetry._tracer = opentelemetry._tracer, provider.get_tracer("bursar")  # pyright: ignore[reportPrivateUsage]
        try:
            yield
        finally:
            opentelemetry._tracer = before  # pyright: ignore[reportPrivateUsage]
            provider.force_flush()

    with tempfile.TemporaryDirectory() as folder:
        ask = asking(f"sqlite:///{folder}/tracing.db")
        contenders: list[tuple[str, Contender]] = [
            ("off", under(ask, nullcontext)),
            ("on (LangSmith)", under(ask, langsmith)),
            ("on (OpenTelemetry)", under(ask, spans)),
        ]
        result = Result("a request, traced and not")
        result.rounds = interleave(contenders, rounds=3 if smoke else 15, operations=2 if smoke else 20)
    for name in ("on (LangSmith)", "on (OpenTelemetry)"):
        result.compare(name, "off", bound=BOUND)
    client.close()
    provider.shutdown()
    return result


def _down(*, smoke: bool) -> Result:
    """Measure a request while nobody listens on the port of LangSmith; the client goes on trying in its threads."""
    client = Client(api_url="http://127.0.0.1:9", api_key="none")
    logging.getLogger("langsmith").setLevel(logging.CRITICAL)  # it says of each batch that nobody took it

    def langsmith() -> Any:
        return run_helpers.tracing_context(enabled=True, client=client, project_name="benchmarks")  # pyright: ignore[reportUnknownMemberType]

    with tempfile.TemporaryDirectory() as folder:
        ask = asking(f"sqlite:///{folder}/tracing.db", model_seconds=MODEL_SECONDS)
        contenders: list[tuple[str, Contender]] = [("off", under(ask, nullcontext)), ("down", under(ask, langsmith))]
        result = Result(f"a request with a model that takes {MODEL_SECONDS} s, LangSmith down and off")
        result.rounds = interleave(contenders, rounds=2 if smoke else 7, operations=1 if smoke else 5)
    result.compare("down", "off", what="wall", bound=DOWN_BOUND)
    client.close(timeout=0)
    return result


@deterministic
def rules(task: Task) -> Report:
    """Answer by rule: the last resort, which is not needed."""
    return Report(answer="by rule")


def asking(url: str, *, model_seconds: float = 0.0) -> Callable[[], None]:
    """Return a function that asks one question in a session of its own. The model takes `model_seconds` to answer."""
    model = meter(DoubledModel())

    async def food(task: Task) -> Report:
        await asyncio.sleep(model_seconds)
        return Report(answer=(await model.ainvoke(task.text)).text)

    app: Any = build_supervisor(
        [Specialist(name="food", description="what was spent on food", handler=food, fallbacks=[rules])],
        budget=Budget("0.10"),
        ledger=Ledger(url),
        checkpointer=SQLAlchemySaver(url),
        router=WordOverlapRouter(),
    )
    numbers = itertools.count()

    def ask() -> None:
        asked = {"messages": [("user", QUESTION)]}
        result = app.invoke(asked, {"configurable": {"thread_id": f"s-{next(numbers)}"}})
        if ANSWER not in result["messages"][-1].text:
            raise AssertionError(result["messages"][-1].text)

    return ask


def under(ask: Callable[[], None], traced: Callable[[], Any]) -> Contender:
    """Return a contender that asks inside the block of `traced`."""

    def contender(operations: int) -> None:
        with traced():
            for _ in range(operations):
                ask()

    return contender
