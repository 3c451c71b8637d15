"""How the hold of a stream grows while the stream is received.

What a growing hold rests on: of a stream that is hung up, the provider bills no more output tokens than had arrived
before the last read, and `slack` tokens on top. The slack is for the last chunk, for what is on its way, and for what
the provider writes until it sees the hang-up. So a hold pays for the input, for what has arrived and for the slack at
each moment at which the gateway reads.
"""

from dataclasses import dataclass, replace

from bursar.state.rules.pricing import (
    Bill,
    BilledUsage,
    PricedModel,
    Usage,
    bill,
    share_cap,
)

FIRST_TOKENS = 64
DEFAULT_SLACK_TOKENS = 64  # half a second of a model that writes 128 tokens a second


@dataclass(frozen=True, slots=True)
class GrowthTerms:
    """The terms on which a stream's hold grows.

    `slack` is the most output tokens that the provider bills beyond those that had arrived before the last read, of all
    answers of the call together. `first` is the number of output tokens of one answer that are held before the call is
    sent.
    """

    slack: int = DEFAULT_SLACK_TOKENS
    first: int = FIRST_TOKENS


@dataclass(frozen=True, slots=True)
class Room:
    """The room for a hold in the tightest of its accounts: what is `left`, None is no limit, and what all calls hold.

    Amounts are nano-dollars. The hold itself is part of what is held.
    """

    left: int | None
    held: int


@dataclass(frozen=True, slots=True)
class GrowingHold:
    """A hold that pays for `held` output tokens of a stream, of the `most` that the stream's cap allows."""

    price: PricedModel
    input_tokens: int
    most: int
    slack: int
    held: int

    @property
    def amount(self) -> int:
        """The hold in nano-dollars: the worst case of the input and of the output tokens that are held."""
        return self.price.worst_case(self.input_tokens, self.held)

    def covers(self, seen: int) -> bool:
        """Whether the hold pays for all that may be billed when `seen` output tokens have arrived."""
        return self.held >= self._needed(seen)

    def grown(self, seen: int, room: Room) -> "GrowingHold | None":
        """Return the hold raised so that it covers `seen` tokens; None if the `room` does not pay for that.

        The hold doubles, so that a long stream has few steps. But a step takes no more than half of this call's share
        of what is left, which is its share of all that is held: the other streams need theirs. It takes what it needs
        and half a slack in any case, as far as that is left.
        """
        needed = self._needed(seen)
        target = max(2 * self.held, needed)
        if room.left is not None:
            affordable = self._within(self.amount + room.left)
            if needed > affordable:
                return None
            share = self._within(self.amount + room.left * self.amount // max(2 * room.held, 1))
            target = min(target, max(share, needed + self.slack // 2), affordable)
        return replace(self, held=min(target, self.most))

    def _needed(self, seen: int) -> int:
        return min(seen + self.slack, self.most)

    def _within(self, nanos: int) -> int:
        most = self.price.output_within(self.input_tokens, nanos)
        return self.most if most is None else most


@dataclass(frozen=True, slots=True)
class FirstPart:
    """The beginning of a stream whose hold may grow: the output cap that is sent, and the output tokens held for it.

    The cap is that of one answer; the tokens are those of all answers.
    """

    cap: int
    held: int


def first_part(
    price: PricedModel,
    *,
    terms: GrowthTerms,
    input_tokens: int,
    left: int | None,
    asked: int | None,
    maximum: int,
    minimum: int,
    choices: int,
    ordinary: int,
) -> FirstPart | None:
    """Return the beginning of a stream that fits `left` nano-dollars; None if less than `minimum` would fit.

    The output cap is the one that the caller asked for, or the one for a quarter of what is left (`share_cap`). It is
    not lowered further, because the stream is hung up if a later step does not fit. The other arguments are those of
    `output_cap`.
    """
    cap = maximum if asked is None else min(asked, maximum)
    if asked is None and left is not None:
        least = max(ordinary, minimum)
        cap = share_cap(price, cap, input_tokens=input_tokens, left=left, choices=choices, least=least)
    wanted = min(max(terms.first, minimum) * choices + terms.slack, cap * choices)
    fitting = None if left is None else price.output_within(input_tokens, left)
    held = wanted if fitting is None else min(wanted, fitting)
    least = least_part(terms, cap=min(minimum, cap), most=cap, choices=choices)
    return FirstPart(cap, held) if held >= least else None


def least_part(terms: GrowthTerms, *, cap: int, most: int, choices: int) -> int:
    """Return the fewest output tokens that are held for a useful stream, whose smallest useful cap is `cap`.

    `most` is the cap of one answer.
    """
    return min(cap * choices + terms.slack, most * choices)


def bill_hung_up(
    price: PricedModel, usage: BilledUsage | None, *, hold: int, input_tokens: int, least: int, most: int
) -> Bill:
    """Return what is charged for a stream that the gateway hung up, because the next step of its hold did not fit.

    `usage` is what the provider reported so far, None if it reported nothing. `least` is the fewest output tokens that
    it can have billed for what arrived, `most` is the most that arrived plus the slack. The most is charged, as far as
    the hold goes: nobody will report the end. What arrived for certain is charged in any case.
    """
    if usage is None:
        certain, worst = price.worst_case(input_tokens, least), price.worst_case(input_tokens, most)
        return Bill(max(certain, min(worst, hold)), Usage(input_tokens, least))
    told = replace(usage, output_tokens=max(usage.output_tokens, least))
    certain = bill(price, told).charge(hold)
    worst = bill(price, replace(told, output_tokens=max(told.output_tokens, most))).charge(hold)
    return Bill(max(certain, min(worst, hold)), told)
