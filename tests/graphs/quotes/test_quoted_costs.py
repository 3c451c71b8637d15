"""The books compare what runs were expected to cost with what they cost."""

from datetime import timedelta

from bursar import USD, Ledger
from bursar.checkpoints.ledger.costs import QuotedCostRow
from tests.graphs.quotes.test_quotes import ASKED, answers, paying, quoting, raises
from tests.support.clock import NOON, Clock
from tests.support.graphs import ask, session, specialist


def test_each_agents_runs_are_compared_with_their_quotes(any_ledger: Ledger) -> None:
    """The sums of what was quoted and of what was paid, of all sessions or one, of all days or some."""
    clock = Clock()
    app = quoting(any_ledger, [specialist("a", paying(2, 5), ceiling="0.01", expected_cost="0.004")], clock=clock)
    quoted = app.quote(ASKED, session()).expected
    ask(app)
    assert any_ledger.quoted_costs() == [QuotedCostRow("a", 1, quoted, USD("0.002"))]
    ask(app, name="s-2")
    assert any_ledger.quoted_costs() == [QuotedCostRow("a", 2, USD("0.008"), USD("0.007"))]
    assert any_ledger.quoted_costs(session="s-2") == [QuotedCostRow("a", 1, USD("0.004"), USD("0.005"))]
    assert any_ledger.quoted_costs(session="s-2")[0].as_dict() == {
        "agent": "a",
        "runs": 1,
        "expected": "0.004000000",
        "real": "0.005000000",
    }
    assert any_ledger.quoted_costs(start=NOON + timedelta(days=1)) == []
    assert any_ledger.quoted_costs(end=NOON.date()) == []


def test_what_was_cut_has_no_quote(any_ledger: Ledger) -> None:
    """A step that starts with its fallback is not compared; one that fails is, at what it cost."""
    agents = [
        specialist("a", answers, ceiling="0.02", expected_cost="0.02"),
        specialist("b", answers, ceiling="0.02", expected_cost="0.02"),
        specialist("c", raises, ceiling="0.02", expected_cost="0.001"),
    ]
    ask(quoting(any_ledger, agents))
    compared = [(row.agent, row.runs, str(row.expected), str(row.real)) for row in any_ledger.quoted_costs()]
    assert compared == [("a", 1, "$0.02", "$0.00"), ("c", 1, "$0.001", "$0.00")]
