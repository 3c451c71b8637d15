"""Reports of steps: the one that a step's runs gave, and those that the task of a later step gets, within bounds."""

from bursar.state.decision import Step
from bursar.state.run import Outcome, Report, Run
from bursar.state.session import Plan, SessionState, runs_of

MOST_REPORTS = 20
MOST_CHARACTERS = 20_000  # of one report's answer
MOST_DATA_CHARACTERS = 50_000  # of one report's data, as JSON
CUT = " … [cut: the answer is longer]"
LEFT_OUT = f"[left out: a task has {MOST_REPORTS} reports at most]"


def answering_run(runs: list[Run]) -> Run | None:
    """Return the run whose report stands for its step: the run that completed with enough confidence.

    If there is none, return the completed run with the highest confidence; if no run completed, None.
    """
    completed = [run for run in runs if run.outcome is Outcome.COMPLETED]
    return next((run for run in completed if run.answers), max(completed, key=_confidence, default=None))


def report_of_step(state: SessionState, step: str) -> Report | None:
    """Return the report of the step's answering run or, if no run completed, its last partial report."""
    done = [run for run in runs_of(state, step) if run.report is not None]
    chosen = answering_run(done) or (done[-1] if done else None)
    return None if chosen is None else chosen.report


def reports_so_far(state: SessionState, *, before_round: int) -> dict[str, Report]:
    """Return the reports of the steps of all rounds before that one, by step, in plan order."""
    earlier = [step.name for step in state["plan"].steps if step.round < before_round]
    return {name: report for name in earlier if (report := report_of_step(state, name)) is not None}


def reports_for(state: SessionState, step: Step) -> dict[str, Report]:
    """Return what the step's task gets: the reports of what it needs, and those of earlier rounds.

    A long answer is cut with a mark, data that is too long is left out with a gap that says so, and of many reports
    only the newest are whole.
    """
    named = given_names(state["plan"], step)
    found = {name: report for name in named if (report := report_of_step(state, name)) is not None}
    old = list(found)[:-MOST_REPORTS]
    return {name: Report(answer=LEFT_OUT) if name in old else _bounded(report) for name, report in found.items()}


def given_names(plan: Plan, step: Step) -> tuple[str, ...]:
    """Return the steps whose reports the step's task gets, in plan order."""
    return tuple(one.name for one in plan.steps if one.round < step.round or one.name in step.needs)


def _bounded(report: Report) -> Report:
    changes: dict[str, object] = {}
    if len(report.answer) > MOST_CHARACTERS:
        changes["answer"] = report.answer[:MOST_CHARACTERS] + CUT
    size = len(report.model_dump_json(include={"data"})) if report.data else 0
    if size > MOST_DATA_CHARACTERS:
        changes |= {"data": {}, "structured_type": "", "gaps": (*report.gaps, f"its data of {size} characters")}
    return report.model_copy(update=changes) if changes else report


def _confidence(run: Run) -> float:
    return 0.0 if run.report is None else run.report.confidence
