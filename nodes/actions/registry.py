"""Declared actions: what `@action` declared, by name, for calls and for undoing after a crash."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bursar.state.action import ActionCall

Check = Callable[[ActionCall], Any]  # returns Happened or None, or an awaitable of either
Compensation = Callable[[ActionCall], Any]

_known: dict[str, "Action"] = {}


@dataclass(frozen=True, slots=True, eq=False)
class Action:
    """The declaration of an action: its function, its name, and the arguments of `@action`."""

    name: str
    function: Callable[..., Any]
    compensate: Compensation | None
    check: Check | None
    idempotent: bool
    approval: bool
    key: Callable[..., str] | None
    not_done_on: tuple[type[BaseException], ...]

    @property
    def short(self) -> str:
        """The name without its module."""
        return self.name.rpartition(".")[2]

    @property
    def irreversible(self) -> bool:
        """Whether the action has no compensation."""
        return self.compensate is None


def declare(declared: Action) -> None:
    """Register the action under its name. It replaces an earlier action of the same name."""
    _known[declared.name] = declared


def known(name: str) -> Action | None:
    """Return the action that was declared last under this name; None if no action has this name."""
    return _known.get(name)
