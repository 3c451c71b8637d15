"""What an exception says is for the operator: the user reads which agent failed, how, and a reference to the log."""

import logging
import re
from typing import Any

import pytest

from bursar import Ledger, Report, Task
from bursar.nodes.routers.base import Scores
from bursar.state.events import RunEnded
from tests.support.graphs import answer_of, ask, build, first_run, free, priced, scripted, specialist

SECRETS = ("hunter2", "10.0.0.5", "SELECT", "sk-live")
REFERENCE = re.compile(r"\(reference ([0-9a-f]{8})\)")


def _fails(task: Task) -> Report:
    raise RuntimeError("postgresql://svc:hunter2@10.0.0.5/crm: SELECT 1; Authorization: Bearer sk-live-123")


def _logged(ledger: Ledger, session: str = "s-1") -> str:
    return next(row.event.reason for row in ledger.audit(session) if isinstance(row.event, RunEnded))


def test_the_user_reads_the_kind_and_the_operator_the_text(
    any_ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    """One reference leads from the answer to the audit log and the logger; known secrets are in none of them."""
    with caplog.at_level(logging.WARNING, "bursar"):
        result = ask(build(any_ledger, [free("crm", _fails)]))
    seen = answer_of(result) + str(result["gaps"]) + first_run(result, "crm").reason
    assert not [secret for secret in SECRETS if secret in seen]
    assert result["gaps"][0].startswith("crm: it failed with an error (reference ")
    found = REFERENCE.search(result["gaps"][0])
    assert found is not None
    for operators in (_logged(any_ledger), caplog.text):
        assert found[0] in operators
        assert "RuntimeError: postgresql://***@10.0.0.5/crm: SELECT 1; Authorization: Bearer ***" in operators
        assert "hunter2" not in operators


def test_a_reference_belongs_to_one_agent_of_one_request(ledger: Ledger) -> None:
    """Two agents, and two requests, have references of their own."""
    app = build(ledger, [free("crm", _fails), free("erp", _fails)])
    gaps = [*ask(app)["gaps"], *ask(app)["gaps"]]
    assert len({REFERENCE.findall(gap)[0] for gap in gaps}) == 4


def test_a_developer_reads_the_text_if_he_asks_for_it(ledger: Ledger) -> None:
    """With `show_errors` the answer quotes the exception; known secrets are masked there too."""
    result = ask(build(ledger, [free("crm", _fails)], show_errors=True))
    assert "RuntimeError: postgresql://***@10.0.0.5/crm: SELECT 1" in answer_of(result)
    assert "hunter2" not in answer_of(result)


def test_a_providers_text_is_not_shown(ledger: Ledger) -> None:
    """The user reads that the provider of the agent's model failed."""
    with scripted(RuntimeError("https://me:pw@api/v1?key=sk-9 500")) as model:
        result = ask(build(ledger, [specialist("a", priced(model))]))
    assert "a: the provider of its model failed (reference " in answer_of(result)
    assert "sk-9" not in answer_of(result) + _logged(ledger)


def test_a_routers_text_is_not_shown(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    """The gap names the router and a reference; the operator reads in the log what it raised."""

    class Broken:
        free = True

        async def route(self, text: str, candidates: Any) -> Scores:
            raise ValueError("hunter2")

    with caplog.at_level(logging.WARNING, "bursar"):
        result = ask(build(ledger, [free("food", lambda task: "fine")], router=Broken()))
    seen = answer_of(result) + str(result["gaps"]) + str(result["decisions"])
    assert "the router failed: ValueError (reference " in seen
    assert "hunter2" not in seen
    assert "ValueError: hunter2" in caplog.text


def test_bursars_own_refusals_stay_readable(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    """What Bursar itself says of a budget is for the user, and nothing of it is a warning in the log."""
    with scripted() as model, caplog.at_level(logging.WARNING, "bursar"):
        result = ask(build(ledger, [specialist("a", priced(model, words=10_000))]))
    assert "is left" in first_run(result).reason
    assert "reference" not in answer_of(result)
    assert caplog.text == ""
