"""Routing: scores the specialists for the request, and chooses by value per expected cost."""

from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from math import isfinite

from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphBubbleUp

from bursar.checkpoints.ledger.accounts import left
from bursar.checkpoints.ledger.postings import record
from bursar.checkpoints.ledger.transaction import Transaction
from bursar.nodes.context.coordinator import (
    Coordinator,
)
from bursar.nodes.context.deadlines import time_for
from bursar.nodes.context.expected_costs import expected_costs
from bursar.nodes.context.given_reports import given_names
from bursar.nodes.context.outcome import for_two_readers, log_failure
from bursar.nodes.context.paid_steps import open_step, step_scope
from bursar.nodes.gateway.unmetered_guard import forbid_unmetered
from bursar.nodes.isolation.captured import capture
from bursar.nodes.isolation.workers import TooManyAbandoned, run_coroutine
from bursar.nodes.planning.round_plan import is_numbered, shown, specialist_of, with_needs
from bursar.nodes.routers.base import RULE_CHARACTERS, Question, Scores, is_free, is_ready
from bursar.nodes.routers.word_overlap import by_words
from bursar.nodes.specialists.definition import is_deterministic
from bursar.state.decision import Decision
from bursar.state.errors import BursarError
from bursar.state.events import Decided
from bursar.state.money import USD
from bursar.state.refusals import Refused
from bursar.state.rules.value_selection import ScoredCandidate as Weighed
from bursar.state.rules.value_selection import select
from bursar.state.session import Plan, Request
from bursar.state.text import one_line

ROUTER = "supervisor"  # its agent in the books
MOST_NEEDS = 64  # that a router gives one step
MOST_AT_ONCE = 8  # runs of one specialist in one round
TEXT_CHARACTERS = 20_000  # of what one of them is asked
NO_QUESTION = "there is no question in the last message"


@dataclass(frozen=True, slots=True)
class RoundStart:
    """A round before it is planned: the plan so far, the question with the reports so far, and what hands over.

    `place` is where in the graph it is planned: a node that runs again after a crash is at the same place.
    """

    number: int
    before: Plan
    question: Question
    hand_overs: Mapping[str, Sequence[str]]
    place: str = ""


@dataclass(frozen=True, slots=True)
class Routed:
    """The decision of a round, and what the tasks of its steps ask if that is not the request's own text."""

    decision: Decision
    texts: Mapping[str, str]
    gaps: tuple[str, ...] = ()


async def route(
    coordinator: Coordinator, request: Request, start: RoundStart, config: RunnableConfig, *, made: Decision | None
) -> Routed:
    """Choose the specialists of the round, and write the decision to the log; if it was `made` already, return it.

    Only a router that asks a model costs money; the router's call goes through the gateway. If specialists of the round
    before hand over, those to which they do are chosen, and no router is asked. The log keeps no texts of tasks: if a
    decision that was made has some, the router is asked again, whose paid answer is kept.
    """
    if made is not None and not made.has_texts:
        return Routed(made, {})
    if start.hand_overs:
        scores, fault = _handed_over(coordinator, start), ""
    else:
        scores, fault = await ask_router(coordinator, request, start, config)
    if made is not None and set(made.chosen) & scores.texts.keys():
        return Routed(made, scores.texts)
    if made is not None:
        lost = f"{', '.join(made.chosen)}: asked the whole request, because the router gave its texts no more"
        return Routed(made, {}, (lost,))

    def decide(transaction: Transaction) -> Decision:
        decision = weigh(coordinator, request, scores, fault, transaction, start=start)
        event = Decided(request_id=request.id, decision=decision, round=start.number, place=start.place)
        record(transaction, request.session_id, event, at=coordinator.clock())
        return decision

    return Routed(await coordinator.commit(decide, request), scores.texts)


async def ask_router(
    coordinator: Coordinator, request: Request, start: RoundStart, config: RunnableConfig
) -> tuple[Scores, str]:
    """Ask the router. If it gave no scores in the first round, the words of the request choose; later on, nobody."""
    if start.number > 1 and request.deadline is not None and coordinator.clock() >= request.deadline:
        late = f"no time is left for round {start.number}"
        return _no_scores(late), late
    free = is_router_free(coordinator)
    if not free:
        await open_step(coordinator, request, ROUTER, config)
    scores, fault = await _scores(coordinator, request, start.question, config, paid=not free)
    if fault and fault != NO_QUESTION and start.number == 1:
        scores = _by_words(request, coordinator, fault)
    return scores, fault


def is_router_free(coordinator: Coordinator) -> bool:
    """Whether the router never pays. Any other router has an account in each request, and its calls are charged."""
    return is_free(coordinator.router) or is_deterministic(coordinator.router)


def _handed_over(coordinator: Coordinator, start: RoundStart) -> Scores:
    names = dict.fromkeys(name for one in start.hand_overs.values() for name in one if name in coordinator.chains)
    told = "; ".join(f"{step} hands over to {', '.join(to)}" for step, to in start.hand_overs.items())
    rule = one_line(told, RULE_CHARACTERS)
    return Scores(by_name=dict.fromkeys(names, 1.0), chosen=tuple(names), confidence=1.0, rule=rule)


def weigh(
    coordinator: Coordinator,
    request: Request,
    scores: Scores,
    fault: str,
    transaction: Transaction,
    *,
    start: RoundStart,
) -> Decision:
    """Return the decision that chooses by value per expected cost, under what is left. Nothing is written."""
    nanos = left(transaction, (f"request:{request.id}",))
    room = request.budget if nanos is None else USD.from_nanos(nanos)
    expected = expected_costs(transaction, [chain.links[0] for chain in coordinator.chains.values()])
    again = {name for name in scores.chosen if _saw_the_same(coordinator, start, scores, name)}
    considered = select(
        [
            Weighed(
                name=name,
                score=scores.by_name.get(name, scores.by_name.get(specialist_of(name), 0.0)),
                value=coordinator.chains[specialist_of(name)].specialist.weight,
                expected_cost=expected[specialist_of(name)],
                fits=name in scores.chosen and name not in again,
            )
            for name in _weighed_names(coordinator, scores.chosen)
        ],
        room,
    )
    considered = with_needs(coordinator, considered, scores.order, start.before)
    if again:
        seen = "it had the same reports before"
        considered = tuple(c.model_copy(update={"reason": seen}) if c.name in again else c for c in considered)
    chosen = tuple(c.name for c in considered if c.verdict == "chosen")
    return Decision(
        kind="route",
        by="supervisor",
        rule=f"value per expected cost under what is left; {scores.rule}",
        chosen=chosen,
        candidates=considered,
        left=room,
        note=fault,
        order={name: tuple(needs) for name, needs in scores.order.items()},
        done=scores.done or (start.number > 1 and not any(c.verdict in {"chosen", "budget"} for c in considered)),
        has_texts=bool(scores.texts),
    )


def _weighed_names(coordinator: Coordinator, chosen: Sequence[str]) -> list[str]:
    """Return the candidates by name; of one that runs several times, each of its numbered names."""
    numbered: dict[str, list[str]] = {}
    for name in chosen:
        if is_numbered(name):
            numbered.setdefault(specialist_of(name), []).append(name)
    return [name for own in coordinator.chains for name in numbered.get(own, [own])]


def _saw_the_same(coordinator: Coordinator, start: RoundStart, scores: Scores, name: str) -> bool:
    """Whether the specialist ran before with all the reports that it would get now."""
    own = specialist_of(name)
    steps = start.before.steps
    last = next((step for step in reversed(steps) if step.specialist == own), None)
    waits = {*coordinator.chains[own].specialist.needs, *scores.order.get(name, ())}
    if last is None or any(specialist_of(other) in waits or other in waits for other in scores.chosen):
        return False
    theirs = {step.name for step in steps if step.specialist == own}
    return set(start.question.reports) - theirs <= set(given_names(start.before, last))


async def _scores(
    coordinator: Coordinator, request: Request, question: Question, config: RunnableConfig, *, paid: bool
) -> tuple[Scores, str]:
    """Return the router's scores and "", or empty scores and a fault that says why the router gave no scores.

    A fault of the router does not end the request. Raises interrupts, and errors that only a user can mend (an unknown
    price). Without `paid` every paid call of the router is refused.
    """
    if not request.text.strip():
        return _no_scores(NO_QUESTION), NO_QUESTION
    seconds = _routing_time(request, coordinator.router_timeout_seconds, now=coordinator.clock())
    scope = step_scope(coordinator, request, ROUTER, config, seconds=seconds, paid=paid)
    router = coordinator.router

    async def score() -> Scores:
        return _checked(await router.route(question, coordinator.candidates), coordinator.chains)

    try:
        with scope.enter(), forbid_unmetered(config):
            if is_ready(router, coordinator.candidates):
                end = await capture(score)  # brief arithmetic: a task of its own would take longer
            else:
                end = await run_coroutine("supervisor", score, seconds=seconds)
    except TooManyAbandoned as error:
        return _no_scores(str(error)), f"the router was not asked: {error}"
    finally:
        scope.close()
    if end is not None and (scores := end.value) is not None:
        return scores, ""
    fault = (
        f"the router gave no answer within {seconds:.3g} s" if end is None else _fault(coordinator, request, end.error)
    )
    return _no_scores(fault), fault


def _by_words(request: Request, coordinator: Coordinator, fault: str) -> Scores:
    """Return a score for each candidate, by the words that the candidate shares with the request.

    The supervisor uses these scores if the router gave no answer. Their `rule` begins with `fault`, which says why.
    """
    scores = by_words(request.text, coordinator.candidates)
    return replace(scores, rule=f"{fault}; {scores.rule}")


def _routing_time(request: Request, most: float, *, now: datetime) -> float:
    """Return the seconds for routing: `most`, or half of the request's time left, whichever is less.

    The other half is for the answers.
    """
    left, _ = time_for(request, 2 * most, now=now, last=True)
    return left / 2


def _checked(scores: object, known: Container[str]) -> Scores:
    """Return `scores`, bounded. Raises `TypeError` unless they are finite and choose only specialists in `known`."""
    if not isinstance(scores, Scores) or not all(map(isfinite, scores.by_name.values())):
        raise TypeError("a router returns Scores whose values are finite")
    if not all(specialist_of(name) in known for name in scores.chosen):
        raise TypeError("a router chooses among the candidates")
    chosen = tuple(dict.fromkeys(scores.chosen))
    of = Counter(specialist_of(name) for name in chosen)
    if any(of[specialist_of(name)] > (MOST_AT_ONCE if is_numbered(name) else 1) for name in chosen):
        raise TypeError(f"a router chooses a candidate once, or numbered, {MOST_AT_ONCE} times at most")
    if any(isinstance(needs, str) for needs in scores.order.values()):
        raise TypeError("a router's order has a list of names for each name")
    order = {shown(name): tuple(map(shown, needs[:MOST_NEEDS])) for name, needs in scores.order.items()}
    texts = {name: str(text)[:TEXT_CHARACTERS] for name, text in scores.texts.items() if name in chosen}
    return replace(scores, chosen=chosen, order=order, texts=texts)


def _fault(coordinator: Coordinator, request: Request, error: BaseException | None) -> str:
    """Return why the router gave no scores, in words for the user. The operator reads in the log what `error` says.

    `error` is what the router raised; None does not occur. If it is an interrupt, or one of Bursar's own errors but no
    refusal, it is raised again.
    """
    if isinstance(error, Refused):
        return f"the router was refused: {error}"
    if isinstance(error, KeyboardInterrupt | GraphBubbleUp | BursarError):
        raise error
    error = error or RuntimeError()
    reason, detail = for_two_readers(f"the router failed: {type(error).__name__}", error, request.id, "supervisor")
    log_failure(request, "supervisor", detail)
    return detail if coordinator.show_errors else reason


def _no_scores(rule: str) -> Scores:
    return Scores(by_name={}, chosen=(), confidence=0.0, rule=rule)
