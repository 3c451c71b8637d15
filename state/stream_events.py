"""The events of a run while it works, streamed with `stream_mode="custom"`: plain dictionaries of JSON values.

Each decision of the supervisor's node sends `decided`. Every run of a handler sends `started` once, then a `turn` for
each paid call that it makes, then `terminal` once. If a run stops because a person must approve something or its
process ends, it sends no `terminal`, and starts again when the session is resumed.
"""

from typing import Literal, NotRequired, TypeAlias, TypedDict


class Started(TypedDict):
    """A handler begins. `level` is 0 if the handler is the specialist's own, and above 0 if it is a fallback."""

    bursar: Literal["started"]
    request_id: str
    specialist: str
    step: str
    handler: str
    level: int


class TurnTaken(TypedDict):
    """The run's paid call number `turn`, from 1, is about to be sent to `model`, or the call's kept answer is used."""

    bursar: Literal["turn"]
    request_id: str
    specialist: str
    step: str
    handler: str
    level: int
    turn: int
    model: str


class Terminal(TypedDict):
    """The run has ended. `outcome`, `limit` and `fault` are the values of `Outcome`, `Limit` and `Fault`.

    `cost` is US dollars as a decimal text. `unsure` is whether the run completed with less confidence
    than its specialist asks for.
    """

    bursar: Literal["terminal"]
    request_id: str
    specialist: str
    step: str
    handler: str
    level: int
    outcome: str
    reason: str
    turns: int
    cost: str
    seconds: float
    unsure: bool
    limit: NotRequired[str]
    fault: NotRequired[str]


class DecisionMade(TypedDict):
    """The supervisor's node has made a decision: routing, the guardian's admission or the gate's verdict on the plan.

    `specialist` names who decided (`supervisor`, `guardian` or the gate), `chosen` the steps that go on, and `note`
    what went wrong meanwhile.
    """

    bursar: Literal["decided"]
    request_id: str
    specialist: str
    kind: str
    rule: str
    chosen: list[str]
    note: str


Progress: TypeAlias = Started | TurnTaken | Terminal | DecisionMade
