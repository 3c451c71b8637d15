"""What LangSmith is told of a whole conversation: the ledger's costs, who ran and why, and nothing twice."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from langchain_core.tracers.langchain import wait_for_all_tracers

from bursar import Ledger
from bursar.nodes.observers import langsmith_feedback
from tests.observability.scenario import LOOKUP_PRICE, SESSION, STUCK_SESSION, Asked, Story, play, spent
from tests.support.provider import DEAR_MODEL, MODEL, Provider
from tests.support.tracing.langsmith_client import traced
from tests.support.tracing.langsmith_server import LangSmithServer
from tests.support.tracing.received_runs import NANO, TracedRun

WAIT_SECONDS = 60
Told = tuple[Story, LangSmithServer]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    """The story, and LangSmith after it was told the story."""
    provider, server = Provider(), LangSmithServer()
    ledger = Ledger(f"sqlite:///{tmp_path_factory.mktemp('told')}/books.db")

    def observe() -> dict[str, Any]:
        wait_for_all_tracers()
        [stuck] = server.named("stuck")
        [call] = [run for run in server.below(stuck) if run.run_type == "llm"]
        return {"pending": [run.name for run in server.pending()], "error": call.error}

    with traced(server):
        story = play(ledger, provider, observe=observe)
        langsmith_feedback.wait(WAIT_SECONDS)  # it comes from a thread of its own
    assert server.runs()
    yield story, server
    provider.close()
    server.close()
    ledger.database.close()


def dollars(nanos: int) -> Decimal:
    """Return nano-dollars as US dollars."""
    return (nanos * NANO).quantize(NANO)


def roots_of(told: Told, name: str) -> list[TracedRun]:
    """Return the roots of the traces of one question. Questions are asked one after the other; a resume has a root."""
    story, server = told
    roots = iter(server.roots())
    by_name = {asked.name: [next(roots) for _ in asked.results] for asked in story.asked.values()}
    return by_name[name]


def runs_of(told: Told, name: str) -> list[TracedRun]:
    """Return all runs of the traces of one question."""
    traces = {root.trace_id for root in roots_of(told, name)}
    return [run for run in told[1].runs() if run.trace_id in traces]


def one(told: Told, question: str, name: str) -> TracedRun:
    """Return the only run of this name in the traces of one question."""
    [found] = [run for run in runs_of(told, question) if run.name == name]
    return found


def models(told: Told, question: str) -> list[TracedRun]:
    """Return the calls of models in the traces of one question."""
    return [run for run in runs_of(told, question) if run.run_type == "llm"]


def test_the_costs_are_the_ledgers(told: Told) -> None:
    """All of them, after fan-out, fallback, cheaper model, retry, timeout, cut stream, replay, nesting and tools."""
    story, server = told
    assert server.cost() == dollars(story.nanos), server.tree()
    assert server.unpriced() == []


@pytest.mark.parametrize(
    "name",
    [
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
    ],
)
def test_the_costs_of_a_question_are_those_of_its_traces(name: str, told: Told) -> None:
    """Question by question; a resume has a trace of its own."""
    story, server = told
    roots = roots_of(told, name)
    assert len(roots) == len(story.asked[name].results)
    costs = sum((server.costs_of(root.trace_id) for root in roots), Decimal(0))
    assert costs == dollars(story.asked[name].nanos), server.tree(roots[0].trace_id)


def test_there_is_something_to_add_up(told: Told) -> None:
    """The story paid in every question but for the refusals. Else the sums above would be equal and say nothing."""
    free = {name for name, asked in told[0].asked.items() if asked.nanos == 0}
    assert free == {"budget refusal", "gate refusal", "stuck"}
    assert told[0].nanos > 2_400_000


def test_every_run_ends(told: Told) -> None:
    """Even while a call is still stuck in its thread; and no run is posted twice or at a place where it cannot be."""
    story, server = told
    assert story.seen["pending"] == []
    assert story.seen["error"]
    assert server.pending() == []
    assert server.complaints() == []


def test_a_call_of_unknown_end_has_an_end_an_error_and_its_hold(told: Told) -> None:
    """Nobody saw how it ended. It says so, and costs what the ledger charges for it: its hold."""
    [call] = models(told, "late")
    assert call.error
    assert call.metadata["bursar.state"] == "unknown"
    assert call.metadata["bursar.call_id"]
    assert call.total_cost == dollars(told[0].asked["late"].nanos)
    assert Decimal(str(call.metadata["bursar.held_usd"])).quantize(NANO) == call.total_cost


def test_a_call_that_ends_after_its_agent_costs_what_it_cost(told: Told) -> None:
    """It was stuck in a thread beyond the deadline. Then it came back, and the ledger knows what it cost."""
    story, server = told
    [root] = roots_of(told, "stuck")
    assert server.costs_of(root.trace_id) == dollars(spent(story.ledger, STUCK_SESSION)) > 0


def test_the_model_that_answers_is_named(told: Told) -> None:
    """By its name LangSmith would price it; the asked one stands beside it."""
    [call] = models(told, "cheaper")
    assert call.metadata["ls_model_name"] == MODEL
    assert call.metadata["bursar.instead_of"] == DEAR_MODEL
    others = [run for run in told[1].of_type("llm") if run.id != call.id]
    assert others
    assert not any("bursar.instead_of" in run.metadata for run in others)


def test_a_call_from_the_ledger_is_free_and_says_so(told: Told) -> None:
    """The paid call before an approval is answered from the ledger when the request goes on."""
    paid, replayed = models(told, "approval")
    assert paid.trace_id != replayed.trace_id
    assert paid.total_cost == dollars(told[0].asked["approval"].nanos)
    assert replayed.total_cost == 0
    assert replayed.metadata["bursar.replayed"] is True
    assert not paid.metadata.get("bursar.replayed")
    assert paid.metadata["bursar.call_id"] == replayed.metadata["bursar.call_id"]


def test_an_answer_that_ends_its_agent_has_its_cost(told: Told) -> None:
    """The model asked too often for the same tool call. The answer is refused, and paid all the same."""
    *earlier, last = models(told, "loop")
    assert len(earlier) == 2
    assert last.error
    assert [run.total_cost for run in earlier] == [last.total_cost] * 2
    assert one(told, "loop", "looper").metadata["bursar.why"] == "loop"


def test_a_retried_call_is_one_run_with_one_cost(told: Told) -> None:
    """The attempt that failed is owed nothing."""
    [call] = models(told, "retry")
    assert (call.status, call.total_cost) == ("success", dollars(told[0].asked["retry"].nanos))


def test_input_and_output_costs_add_up(told: Told) -> None:
    """Where a call's cost is split, the parts are the whole."""
    split = [run for run in told[1].of_type("llm") if "input_cost" in run.usage]
    assert split
    for run in split:
        parts = Decimal(str(run.usage["input_cost"])) + Decimal(str(run.usage["output_cost"]))
        assert parts.quantize(NANO) == (run.total_cost or Decimal(0)).quantize(NANO)


def test_what_is_no_model_has_a_run_with_its_cost(told: Told) -> None:
    """Embeddings, a priced function and an action are tools, below the agent that used them."""
    agent = one(told, "tools", "finder")
    tools = [run for run in told[1].below(agent) if run.run_type == "tool"]
    costs = sorted(run.total_cost or Decimal(0) for run in tools)
    asked = told[0].asked["tools"]
    assert len(tools) == 3, told[1].tree(agent.trace_id)
    assert costs == [0, dollars(asked.nanos) - Decimal(LOOKUP_PRICE), Decimal(LOOKUP_PRICE)]
    assert sum("bursar.call_id" in run.metadata for run in tools) == 2
    [action] = [run for run in tools if "bursar.action_key" in run.metadata]
    assert "stamp" in action.name


def test_an_agent_says_how_it_ended_and_what_it_cost(told: Told) -> None:
    """So that LangSmith can filter by outcome, level, reason and cost."""
    story, _ = told
    [run] = story.asked["retry"].result["runs"]
    metadata = one(told, "retry", "flaky").metadata
    assert metadata["ls_agent_type"] == "subagent"
    wanted: dict[str, Any] = {"agent": "flaky", "handler": "flaky", "level": 0, "outcome": "completed", "turns": 1}
    assert {name: metadata[f"bursar.{name}"] for name in wanted} == wanted
    assert float(metadata["bursar.confidence"]) == 0.9
    assert Decimal(str(metadata["bursar.cost_usd"])).quantize(NANO) == dollars(run.cost.nanos)
    assert Decimal(str(metadata["bursar.granted_usd"])) > 0
    assert {"bursar.session_id", "bursar.audit_sequence", "bursar.audit_head"} <= metadata.keys()
    assert metadata["bursar.session_id"] == SESSION


def test_an_agent_that_raised_is_no_green_run(told: Told) -> None:
    """It failed; its fallback, one level up, completed."""
    broken, helper = one(told, "fan-out", "broken"), one(told, "fan-out", "broken.helper")
    assert broken.metadata["bursar.outcome"] == "failed"
    assert broken.is_error
    assert broken.metadata["bursar.reason"]
    assert (helper.metadata["bursar.outcome"], helper.metadata["bursar.level"]) == ("completed", 1)
    assert (helper.metadata["bursar.agent"], helper.metadata["bursar.handler"]) == ("broken", "helper")
    assert not helper.is_error


@pytest.mark.parametrize(
    ("question", "why"), [("budget refusal", "budget"), ("late", "deadline"), ("fan-out", "handler")]
)
def test_an_agent_says_why_it_ended(question: str, why: str, told: Told) -> None:
    """By the names of the limits and faults that the ledger has."""
    name = {"budget refusal": "greedy", "late": "late", "fan-out": "broken"}[question]
    [run] = [run for run in told[0].asked[question].result["runs"] if run.specialist == name and run.level == 0]
    because = run.limit or run.fault
    assert because is not None
    metadata = one(told, question, name).metadata
    assert metadata["bursar.why"] == because.value
    assert (metadata["bursar.outcome"], metadata["bursar.reason"]) == (run.outcome.value, run.reason), why


def test_the_root_has_the_request(told: Told) -> None:
    """Ending, budget, spend and gaps, and whether it goes on with an earlier trace."""
    for name, asked in told[0].asked.items():
        roots = roots_of(told, name)
        for root in roots:
            metadata = root.metadata
            assert metadata["ls_agent_type"] == "root"
            assert metadata["bursar.request_id"] == asked.request
            assert (metadata["thread_id"], metadata["bursar.tenant"]) == (asked.session, "acme")
            assert bool(metadata.get("bursar.resumed")) is (root is not roots[0])
        check_ending(roots[-1], asked)


def check_ending(root: TracedRun, asked: Asked) -> None:
    """The last root of a question has its ending."""
    result, metadata = asked.result, root.metadata
    assert metadata["bursar.ending"] == result["ending"]
    assert metadata["bursar.gaps"] == len(result["gaps"])
    assert Decimal(str(metadata["bursar.budget_usd"])) == Decimal("0.05")
    assert Decimal(str(metadata["bursar.spent_usd"])).quantize(NANO) == dollars(result["spend"].spent.nanos)


def test_the_supervisor_says_whom_it_chose_and_by_which_rule(told: Told) -> None:
    """With what is left; the gate with its rules and its policy."""
    chosen = one(told, "fan-out", "supervisor").metadata
    assert sorted(chosen["bursar.chosen"]) == ["broken", "food", "rent"]
    assert chosen["bursar.rule"]
    assert Decimal(str(chosen["bursar.left_usd"])) > 0
    refused = [run.metadata for run in runs_of(told, "gate refusal") if run.metadata.get("bursar.policy_rules")]
    assert any("no-forbidden" in metadata["bursar.policy_rules"] for metadata in refused)
    assert {metadata["bursar.policy_hash"] for metadata in refused} == {"f" * 64}


def test_a_routers_own_calls_are_not_shown_as_the_conversation(told: Told) -> None:
    """LangSmith's view of messages leaves them out; those of the agents stay."""
    supervisor = one(told, "model router", "supervisor")
    calls = [run for run in told[1].below(supervisor) if run.run_type == "llm"]
    assert calls
    assert all(run.metadata.get("ls_message_view_exclude") for run in calls)
    others = [run for run in models(told, "fan-out") if (run.parent or "") == one(told, "fan-out", "food").id]
    assert others
    assert not any(run.metadata.get("ls_message_view_exclude") for run in others)


def test_an_interrupt_is_no_error(told: Told) -> None:
    """A person was asked. That is how it is meant to be."""
    waiting, done = [run for run in runs_of(told, "approval") if run.name == "transfer"]
    assert not waiting.is_pending
    assert waiting.metadata.get("ls_is_error_interrupt") or not waiting.error
    assert "bursar.outcome" not in waiting.metadata
    assert (done.metadata["bursar.outcome"], done.is_error) == ("completed", False)


def test_thread_and_tenant_are_on_every_run(told: Told) -> None:
    """LangSmith adds up a thread's costs by them."""
    _, server = told
    for run in server.runs():
        assert run.metadata.get("thread_id") in {"s-1", "s-2"}, run.name
        assert run.metadata.get("tenant", run.metadata.get("bursar.tenant")) == "acme", run.name


def test_a_supervisor_inside_another_is_below_it(told: Told) -> None:
    """One trace; its agents and their calls are below the handler that asked, with their costs once."""
    boss = one(told, "nested", "boss")
    names = {run.name for run in told[1].below(boss)}
    assert {"inner", "leaf", "aide"} <= names, told[1].tree(boss.trace_id)
    assert len(roots_of(told, "nested")) == 1
    inner = one(told, "nested", "inner")
    assert inner.metadata["bursar.request_id"] != told[0].asked["nested"].request
    assert inner.metadata["ls_agent_type"] != "root"


def test_confidence_gaps_and_verdicts_are_feedback(told: Told) -> None:
    """So that LangSmith shows them as columns and charts."""
    _, server = told
    keys = {str(feedback.get("key")) for feedback in server.feedback()}
    assert {"bursar.confidence", "bursar.gaps", "bursar.gate"} <= keys
    known = {run.id for run in server.runs()}
    assert all(str(feedback.get("run_id")) in known for feedback in server.feedback())


def test_few_requests_bring_it(told: Told) -> None:
    """Cost, outcome and feedback do not make a request of their own for each run."""
    server = told[1]
    assert len(server.ingested()) < len(server.runs()) / 4
