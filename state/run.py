"""What a specialist is given (a task), what it returns (a report), and how its run ended (a run)."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from bursar.state.money import USD, ZERO

MAX_ANSWER_CHARACTERS = 100_000
MAX_REPORT_BYTES = 1_000_000  # of a report as it is stored, its data included


class Outcome(StrEnum):
    """How a run ended; exactly one holds."""

    COMPLETED = "completed"
    EXHAUSTED = "exhausted"
    FAILED = "failed"


class Limit(StrEnum):
    """The limit that ended an exhausted run: the money left, its ceiling, its turns, its deadline, its request's
    deadline, the same tool call too often, or the steps of a handler that is a graph.
    """

    BUDGET = "budget"
    CEILING = "ceiling"
    TURNS = "turns"
    DEADLINE = "deadline"
    REQUEST_DEADLINE = "request_deadline"
    LOOP = "loop"
    RECURSION = "recursion"


class Fault(StrEnum):
    """Why a run failed: its handler raised; it or its model wrote output that does not fit; its model's provider
    failed; a policy refused its call; its books could not be written; it could not be started; no person approved it;
    or its process died while its actions were being undone.
    """

    HANDLER_ERROR = "handler_error"
    BAD_OUTPUT = "bad_output"
    PROVIDER = "provider"
    POLICY = "policy"
    DATABASE = "database"
    UNAVAILABLE = "unavailable"
    NOT_APPROVED = "not_approved"
    UNDONE = "undone"


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
    """What a specialist returns. `data` is JSON; `confidence` is between 0 and 1; `sources` say what it rests on.

    `as_of` is the time that the answer holds for. A last resort that names none gets its request's opening time.
    """

    model_config = ConfigDict(frozen=True)

    answer: Annotated[str, Field(max_length=MAX_ANSWER_CHARACTERS)]
    data: Mapping[str, JsonValue] = Field(default_factory=dict)
    confidence: Annotated[float, Field(ge=0, le=1)] = 1.0
    sources: tuple[str, ...] = ()
    gaps: tuple[str, ...] = ()
    as_of: datetime | None = None


class Run(BaseModel):
    """One run of one handler for one planned specialist: at `level` 0 its own handler, above 0 a fallback.

    `reason` says why it did not complete, in words a user can read; `limit` names the limit of an exhausted run,
    `fault` the kind of a failure. Such a run may carry the report of what it had so far. `unsure` is whether it
    completed below the confidence that its specialist asks for. `turns` counts its paid calls. `cost` is what the
    ledger charged to it.
    """

    model_config = ConfigDict(frozen=True)

    specialist: str
    handler: str
    level: int = 0
    outcome: Outcome
    report: Report | None = None
    reason: str = ""
    limit: Limit | None = None
    fault: Fault | None = None
    unsure: bool = False
    turns: int = 0
    cost: USD = ZERO
    seconds: float = 0.0

    @property
    def answers(self) -> bool:
        """Whether the run completed and is sure enough, so that no fallback is asked."""
        return self.outcome is Outcome.COMPLETED and not self.unsure
