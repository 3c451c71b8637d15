"""Quotes: what a request would do and cost, found by the rules that plan it, in a transaction that is rolled back."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig

from bursar.checkpoints.ledger.requests import close_request
from bursar.checkpoints.ledger.transaction import Transaction
from bursar.nodes.context.conversation import history
from bursar.nodes.context.coordinator import Coordinator
from bursar.nodes.context.expected_costs import expected_costs
from bursar.nodes.planning.gate import judged, verdict_of
from bursar.nodes.planning.guardian import price
from bursar.nodes.planning.intake import Opening, opening_of
from bursar.nodes.planning.round_plan import plan_of
from bursar.nodes.planning.routing import RoundStart, ask_router, is_router_free, weigh
from bursar.nodes.routers.base import Question, Scores
from bursar.nodes.runs.pauses_and_breakers import check_paused, standing_of, start_blocks
from bursar.nodes.specialists.chain import Chain, Link
from bursar.state.decision import Decision, Quote, QuotedStep, Step
from bursar.state.errors import BursarError, LedgerError
from bursar.state.money import USD, ZERO
from bursar.state.refusals import Paused
from bursar.state.rules.plans import never_started, next_wave
from bursar.state.session import Plan, Request, SessionState

CHECKPOINT_NS = "langgraph_checkpoint_ns"


@dataclass(frozen=True, slots=True)
class _Priced:
    """The plan as it was asked for and as the guardian admits it. `expects` is by step."""

    request: Request
    routed: Decision
    asked: Plan
    admitted: Plan
    decision: Decision
    expects: Mapping[str, USD]


class _RolledBackError(BursarError):
    """Raised to roll back what pricing wrote: a request that nobody asked, and probes that nobody makes."""

    def __init__(self, priced: _Priced) -> None:
        super().__init__("a quote writes nothing")
        self.priced = priced


async def quote(coordinator: Coordinator, question: str, state: SessionState, config: RunnableConfig) -> Quote:
    """Return what a request with this question would do and cost now, in the session with the `state`.

    Nothing is written if the router is free. Otherwise the router is asked within a request of its own, which is
    charged to the session and the tenant like any other. If the tenant, or everything, is paused, no router is asked.
    """
    message = HumanMessage(question, id=coordinator.new_id())
    messages = [*state.get("messages", []), message]
    request, opening = opening_of(coordinator, message, config, state)
    asked = Question(request.text, history=history(messages), previous=request.previous)
    start, paid = RoundStart(1, Plan(), asked, {}), ZERO
    try:
        await coordinator.commit(lambda transaction: check_paused(coordinator, request, transaction), request)
        if is_router_free(coordinator):
            scores, fault = await ask_router(coordinator, request, start, config)
        else:
            scores, fault, paid = await _ask_for_money(coordinator, start, state, config)
        priced = await _priced_and_rolled_back(coordinator, request, opening, start, (scores, fault))
    except Paused as refusal:
        return Quote(left=request.budget, gaps=(str(refusal),), paid=paid)
    return _quote(coordinator, await _reviewed(coordinator, priced), paid=paid)


async def _priced_and_rolled_back(
    coordinator: Coordinator, request: Request, opening: Opening, start: RoundStart, routed: tuple[Scores, str]
) -> _Priced:
    """Open the request, price its plan and take its probes, all in one transaction, which is then rolled back.

    So a quote goes by the caps that the request would set, and by the rules that would admit it, and leaves no trace.
    """

    def work(transaction: Transaction) -> None:
        opened, _ = opening(transaction)
        raise _RolledBackError(_priced(coordinator, opened, start, *routed, transaction=transaction))

    try:
        await coordinator.commit(work, request)
    except _RolledBackError as rolled_back:
        return rolled_back.priced
    raise LedgerError("a quote was not rolled back")


async def _ask_for_money(
    coordinator: Coordinator, start: RoundStart, state: SessionState, config: RunnableConfig
) -> tuple[Scores, str, USD]:
    """Ask the router within a request that is opened for it, and is closed then. Return what that was charged too."""
    message = HumanMessage(start.question, id=coordinator.new_id())
    asked, opening = opening_of(coordinator, message, config, state)
    request, _ = await coordinator.commit(opening, asked)
    # A place of its own: at the place of another run, that run's calls in flight would be taken for lost ones.
    here: RunnableConfig = {**config, "metadata": {**config.get("metadata", {}), CHECKPOINT_NS: f"quote:{request.id}"}}
    try:
        scores, fault = await ask_router(coordinator, request, start, here)
    finally:
        spend = await coordinator.commit(
            lambda transaction: close_request(
                transaction, request.session_id, request.id, outcome="quoted", at=coordinator.clock()
            ),
            request,
        )
    return scores, fault, spend.spent + spend.held


def _priced(
    coordinator: Coordinator,
    request: Request,
    start: RoundStart,
    scores: Scores,
    fault: str,
    *,
    transaction: Transaction,
) -> _Priced:
    """Return the plan of the request, which is open in this transaction, as routing and guardian would make it."""
    routed = weigh(coordinator, request, scores, fault, transaction, start=start)
    plan = plan_of(coordinator, routed, start.before, number=start.number, texts={})
    now = standing_of(coordinator, request, plan, transaction)
    stopped = start_blocks(coordinator, request, plan, now, transaction)
    room = request.budget if now.left is None else max(USD.from_nanos(now.left), ZERO)
    admitted, decision = price(coordinator, plan, room, stopped, "")
    first = {step.name: _first(coordinator, step) for step in admitted.steps}
    expects = {name: expected_costs(transaction, [link])[link.name] for name, link in first.items()}
    return _Priced(request, routed, plan, admitted, decision, expects)


def _first(coordinator: Coordinator, step: Step) -> Link:
    links = coordinator.chains[step.specialist].links
    return links[min(step.chain_index, len(links) - 1)]


async def _reviewed(coordinator: Coordinator, priced: _Priced) -> _Priced:
    """Return the plan as the gate leaves it. The gate's verdict is written nowhere."""
    gate, plan, request = coordinator.gate, priced.admitted, priced.request
    if gate is None:
        return priced
    names = tuple(dict.fromkeys(step.specialist for step in plan.steps))
    verdict = await verdict_of(
        coordinator, gate, request, lambda: gate.review_plan(request, names, now=request.opened_at)
    )
    kept, _ = judged(gate, plan, priced.decision, verdict)
    return replace(priced, admitted=kept)


def _quote(coordinator: Coordinator, priced: _Priced, *, paid: USD) -> Quote:
    plan, left = priced.admitted, priced.decision.left
    denied, lost, waves = dict(plan.denied), never_started(plan.steps, {}), _waves(plan)
    refused = [] if priced.asked.steps else [f"{name}: {reason}" for name, reason in plan.denied]
    steps: list[QuotedStep] = []
    for asked in priced.asked.steps:
        step = plan.step(asked.name)
        if step is None:
            steps.append(QuotedStep(name=asked.name, needs=asked.needs, cut=denied.get(asked.name, "it is denied")))
        elif (need := lost.get(asked.name)) is not None:
            steps.append(QuotedStep(name=asked.name, needs=asked.needs, cut=f"it needs {need}, which does not run"))
        else:
            chain = coordinator.chains[step.specialist]
            steps.append(_quoted_step(chain, step, priced, wave=waves[step.name], left=left))
    kept = coordinator.composer_share if steps else ZERO
    composes = coordinator.composer is not None and len(steps) > 1
    expected = sum((step.expected for step in steps), paid + kept if composes else paid)
    worst = sum((step.worst for step in steps), ZERO)
    # What routers, composers and later rounds spend has no bound of its own, only that of the request's accounts.
    bounded = is_router_free(coordinator) and not composes and (coordinator.rounds == 1 or not steps)
    return Quote(
        steps=tuple(steps),
        expected=min(expected, left),
        worst=min(worst, left) if bounded else left,
        left=left,
        kept_back=kept,
        rule=priced.routed.rule,
        gaps=(*([priced.routed.note] if priced.routed.note else []), *priced.asked.gaps, *refused),
        paid=paid,
    )


def _quoted_step(chain: Chain, step: Step, priced: _Priced, *, wave: int, left: USD) -> QuotedStep:
    """Return what is quoted of a step that starts. Each of its paid handlers has an account of its own."""
    level = min(step.chain_index, len(chain.links) - 1)
    paid = [link for link in chain.links[level:] if link.paid]
    worst = sum((link.ceiling for link in paid), ZERO)
    return QuotedStep(
        name=step.name,
        needs=step.needs,
        wave=wave,
        starts=chain.links[level].name,
        expected=priced.expects[step.name],
        worst=min(worst, left),
        cut=step.skip_reason if level else "",
    )


def _waves(plan: Plan) -> dict[str, int]:
    """Return the wave of each step that starts, from 1, if each step before it gives a report."""
    waves: dict[str, int] = {}
    for number, _ in enumerate(plan.steps, start=1):
        waves |= dict.fromkeys(next_wave(plan.steps, dict.fromkeys(waves, True)), number)
    return waves
