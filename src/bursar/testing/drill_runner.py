"""Drills: every agent of a graph is made to fail in every way, and the request must be answered nevertheless.

A cell is one agent under one fault. Each cell has its own graph: a copy of the drilled graph, whose coordinator is a
copy with the fault. All cells share ledger and checkpointer. No production code knows of drills.
"""

import asyncio
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Literal, get_args

from bursar.checkpoints.ledger.circuit_breakers import close_all, open_each
from bursar.graphs.supervisor import Supervisor, coordinator_of, with_coordinator
from bursar.nodes.context.coordinator import Coordinator
from bursar.nodes.isolation.workers import abandoned_count
from bursar.nodes.specialists.chain import Chain
from bursar.state.errors import ConfigurationError
from bursar.state.run import Run, Task
from bursar.testing.drill_faults import FAULTS, MAX_SECONDS, OF_COORDINATOR, DrillFault, FaultStage, in_place_of
from bursar.testing.failing_provider import FailingProvider
from bursar.testing.faulty_parts import FaultyGate, FaultyRouter, RouterToOne

ROUTER = "supervisor"  # the name that the router has among the agents
DEADLINE_SECONDS = 1.0
AGENT_SHARE = 0.3  # the agent's own deadline, as a share of the request's
ROUTER_SHARE = 0.2
ALLOWED_SHARE = 1.1  # the time until the answer, as a share of the request's deadline
SETTLE_SECONDS = 2.0
CONFIDENCE = 0.5
NOT_PROMISED = "not promised: it blocks its caller's event loop, and nobody may stop it there"
HEALTHY = DrillFault("none", frozenset({"completed"}), outlived=True)


Way = Literal["sync", "async", "apart"]
WAYS: tuple[Way, ...] = get_args(Way)


@dataclass(frozen=True, slots=True)
class DrillEnvironment:
    """What a drilled graph is built on: the URL of a new database, and the URL of a provider on loopback.

    The provider speaks OpenAI's protocol. A model that is to be drilled is made with the provider's URL as its
    `base_url`.
    """

    database: str
    provider: str


Ground = DrillEnvironment  # its former name


@dataclass(frozen=True, slots=True)
class DrillResult:
    """The result of one cell: one agent under one fault. The result is true if it has no `problems`.

    `end` is how the agent's run ended. `skipped` says why there was nothing to drill. `answered_by` is the handler
    whose answer was given in the agent's place.
    """

    agent: str
    fault: str
    seconds: float = 0.0
    end: str = ""
    answered_by: str = ""
    problems: tuple[str, ...] = ()
    skipped: str = ""

    def __bool__(self) -> bool:
        return not self.problems


@dataclass(frozen=True, slots=True)
class Drill:
    """All results of a drill. The drill is true if no result has problems and at least one result was not skipped."""

    deadline_seconds: float
    cells: tuple[DrillResult, ...] = field(default=())

    def __bool__(self) -> bool:
        return all(self.cells) and any(not cell.skipped for cell in self.cells)


def drill(
    factory: Callable[[DrillEnvironment], Supervisor],
    *,
    agents: Sequence[str] = (),
    faults: Sequence[str] = (),
    deadline: float = DEADLINE_SECONDS,
    way: Way = "sync",
    on_cell: Callable[[DrillResult], None] = lambda cell: None,
) -> Drill:
    """Make every agent of a graph fail in every way, one request each, and check answer, time, spend and log.

    `factory` builds the graph with `build_supervisor` on the environment that it gets: a new SQLite database, and a
    provider on loopback. If `agents` or `faults` are given, only these are drilled. `deadline` is the deadline of each
    request, in seconds; an agent has 0.3 of it, and the answer must be there at 1.1 of it. `on_cell` gets each result
    as soon as there is one. `way` is how requests are made: "sync" calls `invoke`; "async" awaits `ainvoke`, so that
    coroutines run on the caller's event loop; "apart" does so with each agent `apart=True`. What blocks the caller's
    own loop is skipped: no deadline is promised there. If the graph's own handlers use only the provider that they get,
    nothing leaves the machine.

    Raises `ConfigurationError` for a graph that `build_supervisor` did not make, an unknown agent, fault or way, or a
    deadline that is not above 0 and at most `MAX_SECONDS`.
    """
    _known([way], WAYS, "way")
    if not 0 < deadline <= MAX_SECONDS:
        raise ConfigurationError(f"the deadline must be above 0 and at most {MAX_SECONDS:g} seconds")
    provider = FailingProvider()
    with tempfile.TemporaryDirectory(prefix="bursar-drill-") as folder:
        file = f"{folder}/drill.db"
        try:
            app = factory(DrillEnvironment(f"sqlite:///{file}", provider.url))
            ground = _Drilled(app, coordinator_of(app), provider, file, deadline=deadline, way=way)
            cells: list[DrillResult] = []
            for cell in ground.cells(_known(agents, ground.agents, "agent"), _known(faults, _names(), "fault")):
                cells.append(cell)
                on_cell(cell)
        finally:
            provider.close()
    return Drill(deadline, tuple(cells))


def _names() -> tuple[str, ...]:
    return tuple(fault.name for fault in FAULTS)


def _known(asked: Sequence[str], there: Sequence[str], what: str) -> Sequence[str]:
    unknown = sorted(set(asked) - set(there))
    if unknown:
        raise ConfigurationError(f"no {what} {', '.join(unknown)}; there are {', '.join(there)}")
    return asked or there


class _Drilled:
    """The drill of one graph: a request for each agent under each fault."""

    def __init__(
        self,
        app: Supervisor,
        coordinator: Coordinator,
        provider: FailingProvider,
        file: str,
        *,
        deadline: float,
        way: Way,
    ) -> None:
        self._app = app
        chains = {name: _apart(chain) if way == "apart" else chain for name, chain in coordinator.chains.items()}
        self._at = replace(coordinator, chains=chains, asks=False)  # nobody answers in a drill
        self._way = way
        self._provider = provider
        self._file = file
        self._deadline = deadline
        self._count = 0
        gate = [] if coordinator.gate is None else [coordinator.gate.name]
        self.agents = (*coordinator.chains, ROUTER, *gate)

    def cells(self, agents: Sequence[str], faults: Sequence[str]) -> Iterator[DrillResult]:
        """Yield the result of every agent under every fault. A specialist is first asked once without a fault."""
        for agent in agents:
            chain = self._at.chains.get(agent)
            if chain is None:
                yield from (
                    self._coordinator(agent, f) for f in FAULTS if f.name in faults and f.name in OF_COORDINATOR
                )
                continue
            for fault in (HEALTHY, *(fault for fault in FAULTS if fault.name in faults)):
                yield self._agent(chain, fault)

    def _agent(self, chain: Chain, fault: DrillFault) -> DrillResult:
        name = chain.specialist.name
        if fault.opens == "agent" and len(chain.links) == 1:
            return DrillResult(name, fault.name, skipped="nobody could answer in its place")
        if fault.blocks and self._way == "async":
            return DrillResult(name, fault.name, skipped=NOT_PROMISED)
        stage, opened = FaultStage(self._file), self._opened(chain, fault)
        if fault.opens is not None and not opened:
            return DrillResult(name, fault.name, skipped="it asks no provider")
        seconds = self._time_for(fault)
        first = replace(
            chain.links[0],
            handler=in_place_of(chain.links[0].handler, fault, stage),
            timeout=seconds * (AGENT_SHARE if fault.to_deadline else 1.0),  # another fault must not end by the deadline
            min_confidence=0.0 if fault.outlived else CONFIDENCE,
        )
        chains = {**self._at.chains, name: replace(chain, links=(first, *chain.links[1:]))}
        faulty = replace(self._at, chains=chains, router=RouterToOne(name), timeout=seconds)
        asked = self._ask(_question(chain), faulty, fault, stage, opened)
        if fault.provider != "answers" and not asked.requests:
            return DrillResult(name, fault.name, skipped="it asks no provider")
        runs = [run for run in asked.result["runs"] if run.specialist == name]
        problems = [*asked.problems, *_of_chain(chain, fault, runs, asked.result)]
        if fault.make is not None and not fault.outlived and asked.spent:
            problems.append(f"{asked.spent} nano-dollars were spent by a handler that pays for nothing")
        if fault.opens == "model" and asked.requests:
            problems.append(f"{asked.requests} requests were sent to a provider whose breaker is open")
        by = next((run.handler for run in runs if run.answers and run.level), "")
        return DrillResult(name, fault.name, asked.seconds, _end(runs[0]) if runs else "", by, tuple(problems))

    def _opened(self, chain: Chain, fault: DrillFault) -> list[str]:
        """Return the names of the breakers to open, so that the agent meets the fault.

        To find the breakers of the agent's models, this makes a first request, in which the agent's provider fails.
        """
        name = chain.specialist.name
        if fault.opens != "model":
            return [chain.links[0].breaker] if fault.opens else []
        failing = replace(fault, provider="500")
        routed = replace(self._at, router=RouterToOne(name), timeout=self._deadline)
        self._ask(_question(chain), routed, failing, FaultStage(self._file))
        return [row.name for row in self._at.ledger.breakers() if row.name.startswith("model:")]

    def _time_for(self, fault: DrillFault) -> float:
        """Return the seconds that a request under the fault has: the drill's deadline.

        The request without a fault is the first and may load libraries, so it has `MAX_SECONDS`.
        """
        return MAX_SECONDS if fault is HEALTHY else self._deadline

    def _coordinator(self, agent: str, fault: DrillFault) -> DrillResult:
        """Return the result of the router or the gate, called `agent`, under the fault.

        If the router fails, the words of the request must choose the specialist, and the answer must say so. If the
        gate fails, the request must end as refused.
        """
        if agent == ROUTER and fault.name == "CPU spin" and self._way != "sync":
            return DrillResult(agent, fault.name, skipped=NOT_PROMISED)
        chain = next(iter(self._at.chains.values()))
        stage, seconds = FaultStage(self._file), self._deadline * ROUTER_SHARE
        task = Task(text="", specialist=agent, session_id="", request_id="", tenant="", now=self._at.clock())
        timed = replace(self._at, timeout=self._deadline, router_timeout_seconds=seconds, gate_timeout_seconds=seconds)
        if agent == ROUTER:
            faulty = replace(timed, router=FaultyRouter(fault, stage, task))
        else:
            gate = FaultyGate(agent, fault, stage, task)
            faulty = replace(timed, router=RouterToOne(chain.specialist.name), gate=gate)
        asked = self._ask(_question(chain), faulty, fault, stage)
        text, gaps = asked.result["messages"][-1].text, asked.result["gaps"]
        problems = list(asked.problems)
        if agent == ROUTER and not any(gap.startswith("routing: ") and gap in text for gap in gaps):
            problems.append("the answer does not say that the router gave no answer")
        if agent != ROUTER and asked.result["ending"] != "refused":
            problems.append("the gate did not fail closed")
        end = asked.result["ending"] if agent != ROUTER else "replaced"
        return DrillResult(agent, fault.name, asked.seconds, end, "words" if agent == ROUTER else "", tuple(problems))

    def _ask(
        self, question: str, faulty: Coordinator, fault: DrillFault, stage: FaultStage, opened: Sequence[str] = ()
    ) -> "_Asked":
        """Send the question to a graph with the fault, and return the answer with the problems that were found.

        A problem is a breach of what must hold for every request, under any fault. The breakers in `opened` are open
        before the request.
        """
        self._count += 1
        session, before = f"drill-{self._count}", self._provider.requests
        self._provider.mode = fault.provider
        self._at.ledger.run(close_all)
        until = self._at.clock() + timedelta(seconds=MAX_SECONDS)
        self._at.ledger.run(open_each, opened, until)
        app = with_coordinator(self._app, faulty)
        result, seconds = self._answer(app, question, session, stage)
        ledger = self._at.ledger
        spend, requests = ledger.spend(session), self._provider.requests
        stage.over.set()
        self._provider.release()
        self._settle()
        later = ledger.spend(session)
        problems: list[str] = []
        if seconds > (allowed := self._time_for(fault) * ALLOWED_SHARE):
            problems.append(f"the answer took {seconds:.2f} s, {allowed:.2f} are allowed")
        if later.spent + later.held > spend.spent + spend.held or self._provider.requests > requests:
            problems.append("something was spent after the answer")
        if later.spent + later.held > result["spend"].budget:
            problems.append(f"{later.spent} were spent of {result['spend'].budget}")
        if not (verified := ledger.verify(session)):
            problems.append(f"the log does not verify: {verified}")
        ended = [row.kind for row in ledger.audit(session)].count("run_ended")
        if ended != len(result["runs"]):
            problems.append(f"{len(result['runs'])} runs, and {ended} ends in the log")
        return _Asked(result, seconds, requests - before, later.spent.nanos, tuple(problems))

    def _answer(self, app: Any, question: str, session: str, stage: FaultStage) -> tuple[Any, float]:
        """Ask the question in the drill's way. Return the answer, and the seconds until it was there."""
        asked, config = {"messages": [("user", question)]}, {"configurable": {"thread_id": session}}
        began = time.monotonic()
        if self._way == "sync":
            return app.invoke(asked, config), time.monotonic() - began

        async def answer() -> tuple[Any, float]:
            result = await app.ainvoke(asked, config)
            seconds = time.monotonic() - began
            stage.over.set()  # `asyncio.run` waits for what was left behind on its loop
            return result, seconds

        return asyncio.run(answer())

    def _settle(self) -> None:
        """Wait until abandoned handlers have ended, so that they disturb no later request.

        The wait is at most `SETTLE_SECONDS`.
        """
        until = time.monotonic() + SETTLE_SECONDS
        while abandoned_count() and time.monotonic() < until:
            time.sleep(0.01)


@dataclass(frozen=True, slots=True)
class _Asked:
    """The answer to a drilled request, and its problems.

    `requests` counts the requests that the provider got; `spent` is in nano-dollars.
    """

    result: Any
    seconds: float
    requests: int
    spent: int
    problems: tuple[str, ...]


def _apart(chain: Chain) -> Chain:
    return replace(chain, links=tuple(replace(link, apart=True) for link in chain.links))


def _question(chain: Chain) -> str:
    return next(iter(chain.specialist.examples), chain.specialist.description)


def _end(run: Run) -> str:
    """Return how an agent's run ended: its outcome, with the limit or fault if there is one, or with "unsure".

    A run is unsure if its confidence was too low. `run` is the first run of the agent's chain. If it is a fallback's,
    the agent's own handler was left out because its breaker was open: return "left alone".
    """
    if run.level:
        return "left alone"
    why = run.limit or run.fault or ("unsure" if run.unsure else "")
    return f"{run.outcome}: {why}" if why else str(run.outcome)


def _of_chain(chain: Chain, fault: DrillFault, runs: Sequence[Run], result: Any) -> Iterator[str]:
    """Yield a line for each problem: a run that did not end as the fault demands, an answer that does not say so.

    `runs` are the runs of the agent's chain, in order, and `result` is the graph's state after the request.
    """
    name, text = chain.specialist.name, result["messages"][-1].text
    if not runs:
        yield "the agent did not run"
        return
    told = [gap for gap in result["gaps"] if gap.startswith(f"{name}: ")]
    is_providers = fault.provider != "answers" or fault.opens == "model"
    if is_providers and runs[0].answers and any(gap in text for gap in told):
        return  # a handler that asks several, such as a cascade, has answered without the provider, and says so
    if _end(runs[0]) not in fault.ends:
        yield f"it ended {_end(runs[0])} ({runs[0].reason}), not {' or '.join(sorted(fault.ends))}"
    if fault.outlived:
        return
    if len(chain.links) > 1 and not any(f"{runs[-1].handler} answered instead" in gap for gap in told):
        yield "the answer does not say who answered instead"
    if not any(gap in text for gap in told):
        yield "the answer does not say what is missing"
