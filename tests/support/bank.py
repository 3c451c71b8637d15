"""A bank that is told to pay, and keeps its own books of what was done in the world."""

from typing import Any

from bursar import ActionCall, Happened, Ledger
from bursar.state.events import ActionChanged
from tests.support.graphs import App, build, specialist


class Bank:
    """What was done in the world, in order; `faults` are raised after the next payments were made or instead."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.keys: list[str] = []
        self.after: list[BaseException] = []
        self.instead: list[BaseException] = []

    def pay(self, name: str, key: str = "") -> str:
        """Pay, or raise."""
        if self.instead:
            raise self.instead.pop(0)
        self.done.append(name)
        self.keys.append(key)
        if self.after:
            raise self.after.pop(0)
        return f"{name} paid"

    def undo(self, call: ActionCall) -> None:
        """Take it back."""
        self.done.append(f"not {call.arguments['name']}")

    def look(self, call: ActionCall) -> Happened | None:
        """Whether it was paid."""
        return Happened(f"{call.arguments['name']} was paid") if call.key in self.keys else None


def by_name(name: str, cents: int = 0) -> str:
    return name


def states(ledger: Ledger) -> list[str]:
    """What became of actions, in order."""
    return [row.event.state for row in ledger.audit("s-1") if isinstance(row.event, ActionChanged)]


def app_of(ledger: Ledger, handler: Any, **settings: Any) -> App:
    """A graph of one specialist."""
    return build(ledger, [specialist("payer", handler, **settings)])
