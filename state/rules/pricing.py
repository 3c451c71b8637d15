"""What a paid call may cost at most, how it is shaped to fit the money left, and what it is charged in the end.

Rates are whole femto-dollars (1e-15 dollars) per token: one femto-dollar is one nano-dollar per million tokens. Sums
are exact, and are rounded up to whole nano-dollars.
"""

from dataclasses import dataclass, replace

FEMTOS_PER_NANO = 1_000_000
ORDINARY_OUTPUT_TOKENS = 512
SHARE_OF_WHAT_IS_LEFT = 4

Steps = tuple[tuple[int, int], ...]  # (input tokens above which the rate applies, rate), ascending, the first at -1


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the provider billed them, each kind on its own.

    Cache tokens are part of the input tokens, and reasoning tokens are part of the output tokens.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True, slots=True)
class BilledUsage(Usage):
    """Tokens as a provider billed them.

    `long_cache_write_tokens` is how many of the cache-write tokens are kept for an hour. `other_tokens` are in the
    total that the provider reported, and in no part of it.
    """

    long_cache_write_tokens: int = 0
    other_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Bill:
    """The cost of a call in nano-dollars, and its usage. If `nanos` is None, nobody reported the cost.

    The call is then charged at its hold. `saved` is what the provider's prompt cache saved, in nano-dollars.
    """

    nanos: int | None
    usage: Usage = Usage()
    saved: int = 0

    def charge(self, hold: int) -> int:
        """Return what the call is charged, in nano-dollars; `hold` is what was held for it."""
        return hold if self.nanos is None else self.nanos


@dataclass(frozen=True, slots=True)
class Rates:
    """A price list: femto-dollars per token of each kind, by the size of the input, and femto-dollars per call."""

    input: Steps
    output: Steps
    reasoning: Steps
    cache_read: Steps
    cache_write: Steps
    long_cache_write: Steps
    per_call: int = 0

    def dearest_input(self, input_tokens: int) -> int:
        """Return the highest rate that a token of any kind can have in an input of at most `input_tokens` tokens."""
        kinds = (self.input, self.cache_read, self.cache_write, self.long_cache_write)
        return max(_dearest(steps, input_tokens) for steps in kinds)

    def dearest_output(self, input_tokens: int) -> int:
        """Return the highest rate that an output token can have after an input of at most `input_tokens` tokens."""
        return max(_dearest(self.output, input_tokens), _dearest(self.reasoning, input_tokens))

    def cost(self, usage: Usage, long_cache_write_tokens: int) -> int:
        """Return the cost of a call with this usage, in femto-dollars.

        `long_cache_write_tokens` is how many of the cache-write tokens are kept for an hour; they have their own rate.
        """
        size = usage.input_tokens
        long_writes = min(long_cache_write_tokens, usage.cache_write_tokens)
        plain = max(0, size - usage.cache_read_tokens - usage.cache_write_tokens)
        said = max(0, usage.output_tokens - usage.reasoning_tokens)
        return (
            self.per_call
            + plain * _rate(self.input, size)
            + usage.cache_read_tokens * _rate(self.cache_read, size)
            + (usage.cache_write_tokens - long_writes) * _rate(self.cache_write, size)
            + long_writes * _rate(self.long_cache_write, size)
            + said * _rate(self.output, size)
            + usage.reasoning_tokens * _rate(self.reasoning, size)
        )


@dataclass(frozen=True, slots=True)
class PricedModel:
    """A model with its price lists. If several lists may apply on the day of the call, the dearest counts.

    `version` names the source of the price. The ledger keeps `version` with every call.
    """

    name: str
    version: str
    lists: tuple[Rates, ...]

    def worst_case(self, input_tokens: int, output_tokens: int) -> int:
        """Return the most nano-dollars that a call of at most this size can cost, whatever kinds of token it has."""
        return max(
            _nanos(
                rates.per_call
                + input_tokens * rates.dearest_input(input_tokens)
                + output_tokens * rates.dearest_output(input_tokens)
            )
            for rates in self.lists
        )

    def cost(self, usage: Usage, *, long_cache_write_tokens: int = 0) -> int:
        """Return the cost of a call with this usage, in nano-dollars.

        Cache tokens are part of the input tokens, and reasoning tokens are part of the output tokens.
        `long_cache_write_tokens` is how many of the cache-write tokens are kept for an hour.
        """
        return max(_nanos(rates.cost(usage, long_cache_write_tokens)) for rates in self.lists)

    def cache_saved(self, usage: Usage, *, long_cache_write_tokens: int = 0) -> int:
        """Return the nano-dollars by which a call with this usage was cheaper than without the provider's cache.

        Hits save and writes cost more, so the difference is negative if the writes cost more than the hits saved.
        """
        plain = replace(usage, cache_read_tokens=0, cache_write_tokens=0)
        return self.cost(plain) - self.cost(usage, long_cache_write_tokens=long_cache_write_tokens)

    @property
    def has_cheaper_hits(self) -> bool:
        """Whether a token that is read from the provider's cache costs less than a plain one."""
        return any(_dearest(one.cache_read, 1) < _dearest(one.input, 1) for one in self.lists)

    def write_pays(self, input_tokens: int, *, again: int, of: int) -> bool:
        """Whether writing a prefix to the cache for minutes is expected to cost less than not writing it.

        `again` of `of` prefixes are read again before the cache drops them. For a token of the prefix, writing costs
        the rate of a write less that of plain input. A later read saves the rate of plain input less that of a read. If
        the price names no rate of its own for a write, nobody knows what writing costs, and the answer is no.
        """

        def pays(rates: Rates) -> bool:
            plain, write = _rate(rates.input, input_tokens), _rate(rates.cache_write, input_tokens)
            return write > plain and again * (plain - _rate(rates.cache_read, input_tokens)) > of * (write - plain)

        return all(map(pays, self.lists))

    def output_within(self, input_tokens: int, nanos: int) -> int | None:
        """Return the most output tokens with which the call's worst case is at most `nanos` nano-dollars.

        If the input alone costs more, return -1. If output is free, return None.
        """
        most: int | None = None
        for rates in self.lists:
            rest = nanos * FEMTOS_PER_NANO - rates.per_call - input_tokens * rates.dearest_input(input_tokens)
            rate = rates.dearest_output(input_tokens)
            if rest < 0:
                return -1
            if rate > 0:
                most = rest // rate if most is None else min(most, rest // rate)
        return most


def output_cap(
    price: PricedModel,
    *,
    input_tokens: int,
    left: int | None,
    asked: int | None,
    maximum: int,
    minimum: int,
    choices: int = 1,
    ordinary: int = ORDINARY_OUTPUT_TOKENS,
) -> int | None:
    """Return the output cap, in tokens, of a call that fits `left` nano-dollars; None if less than `minimum` would fit.

    If `left` is None, the money has no limit. If the caller `asked` for a cap, that cap is lowered only as far as the
    money requires. Otherwise the cap is lowered until the call's worst case is at most a quarter of what is left, but
    not below `ordinary`, what ordinary answers take: a model that may write 16,000 tokens must not block the other
    calls of its budget. `choices` is the number of answers that the call asks for at once. `minimum` is at least 1.
    """
    wanted = maximum if asked is None else min(asked, maximum)
    fitting = wanted if left is None else _within(price, input_tokens, left, choices, wanted)
    if asked is None and left is not None:
        least = max(ordinary, minimum)
        shared = share_cap(price, wanted, input_tokens=input_tokens, left=left, choices=choices, least=least)
        fitting = min(fitting, shared)
    return fitting if fitting >= min(minimum, wanted) else None


def share_cap(price: PricedModel, wanted: int, *, input_tokens: int, left: int, choices: int, least: int) -> int:
    """Return the output cap with which a call's worst case is at most a quarter of what is left, at most `wanted`.

    It is not lowered below `least`. The other arguments are those of `output_cap`.
    """
    share = _within(price, input_tokens, left // SHARE_OF_WHAT_IS_LEFT, choices, wanted)
    return min(wanted, max(share, least))


def _within(price: PricedModel, input_tokens: int, nanos: int, choices: int, wanted: int) -> int:
    most = price.output_within(input_tokens, nanos)
    return wanted if most is None else min(wanted, most // choices)


def bill(price: PricedModel, usage: BilledUsage) -> Bill:
    """Return the bill of a call with this usage."""
    long_writes = usage.long_cache_write_tokens
    saved = price.cache_saved(usage, long_cache_write_tokens=long_writes)
    return Bill(price.cost(usage, long_cache_write_tokens=long_writes), usage, saved)


def bill_answer(price: PricedModel, usage: BilledUsage | None, *, hold: int, input_tokens: int, seen: int) -> Bill:
    """Return what is charged for an answer: the cost of the usage that the provider reports.

    `hold` is what was held for the call, in nano-dollars, and `input_tokens` the bound of its input. At least the
    output that has arrived, `seen` tokens, is charged, even if the provider reports less. Usage whose parts do not
    agree is charged at the most that it may mean, as far as the hold goes. If no usage is reported, the hold is
    charged, or the worst case of the tokens seen if that is more.
    """
    if usage is None:
        return Bill(max(hold, price.worst_case(input_tokens, seen)))
    billed = bill(price, replace(usage, output_tokens=max(usage.output_tokens, seen)))
    if is_sound(usage):
        return billed
    # What the parts may mean at most is charged as far as the hold goes: beyond it nobody knows that it was billed.
    whole = complete(usage)
    thought = replace(whole, reasoning_tokens=whole.reasoning_tokens + usage.other_tokens)
    most = max(bill(price, whole).charge(hold), bill(price, thought).charge(hold))
    return replace(billed, nanos=max(billed.charge(hold), min(most, hold)))


def bill_cut_stream(price: PricedModel, *, hold: int, input_tokens: int, seen: int) -> Bill | None:
    """Return the bill of a stream that broke off, if what arrived has a worst case above the hold; otherwise None.

    On None nobody knows the cost, and the call stays charged at its hold.
    """
    worst = price.worst_case(input_tokens, seen)
    return Bill(worst, Usage(input_tokens, seen)) if worst > hold else None


def is_sound(usage: BilledUsage) -> bool:
    """Whether the parts of the usage agree with each other and with its total."""
    cached = usage.cache_read_tokens + usage.cache_write_tokens
    return cached <= usage.input_tokens and usage.reasoning_tokens <= usage.output_tokens and not usage.other_tokens


def complete(usage: BilledUsage) -> BilledUsage:
    """Return the highest usage that counts which do not agree may stand for; counts that agree come back unchanged.

    A part that is greater than its total, such as cached input, is added to the total. Tokens that are in no count but
    in the sum of all are output; whether the model thought them or said them nobody knows.
    """
    cached = usage.cache_read_tokens + usage.cache_write_tokens
    beside_input = cached if cached > usage.input_tokens else 0
    beside_output = usage.reasoning_tokens if usage.reasoning_tokens > usage.output_tokens else 0
    output = usage.output_tokens + beside_output + usage.other_tokens
    return replace(usage, input_tokens=usage.input_tokens + beside_input, output_tokens=output, other_tokens=0)


def _rate(steps: Steps, input_tokens: int) -> int:
    """Return the rate for an input of this size. An input above a step pays that step's rate for every token."""
    for start, rate in reversed(steps):
        if input_tokens > start:
            return rate
    raise AssertionError("a price list starts below zero tokens")


def _dearest(steps: Steps, input_tokens: int) -> int:
    return max(rate for start, rate in steps if start < max(input_tokens, 0))


def _nanos(femtos: int) -> int:
    return -(-femtos // FEMTOS_PER_NANO)
