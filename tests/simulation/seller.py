"""A seller of answers, with its own arithmetic: what it bills for a call, and what it reports about its usage."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil
from random import Random

from bursar.state.rules.pricing import BilledUsage, PricedModel, Rates, Steps

SOUND = ("sound",) * 10
UNSOUND = ("parts beside input", "parts beside output", "only in the total", "too little reported")
FAULTS = (*UNSOUND, "no usage", "overrun")
FAILURES = ("refused", "refused", "nobody knows", "cut off", "cut off beyond the cap")
KINDS = (*SOUND, *FAULTS, *FAILURES)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a call: the seller's bill in nano-dollars, the usage reported, and the output tokens that arrived.

    `kind` is one of `KINDS`. `FAILURES` are no answers.
    """

    kind: str
    bill: int
    usage: BilledUsage | None
    seen: int

    @property
    def has_failed(self) -> bool:
        return self.kind in FAILURES


class Seller:
    """A model with a price list. `price` is what the gateway knows of it: perhaps a dearer list may apply as well."""

    def __init__(self, rng: Random, name: str) -> None:
        self.rng = rng
        self.rates = _rates(rng)
        others = (_rates(rng),) if rng.random() < 0.25 else ()
        self.price = PricedModel(name, "simulated", (self.rates, *others))

    def answer(self, input_bound: int, cap: int, *, kind: str | None = None) -> Answer:
        """Answer a call of at most `input_bound` input tokens whose output is capped at `cap` tokens."""
        rng = self.rng
        kind = kind or rng.choice(KINDS)
        true = _usage(rng, input_bound, cap if kind not in {"overrun", "cut off beyond the cap"} else 2 * cap + 9)
        seen = true.output_tokens if kind == "cut off beyond the cap" else rng.randint(0, true.output_tokens)
        bill, told = self.bill(true), true
        match kind:
            case "refused":
                return Answer(kind, 0, None, 0)
            case "no usage" | "nobody knows" | "cut off" | "cut off beyond the cap":
                return Answer(kind, bill, None, 0 if kind == "nobody knows" else seen)
            case "parts beside input":
                cached = true.input_tokens // 2 + 1
                true = replace(true, cache_read_tokens=cached, cache_write_tokens=0, long_cache_write_tokens=0)
                told = replace(true, input_tokens=true.input_tokens - cached)
                bill = self.bill(true)
            case "parts beside output":
                thought = true.output_tokens // 2 + 1
                true = replace(true, reasoning_tokens=thought)
                told = replace(true, output_tokens=true.output_tokens - thought)
                bill = self.bill(true)
            case "only in the total":
                hidden = true.output_tokens // 2
                true = replace(true, reasoning_tokens=rng.choice((0, hidden)))
                told = replace(true, output_tokens=true.output_tokens - hidden, reasoning_tokens=0, other_tokens=hidden)
                bill = self.bill(true)
            case "too little reported":
                told = replace(true, output_tokens=max(1, seen // 3), reasoning_tokens=0)
                bill = self.bill(replace(told, output_tokens=max(told.output_tokens, seen)))
            case _:
                pass
        return Answer(kind, bill, told, seen)

    def bill(self, usage: BilledUsage) -> int:
        """Return the cost of the usage in nano-dollars, rounded up: each kind of token at its own rate."""
        rates, size = self.rates, usage.input_tokens
        long = usage.long_cache_write_tokens
        counted = (
            (size - usage.cache_read_tokens - usage.cache_write_tokens, rates.input),
            (usage.cache_read_tokens, rates.cache_read),
            (usage.cache_write_tokens - long, rates.cache_write),
            (long, rates.long_cache_write),
            (usage.output_tokens - usage.reasoning_tokens, rates.output),
            (usage.reasoning_tokens, rates.reasoning),
        )
        total = rates.per_call + sum(tokens * _rate_at(steps, size) for tokens, steps in counted)
        return ceil(Fraction(total, 1_000_000))


def _rate_at(steps: Sequence[tuple[int, int]], size: int) -> int:
    reached = [rate for start, rate in steps if size > start]
    return reached[-1]


def _rates(rng: Random) -> Rates:
    kinds = [_steps(rng) for _ in range(6)]
    return Rates(*kinds, per_call=rng.choice((0, 0, 0, rng.randrange(3_000_000))))


def _steps(rng: Random) -> Steps:
    first = (-1, rng.randrange(3_000_000))
    return (first,) if rng.random() < 0.8 else (first, (rng.randrange(1, 60), rng.randrange(3_000_000)))


def _usage(rng: Random, input_bound: int, most_output: int) -> BilledUsage:
    """Return usage whose parts agree: the parts of the input are within it, and so is what is kept for an hour."""
    size = rng.randint(1, input_bound)
    read = rng.randint(0, size) if rng.random() < 0.4 else 0
    written = rng.randint(0, size - read) if rng.random() < 0.4 else 0
    said = rng.randint(1, max(1, most_output))
    return BilledUsage(
        input_tokens=size,
        output_tokens=said,
        cache_read_tokens=read,
        cache_write_tokens=written,
        reasoning_tokens=rng.randint(0, said) if rng.random() < 0.3 else 0,
        long_cache_write_tokens=rng.randint(0, written) if written else 0,
    )
