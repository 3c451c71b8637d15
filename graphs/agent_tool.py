"""`as_tool`: a specialist as a tool of another agent, which pays for it."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any
from weakref import WeakKeyDictionary

from langchain_core.messages import HumanMessage
from langchain_core.tools import BaseTool, StructuredTool
from pydantic import BaseModel, Field

from bursar.checkpoints.ledger.ledger import Ledger
from bursar.graphs.supervisor import build_supervisor
from bursar.nodes.gateway.paid_calls.scope import Scope, enclosing_scope
from bursar.nodes.routers.base import Candidate, Scores
from bursar.nodes.specialists.chain import chains_of
from bursar.nodes.specialists.definition import Specialist
from bursar.state.budget import Budget
from bursar.state.refusals import NoSession, Refused
from bursar.state.run import Report

MAX_DEPTH = 8  # agents that ask each other, one inside the other


class ToolRequest(BaseModel):
    """What an agent asks another one, as the arguments of a tool call."""

    request: str = Field(description="What to do, with all that is needed to do it")


class OnlyRouter:
    """A router that chooses every candidate, for a supervisor of one specialist."""

    free = True

    def ready(self, candidates: Sequence[Candidate]) -> bool:
        return True

    async def route(self, question: str, candidates: Sequence[Candidate], /) -> Scores:
        names = tuple(candidate.name for candidate in candidates)
        return Scores(dict.fromkeys(names, 1.0), names, 1.0, "asked by another agent")


def as_tool(specialist: Specialist) -> BaseTool:
    """Return a tool with which another agent asks the specialist: `request` in, its answer out.

    The specialist runs as a request inside the agent's run. What it spends is charged to the agent too, and fits its
    own ceiling and all that the agent has left. It has its own deadline, turns and fallbacks, within the agent's
    deadline. The answer names what is missing; the tool message's `artifact` is the `Report`, None if there is none.

    Raises `ConfigurationError` if the specialist needs another one or an approval, or has no fallbacks that end in a
    deterministic handler. The tool raises `NoSession` outside an agent's run, `Refused` eight agents deep, and the
    refusal if the agent has nothing left.
    """
    chains_of([specialist])
    if specialist.risk == "high":
        raise specialist.fault("a person must approve its runs, and an agent's tool cannot wait for one")
    teams: WeakKeyDictionary[Ledger, Any] = WeakKeyDictionary()  # LangGraph leaves its own type partly unknown

    def team(scope: Scope) -> Any:
        found = teams.get(scope.ledger)
        if found is None:
            found = teams[scope.ledger] = build_supervisor(
                [specialist],
                budget=Budget(specialist.cap),
                ledger=scope.ledger,
                router=OnlyRouter(),
                name=specialist.name,
                clock=scope.clock,
                new_id=scope.new_id,
            )
        return found

    def ask(request: str) -> tuple[str, Report | None]:
        scope = _caller(specialist)
        return _answer(specialist, team(scope).invoke(_sent(scope, specialist, request)))

    async def aask(request: str) -> tuple[str, Report | None]:
        scope = _caller(specialist)
        return _answer(specialist, await team(scope).ainvoke(_sent(scope, specialist, request)))

    return StructuredTool.from_function(
        ask,
        aask,
        name=specialist.name,
        description=specialist.description,
        args_schema=ToolRequest,
        response_format="content_and_artifact",
    )


def _caller(specialist: Specialist) -> Scope:
    scope = enclosing_scope()
    if scope is None:
        raise NoSession(f"{specialist.name} is an agent's tool and was called outside any agent's run")
    depth, around = 1, scope.outer
    while around is not None:
        depth, around = depth + 1, around.outer
    if depth > MAX_DEPTH:
        raise Refused(f"{specialist.name} is asked {MAX_DEPTH} agents deep; agents that ask each other end here")
    return scope


def _sent(scope: Scope, specialist: Specialist, request: str) -> Any:
    """Return the input of the specialist's request. Its message has the same id when the agent's run is repeated.

    So the request that a crash cut off goes on, and what it has paid is not paid again.
    """
    key = sha256(f"{specialist.name}\x1f{request}".encode("utf-8", "surrogatepass")).hexdigest()
    name = f"{scope.checkpoint_ns}\x1f{key}\x1f{scope.next_occurrence(key)}"
    return {"messages": [HumanMessage(request, id=sha256(name.encode()).hexdigest()[:24])]}


def _answer(specialist: Specialist, result: Any) -> tuple[str, Report | None]:
    return result["messages"][-1].text, result["reports"].get(specialist.name)
