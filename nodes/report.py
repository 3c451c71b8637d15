"""The report node: merges the specialists' reports, names what is missing, and closes the request."""

import re
from collections.abc import Mapping

from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langgraph.graph import END

from bursar.checkpoints.leases import lease_of
from bursar.checkpoints.ledger.requests import close_request
from bursar.checkpoints.ledger.transaction import Transaction
from bursar.nodes.context.conversation import history, only_other_content
from bursar.nodes.context.coordinator import Coordinator, answer_id
from bursar.nodes.context.given_reports import answering_run, reports_so_far
from bursar.nodes.context.outcome import for_two_readers, log_failure
from bursar.nodes.isolation.captured import capture_call
from bursar.nodes.isolation.sync_bridge import Update
from bursar.nodes.observers.base import RequestEnd
from bursar.nodes.observers.request_observers import tell_answered, tell_opened, tell_request
from bursar.nodes.planning.gate import ask
from bursar.nodes.planning.waves import hand_overs, is_left, lost_needs, lost_optional
from bursar.nodes.routers.base import Question
from bursar.nodes.runs.composition import compose
from bursar.nodes.specialists.chain import Chain
from bursar.state.decision import Decision
from bursar.state.run import Report, Run
from bursar.state.session import Ending, SessionState, runs_of
from bursar.state.spend import Spend

GONE = "it did not run, because this version of the application has no such agent"
NONE_FITS = "None of the specialists fits this request"


async def report(coordinator: Coordinator, state: SessionState, config: RunnableConfig) -> Update:
    """Write the one answer of the request, even if every specialist failed, and close the request in the ledger.

    If a wave of the plan or another round is left, do nothing: the supervisor goes on with that.
    """
    if is_left(coordinator, state):
        return {}
    request = state["request"]
    tell_opened(request)
    reports, gaps, answer = _composed(coordinator, state)
    decisions: list[Decision] = []
    if coordinator.composer is not None and len(reports) > 1:
        question = Question(request.text, history=history(state["messages"]), previous=request.previous)
        composed, decision = await compose(coordinator, request, question, reports, gaps, config=config)
        answer, decisions = answer if composed is None else composed.answer, [decision]
        tell_request("decided", decision)
        gaps += () if composed is None else composed.gaps
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
            reports, gaps, ending = {}, [*gaps, f"the answer: {verdict.reason}"], "refused"
            answer = verdict.text or f"This answer is withheld. {verdict.reason}"
        elif verdict.text is not None:
            answer = verdict.text
    at = coordinator.clock()

    def close(transaction: Transaction) -> Spend:
        ids = request.session_id, request.id
        return close_request(transaction, *ids, outcome=ending, at=at, decisions=decisions)

    # The release of a lease in this database is a durable commit, and puts this earlier commit on disk too.
    lease = lease_of(config)
    owned = lease is not None and lease.database is coordinator.database
    spend = await coordinator.commit(close, request, durable=not owned)
    message = AIMessage(
        id=answer_id(request),
        content=_with_gaps(answer, gaps),
        response_metadata={"request_id": request.id, "ending": ending, "spent_usd": f"{spend.spent.dollars:f}"},
    )
    ended = {"messages": [message], "reports": reports, "gaps": gaps, "ending": ending, "spend": spend}
    tell_answered(
        RequestEnd(request_id=request.id, ending=ending, spend=spend, answer=answer, gaps=gaps, reports=reports)
    )
    return {**ended, "decisions": decisions} if decisions else ended


def after_report(coordinator: Coordinator, state: SessionState) -> str:
    """Return the node after the report: the supervisor if a wave or a round is left, otherwise the end."""
    return "supervisor" if is_left(coordinator, state) else END


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
    error = composed.error or RuntimeError()
    reason, detail = for_two_readers("it failed with an error", error, state["request"].id, "report")
    log_failure(state["request"], "report", detail)
    why = detail if coordinator.show_errors else reason
    return (
        {},
        [f"report: {why}; what {names or 'nobody'} answered is not given"],
        "The parts of this answer could not be put together.",
    )


def _parts(coordinator: Coordinator, state: SessionState) -> tuple[dict[str, Report], list[str], str]:
    plan = state["plan"]
    reports = reports_so_far(state, before_round=plan.round + 1)
    return reports, _gaps(coordinator, state), _answer(coordinator, state, reports)


def _gaps(coordinator: Coordinator, state: SessionState) -> list[str]:
    """Return the gaps of the answer, one line each.

    A gap is a specialist that was denied, a router that gave no answer, a request that no specialist fits, a run that
    was cut, exhausted, failed or unsure, one that is gone, a step without what it needs, a hand-over that came too
    late, a gap that a report names, or a key of the input that nobody read.
    """
    gaps = [f"input: {key!r} is not in the state_schema, so no agent got it" for key in state["request"].undeclared]
    gaps += dict.fromkeys(f"{name}: {reason}" for name, reason in state["plan"].denied)
    gaps += [f"routing: {gap}" for gap in state["plan"].gaps]
    if state["plan"].steps and (fault := next((d.note for d in state["decisions"] if d.kind == "route"), "")):
        gaps.append(f"routing: {fault}; chosen by the words of the request")
    later = [decision for decision in state["decisions"] if decision.kind == "route"][1:]
    gaps += [f"routing: {decision.note}; no further round was planned" for decision in later if decision.note]
    lost = lost_needs(coordinator, state)
    for step in state["plan"].steps:
        if (need := lost.get(step.name)) and not runs_of(state, step.name):
            gaps.append(f"{step.name}: it did not run, because {need} gave no report")
            continue
        runs = runs_of(state, step.name)
        completed = answering_run(runs)
        reasons = [step.skip_reason] if step.skip_reason else []
        reasons += [run.reason for run in runs if not run.answers] or ([] if runs else [GONE])
        if reasons:
            gaps.append(f"{step.name}: {'; '.join(reasons)}; {_instead(step.name, runs, completed)}")
        gaps += [f"{step.name}: {gap}" for gap in (completed.report.gaps if completed and completed.report else ())]
        gaps += [f"{step.name}: it ran without a report of {name}" for name in lost_optional(state, step) if runs]
    gaps += [
        f"{step}: it hands over to {name}, and no round is left for that"
        for step, names in hand_overs(state).items()
        for name in names
    ]
    if not state["plan"].steps and not state["plan"].denied:
        gap = next((d.note for d in state["decisions"] if d.kind == "route" and d.note), NONE_FITS)
        unread = only_other_content(state["messages"][-1] if state["messages"] else None)
        gaps.append(f"{gap}: its last message has no text, only {unread}" if unread else gap)
    return gaps


def _instead(specialist: str, runs: list[Run], completed: Run | None) -> str:
    if completed is None:
        return "what it had is given" if any(run.report for run in runs) else "nothing answered in its place"
    if completed.handler == specialist:
        return "its answer is given all the same" if completed.unsure else "answered in full"
    as_of = None if completed.report is None else completed.report.as_of
    return f"{completed.handler} answered instead" + (f", as of {as_of:%Y-%m-%d %H:%M} UTC" if as_of else "")


def _answer(coordinator: Coordinator, state: SessionState, reports: Mapping[str, Report]) -> str:
    said = {name: report for name, report in reports.items() if report.answer or not report.hands_to} or reports
    if said and not any(report.answer for report in said.values()) and any(r.hands_to for r in said.values()):
        return "This request could not be answered."
    if len(said) == 1:
        return next(iter(said.values())).answer
    if said:
        return "\n\n".join(f"{_title(name)}\n{report.answer}" for name, report in said.items())
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


def _is_said(reason: str, answer: str) -> bool:
    """Whether the answer has the reason word for word, not as a part of longer words."""
    return re.search(rf"(?<!\w){re.escape(reason)}(?!\w)", answer) is not None


def _with_gaps(answer: str, gaps: list[str]) -> str:
    """Return the answer, followed by each gap that the answer does not already name word for word."""
    unsaid = [gap for gap in gaps if not _is_said(gap.partition(": ")[2] or gap, answer)]
    if not unsaid:
        return answer
    return "\n".join((answer, "", "Missing from this answer:", *(f"- {gap}" for gap in unsaid)))
