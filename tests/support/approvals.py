"""Helpers for tests of approvals: a double that pays and counts, and the answers of a person who approves."""

from contextlib import suppress
from typing import Any

from langgraph.types import Command

from bursar import ApprovalRequest, Approve, Ledger, Report, Specialist, Task
from bursar.state.errors import SessionBusy
from bursar.state.events import Approval
from tests.support.graphs import session, specialist


class Teller:
    """A double whose `handler` pays. `paid` has the name of the specialist that made each payment."""

    def __init__(self) -> None:
        self.paid: list[str] = []

    def handler(self, task: Task) -> Report:
        """Add the task's specialist to `paid`, without asking for approval."""
        self.paid.append(task.specialist)
        return Report(answer=f"{task.specialist} paid")


def shown(result: Any) -> list[ApprovalRequest]:
    """Return the approval requests that an interrupted graph shows."""
    return [one.value for one in result["__interrupt__"]]


def approve(result: Any, by: str = "ann") -> Command[Any]:
    """Return the command that approves the only request that the graph shows."""
    (request,) = shown(result)
    return Command(resume=Approve(subject_hash=request.subject_hash, by=by))


def approve_all(result: Any, by: str = "ann") -> Command[Any]:
    """Return the command that approves every approval request that the graph shows."""
    shows = result["__interrupt__"]
    return Command(resume={one.id: Approve(subject_hash=one.value.subject_hash, by=by) for one in shows})


def risky(teller: Teller, *names: str) -> list[Specialist]:
    """Return specialists of high risk with these names (by default `transfer`), whose handler is the teller's."""
    return [specialist(name, teller.handler, risk="high") for name in names or ("transfer",)]


def verdicts(ledger: Ledger, name: str = "s-1") -> list[str]:
    """Return the approvals' verdicts in a session's log, in order."""
    return [row.event.verdict for row in ledger.audit(name) if isinstance(row.event, Approval)]


def unless_busy(app: Any, answer: Any) -> Any:
    """Resume the session with `answer` and return the result; return None if another resume has the session."""
    # Race: another resume may hold the session's lease. The caller starts several, and any of them may win.
    with suppress(SessionBusy):
        return app.invoke(answer, session())
