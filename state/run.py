"""`Task`, `Report` and `Run`: what a specialist gets, what it returns, and how its run ended."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from bursar.state.money import USD, ZERO

MAX_ANSWER_CHARACTERS = 100_000
MAX_REPORT_BYTES = 1_000_000  # of a report as it is stored, its data included


class Outcome(StrEnum):
    """How a run ended: it completed, a limit exhausted it, or it failed. Each ended run has exactly one outcome."""

    COMPLETED = "completed"
    EXHAUSTED = "exhausted"
    FAILED = "failed"


class Limit(StrEnum):
    """The limit that ended an exhausted run.

    In the order of the members: a budget had no money left; the run reached its ceiling, its number of turns or its
    deadline; the request's deadline passed; the run made the same tool call too often; or its handler, a graph, took
    too many steps.
    """

    BUDGET = "budget"
    CEILING = "ceiling"
    TURNS = "turns"
    DEADLINE = "deadline"
    REQUEST_DEADLINE = "request_deadline"
    LOOP = "loop"
    RECURSION = "recursion"


class Fault(StrEnum):
    """Why a run failed, in the order of the members: its handler raised; handler or model wrote output that does not
    fit; the model's provider failed; a policy refused a call; the ledger could not be written; the run could not be
    started; no person approved it; or its process died while its actions were being undone.
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
    """What a specialist is asked. A task is frozen, so a handler cannot change state through it.

    `text` is the user's message. `now` is the time when the request was opened, also if the request is resumed later.
    `left` is the most that the specialist may spend: its ceiling or less.
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
    """What a specialist returns. `data` is JSON, `confidence` is from 0 to 1, `sources` say what the answer rests on.

    `gaps` say what is missing from the answer. `as_of` is the time for which the answer is true. If a last resort gives
    no `as_of`, Bursar sets it to the time when the request was opened.
    """

    model_config = ConfigDict(frozen=True)

    answer: Annotated[str, Field(max_length=MAX_ANSWER_CHARACTERS)]
    data: Mapping[str, JsonValue] = Field(default_factory=dict)
    confidence: Annotated[float, Field(ge=0, le=1)] = 1.0
    sources: tuple[str, ...] = ()
    gaps: tuple[str, ...] = ()
    as_of: datetime | None = None


class Run(BaseModel):
    """One run of one handler for one planned specialist. At `level` 0 the handler is the specialist's own.

    Above `level` 0 the handler is a fallback. If the run did not complete, `reason` says why, in words for the user;
    `limit` names the limit of an exhausted run, `fault` the kind of a failure, and `report`, if any, has what the run
    had found so far. `unsure` is whether the run completed with less confidence than its specialist asks for. `turns`
    is the number of its paid calls. `cost` is what the ledger charged for the run.
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
        """Whether the run completed with enough confidence, so that no fallback runs."""
        return self.outcome is Outcome.COMPLETED and not self.unsure
