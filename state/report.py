"""What a specialist is given (a task), what it returns (a report), and how its run ended (a run)."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from bursar.state.money import USD, ZERO

MAX_ANSWER_CHARACTERS = 100_000


class Outcome(StrEnum):
    """How a run ended; exactly one holds."""

    COMPLETED = "completed"
    EXHAUSTED = "exhausted"
    FAILED = "failed"


class Turn(BaseModel):
    """One earlier message of the conversation."""

    model_config = ConfigDict(frozen=True)

    role: str
    text: str


class Task(BaseModel):
    """What a specialist is asked. Frozen: a handler cannot write state through it.

    `now` is the request's opening time, the same again when the request is resumed. `left` is what the
    specialist may spend at most, its ceiling or less.
    """

    model_config = ConfigDict(frozen=True)

    text: str
    specialist: str
    session_id: str
    request_id: str
    tenant: str
    now: datetime
    left: USD = ZERO
    history: tuple[Turn, ...] = ()


class Report(BaseModel):
    """What a specialist returns. `data` is JSON; `confidence` is between 0 and 1; `sources` say what it rests on."""

    model_config = ConfigDict(frozen=True)

    answer: Annotated[str, Field(max_length=MAX_ANSWER_CHARACTERS)]
    data: Mapping[str, JsonValue] = Field(default_factory=dict)
    confidence: Annotated[float, Field(ge=0, le=1)] = 1.0
    sources: tuple[str, ...] = ()
    gaps: tuple[str, ...] = ()


class Run(BaseModel):
    """One run of one handler for one planned specialist: the first is its own, later ones are its fallbacks.

    `reason` says why it did not complete, in words a user can read; `cost` is what the ledger charged to it.
    """

    model_config = ConfigDict(frozen=True)

    specialist: str
    handler: str
    level: int = 0
    outcome: Outcome
    report: Report | None = None
    reason: str = ""
    cost: USD = ZERO
    seconds: float = 0.0
