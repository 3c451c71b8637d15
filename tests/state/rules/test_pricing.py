"""Worst cases, caps and charges at their edges. `tests/nodes/gateway/test_prices.py` has the prices of real lists."""

from dataclasses import replace
from functools import partial

from bursar.state.rules.pricing import (
    ORDINARY_OUTPUT_TOKENS,
    Bill,
    BilledUsage,
    PricedModel,
    Rates,
    Usage,
    bill,
    bill_answer,
    bill_cut_stream,
    complete,
    is_sound,
    output_cap,
)


def _at(nanos: int) -> tuple[tuple[int, int], ...]:
    return ((-1, nanos * 1_000_000),)


def _model(fee: int = 0, **rates: int) -> PricedModel:
    kinds = ("input", "output", "reasoning", "cache_read", "cache_write", "long_cache_write")
    return PricedModel("m", "test", (Rates(*(_at(rates.get(kind, 1)) for kind in kinds), per_call=fee * 1_000_000),))


PLAIN = _model()
SOUND = BilledUsage(input_tokens=10, output_tokens=5)


def test_the_worst_case_is_that_of_the_dearest_kind_of_token() -> None:
    """Whatever kinds a provider bills, each token counts at the dearest rate of its side."""
    for kind in ("input", "cache_read", "cache_write", "long_cache_write"):
        assert _model(**{kind: 9}).worst_case(10, 0) == 90
    for kind in ("output", "reasoning"):
        assert _model(**{kind: 9}).worst_case(0, 10) == 90
    assert _model(fee=7).worst_case(1, 1) == 9


def test_each_kind_of_token_is_billed_once_and_at_its_rate() -> None:
    """Cached tokens are part of the input, reasoning of the output, and what is kept for an hour of the writes."""
    model = _model(fee=1, input=2, output=3, reasoning=5, cache_read=7, cache_write=11, long_cache_write=13)
    usage = BilledUsage(10, 8, cache_read_tokens=2, cache_write_tokens=3, reasoning_tokens=1, long_cache_write_tokens=1)
    assert bill(model, usage).nanos == 1 + 5 * 2 + 2 * 7 + 2 * 11 + 13 + 7 * 3 + 5
    assert bill(model, replace(usage, long_cache_write_tokens=99)).nanos == 1 + 5 * 2 + 2 * 7 + 3 * 13 + 7 * 3 + 5


def test_a_cache_saves_what_hits_cost_less_and_writes_cost_more() -> None:
    """The saving is the cost without a cache less the cost with it: below zero if the writes outweigh the hits."""
    model = _model(input=10, cache_read=1, cache_write=12, long_cache_write=20, output=50)
    assert bill(model, BilledUsage(100, 8, cache_read_tokens=60)).saved == 60 * 9
    assert bill(model, BilledUsage(100, 8, cache_read_tokens=60, cache_write_tokens=40)).saved == 60 * 9 - 40 * 2
    long = BilledUsage(100, 8, cache_write_tokens=40, long_cache_write_tokens=40)
    assert bill(model, long).saved == -40 * 10
    assert bill(model, BilledUsage(100, 8)).saved == 0


def test_a_write_pays_if_enough_is_read_again() -> None:
    """At a quarter more for a write and nine tenths less for a read, 28 of 100 must be read again; 27 do not do."""
    model = _model(input=100, cache_read=10, cache_write=125)
    assert model.write_pays(5_000, again=28, of=100)
    assert not model.write_pays(5_000, again=27, of=100)
    assert model.has_cheaper_hits


def test_a_write_of_an_unknown_price_does_not_pay() -> None:
    """If the list has the input's rate for a write, it may cost more than anybody holds for it."""
    assert not _model(input=100, cache_read=10, cache_write=100).write_pays(5_000, again=100, of=100)
    assert not _model(input=100, cache_read=100, cache_write=100).has_cheaper_hits


def test_a_step_counts_above_its_start() -> None:
    """An input of exactly the step pays the lower rate, one more token pays the higher rate for all."""
    stepped = replace(PLAIN.lists[0], input=((-1, 1_000_000), (100, 3_000_000)))
    model = PricedModel("m", "test", (stepped,))
    assert bill(model, BilledUsage(100, 1)).nanos == model.worst_case(100, 1) == 101
    assert bill(model, BilledUsage(101, 1)).nanos == model.worst_case(101, 1) == 304


def test_a_cap_is_lowered_to_what_is_left_and_no_further() -> None:
    """Of $0.000000100 after ten tokens of input, 90 tokens of output are left, or 45 for each of two answers."""
    cap = partial(output_cap, PLAIN, input_tokens=10, asked=200, maximum=1_000, minimum=1)
    assert cap(left=100) == 90
    assert cap(left=100, choices=2) == 45
    assert cap(left=None) == 200
    assert cap(left=11) == 1
    assert cap(left=10) is None
    assert cap(left=9) is None
    assert PLAIN.output_within(10, 9) == -1
    assert cap(left=100, minimum=90) == 90
    assert cap(left=100, minimum=91) is None
    assert cap(left=100, asked=5, minimum=91) == 5


def test_without_a_wish_a_call_takes_a_quarter() -> None:
    """A quarter of what is left, but no less than an ordinary answer or the useful minimum."""
    cap = partial(output_cap, PLAIN, input_tokens=0, asked=None, maximum=10_000, minimum=1)
    assert cap(left=8_000) == 2_000
    assert cap(left=1_000) == ORDINARY_OUTPUT_TOKENS
    assert cap(left=1_000, minimum=700) == 700
    assert cap(left=10**9) == 10_000


def test_free_output_is_not_capped_by_money() -> None:
    """If output costs nothing, only the maximum caps it; an input that costs too much is still refused."""
    free = _model(output=0, reasoning=0)
    assert output_cap(free, input_tokens=10, left=10, asked=None, maximum=70, minimum=1) == 70
    assert output_cap(free, input_tokens=11, left=10, asked=None, maximum=70, minimum=1) is None


def test_an_answer_is_charged_as_it_is_billed_and_never_below_what_arrived() -> None:
    """Without usage the hold is charged, or what arrived if that is more."""
    charged = partial(bill_answer, PLAIN, hold=40, input_tokens=20)
    assert charged(SOUND, seen=0).nanos == 15
    assert charged(SOUND, seen=9).nanos == 19
    assert charged(None, seen=3).nanos == 40
    assert charged(None, seen=33).nanos == 53
    assert Bill(None).charge(40) == 40
    assert Bill(0).charge(40) == 0


def test_parts_that_do_not_agree_are_charged_up_to_the_hold() -> None:
    """Each shape is charged at the most that it may mean, and the hold is the most that nobody can doubt."""
    beside_input = BilledUsage(10, 5, cache_read_tokens=12)
    beside_output = BilledUsage(10, 5, reasoning_tokens=7)
    in_total = BilledUsage(10, 5, other_tokens=4)
    assert [is_sound(one) for one in (SOUND, beside_input, beside_output, in_total)] == [True, False, False, False]
    assert complete(SOUND) == SOUND
    charged = partial(bill_answer, PLAIN, input_tokens=20, seen=0)
    assert charged(beside_input, hold=100).nanos == 27
    assert charged(beside_output, hold=100).nanos == 22
    assert charged(in_total, hold=100).nanos == 19
    assert charged(in_total, hold=17).nanos == 17
    dear = partial(bill_answer, _model(reasoning=3), input_tokens=20, seen=0)
    assert dear(in_total, hold=100).nanos == 27


def test_a_cut_stream_is_billed_only_beyond_its_hold() -> None:
    """Up to the hold nobody knows the cost; beyond it, what arrived is the least that was billed."""
    cut = partial(bill_cut_stream, PLAIN, hold=40, input_tokens=20)
    assert cut(seen=20) is None
    assert cut(seen=21) == Bill(41, Usage(20, 21))
