"""The specialist nodes: one function runs every handler, a specialist's own and fallbacks."""

from collections.abc import Mapping
from typing import NamedTuple, cast

from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.types import Send

from bursar.checkpoints.ledger.accounts import Account, left, open_account
from bursar.checkpoints.ledger.postings import record, recover
from bursar.checkpoints.ledger.transaction import Transaction
from bursar.nodes.actions.budget_raises import added_to, settle_raise
from bursar.nodes.actions.consent import require_consent
from bursar.nodes.context.conversation import history, own_messages
from bursar.nodes.context.coordinator import Coordinator, agent_scope, check_owner, checkpoint_ns, scopes_of
from bursar.nodes.context.expected_costs import expected_costs
from bursar.nodes.context.given_reports import reports_for
from bursar.nodes.context.outcome import RunVerdict
from bursar.nodes.isolation.sync_bridge import Update
from bursar.nodes.observers.request_observers import tell_opened
from bursar.nodes.runs.pauses_and_breakers import breaker_refusal, paused_link, report_to_breaker, standing_of_link
from bursar.nodes.runs.run import run_link
from bursar.nodes.specialists.chain import Chain, Link
from bursar.nodes.specialists.fan_out import SENT, sent
from bursar.state.decision import Decision, Step
from bursar.state.events import Decided, Event, FallbackTaken, RunStarted
from bursar.state.langgraph_private import RUNTIME, read_state
from bursar.state.money import USD, ZERO
from bursar.state.rules.plans import allowance, may_start
from bursar.state.run import Fault, Limit, Outcome, Run, Task
from bursar.state.session import WHOLE_STATE, Request, SessionState, runs_of

UNDONE = RunVerdict(
    Outcome.FAILED, "it was cut off while what it had done was being undone, and is not begun again", fault=Fault.UNDONE
)


async def run_agent(
    coordinator: Coordinator, chain: Chain, level: int, state: SessionState, config: RunnableConfig
) -> Update:
    """Run the handler at `level` of the chain for the request, and add the run to the state, whatever its outcome.

    Level 0 is the specialist's own handler; fallbacks have higher levels.
    """
    state, step = step_of(chain, state, config)
    request = state["request"]
    tell_opened(request)
    link = chain.links[level].of_step(step)
    grant = link.ceiling if level else step.allowance
    # Before anything is written: an interrupt runs this node again from its start. A raise that was asked for is the
    # first question, because it is asked once, and consent to a run again for each run.
    if link.paid:
        grant += added_to(agent_scope(request, link.agent), await settle_raise(coordinator, request, config=config))
    before = runs_of(state, step.name)
    failed = before[-1] if before else None
    task = _task(coordinator, step, state, grant, config)
    denied = await require_consent(coordinator, link, task, request, config=config)
    asked = RunPermit([], grant, denied)
    started = RunStarted(
        request_id=request.id, specialist=step.specialist, handler=link.name, level=level, step=step.name
    )
    permit = await _prepare(coordinator, link, request, asked, started=started, failed=failed, config=config)
    if permit.grant != grant:
        task = task.model_copy(update={"left": permit.grant})
    run, decisions = await run_link(
        coordinator, link, task, request, level=level, config=config, refusal=permit.refusal
    )
    watched = permit.watched or (not level and step.watched)
    if watched or permit.refusal is None:
        await report_to_breaker(coordinator, request, link, run, watched=watched)
    return {"runs": [run], "decisions": [*permit.decisions, *decisions]}


def _task(coordinator: Coordinator, step: Step, state: SessionState, left: USD, config: RunnableConfig) -> Task:
    request, given = state["request"], cast("Mapping[str, object]", state)
    runtime = config.get("configurable", {}).get(RUNTIME)  # of this run: a resume brings its own
    text, messages = state["plan"].texts.get(step.name), own_messages(state["messages"])
    if text is not None:
        messages = (*(message for message in messages if message.type == "system"), HumanMessage(text))
    return Task(
        text=request.text if text is None else text,
        specialist=step.specialist,
        session_id=request.session_id,
        request_id=request.id,
        tenant=request.tenant,
        now=request.opened_at,
        left=left,
        history=history(state["messages"]),
        reports=reports_for(state, step),
        messages=messages,
        inputs={key: given[key] for key in coordinator.input_keys if key in given},
        context=getattr(runtime, "context", None),
        store=getattr(runtime, "store", None),
    )


class RunPermit(NamedTuple):
    """Whether a run may begin. If `refusal` is None, the run may begin, and may spend `grant`.

    Otherwise the run does not begin, and `refusal` is its outcome.

    `decisions`, such as to pay again, were made together with the permit, and go into the state and the log. If
    `watched`, the breaker of the run's handler counted faults lately, and the run's end is reported to the breaker.
    """

    decisions: list[Decision]
    grant: USD
    refusal: RunVerdict | None
    watched: bool = False


async def _prepare(
    coordinator: Coordinator,
    link: Link,
    request: Request,
    asked: RunPermit,
    *,
    started: RunStarted,
    failed: Run | None,
    config: RunnableConfig,
) -> RunPermit:
    """Decide whether a run may begin, write what the ledger must have before it begins, and return the permit.

    All this is one transaction. It marks paid calls that a crash cut off as unknown, opens the run's accounts, and
    records the run's start and, for a fallback, the step to the fallback. `asked` is the permit so far; if a person
    denied the run, it has that refusal. `failed` is the specialist's run before this one, None if there is none. For a
    free handler that is first or last in the chain and follows no run, nothing is written, and `asked` is returned.

    A fallback must also get past its breaker, unless it is the last resort, and its price must fit if it may pay. If
    the agent paid for the request at another place in the graph (a fork, an edited state), the agent pays again, and a
    decision says so. Of several refusals the first counts, in this order: a person's, actions that were being undone, a
    pause, the budget, the breaker.
    """
    level = started.level
    if not link.paid and failed is None and (link.last or not level):
        return asked
    at = coordinator.clock()

    def work(transaction: Transaction) -> RunPermit:
        decisions, grant, refusal, watched = asked
        place = checkpoint_ns(config)
        now = standing_of_link(coordinator, request, link, level, place=place, transaction=transaction)
        refusal = refusal or (UNDONE if now.undoing else paused_link(request, link, now))
        if link.paid:
            if now.held:
                # Race: another run may own the session by now, and what is held may be in flight there.
                check_owner(coordinator, config, transaction)
                recover(transaction, request.session_id, checkpoint_ns=place, at=at)
            if coordinator.budget.total is not None:  # the request may have been opened before this cap
                open_account(transaction, Account("global", None))
            decisions = _forked(coordinator, link, request, now.elsewhere, transaction)
        if link.paid and level and refusal is None:
            grant, refusal = _admitted(coordinator, link, request, transaction)
            open_account(transaction, Account(agent_scope(request, link.agent), link.ceiling.nanos))
        if level and refusal is None:
            refusal = breaker_refusal(coordinator, request, link, now, transaction)
            watched = refusal is None and link.breaker in now.breakers
        for event in _first_events(started, failed, decisions):
            record(transaction, request.session_id, event, at=at)
        return RunPermit(decisions, grant, refusal, watched)

    return await coordinator.commit(work, request)


def _first_events(started: RunStarted, failed: Run | None, decisions: list[Decision]) -> list[Event]:
    """Return what the log tells of a run before it begins. `failed` is the run before it, None if there is none."""
    decided = [Decided(request_id=started.request_id, decision=decision) for decision in decisions]
    if failed is None:
        return [*decided, started]
    taken = FallbackTaken(
        request_id=started.request_id,
        specialist=started.specialist,
        failed=failed.handler,
        next=started.handler,
        step=started.step,
    )
    return [taken, *decided, started]


def _admitted(
    coordinator: Coordinator, link: Link, request: Request, transaction: Transaction
) -> tuple[USD, RunVerdict | None]:
    """Return the most that a fallback may spend, and the verdict that refuses its run; None as verdict if it may run.

    The run is refused, and the amount is 0, if the fallback's expected cost does not fit what is left now in the
    accounts of the request, or if nothing is left.
    """
    # Race: another request may take this money after the read. The hold of each paid call checks every account again.
    nanos = left(transaction, scopes_of(request, coordinator.budget))
    room = request.budget if nanos is None else USD.from_nanos(max(nanos, 0))
    expects = expected_costs(transaction, [link])[link.name]
    if may_start(expected=expects.nanos, left=room.nanos, pays=True):
        return USD.from_nanos(allowance(ceiling=link.ceiling.nanos, left=room.nanos)), None
    reason = f"the budget had no room for {link.name}: expects {expects}, {room} left"
    return ZERO, RunVerdict(Outcome.EXHAUSTED, reason, limit=Limit.BUDGET)


def _forked(
    coordinator: Coordinator, link: Link, request: Request, elsewhere: tuple[int, int], transaction: Transaction
) -> list[Decision]:
    """If the agent paid for this request at another place in the graph, return the decision to pay again; otherwise [].

    `elsewhere` is the number of paid calls there, and the nano-dollars that they cost.
    """
    number, nanos = elsewhere
    if not number:
        return []
    rest = left(transaction, (f"request:{request.id}",))
    note = f"{link.agent} had made {number} paid calls for {USD.from_nanos(nanos)} at another place of this request"
    return [
        Decision(
            kind="fork",
            by=link.agent,
            rule="a fork or an edited state pays again, within the budget of its request",
            chosen=(link.agent,),
            left=request.budget if rest is None else USD.from_nanos(max(rest, 0)),
            note=note,
        )
    ]


def step_of(chain: Chain, given: Mapping[str, object], config: RunnableConfig) -> tuple[SessionState, Step]:
    """Return the whole state, and the step that the chain's nodes run now.

    It is the step that was sent, otherwise that of the newest round. If the plan has none, because a user edited it,
    it is one that may spend the specialist's ceiling.
    """
    state, name = cast("SessionState", given), chain.specialist.name
    if (sent_step := given.get(SENT)) is not None and "plan" not in given:
        state = cast("SessionState", read_state(config, WHOLE_STATE))
    else:
        planned = [step for step in state["plan"].steps if step.specialist == name]
        sent_step = planned[-1].name if planned else ""
    step = state["plan"].step(str(sent_step))
    return state, step or Step(name=name, specialist=name, allowance=chain.specialist.cap, expects=ZERO)


def after(chain: Chain, level: int, state: SessionState) -> str | Send:
    """Return the node that runs after the handler at `level`.

    If a person's approval of the run was missing, it is the report. Otherwise, if the run did not complete with enough
    confidence, it is the next fallback. If there is no next fallback, or none is needed, it is the report.
    """
    name = chain.specialist.name
    # Race: of several runs of this node at once, each sees its own as the last one. The others come when all have
    # ended.
    last = next((run for run in reversed(state["runs"]) if run.specialist == name and run.level == level), None)
    if last is not None and last.fault is Fault.NOT_APPROVED:
        return "report"  # no person approved the run, so no fallback does it instead
    if last is not None and not last.answers and level + 1 < len(chain.links):
        following, step = chain.links[level + 1].node, state["plan"].step(last.step)
        return following if step is None else sent(following, step)
    return "report"
