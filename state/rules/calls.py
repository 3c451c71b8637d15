"""A paid call: whether it may be sent, which states it passes through, and what each step moves in its accounts.

A call is charged to several accounts at once. What is said here of one account holds for each of them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from typing import Literal

from bursar.state.rules.growth import FirstPart, GrowthTerms, first_part, least_part
from bursar.state.rules.pricing import ORDINARY_OUTPUT_TOKENS, PricedModel, output_cap

MAX_ATTEMPTS = 3
FIRST_PAUSE_SECONDS = 0.5
MAX_PAUSE_SECONDS = 30.0
SOON_SECONDS = 0.05  # what ends this near to the run's deadline was ended by the deadline
PATIENCE_SECONDS = 1.0  # a call that had less time than this was not given a chance

CallState = Literal["held", "sent", "settled", "void", "unknown"]
CallStep = Literal["send", "raise", "settle", "void", "lose", "reconcile"]

Ending = Literal["settle", "void", "lose"]

IN_FLIGHT: tuple[CallState, ...] = ("held", "sent")  # the hold of a call counts in `held` of its accounts
# The states from which each step may be taken. From any other state the step is refused, and nothing is moved.
MAY_FOLLOW: Mapping[CallStep, tuple[CallState, ...]] = {
    "send": ("held",),
    "raise": IN_FLIGHT,
    "settle": IN_FLIGHT,
    "void": IN_FLIGHT,
    "lose": IN_FLIGHT,
    "reconcile": ("unknown",),
}


class Refusal(Enum):
    """Why a call may not be sent. Of several reasons the first in this order counts."""

    ENDED = auto()  # the run has its outcome, or its deadline has passed
    UNPAID = auto()  # the run is deterministic: it may pay nothing
    OUT_OF_TURNS = auto()
    PAUSED = auto()  # a person stopped the agent, the tenant or everything
    BREAKER_OPEN = auto()  # an offer would fit, but its model has failed lately
    TOO_DEAR = auto()  # no offer fits what is left


@dataclass(frozen=True, slots=True)
class SizedOffer:
    """A call that fits the money left: its worst case in nano-dollars, and the output cap in tokens (0: no cap)."""

    amount: int
    cap: int = 0


@dataclass(frozen=True, slots=True)
class Offer:
    """One way to answer a call: a model or a function, at a price.

    If the size depends on how long the agent's answers are, `learned` returns the offer for answers of so many tokens.
    `least` is the worst case, in nano-dollars, of the call with the smallest output cap that is useful. `shape` sizes
    the call for the nano-dollars left (None is no limit), and returns None if the call does not fit. `breaker` names
    the breaker that guards the call, "" if there is none.
    """

    model: str
    price_version: str
    least: int
    shape: Callable[[int | None], SizedOffer | None]
    breaker: str = ""
    learned: "Callable[[int], Offer] | None" = None


@dataclass(frozen=True, slots=True)
class Choice:
    """The offer by which a call may be sent: its index among the offers, and its size."""

    place: int
    sized: SizedOffer


@dataclass(frozen=True, slots=True)
class Declined:
    """Why no offer may be sent. If a breaker is why, `place` is the index of the first offer that a breaker stops."""

    why: Refusal
    place: int = 0


def fixed_offer(name: str, price_version: str, amount: int, breaker: str) -> Offer:
    """Return the `Offer` by which a call that costs at most `amount` nano-dollars is admitted, if that much is left.

    `name` is the model or the function, `price_version` the source of its price, and `breaker` the name of its breaker.
    """
    return Offer(name, price_version, amount, lambda left: SizedOffer(amount) if fits(amount, left) else None, breaker)


def model_offer(
    price: PricedModel,
    *,
    input_tokens: int,
    asked: int | None,
    maximum: int,
    minimum: int,
    choices: int,
    breaker: str,
    ordinary: int = ORDINARY_OUTPUT_TOKENS,
    growth: GrowthTerms | None = None,
) -> Offer:
    """Return the `Offer` of a model for one call. The arguments are those of `output_cap`, and the model's breaker.

    If there is `growth`, the call is a stream whose hold grows on these terms, and its first part alone must fit.
    """
    again = partial(
        model_offer,
        price,
        input_tokens=input_tokens,
        asked=asked,
        maximum=maximum,
        minimum=minimum,
        choices=choices,
        breaker=breaker,
        growth=growth,
    )
    size = partial(
        output_cap if growth is None else partial(first_part, terms=growth),
        price,
        input_tokens=input_tokens,
        asked=asked,
        maximum=maximum,
        minimum=minimum,
        choices=choices,
        ordinary=ordinary,
    )

    def shape(left: int | None) -> SizedOffer | None:
        match size(left=left):
            case None:
                return None
            case FirstPart(cap, held):
                return SizedOffer(price.worst_case(input_tokens, held), cap)
            case cap:
                return SizedOffer(price.worst_case(input_tokens, cap * choices), cap)

    def for_answers(tokens: int) -> Offer:
        return again(ordinary=tokens)

    smallest = min(minimum, maximum if asked is None else min(asked, maximum))
    least = price.worst_case(input_tokens, smallest * choices)
    if growth is not None:
        most = maximum if asked is None else min(asked, maximum)
        part = least_part(growth, cap=smallest, most=most, choices=choices)
        least = price.worst_case(input_tokens, part)
    return Offer(price.name, price.version, least, shape, breaker, for_answers if asked is None else None)


def refuse_run(*, ended: bool, pays: bool) -> Refusal | None:
    """Return why a run may send no call at all; None if it may. `pays` is whether the run may pay for anything."""
    if ended:
        return Refusal.ENDED
    return None if pays else Refusal.UNPAID


def has_turn(sent: int, most: int | None) -> bool:
    """Whether a run that has sent `sent` calls may send one more. `most` is its limit of turns, None is no limit."""
    return most is None or sent < most


def choose(
    offers: Sequence[Offer], *, left: int | None, paused: bool, admits: Callable[[str], bool]
) -> Choice | Declined:
    """Return the first offer that fits what is `left`, in nano-dollars, and whose breaker admits it; or why none does.

    `left` is the least that any account of the call has left, None if none has a cap. `admits` says of a breaker's name
    whether the breaker lets a call through.
    """
    if paused:
        return Declined(Refusal.PAUSED)
    declined = Declined(Refusal.TOO_DEAR)
    for place, offer in enumerate(offers):
        sized = offer.shape(left)
        if sized is None:
            continue
        if not offer.breaker or admits(offer.breaker):
            return Choice(place, sized)
        if declined.why is Refusal.TOO_DEAR:
            declined = Declined(Refusal.BREAKER_OPEN, place)
    return declined


def end_failed(owed: Literal["nothing", "unknown"], *, is_cost_known: bool) -> Ending:
    """Return how the hold of a failed call ends.

    A known cost is booked. Otherwise the hold is freed if nothing is owed, and stays charged if nobody knows.
    """
    if is_cost_known:
        return "settle"
    return "void" if owed == "nothing" else "lose"


def pause_before_retry(
    attempt: int, *, retry: bool, pause_seconds: float | None, seconds_left: float | None
) -> float | None:
    """Return the seconds to wait before a failed call is sent again; None if it is not sent again.

    `attempt` is the number of the attempt that failed, from 0. `pause_seconds` is the pause that the server asks for,
    None if it asks for none. `seconds_left` is the time to the run's deadline, None without a deadline.
    """
    if not retry or attempt + 1 >= MAX_ATTEMPTS:
        return None
    pause = FIRST_PAUSE_SECONDS * 2**attempt if pause_seconds is None else pause_seconds
    if pause > MAX_PAUSE_SECONDS or (seconds_left is not None and pause >= seconds_left):
        return None
    return pause


def is_hung(had_seconds: float | None, seconds_left: float | None) -> bool:
    """Whether the run's deadline ended a call that was `PATIENCE_SECONDS` or more on its way.

    The arguments are the seconds to the deadline when the call was sent and when it ended; None without a deadline.
    """
    if had_seconds is None or seconds_left is None:
        return False
    return seconds_left <= SOON_SECONDS and had_seconds - seconds_left >= PATIENCE_SECONDS


@dataclass(frozen=True, slots=True)
class Movement:
    """What a step adds to each account of a call, in nano-dollars: to what it holds, and to what it has spent."""

    held: int
    spent: int


def hold(amount: int) -> Movement:
    """Return the movement that holds a call's worst case before the call is sent."""
    return Movement(held=amount, spent=0)


def settle(amount: int, cost: int) -> Movement:
    """Return the movement that books the cost of a call in place of its hold, `amount`."""
    return Movement(held=-amount, spent=cost)


def void(amount: int) -> Movement:
    """Return the movement that frees the hold of a call for which nothing is owed."""
    return Movement(held=-amount, spent=0)


def lose(amount: int) -> Movement:
    """Return the movement that charges a call at its hold, because nobody saw its end."""
    return Movement(held=-amount, spent=amount)


def reconcile(amount: int, cost: int) -> Movement:
    """Return the movement that books the cost of a call that was charged at its hold, `amount`, until now."""
    return Movement(held=0, spent=cost - amount)


def raise_hold(amount: int, raised: int) -> Movement:
    """Return the movement that raises the hold of a call in flight from `amount` to `raised`."""
    return Movement(held=raised - amount, spent=0)


def is_overrun(amount: int, cost: int) -> bool:
    """Whether a call cost more than its hold. Such a call is booked in full, and closes its session to paid calls."""
    return cost > amount


def balance(state: str, amount: int, cost: int) -> Movement:
    """Return what a call in this state counts for in each of its accounts.

    The balance of an account is the sum over its calls. `cost` counts only if the call is settled.
    """
    if state in IN_FLIGHT:
        return Movement(held=amount, spent=0)
    spent = {"settled": cost, "unknown": amount}.get(state, 0)
    return Movement(held=0, spent=spent)


def room(cap: int | None, spent: int, held: int) -> int | None:
    """Return the nano-dollars that an account has left, which may be negative; None if it has no cap."""
    return None if cap is None else cap - spent - held


def fits(amount: int, left: int | None) -> bool:
    """Whether a hold of `amount` fits what is left, None is no limit. A hold that leaves nothing still fits."""
    return left is None or amount <= left


def least_of(left: int | None, most: int) -> int:
    """Return what is left, in nano-dollars, if no more than `most` may be spent; `left` is None without a limit."""
    return most if left is None else min(left, most)


def cap_of(configured: int | None, granted: int) -> int | None:
    """Return the cap of an account: what the configuration says, and what people granted besides; None is no cap."""
    return None if configured is None else configured + granted
