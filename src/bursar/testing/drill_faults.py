"""The faults that a drill forces on an agent, and how a run under each fault may end."""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from langchain_core.language_models import BaseChatModel

from bursar.nodes.gateway.meter import meter
from bursar.nodes.gateway.prices import Price
from bursar.nodes.runs.handlers import call_directly
from bursar.nodes.specialists.definition import Function, Handler, deterministic, is_deterministic
from bursar.state.run import Report, Task
from bursar.testing.failing_provider import Mode
from bursar.testing.scripted_model import ScriptedModel

MAX_SECONDS = 60.0
OUTAGE_SECONDS = 0.2
RUINOUS = Price(input=1_000_000, output=1_000_000)  # US dollars per million tokens: no ceiling pays for one word


@dataclass(slots=True)
class FaultStage:
    """What a fault works with: the file of the drill's SQLite database, and an event that ends handlers that hang."""

    file: str
    over: threading.Event = field(default_factory=threading.Event)


Made = Callable[[FaultStage, Handler], Function]


@dataclass(frozen=True, slots=True)
class DrillFault:
    """A fault that a drill puts into an agent, with its name and the ends of the run that are right.

    `make` makes the handler that fails. It is None if the fault is in the provider or a breaker, and the agent keeps
    its own handler. `provider` is how the provider answers during the request. Each of `ends` is an outcome, with the
    limit or fault that the outcome names, or "left alone" if a fallback runs in the agent's place at once. If
    `to_deadline`, the fault lasts until the deadline. If it `blocks`, it blocks the event loop on which it runs. If
    `outlived`, the agent answers in spite of the fault, so the answer need not name a gap. `opens` says which breaker
    is open before the run: "agent" is the agent's own, "model" is that of each model that the agent asks, None is no
    breaker.
    """

    name: str
    ends: frozenset[str]
    make: Made | None = None
    provider: Mode = "answers"
    to_deadline: bool = False
    blocks: bool = False
    outlived: bool = False
    opens: Literal["agent", "model"] | None = None


def made(fault: DrillFault, stage: FaultStage) -> Function:
    """Return a function that fails by `fault`, for a router or a gate, which has no handler to replace.

    Raises `AssertionError` if `fault.make` is None.
    """
    assert fault.make is not None
    return fault.make(stage, _nothing)


def _nothing(task: Task) -> Report:
    return Report(answer="")


def in_place_of(own: Handler, fault: DrillFault, stage: FaultStage) -> Handler:
    """Return a handler that fails by `fault`, to take the place of `own`. If `fault` has no `make`, return `own`.

    The new handler is deterministic if `own` is.
    """
    if fault.make is None:
        return own
    function = fault.make(stage, own)
    return deterministic(cast("Any", function)) if is_deterministic(own) else function


def _raises(stage: FaultStage, own: Handler) -> Function:
    def drilled(task: Task) -> Report:
        raise RuntimeError("a drill")

    return drilled


def _hangs(stage: FaultStage, own: Handler) -> Function:
    async def drilled(task: Task) -> Report:
        await asyncio.sleep(MAX_SECONDS)
        raise AssertionError("it was to be left behind")

    return drilled


def _blocks(stage: FaultStage, own: Handler) -> Function:
    async def drilled(task: Task) -> Report:
        stage.over.wait(MAX_SECONDS)
        return Report(answer="too late")

    return drilled


def _spins(stage: FaultStage, own: Handler) -> Function:
    def drilled(task: Task) -> Report:
        until = time.monotonic() + MAX_SECONDS
        while time.monotonic() < until:
            pass
        return Report(answer="too late")

    return drilled


def _swallows(stage: FaultStage, own: Handler) -> Function:
    async def drilled(task: Task) -> Report:
        for _ in range(1_000):
            if stage.over.is_set():
                break
            try:
                await asyncio.sleep(0.02)
            except asyncio.CancelledError:
                continue
        return Report(answer="too late")

    return drilled


def _babbles(stage: FaultStage, own: Handler) -> Function:
    def drilled(task: Task) -> Any:
        return 7

    return drilled


def _doubts(stage: FaultStage, own: Handler) -> Function:
    def drilled(task: Task) -> Report:
        return Report(answer="perhaps", confidence=0.1)

    return drilled


def _overspends(stage: FaultStage, own: Handler) -> Function:
    model: BaseChatModel = meter(ScriptedModel(replies=["paid"]), price=RUINOUS)

    def drilled(task: Task) -> Report:
        return Report(answer=model.invoke("spend everything").text)

    return drilled


def _loses_database(stage: FaultStage, own: Handler) -> Function:
    """Return a handler that answers while another program locks the database for a moment."""

    async def drilled(task: Task) -> Report:
        lock = sqlite3.connect(stage.file, isolation_level=None, check_same_thread=False)
        lock.execute("BEGIN IMMEDIATE")
        threading.Timer(OUTAGE_SECONDS, lock.close).start()
        return await call_directly(own, task)

    return drilled


def _ends(*ends: str) -> frozenset[str]:
    return frozenset(ends)


LATE = _ends("exhausted: deadline")
FAULTS = (
    DrillFault("exception", _ends("failed: handler_error"), _raises),
    DrillFault("hang", LATE, _hangs, to_deadline=True),
    DrillFault("blocked loop", LATE, _blocks, to_deadline=True, blocks=True),
    DrillFault("CPU spin", LATE, _spins, to_deadline=True),
    DrillFault("swallowed cancellation", LATE, _swallows, to_deadline=True),
    DrillFault("malformed output", _ends("failed: bad_output"), _babbles),
    DrillFault("low confidence", _ends("completed: unsure"), _doubts),
    DrillFault("budget refusal", _ends("exhausted: ceiling", "exhausted: budget"), _overspends),
    DrillFault("database down", _ends("completed"), _loses_database, outlived=True),
    DrillFault("provider 429", _ends("failed: provider"), provider="429"),
    DrillFault("provider 500", _ends("failed: provider"), provider="500"),
    DrillFault("provider cut", _ends("failed: provider"), provider="cut"),
    # The client's own timeout and the run's deadline are the same moment.
    DrillFault("provider hang", LATE | {"failed: provider"}, provider="hang", to_deadline=True),
    DrillFault("provider's breaker open", _ends("failed: provider"), opens="model"),
    DrillFault("breaker open", _ends("left alone"), opens="agent"),
)
# The faults that a router or a gate can have.
OF_COORDINATOR = ("exception", "hang", "CPU spin", "malformed output")
