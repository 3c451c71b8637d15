"""The report node: merges the specialists' reports, names what is missing, and closes the request."""

from collections.abc import Mapping

from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig

from bursar.checkpoints.leases import lease_of
from bursar.checkpoints.ledger.requests import close_request
from bursar.nodes.context.coordinator import Coordinator, answer_id
from bursar.nodes.context.outcome import in_one_line
from bursar.nodes.isolation.captured import capture_call
from bursar.nodes.isolation.sync_bridge import Update
from bursar.nodes.planning.gate import ask
from bursar.nodes.specialists.chain import Chain
from bursar.state.run import Outcome, Report, Run
from bursar.state.session import Ending, SessionState, runs_of

NONE_FITS = "None of the specialists fits this request"


async def report(coordinator: Coordinator, state: SessionState, config: RunnableConfig) -> Update:
    """Write the one answer of the request, even if every specialist failed, and close the request in the ledger."""
    request = state["request"]
    reports, gaps, answer = _composed(coordinator, state)
    ending: Ending = "answered_with_gaps" if gaps else "answered"
    if not reports and state["plan"].denied:
        ending = "refused"
    gate = coordinator.gate
    if gate is not None and reports:  # without reports the answer is the supervisor's own text
        draft = answer
        verdict = await ask(
            coordinator, gate, request, lambda: gate.review_answer(request, draft, reports, now=request.opened_at)
        )
        if verdict.action == "deny":
            gaps, ending = [*gaps, f"the answer: {verdict.reason}"], "refused"
            answer = verdict.text or f"This answer is withheld. {verdict.reason}"
        elif verdict.text is not None:
            answer = verdict.text
    at = coordinator.clock()
    # The release of a lease in this database is a durable commit, and puts this earlier commit on disk too.
    lease = lease_of(config)
    owned = lease is not None and lease.database is coordinator.database
    spend = await coordinator.commit(
        lambda transaction: close_request(transaction, request.session_id, request.id, outcome=ending, at=at),
        request,
        durable=not owned,
    )
    message = AIMessage(
        id=answer_id(request),
        content=_with_gaps(answer, gaps),
        response_metadata={"request_id": request.id, "ending": ending, "spent_usd": f"{spend.spent.dollars:f}"},
    )
    return {"messages": [message], "gaps": gaps, "ending": ending, "spend": spend}


def _composed(coordinator: Coordinator, state: SessionState) -> tuple[dict[str, Report], list[str], str]:
    """Return the reports by specialist, the gaps, and the answer that is put together of the reports.

    If putting them together raises an error, there are no reports, and the answer and the only gap say so.
    """
    composed = capture_call(_parts, coordinator, state)
    if isinstance(composed.error, KeyboardInterrupt):
        raise composed.error
    if composed.value is not None:
        return composed.value
    names = ", ".join(step.name for step in state["plan"].steps)
    gap = f"report: {in_one_line(composed.error or RuntimeError())}; what {names or 'nobody'} answered is not given"
    return {}, [gap], "The parts of this answer could not be put together."


def _parts(coordinator: Coordinator, state: SessionState) -> tuple[dict[str, Report], list[str], str]:
    reports = _reports(state)
    return reports, _gaps(state), _answer(coordinator, state, reports)


def _reports(state: SessionState) -> dict[str, Report]:
    """Return the report of each planned specialist, in plan order.

    The report is that of the run that completed with enough confidence. If there is none, it is that of the completed
    run with the highest confidence; if no run completed, it is the last partial report.
    """
    reports: dict[str, Report] = {}
    for step in state["plan"].steps:
        done = [run for run in runs_of(state, step.name) if run.report is not None]
        chosen = _answering(done) or (done[-1] if done else None)
        if chosen is not None and chosen.report is not None:
            reports[step.name] = chosen.report
    return reports


def _gaps(state: SessionState) -> list[str]:
    """Return the gaps of the answer, one line each.

    A gap is a specialist that was denied, a router that gave no answer, a request that no specialist fits, a run that
    was cut, exhausted, failed or unsure, or a gap that a report names.
    """
    gaps = [f"{name}: {reason}" for name, reason in state["plan"].denied]
    if state["plan"].steps and (fault := next((d.note for d in state["decisions"] if d.kind == "route"), "")):
        gaps.append(f"routing: {fault}; chosen by the words of the request")
    for step in state["plan"].steps:
        runs = runs_of(state, step.name)
        completed = _answering(runs)
        reasons = [step.skip_reason] if step.skip_reason else []
        reasons += [run.reason for run in runs if not run.answers]
        if reasons:
            gaps.append(f"{step.name}: {'; '.join(reasons)}; {_instead(step.name, runs, completed)}")
        gaps += [f"{step.name}: {gap}" for gap in (completed.report.gaps if completed and completed.report else ())]
    if not state["plan"].steps and not state["plan"].denied:
        gaps.append(next((d.note for d in state["decisions"] if d.kind == "route" and d.note), NONE_FITS))
    return gaps


def _answering(runs: list[Run]) -> Run | None:
    """Return the run whose report the answer gives: the run that completed with enough confidence.

    If there is none, return the completed run with the highest confidence; if no run completed, None.
    """
    completed = [run for run in runs if run.outcome is Outcome.COMPLETED]
    return next((run for run in completed if run.answers), max(completed, key=_confidence, default=None))


def _confidence(run: Run) -> float:
    return 0.0 if run.report is None else run.report.confidence


def _instead(specialist: str, runs: list[Run], completed: Run | None) -> str:
    if completed is None:
        return "what it had is given" if any(run.report for run in runs) else "nothing answered in its place"
    if completed.handler == specialist:
        return "its answer is given all the same" if completed.unsure else "answered in full"
    as_of = None if completed.report is None else completed.report.as_of
    return f"{completed.handler} answered instead" + (f", as of {as_of:%Y-%m-%d %H:%M} UTC" if as_of else "")


def _answer(coordinator: Coordinator, state: SessionState, reports: Mapping[str, Report]) -> str:
    if len(reports) == 1:
        return next(iter(reports.values())).answer
    if reports:
        return "\n\n".join(f"{_title(name)}\n{report.answer}" for name, report in reports.items())
    if state["plan"].denied:
        return "\n".join(dict.fromkeys(reason for _, reason in state["plan"].denied))
    if state["plan"].steps:
        return "This request could not be answered."
    offers = "\n".join(f"- {_offer(chain)}" for chain in coordinator.chains.values())
    return f"{NONE_FITS}. They can help with:\n{offers}"


def _offer(chain: Chain) -> str:
    """Return what a specialist offers: its name, then its first example or, if it has no examples, its description."""
    specialist = chain.specialist
    example = next(iter(specialist.examples), "")
    return f"{_title(specialist.name)}: " + (f"“{example}”" if example else specialist.description)


def _title(name: str) -> str:
    return name.replace("_", " ").replace("-", " ").capitalize()


def _with_gaps(answer: str, gaps: list[str]) -> str:
    """Return the answer, followed by each gap that the answer does not already name word for word."""
    unsaid = [gap for gap in gaps if gap not in answer and (gap.partition(": ")[2] or gap) not in answer]
    if not unsaid:
        return answer
    return "\n".join((answer, "", "Missing from this answer:", *(f"- {gap}" for gap in unsaid)))
