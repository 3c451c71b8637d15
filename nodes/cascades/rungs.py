"""Rungs: the models, functions, graphs and specialists that a cascade or a choice asks, and their expected cost."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import convert_to_messages
from langchain_core.runnables import Runnable
from langgraph.errors import ParentCommand
from langgraph.types import Command

from bursar.checkpoints.ledger.calls import PATH
from bursar.nodes.context.conversation import given_to_model
from bursar.nodes.gateway.bounds import write_request
from bursar.nodes.gateway.chat_model import MeteredChatModel
from bursar.nodes.gateway.paid_calls.scope import Scope
from bursar.nodes.gateway.prices import price_of
from bursar.nodes.isolation.captured import Captured, capture, capture_call
from bursar.nodes.runs.hand_overs import hand_over_report
from bursar.nodes.runs.handlers import call_directly
from bursar.nodes.specialists.definition import Handler, Specialist, is_deterministic
from bursar.nodes.specialists.remote_graph import has_remote_graph
from bursar.state.errors import AmountError, ConfigurationError, UnknownPrice
from bursar.state.money import USD, ZERO, Amount
from bursar.state.refusals import Refused
from bursar.state.rules.pricing import ORDINARY_OUTPUT_TOKENS, SHARE_OF_WHAT_IS_LEFT
from bursar.state.run import Report, Task

ORDINARY_INPUT_TOKENS = 1_000  # by which models are compared when a cascade is built
MAX_RUNGS = 16
MAX_NAME_CHARACTERS = 100

AnyRung: TypeAlias = Handler | Specialist
Rungs: TypeAlias = Sequence[AnyRung] | Mapping[str, AnyRung]


@dataclass(frozen=True, slots=True)
class Rung:
    """What a cascade or a choice may ask, by its name. `price` is its expected cost if that is given, not learned.

    If it is `free`, every paid call of it is refused. A `specialist` has its own ceiling, timeout and turns.
    """

    name: str
    handler: Handler
    price: USD | None = None
    specialist: Specialist | None = None

    @property
    def free(self) -> bool:
        """Whether the rung is marked `@deterministic`, so that it costs nothing."""
        return is_deterministic(self.handler)

    @property
    def model(self) -> MeteredChatModel | None:
        """The metered model that the rung is; None if it is anything else."""
        return self.handler if isinstance(self.handler, MeteredChatModel) else None


def rungs_of(rungs: Rungs, prices: Mapping[str, Amount], of: str) -> tuple[Rung, ...]:
    """Return the rungs by their names: those of a mapping, otherwise the names of models, functions and specialists.

    Raises `ConfigurationError`, naming `of` and the rung, for a rung that is none, a name that is not unique, a chat
    model that is not metered, and a price that no rung has.
    """
    named = rungs.items() if isinstance(rungs, Mapping) else [(name_of(one), one) for one in rungs]
    made = tuple(_rung(str(name), one, prices.get(str(name)), of) for name, one in named)
    if not 0 < len(made) <= MAX_RUNGS:
        raise ConfigurationError(f"{of}: it has from 1 to {MAX_RUNGS} rungs, not {len(made)}")
    names = [rung.name for rung in made]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ConfigurationError(f"{of}: two rungs are named {twice!r}; name them: {{'quick': …, 'careful': …}}")
    if strange := next((name for name in prices if name not in names), None):
        raise ConfigurationError(f"{of}: it has a price for {strange!r}, which is none of its rungs")
    return made


def name_of(rung: object) -> str:
    """Return the name that a rung has by itself: that of a model, a specialist, a cascade, a graph or a function."""
    if isinstance(rung, MeteredChatModel):
        return rung.model_name
    own = getattr(rung, "__name__", None) or getattr(rung, "name", None)
    return own if isinstance(own, str) else type(rung).__name__


def _rung(name: str, given: AnyRung, price: Amount | None, of: str) -> Rung:
    if not 0 < len(name.strip()) <= MAX_NAME_CHARACTERS or PATH.strip() in name or not name.isprintable():
        raise ConfigurationError(f"{of}: a rung's name has 1 to {MAX_NAME_CHARACTERS} characters, no arrow: {name!r}")
    where = f"{of}: rung {name!r}"
    specialist = given if isinstance(given, Specialist) else None
    handler = given.handler if isinstance(given, Specialist) else given
    if isinstance(handler, BaseChatModel) and not isinstance(handler, MeteredChatModel):
        raise ConfigurationError(f"{where} is a model that is not metered; write meter(model)")
    if not callable(handler) and not isinstance(handler, Runnable):  # pyright: ignore[reportUnnecessaryIsInstance] - untyped code passes anything
        raise ConfigurationError(f"{where} is a model, a function, a graph or a specialist, not {given!r}")
    if has_remote_graph(handler):
        raise ConfigurationError(f"{where} spends where no ledger sees it; make it a specialist of the supervisor")
    if specialist is not None:
        _check_specialist(specialist, where)
    try:
        amount = None if price is None else USD(price)
    except AmountError as error:
        raise ConfigurationError(f"{where}: its price: {error}") from None
    if amount is not None and amount < ZERO:
        raise ConfigurationError(f"{where}: its price {amount} is negative")
    if specialist is not None and amount is None and not specialist.learns:
        amount = specialist.expects
    return Rung(name, handler, ZERO if is_deterministic(handler) else amount, specialist)


def _check_specialist(specialist: Specialist, where: str) -> None:
    if specialist.risk == "high":
        raise ConfigurationError(f"{where}: a person must approve its runs, and a rung cannot wait for one")
    if specialist.needs:
        raise ConfigurationError(f"{where} needs other specialists, and a rung has only its task")
    if specialist.run_price is not None:
        raise ConfigurationError(f"{where} has a price of its own; make it a specialist of the supervisor")


def check_order(rungs: Sequence[Rung], of: str) -> None:
    """Raise `ConfigurationError` if a rung is known to cost less than one before it.

    A free rung stands before those that are known to cost something. Otherwise given prices are compared with each
    other, and models with models, by a call of 1,000 tokens of input and 512 of output.
    """
    known = [(rung, _known_price(rung)) for rung in rungs]
    for place, (rung, price) in enumerate(known):
        for before, other in known[:place]:
            cheaper = price is not None and other is not None and price < other and _alike(rung, before)
            if cheaper or (rung.free and _is_paid(before)):
                raise ConfigurationError(
                    f"{of}: {rung.name!r} costs less than {before.name!r}; the cheaper comes first"
                )


def _is_paid(rung: Rung) -> bool:
    """Whether the rung is known to cost something."""
    return bool(rung.price) if rung.price is not None else not (rung.specialist is None and rung.model is None)


def _alike(one: Rung, other: Rung) -> bool:
    return (one.price is None) is (other.price is None)


def _known_price(rung: Rung) -> int | None:
    if rung.price is not None or (model := rung.model) is None:
        return None if rung.price is None else rung.price.nanos
    terms = model.terms
    listed = capture_call(
        lambda: price_of(terms.client.name, terms.client.seller, terms.price, base_url=terms.client.base_url)
    )
    if listed.value is None:
        return None
    return listed.value.worst_case(ORDINARY_INPUT_TOKENS, min(ORDINARY_OUTPUT_TOKENS, terms.maximum))


def expected_price(rung: Rung, task: Task, scope: Scope | None, *, learned: USD | None, left: USD | None) -> USD:
    """Return what asking the rung is expected to cost: its given price, otherwise the `learned` one.

    Before anything is learned it is the specialist's expected cost; for a model the most that an answer of 512 tokens
    can cost, or a quarter of what is `left` if that has no bound. A function and a graph are expected to cost nothing.
    """
    if rung.price is not None:
        return rung.price
    if learned is not None:
        return learned
    if rung.specialist is not None:
        return rung.specialist.expects
    if rung.model is None or scope is None:
        return ZERO
    share = USD.from_nanos(0 if left is None else max(left.nanos, 0) // SHARE_OF_WHAT_IS_LEFT)
    return _price_of_answer(rung.model, task, scope) or share


def _price_of_answer(model: MeteredChatModel, task: Task, scope: Scope) -> USD | None:
    """Return the most that an answer of ordinary length can cost; None if the task's input has no bound."""
    terms = model.terms
    try:
        price = terms.priced({}, scope)
        written = write_request(terms.identity, convert_to_messages(given_to_model(task)), {}, provider=terms.provider)
    except (Refused, UnicodeEncodeError, UnknownPrice):
        return None
    return USD.from_nanos(price.worst_case(written.input_tokens, min(ORDINARY_OUTPUT_TOKENS, terms.maximum)))


def scope_of(rung: Rung, scope: Scope | None) -> Scope | None:
    """Return the scope in which the rung is asked: it charges the account of the path `agent → rung` too."""
    if scope is None:
        return None
    own = rung.specialist
    seconds, turns = (None, None) if own is None else (own.timeout, own.max_turns)
    return scope.rung(rung.name, paid=not rung.free, seconds=seconds, turns=turns)


async def ask(rung: Rung, task: Task, scope: Scope | None) -> Captured[Report]:
    """Ask the rung in its own `scope`, and return its report or its error.

    A refusal that the rung swallowed is its error all the same. A rung that hands over in LangGraph's words has
    returned a report that hands over.
    """
    given = task if rung.specialist is None else task.model_copy(update={"specialist": rung.specialist.name})
    seconds = None if rung.specialist is None else rung.specialist.timeout

    async def work() -> Report:
        with nullcontext() if scope is None else scope.enter():
            async with asyncio.timeout(seconds):
                return await call_directly(rung.handler, given)

    end = await capture(work)
    if scope is not None:
        scope.end_rung()  # race: a thread that was left behind runs on; from here on every paid call of it is refused
        end = end if scope.refusal is None else Captured[Report](error=scope.refusal)
    if isinstance(end.error, ParentCommand):
        return capture_call(hand_over_report, cast("Command[Any]", cast(Any, end.error).args[0]))
    return end
