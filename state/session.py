"""The typed state of a session, which LangGraph checkpoints. Its amounts are copies for display from the ledger."""

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

# A delta channel is stored whole every 100 updates: a read that replays 100 writes takes 2 ms, one of 1,000 takes 128.
SNAPSHOT_FREQUENCY = 100

Ending = Literal["answered", "answered_with_gaps", "refused"]


class Request(BaseModel):
    """One message of the user, `text`, until its answer.

    The request is in the state, so a resume keeps the request's id and budget. `deadline` is by the wall clock, None if
    there is no deadline; specialists and fallbacks share the time until then. A request that a run of another
    supervisor made names that run's request as `parent`, and as `above` the accounts that the run is charged to,
    outermost first: all that this request spends is charged to them too.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    session_id: str
    tenant: str
    text: str
    opened_at: datetime
    deadline: datetime | None = None
    budget: USD
    parent: str | None = None
    above: tuple[str, ...] = ()


class Step(BaseModel):
    """One planned specialist. `chain_index` is the handler that starts: 0 is the specialist's own, above 0 a fallback.

    If the specialist's own handler does not start, `skip_reason` says why. `allowance` is the most that the step may
    spend. If `watched`, the specialist failed lately, so its breaker counts how the run ends.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    chain_index: int = 0
    allowance: USD
    skip_reason: str = ""
    watched: bool = False


class Plan(BaseModel):
    """The specialists that run for a request, in the order in which their answers are reported."""

    model_config = ConfigDict(frozen=True)

    steps: tuple[Step, ...] = ()
    # Specialists that fit the request and do not run at all, with the reason as the user reads it.
    denied: tuple[tuple[str, str], ...] = ()

    def step(self, name: str) -> Step | None:
        """Return the step of the specialist `name`; None if the plan has no such step."""
        return next((s for s in self.steps if s.name == name), None)


_MESSAGES = DeltaChannel[list[AnyMessage]](
    messages_delta_reducer,  # pyright: ignore[reportArgumentType] - it takes lists, the channel says sequences
    snapshot_frequency=SNAPSHOT_FREQUENCY,
)


class SessionInput(TypedDict):
    """The input of a graph: messages, of which the last one is the user's."""

    messages: Annotated[list[AnyMessage], _MESSAGES]


class SessionOutput(SessionInput):
    """The output of a graph. `decisions`, `runs` and `gaps` belong to this request; the ledger has earlier requests.

    `gaps` names what is missing from the answer; `ending` is `answered`, `answered_with_gaps` or `refused`.
    """

    decisions: Annotated[list[Decision], operator.add]
    runs: Annotated[list[Run], operator.add]
    gaps: list[str]
    ending: Ending
    spend: Spend


class SessionState(SessionOutput):
    """The whole state: the output, and the request and plan that a resume needs."""

    request: Request
    plan: Plan


def runs_of(state: SessionState, specialist: str) -> list[Run]:
    """Return the runs of one planned specialist in this request, in the order of its chain."""
    return sorted((run for run in state["runs"] if run.specialist == specialist), key=lambda run: run.level)
