"""A double of a bank for tests of actions. It records the payments and the undone payments that really happened."""

from typing import Any

from bursar import ActionCall, Happened, Ledger
from bursar.state.events import ActionChanged
from tests.support.graphs import App, build, specialist


class Bank:
    """A bank. `done` has the payments that happened and the payments that were undone, in order.

    A payment raises the next error of `instead` and does not happen, or happens and raises the next error of `after`.
    """

    def __init__(self) -> None:
        self.done: list[str] = []
        self.keys: list[str] = []
        self.after: list[BaseException] = []
        self.instead: list[BaseException] = []

    def pay(self, name: str, key: str = "") -> str:
        """Pay `name` with the idempotency key `key`, and return a text; raise the next error if there is one."""
        if self.instead:
            raise self.instead.pop(0)
        self.done.append(name)
        self.keys.append(key)
        if self.after:
            raise self.after.pop(0)
        return f"{name} paid"

    def undo(self, call: ActionCall) -> None:
        """Record that the call's payment was undone. This is the action's compensation."""
        self.done.append(f"not {call.arguments['name']}")

    def look(self, call: ActionCall) -> Happened | None:
        """Return `Happened` if the bank has a payment with the call's key, otherwise None."""
        return Happened(f"{call.arguments['name']} was paid") if call.key in self.keys else None


def by_name(name: str, cents: int = 0) -> str:
    return name


def states(ledger: Ledger) -> list[str]:
    """Return the states of the session's actions in the log, in order."""
    return [row.event.state for row in ledger.audit("s-1") if isinstance(row.event, ActionChanged)]


def app_of(ledger: Ledger, handler: Any, **settings: Any) -> App:
    """Return a graph with one specialist, `payer`, whose handler is `handler`."""
    return build(ledger, [specialist("payer", handler, **settings)])
