"""The ledger's commands, as typed."""

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from typer.testing import CliRunner, Result

from bursar.checkpoints.ledger import actions, approvals, postings, requests
from bursar.checkpoints.ledger.accounts import Account
from bursar.checkpoints.ledger.actions import ActionIntent
from bursar.checkpoints.ledger.approvals import ApprovalQuery
from bursar.checkpoints.ledger.calls import Hold, Usage
from bursar.checkpoints.ledger.ledger import Ledger
from bursar.cli.main import make_app
from bursar.state.approval import ApprovalRequest
from bursar.state.decision import Decision, Step
from bursar.state.errors import ConfigurationError, LedgerError
from bursar.state.events import Decided, Planned, RunEnded
from bursar.state.money import USD
from bursar.state.refusals import NotApproved
from bursar.state.run import Outcome, Task
from tests.support.graphs import PayingRouter, answer_of, ask, build, free, priced, scripted, session, words

NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
CENT = 10_000_000
SCOPES = ("session:s-1", "request:r-1")


@pytest.fixture
def books(tmp_path: Path, migrated_file: Path) -> Iterator[Ledger]:
    """An unkeyed ledger with one call that cost $0.02 on a hold of $0.01."""
    ledger = Ledger(f"sqlite:///{shutil.copy(migrated_file, tmp_path)}", clock=lambda: NOW)
    run = ledger.run
    run(requests.open_session, "s-1", "acme", at=NOW)
    accounts = [Account(scope, 3 * CENT) for scope in SCOPES]
    run(requests.open_request, "s-1", "r-1", accounts=accounts, text_hash="t", at=NOW)
    run(postings.hold, Hold("c-1", "s-1", "r-1", "tax", "ns", "hash", 0, "gpt", "p", CENT, SCOPES, NOW))
    run(postings.settle, "c-1", cost=2 * CENT, usage=Usage(10, 2, 5), saved=CENT // 2, response=b"answer", at=NOW)
    yield ledger
    ledger.database.close()


def bursar(ledger: Ledger, *arguments: str) -> Result:
    """Run a command on the ledger's database."""
    return CliRunner().invoke(make_app(), [*arguments, "--database", str(ledger.database.url)])


def test_costs(books: Ledger) -> None:
    """Costs come as a table or as JSON, divided as asked, within days."""
    table = bursar(books, "costs").stdout
    assert all(word in table for word in ("tax", "cached", "50.0%", "cache saved", "$0.005"))
    rows = json.loads(bursar(books, "costs", "s-1", "--by", "day", "--json").stdout)
    assert [(row["cache_hit_rate"], row["cache_saved"]) for row in rows] == [("0.5000", "0.005000000")]
    assert [(row["day"], row["spent"], row["calls"]) for row in rows] == [("2026-11-23", "0.020000000", 1)]
    assert bursar(books, "costs", "--start", "2026-11-24").stdout == "Nothing was spent.\n"
    assert "2026-11-23" not in bursar(books, "costs", "--by", "day", "--end", "2026-11-23").stdout


def test_costs_beside_what_was_expected(books: Ledger) -> None:
    """What runs cost stands beside what they were expected to cost, as a table or as JSON."""
    assert bursar(books, "costs", "--quoted").stdout == "No run was planned.\n"
    step = Step(name="tax", specialist="tax", allowance=USD("0.03"), expects=USD("0.015"))
    ran = {"specialist": "tax", "handler": "tax", "level": 0, "outcome": Outcome.COMPLETED, "reason": "", "step": "tax"}
    for event in (
        Planned(request_id="r-1", by="guardian", round=1, steps=(step,)),
        RunEnded.model_validate({"request_id": "r-1", "cost": USD("0.02"), "milliseconds": 1, **ran}),
    ):
        books.run(postings.record, "s-1", event, at=NOW)
    assert "$0.015" in bursar(books, "costs", "--quoted").stdout
    assert json.loads(bursar(books, "costs", "s-1", "--quoted", "--json").stdout) == [
        {"agent": "tax", "runs": 1, "expected": "0.015000000", "real": "0.020000000"}
    ]


def test_gains_of_cascades(books: Ledger) -> None:
    """How often the answers of rungs were accepted stands in a table or as JSON."""
    assert bursar(books, "costs", "--gain").stdout == "No cascade has asked a rung.\n"
    for number, accepted in enumerate([True, False]):
        decision = Decision(
            kind="cascade", by="tax", rule="x", left=USD(0), rung="gpt-4o", accepted=accepted, cost=USD("0.002")
        )
        event = Decided(request_id=f"r-{number}", decision=decision)
        books.run(postings.record, "s-1", event, at=NOW)
    assert "gpt-4o" in bursar(books, "costs", "--gain").stdout
    assert json.loads(bursar(books, "costs", "--gain", "--json").stdout) == [
        {
            "specialist": "tax",
            "segment": "",
            "rung": "gpt-4o",
            "asked": 2,
            "accepted": 1,
            "gain": "0.318182",
            "mean_cost": "0.002000000",
            "saved": "0.000000000",
        }
    ]


def test_costs_that_are_expected(books: Ledger) -> None:
    """What an agent is expected to take: medians of its completed runs, and how long its whole answers are."""
    assert bursar(books, "costs", "--expected").stdout == "No agent has completed anything.\n"
    books.run(requests.open_session, "s-2", "acme", at=NOW)
    books.run(requests.open_request, "s-2", "r-2", accounts=[Account("request:r-2", 1)], text_hash="t", at=NOW)
    books.run(postings.hold, Hold("c-2", "s-2", "r-2", "tax", "ns", "two", 0, "gpt", "p", 1, ("request:r-2",), NOW))
    books.run(postings.settle, "c-2", cost=1, usage=Usage(10, 70), response=b"answer", at=NOW, whole=True)
    for turns, cost in ((1, "0.01"), (4, "0.02"), (2, "0.06")):
        ran = {"specialist": "tax", "handler": "tax", "level": 0, "outcome": Outcome.COMPLETED, "reason": ""}
        end = {"request_id": "r-1", "cost": USD(cost), "milliseconds": 1, "turns": turns, "step": "tax", **ran}
        books.run(postings.record, "s-2", RunEnded.model_validate(end), at=NOW)
    assert json.loads(bursar(books, "costs", "--expected", "--json").stdout) == [
        {
            "agent": "tax",
            "model": "gpt",
            "runs": 3,
            "cost": "0.020000000",
            "turns": 2,
            "answers": 1,
            "output_p50": 70,
            "output_p99.5": 70,
        }
    ]
    shown = bursar(books, "costs", "--expected").stdout
    assert "output p99.5" in shown
    assert "$0.02" in shown


def test_an_incident_is_listed_and_acknowledged(books: Ledger) -> None:
    """Incidents say which session they keep closed; an acknowledgement opens it and stays with its note."""
    assert "the session is closed; acknowledge it" in bursar(books, "incidents").stdout
    done = bursar(books, "acknowledge", "s-1", "--note", "reported")
    assert done.stdout.startswith("s-1 is open again; acknowledged: call c-1: cost $0.02, above its hold of $0.01")
    (row,) = json.loads(bursar(books, "incidents", "s-1", "--json").stdout)
    assert (row["call_id"], row["closes"], row["note"]) == ("c-1", False, "reported")
    assert isinstance(bursar(books, "acknowledge", "s-1", "--note", "again").exception, LedgerError)


def test_verify_against_an_anchor(books: Ledger, tmp_path: Path) -> None:
    """An anchor in a file agrees with its log, not with one that was cut; without a key the answer says so."""
    file = tmp_path / "anchor.json"
    file.write_text(bursar(books, "anchor").stdout)
    good = bursar(books, "verify", "s-1", "--anchor", str(file))
    assert (good.exit_code, "unkeyed" in good.stdout) == (0, True)
    cut = "UPDATE bursar_sessions SET sequence = 0, head = '" + "0" * 64 + "'"
    books.database.run(lambda c: [c.execute(text(sql)) for sql in ("DELETE FROM bursar_events", cut)])
    bad = bursar(books, "verify", "--anchor", str(file))
    assert (bad.exit_code, "the log was cut" in bad.stdout) == (3, True)


def test_an_anchor_must_be_one(books: Ledger, tmp_path: Path) -> None:
    """A file that holds no anchor, or is not there, is refused in one line."""
    file = tmp_path / "anchor.json"
    file.write_text("{}")
    assert isinstance(bursar(books, "verify", "--anchor", str(file)).exception, ConfigurationError)
    assert isinstance(bursar(books, "verify", "--anchor", str(tmp_path / "none")).exception, FileNotFoundError)


def test_top_up_and_erase(books: Ledger) -> None:
    """A request is topped up and a session's answers erased, each with a note in the log."""
    assert bursar(books, "top-up", "r-1", "0.05", "--note", "go on").stdout == "request:r-1 may spend $0.05 more.\n"
    assert bursar(books, "erase", "s-1").stdout == "1 answer erased; made again, such a call is paid again.\n"
    assert [row.kind for row in books.audit("s-1")][-2:] == ["topped_up", "erased"]
    assert books.verify()


def test_a_person_approves_or_denies(books: Ledger) -> None:
    """What waits is listed and answered by its id, in words or JSON; an answer that comes too late is refused."""
    for number, hours in enumerate((1, 1, -1)):
        request = ApprovalRequest(
            approval_id="",
            session_id="s-1",
            request_id="r-1",
            request="pay",
            specialist="payer",
            what=f"payer pays {number}",
            arguments={"cents": 500},
            expires_at=datetime.now(UTC) + timedelta(hours=hours),
        )
        books.run(approvals.ask, ApprovalQuery(request, f"payer:{number}"), at=NOW)
    listed = bursar(books, "approvals").stdout
    assert "payer pays 1 cents=500" in listed
    rows = json.loads(bursar(books, "approvals", "s-1", "--json").stdout)
    ids = {row["shown"]["what"][-1]: row["approval_id"] for row in rows}
    done = bursar(books, "approve", ids["0"], "--by", "ann").stdout
    assert done == f"{ids['0']} is approved by ann; resume s-1.\n"
    denied = json.loads(bursar(books, "deny", ids["1"], "--by", "ann", "--reason", "too dear", "--json").stdout)
    assert (denied["state"], denied["by"]) == ("denied", "ann")
    assert isinstance(bursar(books, "approve", ids["2"], "--by", "ann").exception, NotApproved)
    assert isinstance(bursar(books, "approve", ids["0"], "--by", "bob").exception, NotApproved)
    assert isinstance(bursar(books, "deny", "a-none", "--by", "bob").exception, LedgerError)
    assert bursar(books, "approvals").stdout == "Nothing waits for approval.\n"
    assert books.verify("s-1"), str(books.verify("s-1"))


def test_a_raise_of_a_budget_is_listed_and_approved(ledger: Ledger) -> None:
    """What was spent, what the next call needs and the raise are on the screen; the session then goes on."""
    model = priced(scripted(*[words(5)] * 10))

    def pay(task: Task) -> str:
        return " ".join(model.invoke(f"call {number}").text for number in range(5))

    agent = free("a", pay, ceiling="0.03")
    app = build(ledger, [agent], router=PayingRouter(model), on_exhausted="ask", approvers=["ann"])
    ask(app)
    listed = " ".join(bursar(ledger, "approvals").stdout.split())
    assert "raise the request's budget of $0.03 by $0.015: the next call of a" in listed
    assert "needs $0.005, and $0.00 is left" in listed
    (row,) = json.loads(bursar(ledger, "approvals", "--json").stdout)
    assert (row["shown"]["budget_raise"]["spent"], row["action"]) == ("0.030000000", "raise the budget")
    done = bursar(ledger, "approve", row["approval_id"], "--by", "ann").stdout
    assert done == f"{row['approval_id']} is approved by ann; resume s-1.\n"
    assert answer_of(app.invoke(None, session())) == words(25)


def test_an_action_in_doubt_is_listed_and_settled(books: Ledger) -> None:
    """Actions that have not ended are listed with why; a person settles them with a name and a note."""
    assert bursar(books, "actions").stdout == "Every action has ended.\n"
    run = books.run
    for key in ("k-1", "k-2"):
        run(actions.intend, ActionIntent(key, "s-1", "r-1", "payer", "ns", "pay", b"{}", False, "h|1|1|x", NOW), at=NOW)
        run(actions.doubt, key, attempt="h|1|1|x", reason="its process died", at=NOW)
    assert "in doubt" in bursar(books, "actions", "s-1").stdout
    rows = json.loads(bursar(books, "actions", "--json").stdout)
    assert {(row["key"], row["reason"]) for row in rows} == {("k-1", "its process died"), ("k-2", "its process died")}
    asked = ("--by", "ann", "--note", "seen in the bank")
    assert bursar(books, "settle-action", "k-1", "--done", *asked).stdout == "k-1 is settled: done.\n"
    told = json.loads(bursar(books, "settle-action", "k-2", "--not-done", *asked, "--json").stdout)
    assert told == {"action": "k-2", "state": "void"}
    assert isinstance(bursar(books, "settle-action", "k-2", "--done", *asked).exception, LedgerError)
    assert books.verify("s-1"), str(books.verify("s-1"))
