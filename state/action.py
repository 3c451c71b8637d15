"""An action as its own functions see it: what was intended, under which key, and what came of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import JsonValue


@dataclass(frozen=True, slots=True)
class ActionCall:
    """One call of an action. `result` is what it returned, as JSON gives it back; None before it has returned.

    `key` is the idempotency key that the action itself was given, by which the system outside knows the call.
    """

    key: str
    name: str
    arguments: Mapping[str, JsonValue] = field(default_factory=dict[str, JsonValue])
    result: JsonValue = None


@dataclass(frozen=True, slots=True)
class Happened:
    """What a `check` returns if the system outside says that the action was done. `result` is the action's result."""

    result: JsonValue = None
