"""What is declared of an action, and where it is found again after a crash."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bursar.state.action import ActionCall

Check = Callable[[ActionCall], Any]  # gives Happened or None, or is awaited for it
Compensation = Callable[[ActionCall], Any]

_known: dict[str, "Action"] = {}


@dataclass(frozen=True, slots=True, eq=False)
class Action:
    """What was declared of an action."""

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
        """Its name as a person would say it, without the module."""
        return self.name.rpartition(".")[2]

    @property
    def irreversible(self) -> bool:
        """Whether nothing undoes it."""
        return self.compensate is None


def declare(declared: Action) -> None:
    """Afterwards `known` finds it under its name; of several of one name the last."""
    _known[declared.name] = declared


def known(name: str) -> Action | None:
    """The action that was declared last under this name."""
    return _known.get(name)
