"""`Choose`: a decision tree of named conditions, whose branches end in rungs."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, TypeAlias, cast

from bursar.nodes.cascades.accepting import takes
from bursar.nodes.cascades.decisions import Books
from bursar.nodes.cascades.failures import raise_if_of_the_run, reason_of
from bursar.nodes.cascades.rungs import AnyRung, Rung, ask, rungs_of, scope_of
from bursar.nodes.cascades.stakes import Stake, check_stake, stake_of
from bursar.nodes.gateway.paid_calls.scope import Scope, current_scope
from bursar.nodes.isolation.callables import is_async
from bursar.nodes.isolation.captured import capture_call
from bursar.nodes.specialists.definition import is_name
from bursar.state.decision import Considered, Decision
from bursar.state.errors import ConfigurationError
from bursar.state.money import USD, ZERO
from bursar.state.rules.value import faults_of_tree, first_that_holds
from bursar.state.run import Report, Task

DEPTH = 8  # choices inside choices

Condition: TypeAlias = Callable[[Task], bool] | Callable[[Task, "ChoiceFacts"], bool]


@dataclass(frozen=True, slots=True)
class ChoiceFacts:
    """What conditions go by, beside the task: the `stake` of the decision, and what is `left` to be spent.

    `now` is the time when the request was opened, in UTC, so that a request that is resumed later goes the same way.
    """

    stake: USD
    left: USD
    now: datetime
    inputs: Mapping[str, object] = field(default_factory=dict[str, object])


class Choose:
    """A handler that asks the rung of the first condition that holds, and that of `otherwise` if none does.

    `conditions` are functions by the name of their branch, asked in order: of the task, or of the task and
    `ChoiceFacts` (stake, left, now, inputs). They decide by what they are given, and pay nothing. `rungs` has what each
    branch asks: a metered model, a function, a graph, a specialist, a `Cascade`, or another `Choose`, so that choices
    make a tree. `stake` is what is at risk in US dollars, or a function of the task; a choice below has its own.

    A condition that raises, or returns anything but True or False, does not hold, and the decision says so. The
    decision has the whole path, the stake and what was left. It is in the log before the rung is asked, so a run that
    is repeated after a crash goes the same way. The calls of a branch are charged to the path `agent → branch`.

    Raises `ConfigurationError`, naming the branch, for a branch without a rung, a rung that no branch reaches, and one
    condition for two branches.
    """

    def __init__(
        self,
        conditions: Mapping[str, Condition],
        *,
        otherwise: str,
        rungs: Mapping[str, AnyRung],
        stake: Stake = ZERO,
        name: str = "choose",
    ) -> None:
        if not is_name(name):
            raise ConfigurationError(f"a choice's name is a plain name, not {name!r}")
        self.name, self.otherwise, self.stake = name, otherwise, stake
        self.conditions = dict(conditions)
        of = f"choice {name!r}"
        self.rungs = {rung.name: rung for rung in rungs_of(rungs, {}, of)}
        check_stake(stake, of)
        if faults := faults_of_tree(list(self.conditions), otherwise, list(self.rungs)):
            raise ConfigurationError(f"{of}: {'; '.join(faults)}")
        if otherwise in self.conditions:
            raise ConfigurationError(f"{of}: {otherwise!r} is asked if no condition holds, so it takes no condition")
        self._check_conditions(of)
        if self.depth > DEPTH:
            raise ConfigurationError(f"{of}: it is {self.depth} choices deep; {DEPTH} is the limit")

    def __repr__(self) -> str:
        return f"Choose({self.name}: {', '.join(self.rungs)})"

    @property
    def depth(self) -> int:
        """How many choices a task passes at most, this one included."""
        return 1 + max((b.handler.depth for b in self.rungs.values() if isinstance(b.handler, Choose)), default=0)

    def _check_conditions(self, of: str) -> None:
        seen: dict[int, str] = {}
        for branch, condition in self.conditions.items():
            if not callable(condition) or is_async(condition):
                raise ConfigurationError(f"{of}: the condition of {branch!r} is a plain function, not {condition!r}")
            if (other := seen.setdefault(id(condition), branch)) != branch:
                raise ConfigurationError(f"{of}: branch {branch!r} is never reached; {other!r} has its condition")

    async def __call__(self, task: Task) -> Report:
        """Return the report of the rung that is chosen. Raises what the rung raises."""
        scope = current_scope()
        books = Books.of(scope, self.name, task)
        known = await books.known("")
        made = known.made.get(0)
        left = task.left if known.left is None else known.left
        path = _known_path(self, made)
        if path is None or made is None:
            chosen = await asyncio.to_thread(_walk, self, task, left)  # users' functions may read a database
            path = chosen.rungs
            above = tuple(rung.name for rung in path[:-1])
            await books.write(0, partial(_decision, chosen, books.agent), opens=path[-1:], above=above)
        else:
            books.tell(made)
        return await _ask_last(path, task, scope)


@dataclass(frozen=True, slots=True)
class _Walk:
    """A way through a tree: its rungs, what each condition said, and what was wrong with conditions and stakes."""

    rungs: tuple[Rung, ...]
    judged: tuple[Considered, ...]
    notes: tuple[str, ...]
    stake: USD


def _walk(choice: Choose, task: Task, left: USD) -> _Walk:
    """Return the way of the task through the tree. No condition after the first that holds is asked."""
    rungs: list[Rung] = []
    judged: list[Considered] = []
    notes: list[str] = []
    stake = ZERO
    at: Choose | None = choice
    while at is not None:  # each pass goes one choice down, and a tree has at most DEPTH
        own, wrong = stake_of(at.stake, task)
        stake = max(stake, own)
        facts = ChoiceFacts(own, left, task.now, task.inputs)
        held: dict[str, bool] = {}
        for branch, condition in at.conditions.items():
            held[branch], why = _holds(condition, task, facts)
            judged.append(_considered(branch, holds=held[branch], why=why))
            notes += [f"{branch}: {why}"] if why else []
            if held[branch]:
                break
        notes += [wrong] if wrong else []
        branch = first_that_holds(held, at.otherwise)
        if not held.get(branch):
            judged.append(_considered(branch, holds=True, why="no condition holds"))
        rungs.append(at.rungs[branch])
        below = at.rungs[branch].handler
        at = below if isinstance(below, Choose) else None
    return _Walk(tuple(rungs), tuple(judged), tuple(notes), stake)


def _holds(condition: Condition, task: Task, facts: ChoiceFacts) -> tuple[bool, str]:
    given = (task, facts)[: takes(condition, 2)]
    end = capture_call(cast("Callable[..., Any]", condition), *given)
    if end.error is not None:
        if not isinstance(end.error, Exception):
            raise end.error
        return False, reason_of(end.error)
    if not isinstance(end.value, bool):
        return False, f"a condition returns True or False, not {type(end.value).__name__}"
    return end.value, ""


def _considered(branch: str, *, holds: bool, why: str) -> Considered:
    return Considered(
        name=branch, score=1.0 if holds else 0.0, expected_cost=ZERO, verdict="chosen" if holds else "unfit", reason=why
    )


def _decision(walk: _Walk, agent: str, left: USD | None, cost: USD | None) -> Decision:
    path = tuple(rung.name for rung in walk.rungs)
    return Decision(
        kind="choose",
        by=agent,
        rule="the first condition that holds",
        chosen=path,
        candidates=walk.judged,
        left=ZERO if left is None else left,
        note="; ".join([" → ".join(path), *walk.notes]),
        stake=walk.stake,
    )


def _known_path(choice: Choose, made: Decision | None) -> tuple[Rung, ...] | None:
    """Return the rungs of a path that was decided before a crash; None if there is none, or the tree has changed."""
    rungs: list[Rung] = []
    at: object = choice
    for name in () if made is None else made.chosen:
        if not isinstance(at, Choose) or (rung := at.rungs.get(name)) is None:
            return None
        rungs.append(rung)
        at = rung.handler
    return tuple(rungs) if rungs and not isinstance(at, Choose) else None


async def _ask_last(path: Sequence[Rung], task: Task, scope: Scope | None) -> Report:
    """Ask the last rung of the path, charged to the path of all names."""
    around = scope
    for rung in path[:-1]:
        around = None if around is None else around.child(rung.name)
    own = scope_of(path[-1], around)
    end = await ask(path[-1], task, own)
    if end.error is not None and own is not None and own.refusal is not None and scope is not None:
        scope.latch(own.refusal)  # no other rung answers in its place, so the run ends as it does without a choice
    raise_if_of_the_run(end.error, scope)
    if end.error is not None:
        raise end.error
    return end.result()
