"""The head of the log in the trace: an anchor that whoever can write the database cannot reach."""

from datetime import UTC, datetime
from typing import Any
from unittest.mock import MagicMock

import pytest
from langchain_core.tracers.langchain import LangChainTracer
from langsmith import Client

from bursar import Budget, Ledger, Report, Specialist, Task, build_supervisor, deterministic
from bursar.checkpoints.ledger.anchors import Anchor, Head
from tests.support.tracing.telemetry import Remembered

NOW = datetime(2026, 11, 23, tzinfo=UTC)


@deterministic
def rules(task: Task) -> Report:
    """The one specialist's handler."""
    return Report(answer="by rules", confidence=0.9)


@pytest.fixture
def ledger(tmp_path: Any) -> Ledger:
    """A keyed ledger on a file."""
    return Ledger(f"sqlite:///{tmp_path}/books.db", key=b"a key of the tests")


def ask(ledger: Ledger, config: dict[str, Any]) -> None:
    specialist = Specialist(name="food", description="food", handler=rules, examples=["food", "what do I eat"])
    app: Any = build_supervisor([specialist], budget=Budget(per_request="0.03"), ledger=ledger)
    app.invoke({"messages": [("user", "food")]}, {"configurable": {"thread_id": "s-1"}, **config})


def check(ledger: Ledger, attributes: Any) -> None:
    """The attributes are an anchor that the log agrees with, and that another log does not."""
    head = Head(
        session_id=attributes["bursar.session_id"],
        sequence=attributes["bursar.audit_sequence"],
        hash=attributes["bursar.audit_head"],
    )
    [row] = [row for row in ledger.audit("s-1") if row.sequence == head.sequence]
    assert (row.kind, row.hash) == ("run_ended", head.hash)
    assert ledger.verify("s-1", anchor=Anchor(at=NOW, keyed=True, heads=(head,)))
    other = head.model_copy(update={"hash": "0" * 64})
    assert not ledger.verify("s-1", anchor=Anchor(at=NOW, keyed=True, heads=(other,)))


def test_the_agents_span_has_the_head(ledger: Ledger, telemetry: Remembered) -> None:
    """OpenTelemetry gets session, sequence and hash of the event that ended the run."""
    ask(ledger, {})
    [span] = telemetry.doing("invoke_agent")
    assert span.name == "invoke_agent food"
    check(ledger, span.attributes)


def test_langsmiths_run_has_the_head(ledger: Ledger) -> None:
    """Where LangSmith traces, the node's run gets the same as metadata."""
    client = MagicMock(spec=Client)
    tracer = LangChainTracer(client=client)
    ask(ledger, {"callbacks": [tracer]})
    told: list[Any] = [call.kwargs for call in client.update_run.call_args_list + client.create_run.call_args_list]
    metadata = [dict[str, Any](one.get("extra") or {}).get("metadata", {}) for one in told]
    found = [one for one in metadata if "bursar.audit_head" in one]
    assert found
    check(ledger, found[0])
