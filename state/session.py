"""The typed state of a session, as LangGraph checkpoints it. Money here is a display copy; the ledger is the truth."""

import operator
from datetime import datetime
from typing import Annotated, Literal, TypedDict

from langchain_core.messages import AnyMessage
from langgraph.channels import DeltaChannel
from pydantic import BaseModel, ConfigDict

from bursar.state.decision import Decision
from bursar.state.langgraph_private import messages_delta_reducer
from bursar.state.money import USD
from bursar.state.run import Run
from bursar.state.spend import Spend

# Beyond 100 updates a read replays too many writes: 2 ms at 100, 128 ms at 1,000.
SNAPSHOT_FREQUENCY = 100

Ending = Literal["answered", "answered_with_gaps", "refused"]


class Request(BaseModel):
    """One user message to its answer. Checkpointed, so that a resume goes on under the same id and budget.

    `deadline` is by the wall clock, None if there is none; specialists and fallbacks share the time that is left.
    `capped_in_total` says that the request was opened under a cap of the whole ledger, so that its calls are charged
    to that account too.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    session_id: str
    tenant: str
    text: str
    opened_at: datetime
    deadline: datetime | None = None
    budget: USD
    capped_in_total: bool = False


class Step(BaseModel):
    """One planned specialist. `chain_index` is where it starts: 0 with its own handler, above 0 with a fallback.

    `skip_reason` says why it does not start with its own handler. `allowance` is what it may spend at most. `watched`
    says that it failed lately, so that its breaker is told how it ends.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    chain_index: int = 0
    allowance: USD
    skip_reason: str = ""
    watched: bool = False


class Plan(BaseModel):
    """What runs for the request, in the order in which results are reported."""

    model_config = ConfigDict(frozen=True)

    steps: tuple[Step, ...] = ()
    # Specialists that fit the request and do not run at all, with the reason as the user reads it.
    denied: tuple[tuple[str, str], ...] = ()

    def step(self, name: str) -> Step | None:
        """Return the planned step of that specialist; None if there is none."""
        return next((s for s in self.steps if s.name == name), None)


_MESSAGES = DeltaChannel[list[AnyMessage]](
    messages_delta_reducer,  # pyright: ignore[reportArgumentType] - it takes lists, the channel says sequences
    snapshot_frequency=SNAPSHOT_FREQUENCY,
)


class SessionInput(TypedDict):
    """What a request puts in: messages, the last of them the user's."""

    messages: Annotated[list[AnyMessage], _MESSAGES]


class SessionOutput(SessionInput):
    """What a request gives back. `decisions`, `runs` and `gaps` are this request's; earlier ones are in the ledger.

    `gaps` names what is missing from the answer; `ending` is `answered`, `answered_with_gaps` or `refused`.
    """

    decisions: Annotated[list[Decision], operator.add]
    runs: Annotated[list[Run], operator.add]
    gaps: list[str]
    ending: Ending
    spend: Spend


class SessionState(SessionOutput):
    """The whole state: what is given back, and what a resume needs to go on."""

    request: Request
    plan: Plan


def runs_of(state: SessionState, specialist: str) -> list[Run]:
    """Return the runs of one planned specialist in this request, in the order of its chain."""
    return sorted((run for run in state["runs"] if run.specialist == specialist), key=lambda run: run.level)
