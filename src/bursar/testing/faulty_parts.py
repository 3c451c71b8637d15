"""Parts of a drilled coordinator: a router and a gate with a fault, and a router without one."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bursar.nodes.routers.base import Candidate, Scores
from bursar.state.run import Task
from bursar.testing.drill_faults import DrillFault, FaultStage, made


@dataclass(frozen=True, slots=True)
class RouterToOne:
    """A router that sends every request to one agent."""

    name: str

    async def route(self, question: str, candidates: Sequence[Candidate], /) -> Scores:
        scores = {candidate.name: float(candidate.name == self.name) for candidate in candidates}
        return Scores(scores, (self.name,), 1.0, "a drill")


@dataclass(frozen=True, slots=True)
class FaultyRouter:
    """A router that fails by `fault`, on the event loop on which it is called."""

    fault: DrillFault
    stage: FaultStage
    task: Task

    async def route(self, question: str, candidates: Sequence[Candidate], /) -> Any:
        result = made(self.fault, self.stage)(self.task)
        return await result if inspect.isawaitable(result) else result


@dataclass(frozen=True, slots=True)
class FaultyGate:
    """A gate whose reviews all fail by `fault`: they raise, hang, or return what is no verdict."""

    name: str
    fault: DrillFault
    stage: FaultStage
    task: Task

    def review_plan(self, *asked: object, **options: object) -> Any:
        """Fail by the gate's `fault` in place of a review of the plan. The arguments are not used."""
        return self._misbehave()

    def review_answer(self, *asked: object, **options: object) -> Any:
        """Fail by the gate's `fault` in place of a review of the answer. The arguments are not used."""
        return self._misbehave()

    def _misbehave(self) -> Any:
        return made(self.fault, self.stage)(self.task)
