"""`Task`, `Report` and `Run`: what a specialist gets, what it returns, and how its run ended."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated

from langchain_core.messages import AnyMessage
from langgraph.store.base import BaseStore
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
    """One earlier message of the conversation. `role` is `user` or `assistant`.

    A content block of the user that is no text stands in `text` as its kind, such as `[image_url]`.
    """

    model_config = ConfigDict(frozen=True)

    role: str
    text: str


class Report(BaseModel):
    """What a specialist returns. `data` is JSON, `confidence` is from 0 to 1, `sources` say what the answer rests on.

    If the handler returned a structured answer (a dict, a pydantic model, a dataclass, or an agent's
    `structured_response`), `structured` has its fields as JSON, and `structured_type` the name of its type.

    `handoff` names the specialist, or several, to which it hands over, and `note` says why: if the supervisor has a
    round left, it lets them run next. `gaps` say what is missing from the answer. `as_of` is the time for which the
    answer is true. If a last resort gives no `as_of`, Bursar sets it to the time when the request was opened.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")  # an unknown field would be dropped without a word

    answer: Annotated[str, Field(max_length=MAX_ANSWER_CHARACTERS)]
    data: Mapping[str, JsonValue] = Field(default_factory=dict)
    confidence: Annotated[float, Field(ge=0, le=1)] = 1.0
    sources: tuple[str, ...] = ()
    gaps: tuple[str, ...] = ()
    as_of: datetime | None = None
    structured_type: str = ""
    handoff: str | tuple[str, ...] = ""
    note: str = ""

    @property
    def hands_to(self) -> tuple[str, ...]:
        """The specialists to which the report hands over."""
        named = (self.handoff,) if isinstance(self.handoff, str) else self.handoff
        return tuple(name for name in named if name)

    @property
    def structured(self) -> Mapping[str, JsonValue] | None:
        """The fields of the structured answer that the handler returned, None if it returned none."""
        return self.data if self.structured_type else None


class Task(BaseModel):
    """What a specialist is asked. A task is frozen, so a handler cannot change state through it.

    `text` is the text of the user's message. If the message has only other content, `text` names its kinds, such as
    `[image_url]`. `messages` are the request's messages as they were sent, the user's last, with content blocks, system
    messages and names; if there is no system message, those of an earlier request come first. `history` are the turns
    before the user's message. `inputs` are the keys of the input that the supervisor's `state_schema` adds. `context`
    is what `context=` gave the run, and `store` the supervisor's store: neither is stored, so a resume gives the
    context again. `now` is the time when the request was opened, also if the request is resumed later. `left` is the
    most that the specialist may spend: its ceiling or less. `reports` has the reports of the steps that the specialist
    needs, and of this request's earlier rounds, by step: long ones are cut, with a mark, and so are the oldest of many.
    """

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    text: str
    specialist: str
    session_id: str
    request_id: str
    tenant: str
    now: datetime
    left: USD = ZERO
    history: tuple[Turn, ...] = ()
    reports: Mapping[str, Report] = Field(default_factory=dict)
    messages: tuple[AnyMessage, ...] = ()
    inputs: Mapping[str, object] = Field(default_factory=dict)
    context: object = Field(default=None, exclude=True, repr=False)
    store: BaseStore | None = Field(default=None, exclude=True, repr=False)


class Run(BaseModel):
    """One run of one handler for one planned `step`. At `level` 0 the handler is the specialist's own.

    Above `level` 0 the handler is a fallback. If the run did not complete, `reason` says why, in words for the user;
    `limit` names the limit of an exhausted run, `fault` the kind of a failure, and `report`, if any, has what the run
    had found so far. If the run completed and hands over, `reason` says to whom. `unsure` is whether the run completed
    with less confidence than its specialist asks for. `turns` is the number of its paid calls. `cost` is what the
    ledger charged for the run.
    """

    model_config = ConfigDict(frozen=True)

    specialist: str
    step: str
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
