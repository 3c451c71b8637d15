"""Extension point: an observer gets the start, the paid calls and the end of each run, and of the request around."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol, TypeAlias
from uuid import UUID

from langchain_core.callbacks import Callbacks

from bursar.checkpoints.ledger.anchors import Head
from bursar.checkpoints.ledger.ledger import Ledger
from bursar.state.money import USD, ZERO
from bursar.state.rules.pricing import Usage
from bursar.state.run import Report, Run
from bursar.state.session import Ending
from bursar.state.spend import Spend

CallKind = Literal["chat", "embeddings", "function", "run", "action"]
Unfinished = Literal["interrupted", "stopped", "idle"]
CallState = Literal["settled", "replayed", "void", "unknown", "refused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestContext:
    """One invocation of a supervisor's graph, before the graph starts.

    `graph` is the graph's name. If it `resumes`, it goes on with a request that an earlier invocation opened. `caller`
    is the agent in whose run the graph is called, "" if an application calls it. If it `recovers`, the session's owner
    before it did not end: its process died, or the session was taken from it. `callbacks` are LangChain's.
    """

    graph: str
    session_id: str
    tenant: str
    resumes: bool = False
    caller: str = ""
    recovers: bool = False
    ledger: Ledger | None = field(default=None, repr=False)
    callbacks: Callbacks = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestEnd:
    """How an invocation of the graph ended.

    `ending` is the request's ending; it is "interrupted" if the request waits for a person or stands at a breakpoint,
    "stopped" if an error ended the invocation, and "idle" if there was nothing to do. An interrupted or stopped request
    is resumed later.
    """

    request_id: str
    ending: Ending | Unfinished
    spend: Spend | None = None
    answer: str = ""
    gaps: Sequence[str] = ()
    reports: Mapping[str, Report] = field(default_factory=dict[str, Report])
    error: BaseException | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """A run before its end, as observers get it. `level` is the handler's place in the chain of `specialist`.

    Level 0 is the specialist's own handler; fallbacks have higher levels. `step` is the planned step that it runs for,
    `granted` the most that it may spend, and `question` what it is asked. A router or a composer that asks a model is
    no run: its paid calls are told with a `RunContext` whose `specialist` is "supervisor" or "composer".
    """

    request_id: str
    session_id: str
    specialist: str
    step: str
    handler: str
    level: int
    tenant: str = ""
    description: str = ""
    granted: USD = ZERO
    question: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallContext:
    """A paid call or an action of a run. `call_id` names it in the ledger; an action has its key there.

    `model` is the name of the model, the function or the action that is asked, and `instead_of` the model that the
    caller asked for if a cheaper one replaces it. `agent` is the agent, or the path of agents, that pays. `held` is
    what is held for the call, and `cap` the most tokens that it may write, 0 if that is not limited. `attempt` counts
    from 1: a call that is sent again is told as another call. `traced` is the id of the LangChain run of the call, if
    there is one. A call that is refused has no `call_id`; one that is replayed has that of the call that was paid.
    """

    call_id: str
    kind: CallKind
    agent: str
    model: str
    provider: str = ""
    server: str = ""
    instead_of: str = ""
    held: USD = ZERO
    cap: int = 0
    attempt: int = 1
    began: datetime
    traced: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallEnd:
    """How a paid call or an action ended, and what it `cost`: the sum over all calls is what the ledger charges.

    `state` is "settled" with its cost, "replayed" from the ledger at no cost, "void" if nothing is owed, "unknown" if
    nobody saw its end and it stays charged at what was held, and "refused" if it was not sent. `of_input` is the part
    of a settled call's cost that is for its input, None if the cost is not split. `cache_saved` is what the provider's
    prompt cache saved, below zero if it cost more. `answer` is what it returned, such as a `ChatResult`, and `error`
    what it raised. `at` is None if the end was not seen.
    """

    state: CallState
    at: datetime | None = None
    cost: USD = ZERO
    of_input: USD | None = None
    cache_saved: USD = ZERO
    usage: Usage | None = None
    answer: object = None
    error: BaseException | None = None
    reason: str = ""


class Observer(Protocol):
    """A listener to runs: Bursar calls its methods when a run starts, at each of its paid calls, and when it ends.

    A method that an observer lacks is not called. If a method raises, the error is logged, and the observer gets no
    more calls for that run; neither the run nor the other observers are affected. Each call is made in a thread of its
    own, with the caller's context variables. The run waits until the method returns, but `MOST_SECONDS` at most: an
    observer that hangs is left alone until it returns. One observer serves many runs, several of them at the same time.

    An observer may have more methods:

    * `for_request(request: RequestContext)` returns the observer that is told of this request in its place, or None.
    * `request_started(request: RequestContext)`: the graph is about to start. Context variables that this method sets
      are set in all that runs inside the request.
    * `request_opened(request: Request, resumed: bool)`: the id of the request is known.
    * `decided(decision: Decision)`: the supervisor, the guardian, a gate or the composer has decided.
    * `reviewed(gate: str, verdict: Verdict)`: the gate of that name has reviewed the plan or the answer.
    * `call_started(run, call: CallContext)`, `call_ended(run, call: CallContext, end: CallEnd)`: a paid call or an
      action. A call that is replayed or refused only ends. If the run ends before a call of it does, the call is told
      as unknown, and told again if it ends later.
    * `approval_asked(asked: ApprovalRequest)`, `approval_ended(asked: ApprovalRequest, verdict: str, by: str)`: the
      graph waits for a person; a person has answered, or the approval was refused or expired.
    * `run_stopped(run: RunContext, error)`: an exception stops the run before its end, such as the interrupt that waits
      for a person, or the end of the process. If the run is resumed, Bursar calls `run_started` again.
    * `request_answered(end: RequestEnd)`: the request is closed in the ledger; the graph still runs.
    * `request_ended(end: RequestEnd)`: the graph has ended. It is the last call.
    """

    def run_started(self, run: RunContext) -> None:
        """Observe that a run starts. Bursar calls this before the handler, in the context in which the handler runs.

        If a run is cut off and resumed, Bursar calls this again.
        """
        ...

    def turn(self, run: RunContext, number: int, model: str) -> None:
        """Observe a paid call. Bursar calls this before the paid call is sent to `model` or answered from the ledger.

        `number` is the number of the paid call in the run, from 1.
        """
        ...

    def run_ended(self, run: Run, error: BaseException | None, head: Head) -> None:
        """Observe that a run has ended. Bursar calls this when the ledger has the run's outcome.

        `error` is what the handler raised, None if it raised nothing. `head` is the last event of the session's log:
        the end of this run. An observer that keeps `head` outside the database has an anchor, by which a log that was
        cut or rewritten later is found.
        """
        ...


class ObserverOfRequests(Protocol):
    """Makes the observer of each request."""

    def for_request(self, request: RequestContext) -> object | None:
        """Return the observer that is told of this request, None if nobody is."""
        ...


AnyObserver: TypeAlias = Observer | ObserverOfRequests


def anchor_attributes(head: Head) -> dict[str, str | int]:
    """Return `head`, the last event of a session's log, as attributes of a trace.

    A trace is kept outside the database, so the head in it is an anchor: if the log is cut or rewritten later, the log
    no longer has that event.
    """
    return {
        "bursar.session_id": head.session_id,
        "bursar.audit_sequence": head.sequence,
        "bursar.audit_head": head.hash,
    }
