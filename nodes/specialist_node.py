"""The specialist nodes: one function runs every handler, a specialist's own and fallbacks."""

from collections.abc import Sequence
from typing import NamedTuple

from langchain_core.messages import AnyMessage
from langchain_core.runnables import RunnableConfig

from bursar.checkpoints.ledger.accounts import Account, left, open_account
from bursar.checkpoints.ledger.postings import record, recover
from bursar.checkpoints.ledger.transaction import Transaction
from bursar.nodes.actions.consent import require_consent
from bursar.nodes.context.coordinator import Coordinator, agent_scope, checkpoint_ns, scopes_of
from bursar.nodes.context.outcome import RunVerdict
from bursar.nodes.isolation.sync_bridge import Update
from bursar.nodes.runs.pauses_and_breakers import breaker_refusal, paused_link, report_to_breaker, standing_of_link
from bursar.nodes.runs.run import run_link
from bursar.nodes.specialists.chain import Chain, Link
from bursar.state.decision import Decision
from bursar.state.events import Decided, Event, FallbackTaken, RunStarted
from bursar.state.money import USD, ZERO
from bursar.state.run import Fault, Limit, Outcome, Run, Task, Turn
from bursar.state.session import Request, SessionState, Step, runs_of

HISTORY_TURNS = 20
UNDONE = RunVerdict(
    Outcome.FAILED, "it was cut off while what it had done was being undone, and is not begun again", fault=Fault.UNDONE
)


async def run_agent(
    coordinator: Coordinator, chain: Chain, level: int, state: SessionState, config: RunnableConfig
) -> Update:
    """Run the handler at `level` of the chain for the request, and add the run to the state, whatever its outcome.

    Level 0 is the specialist's own handler; fallbacks have higher levels.
    """
    request, link = state["request"], chain.links[level]
    step = state["plan"].step(chain.specialist.name)
    grant = link.ceiling if level or step is None else step.allowance
    before = runs_of(state, chain.specialist.name)
    failed = before[-1] if before else None
    task = Task(
        text=request.text,
        specialist=chain.specialist.name,
        session_id=request.session_id,
        request_id=request.id,
        tenant=request.tenant,
        now=request.opened_at,
        left=grant,
        history=_history(state["messages"]),
    )
    # Before anything is written: an interrupt runs this node again from its start.
    denied = await require_consent(coordinator, link, task, request, config=config)
    asked = RunPermit([], grant, denied)
    permit = await _prepare(coordinator, chain, level, request, asked, failed=failed, config=config)
    if permit.grant != grant:
        task = task.model_copy(update={"left": permit.grant})
    run = await run_link(coordinator, link, task, request, level=level, config=config, refusal=permit.refusal)
    watched = permit.watched or (not level and step is not None and step.watched)
    if watched or permit.refusal is None:
        await report_to_breaker(coordinator, request, link, run, watched=watched)
    return {"runs": [run], "decisions": permit.decisions}


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
    chain: Chain,
    level: int,
    request: Request,
    asked: RunPermit,
    *,
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
    link = chain.links[level]
    if not link.paid and failed is None and (link.last or not level):
        return asked
    at = coordinator.clock()
    started = RunStarted(request_id=request.id, specialist=chain.specialist.name, handler=link.name, level=level)

    def work(transaction: Transaction) -> RunPermit:
        decisions, grant, refusal, watched = asked
        place = checkpoint_ns(config)
        now = standing_of_link(coordinator, request, link, level, place=place, transaction=transaction)
        refusal = refusal or (UNDONE if now.undoing else paused_link(request, link, now))
        if link.paid:
            if now.held:
                recover(transaction, request.session_id, checkpoint_ns=place, at=at)
            if coordinator.budget.total is not None:  # the request may have been opened before this cap
                open_account(transaction, Account("global", None))
            decisions = _forked(coordinator, link, request, now.elsewhere, transaction)
        if link.paid and level and refusal is None:
            grant, refusal = _admitted(coordinator, link, request, transaction)
            open_account(transaction, Account(agent_scope(request, link.node), link.ceiling.nanos))
        if level and refusal is None:
            refusal = breaker_refusal(coordinator, request, link, now, transaction)
            watched = refusal is None and link.breaker in now.breakers
        events: list[Event] = [Decided(request_id=request.id, decision=decision) for decision in decisions]
        if failed is not None:
            taken = FallbackTaken(
                request_id=request.id, specialist=chain.specialist.name, failed=failed.handler, next=link.name
            )
            events = [taken, *events]
        for event in [*events, started]:
            record(transaction, request.session_id, event, at=at)
        return RunPermit(decisions, grant, refusal, watched)

    return await coordinator.commit(work, request)


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
    if link.expects <= room and room:
        return min(link.ceiling, room), None
    reason = f"the budget had no room for {link.name}: expects {link.expects}, {room} left"
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
    note = f"{link.node} had made {number} paid calls for {USD.from_nanos(nanos)} at another place of this request"
    return [
        Decision(
            kind="fork",
            by=link.node,
            rule="a fork or an edited state pays again, within the budget of its request",
            chosen=(link.node,),
            left=request.budget if rest is None else USD.from_nanos(max(rest, 0)),
            note=note,
        )
    ]


def _history(messages: Sequence[AnyMessage]) -> tuple[Turn, ...]:
    """Return what user and assistant said before the request's own message, `HISTORY_TURNS` messages at most."""
    earlier = messages[:-1][-HISTORY_TURNS:]
    roles = {"human": "user", "ai": "assistant"}
    return tuple(Turn(role=roles[m.type], text=m.text) for m in earlier if m.type in roles and m.text)


def after(chain: Chain, level: int, state: SessionState) -> str:
    """Return the name of the node that runs after the handler at `level`.

    If a person's approval of the run was missing, it is the supervisor. Otherwise, if the run did not complete with
    enough confidence, it is the next fallback. If there is no next fallback, or none is needed, it is the supervisor.
    """
    last = next((run for run in runs_of(state, chain.specialist.name) if run.level == level), None)
    if last is not None and last.fault is Fault.NOT_APPROVED:
        return "supervisor"  # no person approved the run, so no fallback does it instead
    if last is not None and not last.answers and level + 1 < len(chain.links):
        return chain.links[level + 1].node
    return "supervisor"


def first_node(chain: Chain, step: Step) -> str:
    """Return the node at which a planned step starts."""
    return chain.links[min(step.chain_index, len(chain.links) - 1)].node
