"""The events of a run that is going on, streamed with `stream_mode="custom"`: plain dictionaries of JSON values.

Every run of a handler sends `started` once, then a `turn` for each paid call that it makes, then `terminal` once. A run
that stopped for a person, or with its process, has no `terminal`: it starts again when it is resumed.
"""

from typing import Literal, NotRequired, TypeAlias, TypedDict


class Started(TypedDict):
    """A handler begins. `level` is its place in the chain of `specialist`: 0 its own handler, above 0 a fallback."""

    bursar: Literal["started"]
    request_id: str
    specialist: str
    handler: str
    level: int


class TurnTaken(TypedDict):
    """The run's paid call number `turn`, counted from 1, is about to be sent to `model`, or answered from the books."""

    bursar: Literal["turn"]
    request_id: str
    specialist: str
    handler: str
    level: int
    turn: int
    model: str


class Terminal(TypedDict):
    """The run has ended. `outcome`, `limit` and `fault` are the values of `Outcome`, `Limit` and `Fault`.

    `cost` is US dollars as a decimal text. `unsure` is whether it completed below the confidence that is asked for.
    """

    bursar: Literal["terminal"]
    request_id: str
    specialist: str
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


Progress: TypeAlias = Started | TurnTaken | Terminal
