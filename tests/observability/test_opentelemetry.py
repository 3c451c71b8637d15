"""What OpenTelemetry is told of a whole conversation: one trace a request, by the GenAI conventions, and metrics."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from opentelemetry import trace

from bursar import Ledger
from tests.observability.scenario import LOOKUP_PRICE, PASSWORD, SESSION, Story, play
from tests.support.graphs import answer_of, ask, build, free
from tests.support.provider import DEAR_MODEL, MODEL, Provider
from tests.support.tracing.received_runs import NANO
from tests.support.tracing.seen_spans import SeenSpan
from tests.support.tracing.telemetry import ExportedTo, Remembered, listening

Told = tuple[Story, Remembered]
QUESTIONS = [
    "fan-out",
    "cheaper",
    "retry",
    "cut stream",
    "loop",
    "approval",
    "nested",
    "tools",
    "budget refusal",
    "gate refusal",
    "model router",
    "late",
    "stuck",
]
SECOND_BUCKETS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKEN_BUCKETS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    """The story, and what OpenTelemetry was told of it."""
    provider, seen = Provider(), Remembered()
    ledger = Ledger(f"sqlite:///{tmp_path_factory.mktemp('told')}/books.db")
    with listening(seen.tracers, seen.reader, seen.loggers):
        story = play(ledger, provider)
        seen.freeze()
    yield story, seen
    provider.close()
    ledger.database.close()


def dollars(nanos: int) -> Decimal:
    """Return nano-dollars as US dollars."""
    return (nanos * NANO).quantize(NANO)


def cost_of(spans: list[SeenSpan]) -> Decimal:
    """Return the sum of the costs of these spans, in US dollars, to the nano-dollar."""
    return sum((Decimal(str(span.attributes.get("bursar.cost_usd", 0))) for span in spans), Decimal(0)).quantize(NANO)


def spans_of(told: Told, name: str) -> list[SeenSpan]:
    """Return all spans of the traces of one question."""
    story, seen = told
    request = story.asked[name].request
    traces = {span.trace for span in seen.spans() if span.attributes.get("bursar.request_id") == request}
    assert traces, f"no span of {name} has its request's id: {seen.tree()}"
    return [span for span in seen.spans() if span.trace in traces]


def doing(told: Told, question: str, operation: str) -> list[SeenSpan]:
    """Return the spans of one operation in the traces of one question."""
    return [span for span in spans_of(told, question) if span.operation == operation]


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_request_is_one_trace(name: str, told: Told) -> None:
    """Its root is the workflow; a resume has a trace of its own."""
    story, seen = told
    spans = spans_of(told, name)
    roots = [span for span in spans if span.parent is None]
    assert len(roots) == len({span.trace for span in spans}) == len(story.asked[name].results), seen.tree()
    for root in roots:
        assert (root.name, root.kind, root.operation) == ("invoke_workflow bursar", "INTERNAL", "invoke_workflow")
        attributes = root.attributes
        assert attributes["gen_ai.workflow.name"] == "bursar"
        assert attributes["gen_ai.conversation.id"] == story.asked[name].session
        assert (attributes["bursar.request_id"], attributes["bursar.tenant"]) == (story.asked[name].request, "acme")


def test_nothing_is_outside_the_requests(told: Told) -> None:
    """Every span is in the trace of a request, and there are no more traces than requests and resumes."""
    story, seen = told
    assert len(seen.traces()) == sum(len(asked.results) for asked in story.asked.values()), seen.tree()


def test_agents_are_in_the_workflow_and_calls_in_the_agents(told: Told) -> None:
    """`invoke_workflow` → `invoke_agent` → `chat`, by the conventions' names and kinds."""
    _, seen = told
    [agent] = [span for span in doing(told, "retry", "invoke_agent") if span.name == "invoke_agent flaky"]
    parent = seen.parent_of(agent)
    assert parent is not None
    assert (parent.operation, agent.kind) == ("invoke_workflow", "INTERNAL"), seen.tree()
    failed, call = doing(told, "retry", "chat")  # each sending has a span
    assert seen.parent_of(call) == seen.parent_of(failed) == agent, seen.tree()
    assert (call.name, call.kind, call.status) == (f"chat {MODEL}", "CLIENT", "UNSET")
    assert (failed.name, failed.kind, failed.status) == (f"chat {MODEL}", "CLIENT", "ERROR")
    assert failed.attributes["error.type"]
    assert [one.attributes["bursar.attempt"] for one in (failed, call)] == [1, 2]


def test_every_call_is_in_a_request(told: Told) -> None:
    """Whoever pays: agent, router or composer."""
    _, seen = told
    calls = [*seen.doing("chat"), *seen.doing("fetch_response"), *seen.doing("execute_tool")]
    assert len(calls) >= 15, seen.tree()
    for call in calls:
        assert seen.above(call)[-1].operation == "invoke_workflow", seen.tree()


def test_a_call_has_the_conventions_attributes(told: Told) -> None:
    """Provider, models, conversation, cap and tokens, and what it cost."""
    _, call = doing(told, "retry", "chat")
    attributes = call.attributes
    assert attributes["gen_ai.provider.name"] == "openai"
    assert (attributes["gen_ai.request.model"], attributes["gen_ai.response.model"]) == (MODEL, MODEL)
    assert attributes["gen_ai.conversation.id"] == SESSION
    assert attributes["gen_ai.request.max_tokens"] == 100
    assert tuple(attributes["gen_ai.response.finish_reasons"]) == ("stop",)
    assert attributes["gen_ai.usage.input_tokens"] > 0
    assert attributes["gen_ai.usage.output_tokens"] == 2
    assert isinstance(attributes["bursar.cost_usd"], float)
    assert Decimal(str(attributes["bursar.cost_usd"])).quantize(NANO) == dollars(told[0].asked["retry"].nanos)
    assert attributes["bursar.call_id"]
    assert attributes["bursar.held_usd"] >= attributes["bursar.cost_usd"]
    assert "gen_ai.input.messages" not in attributes  # content is opt-in
    assert "gen_ai.output.messages" not in attributes


def test_the_costs_are_the_ledgers(told: Told) -> None:
    """Those of the calls and tools of each question, added up."""
    story, _ = told
    for name, asked in story.asked.items():
        if name != "stuck":  # it ended after its trace
            paid = [span for span in spans_of(told, name) if span.operation in {"chat", "execute_tool", "embeddings"}]
            assert cost_of(paid) == dollars(asked.nanos), name


def test_the_model_that_answers_is_named(told: Told) -> None:
    """The asked one was too dear."""
    [call] = doing(told, "cheaper", "chat")
    assert call.attributes["gen_ai.response.model"].startswith(MODEL)
    assert call.attributes["bursar.instead_of"] == DEAR_MODEL


def test_a_call_from_the_ledger_is_fetched_and_used_nothing(told: Told) -> None:
    """The convention for an answer that is read back: no token usage, in attributes or metrics."""
    [paid] = doing(told, "approval", "chat")
    [fetched] = doing(told, "approval", "fetch_response")
    assert paid.trace != fetched.trace
    assert not [name for name in fetched.attributes if name.startswith("gen_ai.usage.")]
    assert fetched.attributes.get("bursar.cost_usd", 0) == 0
    assert fetched.attributes["bursar.call_id"] == paid.attributes["bursar.call_id"]


def test_a_resume_is_linked_to_the_requests_first_trace(told: Told) -> None:
    """By a link to its workflow."""
    first, resumed = sorted(doing(told, "approval", "invoke_workflow"), key=lambda span: span.start)
    assert first.trace != resumed.trace
    assert (first.trace, first.id) in {(link.trace, link.span) for link in resumed.links}
    assert not first.links


def test_a_call_of_unknown_end_is_an_error_that_says_so(told: Told) -> None:
    """With its hold."""
    [call] = doing(told, "late", "chat")
    assert call.status == "ERROR"
    assert call.attributes["error.type"]
    assert call.attributes["bursar.state"] == "unknown"
    assert Decimal(str(call.attributes["bursar.cost_usd"])).quantize(NANO) == dollars(told[0].asked["late"].nanos)


def test_decisions_are_events_of_the_workflow(told: Told) -> None:
    """Who was chosen, and by which rule; the gate's refusal too."""
    [workflow] = doing(told, "fan-out", "invoke_workflow")
    decided = workflow.events_named("bursar.decided")
    assert decided
    chosen = [sorted(event.attributes.get("bursar.chosen") or ()) for event in decided]
    assert ["broken", "food", "rent"] in chosen
    assert all(event.attributes["bursar.rule"] for event in decided)
    [refused] = doing(told, "gate refusal", "invoke_workflow")
    assert "no-forbidden" in str(refused.events_named("bursar.decided"))


def test_a_refusal_is_an_event_with_what_was_needed_and_left(told: Told) -> None:
    """At the agent or its call that was refused."""
    events = [event for span in spans_of(told, "budget refusal") for event in span.events_named("bursar.refused")]
    [refused] = events
    assert "greedy" in str(refused.attributes["bursar.account"])
    assert float(refused.attributes["bursar.needs_usd"]) > float(refused.attributes["bursar.left_usd"])


def test_an_approval_is_an_event_and_no_error(told: Told) -> None:
    """That a person was asked is no fault of the agent."""
    spans = spans_of(told, "approval")
    names = [event.name for span in spans for event in span.events]
    assert any(name.startswith("bursar.approval") for name in names), names
    assert not [span for span in spans if span.status == "ERROR"]


def test_an_agent_says_what_the_ledger_says_of_it(told: Told) -> None:
    """Outcome, cost, confidence and the head of the log."""
    [agent] = [span for span in doing(told, "retry", "invoke_agent") if span.name == "invoke_agent flaky"]
    attributes = agent.attributes
    wanted: dict[str, Any] = {
        "gen_ai.agent.name": "flaky",
        "gen_ai.agent.description": "flaky",
        "gen_ai.conversation.id": SESSION,
        "bursar.tenant": "acme",
        "bursar.outcome": "completed",
        "bursar.confidence": 0.9,
        "bursar.turns": 1,
        "bursar.fallback_level": 0,
    }
    assert {name: attributes.get(name) for name in wanted} == wanted
    assert isinstance(attributes["bursar.cost_usd"], float)
    assert attributes["bursar.granted_usd"] > 0
    assert {"bursar.audit_sequence", "bursar.audit_head"} <= attributes.keys()


def test_an_agent_that_raised_is_an_error_without_its_secrets(told: Told) -> None:
    """The type of what it raised is there, what it said in clear is not."""
    broken = [span for span in doing(told, "fan-out", "invoke_agent") if span.status == "ERROR"]
    [agent] = broken
    assert agent.name == "invoke_agent broken"
    assert agent.attributes["error.type"]
    assert agent.attributes["bursar.outcome"] == "failed"
    [helper] = [
        span for span in doing(told, "fan-out", "invoke_agent") if span.attributes["bursar.handler"] == "helper"
    ]
    assert helper.attributes["bursar.fallback_level"] == 1
    assert PASSWORD not in told[1].texts()


def test_tools_have_spans(told: Told) -> None:
    """A priced function and an action are tools; embeddings are an operation of their own."""
    tools = doing(told, "tools", "execute_tool")
    names = {span.name for span in tools}
    assert any("look_up" in name for name in names), names
    assert any("stamp" in name for name in names), names
    assert cost_of([span for span in tools if "look_up" in span.name]) == Decimal(LOOKUP_PRICE)
    [embedded] = doing(told, "tools", "embeddings")
    assert (embedded.kind, embedded.attributes["gen_ai.usage.input_tokens"] > 0) == ("CLIENT", True)


def test_a_supervisor_inside_another_nests(told: Told) -> None:
    """In the trace of the outer request, below the agent that asked."""
    _, seen = told
    inner = [span for span in doing(told, "nested", "invoke_workflow") if span.parent is not None]
    assert {span.name for span in inner} == {"invoke_workflow inner", "invoke_workflow aide"}, seen.tree()
    for span in inner:
        assert "invoke_agent boss" in [above.name for above in seen.above(span)], seen.tree()
    inside = {span.id for span in inner}
    below = [span for span in doing(told, "nested", "chat") if inside & {above.id for above in seen.above(span)}]
    assert len(below) == 2


def test_durations_and_tokens_are_measured_by_the_conventions(told: Told) -> None:
    """Histograms with the conventions' units and buckets, of calls, agents and workflows."""
    _, seen = told
    duration, tokens = seen.points("gen_ai.client.operation.duration"), seen.points("gen_ai.client.token.usage")
    assert {(point.kind, point.unit, tuple(point.bounds)) for point in duration} == {("histogram", "s", SECOND_BUCKETS)}
    assert {(point.kind, point.unit, tuple(point.bounds)) for point in tokens} == {
        ("histogram", "{token}", TOKEN_BUCKETS)
    }
    assert {point.attributes["gen_ai.token.type"] for point in tokens} == {"input", "output"}
    assert {point.attributes["gen_ai.request.model"] for point in duration} >= {MODEL}
    agents, workflows = seen.points("gen_ai.invoke_agent.duration"), seen.points("gen_ai.workflow.duration")
    assert {point.unit for point in [*agents, *workflows]} == {"s"}
    assert "food" in {point.attributes["gen_ai.agent.name"] for point in agents}
    ended = [span for span in seen.doing("invoke_agent") if "bursar.outcome" in span.attributes]
    assert len(ended) <= sum(point.count for point in agents) <= len(seen.doing("invoke_agent"))
    assert sum(point.count for point in workflows) == len(seen.doing("invoke_workflow"))


def test_replays_use_no_tokens(told: Told) -> None:
    """The tokens of the metric are those of the calls that were sent."""
    _, seen = told
    counted = sum(point.value for point in seen.points("gen_ai.client.token.usage"))
    sent = [span.attributes for operation in ("chat", "embeddings") for span in seen.doing(operation)]
    kinds = ("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens")
    assert counted == sum(attributes.get(kind, 0) for attributes in sent for kind in kinds) > 0


def test_money_is_counted_by_agent_model_and_tenant(told: Told) -> None:
    """The counter's sum is what the ledger charged, and what it gave back when a call ended after its run."""
    story, seen = told
    points = seen.points("bursar.cost")
    assert {(point.kind, point.unit) for point in points} == {("sum", "{USD}")}
    total = sum((Decimal(str(point.value)) for point in points), Decimal(0))
    [returned] = seen.points("bursar.cost.returned")
    assert (returned.unit, returned.attributes["gen_ai.agent.name"]) == ("{USD}", "stuck")
    assert (total - Decimal(str(returned.value))).quantize(NANO) == dollars(story.nanos)
    assert {point.attributes["bursar.tenant"] for point in points} == {"acme"}
    assert {"food", "rent", "broken"} <= {point.attributes["gen_ai.agent.name"] for point in points}
    assert {MODEL} <= {point.attributes.get("gen_ai.request.model") for point in points}
    for point in points:  # no attribute has a value for each session or request
        assert not {"gen_ai.conversation.id", "bursar.session_id", "bursar.request_id"} & point.attributes.keys()


def test_runs_refusals_and_holds_are_counted(told: Told) -> None:
    """By outcome and why, by the kind of the account; a hold that is settled is gone."""
    story, seen = told
    runs = [run for asked in story.asked.values() for run in asked.result["runs"]]
    points = seen.points("bursar.runs")
    counted = {
        (point.attributes["gen_ai.agent.name"], point.attributes["bursar.outcome"]): point.value for point in points
    }
    for run in runs:
        assert counted.get((run.specialist, run.outcome.value), 0) >= 1, run
    # A run that stopped for an approval has no outcome yet.
    ended = [span for span in seen.doing("invoke_agent") if "bursar.outcome" in span.attributes]
    assert sum(point.value for point in points) == len(ended)
    refusals = [point.value for point in seen.points("bursar.refusals") if "agent" in point.attributes.values()]
    assert refusals == [1]
    assert sum(point.value for point in seen.points("bursar.holds")) == 0
    assert {point.kind for point in seen.points("bursar.breaker.state")} == {"gauge"}


def test_log_records_say_where_they_belong(told: Told) -> None:
    """The logger is `bursar`; the failure's record is in the span of its agent."""
    story, seen = told
    [agent] = [span for span in doing(told, "fan-out", "invoke_agent") if span.name == "invoke_agent broken"][:1]
    records = [record for record in seen.logs() if record.trace == agent.trace]
    assert records, seen.logs()
    about = [record for record in records if record.attributes.get("agent") == "broken"]
    assert about
    for record in about:
        assert record.logger.split(".")[0] == "bursar"
        assert (record.attributes["session"], record.attributes["request"]) == (SESSION, story.asked["fan-out"].request)


def food(ledger: Ledger) -> Any:
    """A supervisor with one agent that pays nothing."""
    return build(ledger, [free("food", lambda task: "rice")])


def test_a_request_is_in_its_callers_span(ledger: Ledger, telemetry: Remembered) -> None:
    """Then the caller's span is the root."""
    with trace.get_tracer("an application").start_as_current_span("GET /ask"):
        assert answer_of(ask(food(ledger))) == "rice"
    [root] = telemetry.roots()
    [workflow] = telemetry.doing("invoke_workflow")
    assert root.name == "GET /ask"
    assert workflow.parent == root.id
    assert len(telemetry.traces()) == 1, telemetry.tree()


def test_what_is_told_reaches_a_collector(ledger: Ledger, collector: ExportedTo) -> None:
    """By OTLP/HTTP, as what is remembered: the tree, and a metric."""
    assert answer_of(ask(food(ledger))) == "rice"
    names = [span.name for span in collector.spans()]
    assert names == ["invoke_workflow bursar", "invoke_agent food"], collector.tree()
    assert len(collector.traces()) == 1
    assert collector.points("bursar.runs")


def test_without_an_sdk_it_costs_nothing_and_says_nothing(ledger: Ledger) -> None:
    """Nobody listens, and the answer is the same."""
    assert answer_of(ask(food(ledger))) == "rice"
    assert not trace.get_current_span().is_recording()
