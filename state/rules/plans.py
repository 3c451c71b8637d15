"""What a plan may start, by what each step needs and by the money left, and by how much a budget is raised for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol


class PlanStep(Protocol):
    """What the rules see of a step: it runs after the steps that it `needs`, and without reports of `optional` ones."""

    @property
    def name(self) -> str: ...
    @property
    def needs(self) -> tuple[str, ...]: ...
    @property
    def optional(self) -> tuple[str, ...]: ...


def next_wave(steps: Sequence[PlanStep], gave: Mapping[str, bool]) -> frozenset[str]:
    """Return the names of the steps that may start now.

    `gave` has the steps that have ended, and whether each gave a report. A step may start once all that it needs has
    ended. If a step that it needs gave no report, is not among `steps`, or never starts itself, it never starts, unless
    that need is optional.
    """
    never = never_started(steps, gave)
    waiting = {step.name for step in steps if step.name not in gave and step.name not in never}
    return frozenset(step.name for step in steps if step.name in waiting and waiting.isdisjoint(step.needs))


def never_started(steps: Sequence[PlanStep], gave: Mapping[str, bool]) -> dict[str, str]:
    """Return the steps that never start, each with the first need for whose want it does not."""
    names = {step.name for step in steps}
    never: dict[str, str] = {}
    for _ in steps:  # each pass finds the steps that need one which the pass before found
        for step in steps:
            if step.name in gave or step.name in never:
                continue
            required = (need for need in step.needs if need not in step.optional)
            lost = next((n for n in required if n in never or n not in names or gave.get(n) is False), None)
            if lost is not None:
                never[step.name] = lost
    return never


def arrange(
    names: Sequence[str], needs: Mapping[str, Sequence[str]]
) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """Return the names, each after what it needs and otherwise in the order given, and the needs that make a cycle.

    Without those needs, each `(name, need)`, there is no cycle. A need that is not among `names` is passed over.
    """
    known, ordered, cyclic = set(names), dict[str, None](), list[tuple[str, str]]()
    for first in names:
        path = {first: iter(needs.get(first, ()))}  # what is being placed, each with the needs that it still has
        while path:
            name = next(reversed(path))
            need = next(path[name], None)
            if need is None:
                ordered[name] = None
                del path[name]
            elif need in path:
                cyclic.append((name, need))
            elif need in known and need not in ordered:
                path[need] = iter(needs.get(need, ()))
    return tuple(ordered), tuple(cyclic)


@dataclass(frozen=True, slots=True)
class PricedStep:
    """What pricing sees of a step: what it needs without fail, and what it is expected to cost, in nano-dollars.

    If it may pay, it `pays`. If it was not `wanted` by itself, other steps alone need it, some perhaps as one of their
    `optional` needs. `cut` says that it does not start with its own handler anyhow.
    """

    name: str
    needs: tuple[str, ...]
    expects: int
    pays: bool
    wanted: bool = True
    cut: bool = False
    optional: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PlanCut:
    """Why a step is cut from a plan: no `room` for it, with `left` nano-dollars; its `need` was cut; or it is `idle`:
    all that needed it was cut. `of` names the need, or what had needed it. `cost` is what the step and what it needs
    would cost more.
    """

    kind: Literal["room", "need", "idle"]
    left: int
    of: str = ""
    cost: int = 0


def price_plan(steps: Sequence[PricedStep], left: int) -> dict[str, PlanCut]:
    """Return the steps that are cut so that the expected costs of all others fit `left` nano-dollars together.

    `steps` come by value, the best first, but each after what it needs. A wanted step is kept if it fits together with
    all that it needs; otherwise a cheaper one after it may still fit. A step whose need is cut is cut too. For what is
    left then, an optional need of a kept step is kept if it fits.
    """
    by_name = {step.name: step for step in steps}
    kept: set[str] = set()
    cuts: dict[str, PlanCut] = {}
    for step in steps:
        if step.cut or not step.wanted:
            continue
        bundle = [one for one in _with_needs(step, by_name) if one.name not in kept]
        lost = next((one for one in bundle if one is not step and (one.cut or one.name in cuts)), None)
        cost, pays = sum(one.expects for one in bundle), any(one.pays for one in bundle)
        if lost is not None:
            cuts[step.name] = PlanCut("need", left, lost.name)
        elif may_start(expected=cost, left=left, pays=pays):
            kept |= {one.name for one in bundle}
            left -= cost
        else:
            cuts[step.name] = PlanCut("room", left, cost=cost)
    for step in reversed(steps):  # what has an optional need comes after it
        if step.cut or step.wanted or step.name in kept or not any(step.name in by_name[n].optional for n in kept):
            continue
        bundle = [one for one in _with_needs(step, by_name) if one.name not in kept]
        cost, pays = sum(one.expects for one in bundle), any(one.pays for one in bundle)
        if any(one.cut or one.name in cuts for one in bundle):
            continue
        if may_start(expected=cost, left=left, pays=pays):
            kept |= {one.name for one in bundle}
            left -= cost
        else:
            cuts[step.name] = PlanCut("room", left, cost=cost)
    for step in steps:
        if step.name not in kept and step.name not in cuts and not step.cut:
            of = next((one.name for one in steps if step.name in (*one.needs, *one.optional)), "")
            cuts[step.name] = PlanCut("idle", left, of)
    return cuts


def _with_needs(step: PricedStep, by_name: Mapping[str, PricedStep]) -> list[PricedStep]:
    """Return the step and all that it needs, by way of others too."""
    found = {step.name: step}
    pending = [step]
    while pending:
        for need in pending.pop().needs:
            if need in by_name and need not in found:
                found[need] = by_name[need]
                pending.append(by_name[need])
    return list(found.values())


def may_start(*, expected: int, left: int, pays: bool) -> bool:
    """Whether a step that is expected to cost `expected` nano-dollars may start with `left` of them.

    A step that may pay does not start with nothing, even if it is expected to cost nothing.
    """
    return expected <= left and (left > 0 or not pays)


def allowance(*, ceiling: int, left: int) -> int:
    """Return the most that a step may spend, in nano-dollars: its ceiling, or what is left if that is less."""
    return min(ceiling, left)


def raise_for(*, needs: int, wants: int, room: int, above: int | None) -> int:
    """Return by how many nano-dollars a request's budget is to be raised for a step that it stopped; 0 for no raise.

    The step needs `needs` to go on and wants `wants` to end; `room` is what it has. `above` is the least that is left
    in the accounts above the request, None if none of them has a cap: the raise is no more than they have left. It is 0
    if the step could not go on with it.
    """
    amount = wants - room
    if above is not None:
        amount = min(amount, above - room)
    return amount if amount > 0 and room + amount >= needs else 0
