"""A double of a bank, which keeps its own books of what happened in the world."""

from typing import Any

from bursar import ActionCall, Happened, Ledger
from bursar.state.events import ActionChanged
from tests.support.graphs import App, build, specialist


class Bank:
    """A bank: `done` is what happened, in order. The next payments raise the errors in `instead` or `after`.

    An error in `instead` is raised in place of the payment, an error in `after` once the payment was made.
    """

    def __init__(self) -> None:
        self.done: list[str] = []
        self.keys: list[str] = []
        self.after: list[BaseException] = []
        self.instead: list[BaseException] = []

    def pay(self, name: str, key: str = "") -> str:
        """Pay `name` with the idempotency key `key`, or raise the next error."""
        if self.instead:
            raise self.instead.pop(0)
        self.done.append(name)
        self.keys.append(key)
        if self.after:
            raise self.after.pop(0)
        return f"{name} paid"

    def undo(self, call: ActionCall) -> None:
        """Undo the call's payment: a compensation."""
        self.done.append(f"not {call.arguments['name']}")

    def look(self, call: ActionCall) -> Happened | None:
        """Return that the call's payment happened, or None if the bank has no payment with its key."""
        return Happened(f"{call.arguments['name']} was paid") if call.key in self.keys else None


def by_name(name: str, cents: int = 0) -> str:
    return name


def states(ledger: Ledger) -> list[str]:
    """Return the states of the session's actions in the log, in order."""
    return [row.event.state for row in ledger.audit("s-1") if isinstance(row.event, ActionChanged)]


def app_of(ledger: Ledger, handler: Any, **settings: Any) -> App:
    """Return a graph of one specialist, `payer`, with this handler."""
    return build(ledger, [specialist("payer", handler, **settings)])
