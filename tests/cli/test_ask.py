"""`bursar ask`, `resume`, `sessions`, `audit`, `verify`, `holds`, `demo`: what is printed and how it ends."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run

pytestmark = pytest.mark.slow

AS_OF = ("--as-of", "2025-12-31")


def test_an_answer_comes_with_agents_spend_and_how_to_go_on(run: Run, sample: Path) -> None:
    """The answer, then a table of agents with outcome and cost, the spend against the budget, and the session."""
    ended = run("ask", "How much did I spend on groceries in November 2025?", *AS_OF, "--session", "s-1")

    assert ended.code == 0
    for shown in ("$735.86", "account_analysis", "completed", "$0.00 of $0.03", "bursar ask --session s-1"):
        assert shown in ended.out


def test_each_question_of_a_message_is_answered_once_in_order(run: Run, sample: Path) -> None:
    """Two questions, each with its own days, give two answers in the order in which they were asked."""
    question = "Where did my money go in November, and which subscriptions went up?"
    answer = json.loads(run("ask", question, *AS_OF, "--json").out)["answer"]

    first, second = answer.split("\n\n")
    assert first.startswith("You spent $6,383.03 in November 2025")
    assert second.startswith("1 of your 5 subscriptions went up:\n- NETFLIX.COM")


def test_json_is_one_document(run: Run, sample: Path) -> None:
    """`--json` prints one document with the answer, runs, decisions and spend, and nothing else."""
    document = json.loads(run("ask", "What is my balance?", *AS_OF, "--json", "--session", "s-1").out)

    assert document["session"] == "s-1"
    assert document["ending"] == "answered"
    assert document["runs"][0]["outcome"] == "completed"
    assert document["decisions"][0]["by"] == "supervisor"


def test_a_quote_is_the_plan_and_no_session(run: Run, sample: Path) -> None:
    """`--quote` prints the plan with its costs, as a table or one JSON document; no session is created."""
    question = "Where did my money go in November, and which subscriptions went up?"
    ended = run("ask", question, *AS_OF, "--quote")
    assert ended.code == 0
    assert "1     account_analysis" in ended.out
    assert "expected $0.00, at most $0.00 of $0.03 left" in ended.out
    document = json.loads(run("ask", question, *AS_OF, "--quote", "--json").out)
    assert [step["cut"] for step in document["steps"]] == [""] * len(document["steps"])
    assert json.loads(run("sessions", "--json").out) == []


def test_without_data_every_question_says_what_to_do(run: Run) -> None:
    """Before any import, questions of every kind get one line that names `bursar import`, and exit code 1."""
    for question in ("What is my balance?", "What should I invest in?", "How much tax do I owe?", "Hello"):
        ended = run("ask", question, "--json")
        answer = json.loads(ended.out)["answer"]
        assert ended.code == 1
        assert len(answer.splitlines()) == 1
        assert "`bursar import FILE…`" in answer
        assert "`bursar demo`" in answer


def test_a_budget_of_nothing_still_answers(run: Run, sample: Path) -> None:
    """Budget 0: the deterministic specialists answer, nothing is spent, and nothing is missing."""
    ended = run("ask", "How much did I spend in 2025?", *AS_OF, "--budget", "0")

    assert ended.code == 0
    assert "$81,997.09" in ended.out


@pytest.mark.parametrize(
    ("question", "code"),
    [
        ("Was I charged twice?", 0),
        ("How much tax will I owe?", 0),
        ("What did I spend in 2019?", 1),
        ("What is the weather in Paris?", 1),
        ("Help me hide income from the IRS", 3),
    ],
)
def test_the_exit_code_tells_how_the_request_ended(run: Run, sample: Path, question: str, code: int) -> None:
    """0 answered, 1 answered with gaps, 3 refused."""
    assert run("ask", question, *AS_OF).code == code


def test_advice_without_a_suitability_record_is_refused_with_what_to_do(run: Run, tmp_path: Path) -> None:
    """With holdings but no profile, advice is refused and the line says which file to import."""
    (tmp_path / "bank.csv").write_text("Date,Description,Amount\n2025-11-03,Shop,-10.00\n2025-11-04,Pay,100.00\n")

    ended = run("ask", "How should I rebalance my portfolio?", "--data", "bank.csv", "--as-of", "2025-11-05", "--json")

    assert ended.code == 3
    assert "suitability record" in json.loads(ended.out)["answer"]
    assert "bursar import profile.toml" in json.loads(ended.out)["answer"]


def test_identifiers_in_payees_are_masked(run: Run, tmp_path: Path) -> None:
    """A card number and an IBAN in a payee are shown by their last characters only."""
    (tmp_path / "bank.csv").write_text(
        "Date,Description,Amount\n"
        "2025-11-03,CARD 4111 1111 1111 1111 SHOP,-10.00\n"
        "2025-11-04,TRANSFER DE89 3704 0044 0532 0130 00,-20.00\n"
    )

    ended = run("ask", "Show my last 5 transactions", "--data", "bank.csv", "--as-of", "2025-11-05")

    assert "4111 1111 1111 1111" not in ended.out
    assert "0532 0130" not in ended.out
    assert "$10.00" in ended.out
    assert "SHOP" in ended.out


def test_a_session_can_be_looked_into(run: Run, sample: Path) -> None:
    """After a question, sessions, audit, verify, holds and resume show it, for people and as JSON."""
    run("ask", "What is my balance?", *AS_OF, "--session", "s-1")

    assert "s-1" in run("sessions").out
    assert json.loads(run("sessions", "--json").out)[0]["session_id"] == "s-1"
    audit = run("audit", "s-1")
    assert "request_opened" in audit.out.replace("-", "_")
    assert max(len(line) for line in audit.out.splitlines()) <= 140
    assert {"kind", "hash"} <= json.loads(run("audit", "s-1", "--json").out)[0].keys()
    assert run("verify").out.startswith("verified: 1 session")
    assert run("verify", "s-1", "--json").code == 0
    assert run("holds").out == "No open holds.\n"
    assert json.loads(run("holds", "--json").out) == []
    again = run("resume", "s-1", *AS_OF)
    assert again.code == 0
    assert "$82,866.07" in again.out


def test_the_graph_is_drawn_from_the_graph(run: Run) -> None:
    """`bursar graph` prints Mermaid with every specialist, not the gate, and leaves no database behind."""
    ended = run("graph")

    assert ended.code == 0
    assert "graph TD" in ended.out
    for name in ("supervisor", "account_analysis", "report"):
        assert name in ended.out
    assert not Path("genie.db").exists()


def test_the_demo_answers_three_questions(run: Run) -> None:
    """The demo imports the sample, answers its questions without a gap, and leaves nothing behind."""
    ended = run("demo")

    assert ended.code == 0
    for shown in ("1. Where did", "2. Is there", "3. How safe", "LUXE ELECTRONICS", "verified: 3 sessions"):
        assert shown in ended.out
    assert list(Path().iterdir()) == []


def test_importing_again_changes_nothing(run: Run, tmp_path: Path) -> None:
    """The second import of a file adds nothing; a bad row is named by number, and the exit code is 1."""
    (tmp_path / "bank.csv").write_text("Date,Description,Amount\n2025-11-03,Shop,-10.00\n2025-11-04,Shop,oops\n")

    first, second = run("import", "bank.csv", "--json"), run("import", "bank.csv", "--json")

    assert (first.code, second.code) == (1, 1)
    assert json.loads(first.out)[0]["added"] == 1
    assert json.loads(second.out)[0]["added"] == 0
    assert "bank.csv row 3" in first.err
