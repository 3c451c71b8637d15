"""The receivers of the tests hear what the SDKs say: else the tests of traces would prove nothing."""

import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import requests
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langsmith import Client
from langsmith.run_trees import RunTree
from opentelemetry import metrics, trace

from tests.support.clock import wait_until
from tests.support.tracing.langsmith_client import KEY, TracedServer, traced
from tests.support.tracing.langsmith_server import LangSmithServer
from tests.support.tracing.seen_spans import Seen
from tests.support.tracing.telemetry import ExportedTo, Remembered

pytestmark = pytest.mark.slow  # LangSmith's SDK asks `uname` of its machine

WAYS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "compressed": ({}, {}),
    "plain": ({}, {"LANGSMITH_DISABLE_RUN_COMPRESSION": "true"}),
    "batch": ({"multipart": False}, {}),
}
Open = Callable[..., LangSmithServer]


@contextmanager
def client_of(server: LangSmithServer, **more: str) -> Generator[Any]:
    """A client of `server`, which sends everything before the block ends."""
    with traced(server, **more):
        client = Client(api_url=server.url, api_key=KEY)
        try:
            yield client
            client.flush()
        finally:
            client.close(timeout=0 if server.mode != "up" else 60)


def told(client: Client) -> Any:
    """Tell a trace of three runs: one that costs, one that fails, and one without an end. Return its root."""
    root: Any = RunTree(name="root", ls_client=client, inputs={"question": "how much?"}, project_name="p-1")
    root.post()
    child = root.create_child("model", run_type="llm", inputs={"n": 1})
    child.post()
    child.add_metadata({"usage_metadata": {"total_cost": 0.00024824999, "input_tokens": 3}, "thread_id": "s-1"})
    child.end(outputs={"text": "12.50"})
    child.patch()
    failed = root.create_child("tool", run_type="tool")
    failed.post()
    failed.end(error="ValueError('no')")
    failed.patch()
    root.create_child("stuck").post()
    root.end(outputs={"answer": "12.50"})
    root.patch()
    return root


@pytest.mark.parametrize("way", WAYS)
def test_a_trace_arrives_whole(way: str, open_langsmith: Open) -> None:
    """Posts and patches become runs, whichever way the SDK sends them; what is said and what is not can be asked."""
    options, settings = WAYS[way]
    server = open_langsmith(**options)
    with client_of(server, **settings) as client:
        if way == "compressed":  # the client's thread has asked what the server takes; until then it sends plain bodies
            wait_until(lambda: client.compressed_traces is not None)
        root = told(client)
    assert server.runs()[0].name == "root"
    assert {run.name for run in server.pending()} == {"stuck"}, server.tree()
    assert server.cost() == Decimal("0.000248250") == server.costs_of(str(root.id))
    [model] = server.of_type("llm")
    assert (model.total_cost, model.outputs) == (Decimal("0.00024824999"), {"text": "12.50"})
    assert (model.parent, model.metadata["thread_id"]) == (str(root.id), "s-1")
    assert [run.name for run in server.runs() if run.is_error] == ["tool"]
    assert server.complaints() == []
    assert "how much?" in server.texts()
    assert server.bytes_of(str(root.id)) > 200
    encodings = {one.encoding for one in server.ingested()}
    assert encodings == ({"zstd"} if way == "compressed" else {""})
    assert {one.key for one in server.ingested()} == {KEY}
    assert server.bytes_unpacked >= server.bytes_of(str(root.id))


def test_feedback_arrives_as_a_part_and_alone(open_langsmith: Open) -> None:
    """With the id of its trace it rides with the runs; without it is a request of its own."""
    server = open_langsmith()
    with client_of(server) as client:
        root = told(client)
        client.flush()
        project = client.read_project(project_name="p-1").id
        client.create_feedback(root.id, key="bursar.confidence", score=0.9, trace_id=root.trace_id, session_id=project)
        client.create_feedback(root.id, key="bursar.gate", value="refused", session_id=project)
    [run] = server.named("root")
    assert run.score_of("bursar.confidence") == [Decimal("0.9")]
    assert run.score_of("bursar.gate") == ["refused"]
    assert [one.path for one in server.ingested()].count("/feedback") == 1


def test_runs_can_be_asked_for(open_langsmith: Open) -> None:
    """Both versions of the query answer by project, trace, state and metadata, page after page."""
    server = open_langsmith()
    with client_of(server) as client:
        root = told(client)
        for _ in range(120):
            told(client)
        client.flush()
        project = client.read_project(project_name="p-1").id
        with pytest.warns(DeprecationWarning, match="list_runs"):
            listed = list(client.list_runs(project_id=project, trace_id=root.id))
        assert {run.name for run in listed} == {"root", "model", "tool", "stuck"}
        assert sum(run.total_cost or 0 for run in listed) == Decimal("0.00024824999")
        with pytest.warns(DeprecationWarning, match="list_runs"):
            stuck = list(client.list_runs(project_id=project, filter='and(eq(status, "pending"), neq(name, "x"))'))
        assert len(stuck) == 121
    names: list[str] = []
    with requests.Session() as session:
        question: dict[str, Any] = {"project_ids": [str(project)], "selects": ["NAME"], "page_size": 50}
        question["filter"] = 'and(eq(metadata_key, "thread_id"), eq(metadata_value, "s-1"))'
        while question.get("cursor") or not names:
            page = session.post(f"{server.url}/api/v2/runs/query", json=question, timeout=20).json()
            names += [run["name"] for run in page["items"]]
            question["cursor"] = page["next_cursor"]
    assert names == ["model"] * 121


def test_what_a_strict_server_would_refuse_is_told(open_langsmith: Open) -> None:
    """A run that is patched but never posted, a run posted twice, an end before the start, a parent that is unknown."""
    server = open_langsmith()
    with client_of(server) as client:
        root: Any = RunTree(name="root", ls_client=client)
        root.post()
        client.flush()
        root.post()
        lost = root.create_child("lost")
        lost.end()
        lost.patch()
        orphan = root.create_child("above").create_child("orphan")
        orphan.post()
        orphan.end(end_time=datetime.now(UTC) - timedelta(days=1))
        orphan.patch()
    told_of = "\n".join(server.complaints())
    for what in ("posted twice", "never posted", "is unknown", "before its start"):
        assert what in told_of


def asked(server: LangSmithServer, seconds: float = 0.2) -> object:
    """Ask for what a client asks first; return the answer's status, or the name of the error."""
    with requests.Session() as session:
        try:
            return session.get(f"{server.url}/info", timeout=seconds).status_code
        except requests.RequestException as error:
            return type(error).__name__


@pytest.mark.parametrize("mode", ["500", "hang", "refuse"])
def test_langsmith_can_be_down(mode: Any, open_langsmith: Open) -> None:
    """It answers with an error, with nothing, or refuses to connect; afterwards it is there again."""
    server = open_langsmith()
    server.mode = "up" if mode == "refuse" else mode
    if mode == "refuse":
        server.close()
    assert asked(server) == {"500": 500, "hang": "ReadTimeout", "refuse": "ConnectionError"}[mode]
    server.release()
    server.mode = "up"
    if mode == "refuse":
        server.open()
    assert asked(server, seconds=20) == 200


def test_this_process_traces_there_during_a_test(langsmith: TracedServer) -> None:
    """LangChain's own tracer finds the server by the environment."""
    FakeListChatModel(responses=["hello"]).invoke("hi", config={"metadata": {"thread_id": "s-1"}})
    [run] = langsmith.runs()
    assert (run.run_type, run.is_pending, run.metadata["thread_id"]) == ("llm", False, "s-1")
    assert langsmith.unpriced() == [run]


def speak() -> None:
    """Say something of each kind, by tracers and instruments of the global providers."""
    tracer, meter = trace.get_tracer("bursar"), metrics.get_meter("bursar")
    with tracer.start_as_current_span("outer", kind=trace.SpanKind.CLIENT) as outer:
        outer.add_event("bursar.decided", {"chosen": ["a", "b"]})
        link = trace.Link(outer.get_span_context())
        with suppress(ValueError), tracer.start_as_current_span("inner", links=[link]):
            logging.getLogger("bursar.test").warning("something", extra={"session": "s-1"})
            raise ValueError("no")
    meter.create_counter("bursar.cost", unit="USD").add(0.25, {"agent": "a"})
    meter.create_up_down_counter("bursar.holds").add(1)
    meter.create_histogram("took", unit="s", explicit_bucket_boundaries_advisory=[1.0, 2.0]).record(1.5)


def check(seen: Seen) -> None:
    """All of it was heard, and nothing of before."""
    outer, inner = seen.spans()
    assert (outer.name, outer.kind, outer.parent, outer.status) == ("outer", "CLIENT", None, "UNSET"), seen.tree()
    assert (inner.parent, inner.trace, inner.status) == (outer.id, outer.trace, "ERROR")
    assert [event.name for event in inner.events] == ["exception"]
    assert [link.span for link in inner.links] == [outer.id]
    [decided] = seen.events("bursar.decided")
    assert decided.attributes == {"chosen": ("a", "b")}
    assert [point.value for point in seen.points("bursar.cost")] == [0.25]
    assert [point.value for point in seen.points("bursar.holds")] == [1]
    [took] = seen.points("took")
    assert (took.kind, took.unit, took.value, took.count, took.bounds) == ("histogram", "s", 1.5, 1, (1.0, 2.0))
    [record] = seen.logs()
    assert (record.body, record.severity, record.attributes["session"]) == ("something", "WARN", "s-1")
    assert (record.trace, record.span) == (inner.trace, inner.id)
    assert seen.traces().keys() == {outer.trace}


@pytest.mark.parametrize("_time", [1, 2])
def test_what_is_told_is_remembered_for_one_test(_time: int, telemetry: Remembered) -> None:
    """The second test, in the same process and with the same instruments, begins from nothing."""
    speak()
    check(telemetry)


@pytest.mark.parametrize("_time", [1, 2])
def test_what_is_told_reaches_the_collector(_time: int, collector: ExportedTo) -> None:
    """By OTLP/HTTP, each signal on its path."""
    speak()
    check(collector)
    assert set(collector.requests) == {"traces", "metrics", "logs"}


def test_nothing_is_told_outside_such_a_test() -> None:
    """No span is recorded where no test listens."""
    with trace.get_tracer("bursar").start_as_current_span("outer") as span:
        assert not span.is_recording()
