"""Intake opens a request's accounts under the configuration of the moment."""

from typing import Any

from bursar import Budget, Ledger, Report, Specialist, SQLAlchemySaver, Task, build_supervisor, deterministic
from bursar.checkpoints.ledger.accounts import left
from bursar.state.events import RequestOpened
from bursar.state.money import USD


@deterministic
def rules(task: Task) -> Report:
    """An answer that costs nothing."""
    return Report(answer="42")


def ask(ledger: Ledger, budget: Budget, message: str) -> RequestOpened:
    """Ask under a budget; what the log says of the request's opening."""
    url = ledger.database.url.render_as_string(hide_password=False)
    tax = Specialist(name="tax", description="tax", handler=rules, examples=["my tax", "taxes", "how much tax"])
    app: Any = build_supervisor([tax], budget=budget, ledger=ledger, checkpointer=SQLAlchemySaver(url))
    app.invoke({"messages": [("user", message)]}, {"configurable": {"thread_id": "s-1", "tenant": "acme"}})
    return [row.event for row in ledger.audit("s-1") if isinstance(row.event, RequestOpened)][-1]


def test_a_total_is_the_outermost_account(ledger: Ledger) -> None:
    """Where the budget has a total, a request is charged to the account of the whole ledger; else to none such."""
    without = ask(ledger, Budget("0.03", per_session="1"), "my tax")
    assert [scope.partition(":")[0] for scope in without.caps] == ["tenant", "session"]
    capped = ask(ledger, Budget("0.03", per_session="1", total="50"), "my taxes")
    assert next(iter(capped.caps)) == "global"
    assert capped.caps["global"] == USD(50)
    assert ledger.run(left, ["global"]) == USD(50).nanos
    assert ledger.verify()


def test_a_session_follows_the_budget(ledger: Ledger) -> None:
    """A session's cap is that of the budget its newest request was opened under; what was granted stays on top."""
    ask(ledger, Budget("0.03", per_session="1"), "my tax")
    ledger.top_up("s-1", "0.50")
    ask(ledger, Budget("0.03", per_session="2"), "my taxes")
    assert ledger.spend("s-1").budget == USD("2.50")
    assert ledger.verify()
