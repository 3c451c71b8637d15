"""What the `check` and the compensation of an action get and return: one call of the action, and its result."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import JsonValue


@dataclass(frozen=True, slots=True)
class ActionCall:
    """One call of an action. `result` is what the action returned, read back from JSON; None before it has returned.

    `key` is the idempotency key that the action passed to the outside system.
    """

    key: str
    name: str
    arguments: Mapping[str, JsonValue] = field(default_factory=dict[str, JsonValue])
    result: JsonValue = None


@dataclass(frozen=True, slots=True)
class Happened:
    """What an action's `check` returns if the outside system says that the action was done.

    Bursar calls the `check` if nobody saw how an earlier attempt ended. `result` is the action's result.
    """

    result: JsonValue = None
