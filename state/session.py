"""The typed state of a session, which LangGraph checkpoints. Its amounts are copies for display from the ledger."""

import operator
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal, NotRequired

from langchain_core.messages import AnyMessage
from langgraph.channels import EphemeralValue
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict  # pydantic makes no JSON schema of the other one before Python 3.12

from bursar.state.decision import Decision, Step
from bursar.state.langgraph_private import MessagesChannel, messages_delta_reducer
from bursar.state.money import USD
from bursar.state.run import Report, Run
from bursar.state.spend import Spend

# A delta channel is stored whole every 100 updates: a read that replays 100 writes takes 2 ms, one of 1,000 takes 128.
SNAPSHOT_FREQUENCY = 100

Ending = Literal["answered", "answered_with_gaps", "refused"]


class Request(BaseModel):
    """One message of the user, `text`, until its answer.

    The request is in the state, so a resume keeps the request's id and budget. `deadline` is by the wall clock, None if
    there is no deadline; specialists and fallbacks share the time until then. A request that a run of another
    supervisor made names that run's request as `parent`, and as `above` the accounts that the run is charged to,
    outermost first: all that this request spends is charged to them too. `undeclared` are the keys of its input that no
    schema of the graph has, so that no agent got them. `previous` are the specialists that answered last before it.
    `trace` finds the traces of the invocation that opened it, as observers wrote it.
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
    undeclared: tuple[str, ...] = ()
    previous: tuple[str, ...] = ()
    trace: Mapping[str, str] = Field(default_factory=dict)


class Plan(BaseModel):
    """The steps that run for a request, in the order in which their answers are reported: each after what it needs.

    `round` is the round that was planned last; after it no other follows if the plan is `done`. `texts` has what the
    task of a step asks if that is not the request's own text, and `gaps` what of a router's order could not be kept.
    `place` is where in the graph the newest round was planned.
    """

    model_config = ConfigDict(frozen=True)

    steps: tuple[Step, ...] = ()
    round: int = 1
    done: bool = False
    place: str = ""
    texts: Mapping[str, str] = Field(default_factory=dict)
    gaps: tuple[str, ...] = ()
    # Specialists that fit the request and do not run at all, with the reason as the user reads it; the gate, if none
    # fits and the gate refuses the request.
    denied: tuple[tuple[str, str], ...] = ()

    def step(self, name: str) -> Step | None:
        """Return the step of that name; None if the plan has no such step."""
        return next((s for s in self.steps if s.name == name), None)


_MESSAGES = MessagesChannel(
    messages_delta_reducer,  # pyright: ignore[reportArgumentType] - it takes lists, the channel says sequences
    snapshot_frequency=SNAPSHOT_FREQUENCY,
)


class SessionMessages(TypedDict):
    """The conversation of a session."""

    messages: Annotated[list[AnyMessage], _MESSAGES]


class SessionInput(SessionMessages):
    """The input of a graph: messages, of which the last one is the user's, and the keys of its `state_schema`.

    The graph itself adds two keys, for intake alone. `asked` are the ids of these messages if the caller gave each an
    id, otherwise it is empty: so intake knows that an input came, and that a message is sent again, although the
    conversation has it already. `undeclared` are the
    keys of the input that no schema of the graph has.
    """

    asked: NotRequired[Annotated[list[str], EphemeralValue]]
    undeclared: NotRequired[Annotated[tuple[str, ...], EphemeralValue]]


class SessionOutput(SessionMessages):
    """The output of a graph, which belongs to this request; the ledger has earlier requests.

    `reports` has for each specialist the report that the answer gives: its own, or that of its fallback. `gaps` names
    what is missing from the answer; `ending` is `answered`, `answered_with_gaps` or `refused`.
    """

    decisions: Annotated[list[Decision], operator.add]
    runs: Annotated[list[Run], operator.add]
    reports: dict[str, Report]
    gaps: list[str]
    ending: Ending
    spend: Spend


class SessionState(SessionOutput):
    """The whole state: the output, and the request and plan that a resume needs."""

    request: Request
    plan: Plan
    asked: NotRequired[Annotated[list[str], EphemeralValue]]
    undeclared: NotRequired[Annotated[tuple[str, ...], EphemeralValue]]


WHOLE_STATE = tuple(SessionState.__annotations__)  # the names of the channels


def runs_of(state: SessionState, step: str) -> list[Run]:
    """Return the runs of one planned step in this request, in the order of its specialist's chain."""
    return sorted((run for run in state["runs"] if run.step == step), key=lambda run: run.level)
