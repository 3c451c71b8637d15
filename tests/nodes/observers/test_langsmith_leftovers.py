"""What a dead process has left in LangSmith: which runs are ended, and which calls are told."""

import json
from datetime import UTC, datetime
from typing import Any
from unittest.mock import MagicMock

import pytest
from langsmith import Client
from langsmith.run_trees import RunTree

from bursar import USD, Ledger
from bursar.checkpoints.ledger.spend import ChargedCall
from bursar.nodes.observers.langsmith_leftovers import Leftovers
from bursar.state.session import Request

NOW = datetime(2026, 11, 23, tzinfo=UTC)
REQUEST = Request(
    id="r-1",
    session_id="s-1",
    tenant="acme",
    text="how much?",
    opened_at=NOW,
    budget=USD("0.03"),
    trace={"langsmith": "t-dead", "langsmith_trace": "t-dead"},
)


def run_of(name: str, *, ended: bool, **metadata: Any) -> dict[str, Any]:
    """Return a run as LangSmith answers with it."""
    end = NOW.isoformat() if ended else None
    return {"id": name, "trace_id": "t-dead", "session_id": "p", "end_time": end, "extra": {"metadata": metadata}}


def call_of(name: str) -> ChargedCall:
    return ChargedCall(name, "talker", "gpt-4o-mini", False, USD("0.001"), NOW)


class Asked:
    """LangSmith's answers to queries, one page each, and what was sent there beside."""

    def __init__(self, *pages: list[dict[str, Any]]) -> None:
        self.pages = list(pages)
        self.sent: list[tuple[str, str, dict[str, Any]]] = []

    def request(self, method: str, path: str, *, request_kwargs: Any) -> Any:
        body = json.loads(request_kwargs["data"])
        if path != "/runs/query":
            self.sent.append((method, path, body))
            return MagicMock(json=dict)
        page = self.pages.pop(0) if self.pages else []
        following = {"next": "2" if self.pages and "trace" in body else None}
        return MagicMock(json=lambda: {"runs": page, "cursors": following})


def clear(asked: Asked, charged: list[ChargedCall], paid: set[str]) -> None:
    """Clear what is left, and wait for it."""
    client, ledger = MagicMock(spec=Client), MagicMock(spec=Ledger)
    client.request_with_retries.side_effect = asked.request
    ledger.run.return_value = charged
    root = RunTree(name="bursar", ls_client=client)
    leftovers = Leftovers(root, REQUEST, ledger, paid, lambda call: RunTree(name=call.call_id, ls_client=client))
    leftovers.clear()
    leftovers.join()


def test_open_runs_are_ended_and_no_other() -> None:
    """All pages of them, with an error that says where the request goes on."""
    asked = Asked([run_of("a", ended=True), run_of("b", ended=False)], [run_of("c", ended=False)])
    clear(asked, [], set())
    assert [(method, path) for method, path, _ in asked.sent] == [("PATCH", "/runs/b"), ("PATCH", "/runs/c")]
    assert all("its process ended; the request goes on in" in body["error"] for _, _, body in asked.sent)
    assert all(body["end_time"] for _, _, body in asked.sent)


@pytest.mark.parametrize(
    ("runs", "paid", "told"),
    [
        ([], set[str](), ["c-1"]),
        (
            [run_of("a", ended=True, **{"bursar.call_id": "c-1", "usage_metadata": {"total_cost": 0.001}})],
            set[str](),
            [],
        ),
        # The process died before it told the cost, or told of an answer from the ledger alone.
        ([run_of("a", ended=False, **{"bursar.call_id": "c-1"})], set[str](), ["c-1"]),
        (
            [run_of("a", ended=True, **{"bursar.call_id": "c-1", "bursar.replayed": True, "usage_metadata": {}})],
            set[str](),
            ["c-1"],
        ),
        ([], {"c-1"}, list[str]()),  # this process has paid it, and tells it itself
    ],
)
def test_what_was_paid_and_not_told_is_told_once(runs: list[Any], paid: set[str], told: list[str]) -> None:
    """So that the costs of the traces are the ledger's."""
    asked = Asked(runs)
    clear(asked, [call_of("c-1")], paid)
    assert [body["name"] for method, _, body in asked.sent if method == "POST"] == told


def test_langsmith_that_is_down_changes_nothing() -> None:
    """Nothing is raised, and nothing is sent."""
    asked = Asked()
    asked.request = MagicMock(side_effect=ConnectionError("down"))
    clear(asked, [call_of("c-1")], set())
    assert asked.sent == []
