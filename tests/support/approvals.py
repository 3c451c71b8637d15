"""What tests of approvals share: a teller who counts, and a person's answers."""

from contextlib import suppress
from typing import Any

from langgraph.types import Command

from bursar import ApprovalRequest, Approve, Ledger, Report, Specialist, Task
from bursar.state.errors import SessionBusy
from bursar.state.events import Approval
from tests.support.graphs import session, specialist


class Teller:
    """Pays when it is told to, and counts."""

    def __init__(self) -> None:
        self.paid: list[str] = []

    def handler(self, task: Task) -> Report:
        """Pay at once."""
        self.paid.append(task.specialist)
        return Report(answer=f"{task.specialist} paid")


def shown(result: Any) -> list[ApprovalRequest]:
    """What a stopped graph shows."""
    return [one.value for one in result["__interrupt__"]]


def approve(result: Any, by: str = "ann") -> Command[Any]:
    """Approve the one thing that is shown."""
    (request,) = shown(result)
    return Command(resume=Approve(subject_hash=request.subject_hash, by=by))


def risky(teller: Teller, *names: str) -> list[Specialist]:
    """Specialists of high risk."""
    return [specialist(name, teller.handler, risk="high") for name in names or ("transfer",)]


def verdicts(ledger: Ledger, name: str = "s-1") -> list[str]:
    """The verdicts in a session's log."""
    return [row.event.verdict for row in ledger.audit(name) if isinstance(row.event, Approval)]


def unless_busy(app: Any, answer: Any) -> Any:
    """Resume, or find that another resume runs just now."""
    with suppress(SessionBusy):
        return app.invoke(answer, session())
