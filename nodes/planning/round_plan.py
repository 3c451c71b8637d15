"""The plan of one round: what a router's decision makes of specialists, their needs and the order that it asked for."""

import re
from collections.abc import Mapping, Sequence

from bursar.nodes.context.coordinator import Coordinator
from bursar.nodes.specialists.definition import Specialist
from bursar.state.decision import Considered, Decision, Step
from bursar.state.money import ZERO
from bursar.state.rules.plans import arrange
from bursar.state.session import Plan
from bursar.state.text import clean, one_line

NAME_CHARACTERS = 64  # of a router's name that a gap quotes
_NUMBERED = re.compile(r"(.+)\[([1-9][0-9]{0,2})\]")


def is_numbered(name: str) -> bool:
    """Whether it names one of several runs of a specialist at once, such as `research[2]`."""
    return _NUMBERED.fullmatch(name) is not None


def specialist_of(name: str) -> str:
    """Return the specialist's name without the number of its run."""
    found = _NUMBERED.fullmatch(name)
    return name if found is None else found[1]


def with_needs(
    coordinator: Coordinator, considered: Sequence[Considered], order: Mapping[str, Sequence[str]], before: Plan
) -> tuple[Considered, ...]:
    """Return the candidates with those chosen too that chosen ones need. What ran in an earlier round is not added."""
    by_name = {one.name: one for one in considered}
    ran = {step.specialist for step in before.steps}
    pending = [one.name for one in considered if one.verdict == "chosen"]
    while pending:
        name = pending.pop(0)
        for need in _needs(coordinator, name, order):
            for other in [one for one in by_name.values() if need in (one.name, specialist_of(one.name))]:
                if other.verdict == "unfit" and specialist_of(other.name) not in ran:
                    added = other.model_copy(update={"verdict": "chosen", "reason": f"needed by {name}"})
                    by_name[other.name] = added
                    pending.append(other.name)
    return tuple(by_name[one.name] for one in considered)


def plan_of(
    coordinator: Coordinator, decision: Decision, before: Plan, *, number: int, texts: Mapping[str, str]
) -> Plan:
    """Return the plan of round `number` alone: each chosen step after what it needs.

    Chosen specialists start with their own handler; those for which the budget has no room start with their first free
    fallback. A specialist that ran in an earlier round gets a suffix. What the decision orders and cannot be kept (an
    unknown name, a cycle) is a gap.
    """
    taken = {step.specialist for step in before.steps}
    steps: dict[str, Step] = {}
    for considered in decision.candidates:
        if considered.verdict in {"chosen", "budget"}:
            suffix = f"@{number}" if specialist_of(considered.name) in taken else ""
            steps[considered.name] = _step(coordinator, considered, number=number, suffix=suffix)
    needs, gaps = _resolved(coordinator, decision, steps, before)
    ordered, cyclic = arrange(tuple(steps), needs)
    for name, need in cyclic:
        needs[name] = tuple(other for other in needs[name] if other != need)
        gaps.append(f"{name} was to wait for {need}, which waits for it in turn; it does not")
    owner = {step.name: step.specialist for step in (*before.steps, *steps.values())}
    placed: list[Step] = []
    for name in ordered:
        own = _specialist(coordinator, name)
        named = tuple(steps[need].name if need in steps else need for need in needs[name])
        optional = () if own is None else tuple(need for need in named if owner[need] in own.optional_needs)
        placed.append(steps[name].model_copy(update={"needs": named, "optional": optional}))
    asked = {steps[name].name: text for name, text in texts.items() if name in steps}
    return Plan(steps=tuple(placed), round=number, done=decision.done, texts=asked, gaps=tuple(gaps))


def joined(before: Plan, current: Plan) -> Plan:
    """Return the plan of all rounds so far: that of the earlier ones with that of the newest."""
    return current.model_copy(
        update={
            "steps": (*before.steps, *current.steps),
            "texts": {**before.texts, **current.texts},
            "gaps": (*before.gaps, *current.gaps),
        }
    )


def _step(coordinator: Coordinator, considered: Considered, *, number: int, suffix: str) -> Step:
    own = specialist_of(considered.name)
    chain = coordinator.chains.get(own)  # None: it was removed after the decision
    step = Step(
        name=f"{considered.name}{suffix}",
        specialist=own,
        round=number,
        allowance=ZERO if chain is None else chain.specialist.cap,
        expects=considered.expected_cost,
        wanted=not considered.reason.startswith("needed by "),
    )
    if considered.verdict == "chosen":
        return step
    cut = f"the budget had no room for it: {considered.reason}"
    first = 0 if chain is None else chain.first_free
    return step.model_copy(update={"chain_index": first, "allowance": ZERO, "skip_reason": cut})


def _resolved(
    coordinator: Coordinator, decision: Decision, steps: Mapping[str, Step], before: Plan
) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """Return what each step needs, by its name in the decision: steps of this round, or else steps that have run."""
    gaps = [
        f"{shown(name)} was to wait for others, and is not in the plan" for name in decision.order if name not in steps
    ]
    resolved: dict[str, tuple[str, ...]] = {}
    for name in steps:
        found: list[str] = []
        for need in _needs(coordinator, name, decision.order):
            now = [other for other in steps if need in (other, specialist_of(other)) and other != name]
            then = [step.name for step in before.steps if need in (step.name, step.specialist)]
            found += now or then
            if not now and not then and need in decision.order.get(name, ()):
                gaps.append(f"{name} was to wait for {shown(need)}, which is not in the plan")
        resolved[name] = tuple(dict.fromkeys(found))
    return resolved, gaps


def _needs(coordinator: Coordinator, name: str, order: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    own = _specialist(coordinator, name)
    return (*(() if own is None else own.needs), *order.get(name, ()))


def _specialist(coordinator: Coordinator, name: str) -> Specialist | None:
    chain = coordinator.chains.get(specialist_of(name))
    return None if chain is None else chain.specialist


def shown(name: str) -> str:
    """Return a name that came from outside as a gap quotes it."""
    return clean(one_line(str(name), NAME_CHARACTERS))
