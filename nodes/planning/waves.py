"""Waves and rounds: the steps of a plan that may start now, and whether anything of a request is left to do."""

from collections.abc import Mapping

from bursar.nodes.context.coordinator import Coordinator
from bursar.nodes.context.given_reports import report_of_step
from bursar.state.decision import Step
from bursar.state.rules.plans import never_started, next_wave
from bursar.state.session import SessionState


def wave_of(coordinator: Coordinator, state: SessionState) -> tuple[Step, ...]:
    """Return the steps that may start now: they have not run, and what they need has ended."""
    known = _known(coordinator, state)
    ready = next_wave(known, _gave(state))
    return tuple(step for step in known if step.name in ready)


def is_left(coordinator: Coordinator, state: SessionState) -> bool:
    """Whether a wave of the plan or another round is left.

    The report waits as long as this is so, and the supervisor goes on: both go by this one function of the state. The
    supervisor then starts a wave, or plans another round, so that it is not so for ever.
    """
    plan = state["plan"]
    if wave_of(coordinator, state):
        return True
    return bool(plan.steps) and plan.round < coordinator.rounds and (not plan.done or bool(hand_overs(state)))


def hand_overs(state: SessionState) -> Mapping[str, tuple[str, ...]]:
    """Return to whom the steps of the newest round hand over, by step."""
    plan = state["plan"]
    newest = (step.name for step in plan.steps if step.round == plan.round)
    reports = {name: report_of_step(state, name) for name in newest}
    return {name: report.hands_to for name, report in reports.items() if report is not None and report.hands_to}


def lost_needs(coordinator: Coordinator, state: SessionState) -> Mapping[str, str]:
    """Return the steps that never start, each with the need for whose want it does not."""
    return never_started(_known(coordinator, state), _gave(state))


def lost_optional(state: SessionState, step: Step) -> tuple[str, ...]:
    """Return the optional needs of the step that gave no report."""
    return tuple(need for need in step.optional if report_of_step(state, need) is None)


def _known(coordinator: Coordinator, state: SessionState) -> list[Step]:
    return [step for step in state["plan"].steps if step.specialist in coordinator.all_chains]


def _gave(state: SessionState) -> dict[str, bool]:
    """Return the steps that have run, each with whether it gave a report."""
    gave: dict[str, bool] = {}
    for run in state["runs"]:
        gave[run.step] = gave.get(run.step, False) or run.report is not None
    return gave
