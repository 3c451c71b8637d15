"""How the hold of a stream grows: it pays for what may be billed at each moment, and never takes more than is left."""

from dataclasses import dataclass, replace

from hypothesis import given
from hypothesis import strategies as st

from bursar.state.rules.calls import SizedOffer, fits, model_offer, room
from bursar.state.rules.growth import GrowingHold, GrowthTerms, Room, bill_hung_up
from bursar.state.rules.pricing import BilledUsage, PricedModel, Rates

INPUT_RATE, OUTPUT_RATE = 150_000_000, 600_000_000  # femto-dollars: 150 and 600 nano-dollars a token
INPUT, SLACK = 100, 8
TERMS = GrowthTerms(slack=SLACK, first=16)


def _price(output: int = OUTPUT_RATE) -> PricedModel:
    plain, out = ((-1, INPUT_RATE),), ((-1, output),)
    return PricedModel("m", "test", (Rates(plain, out, out, plain, plain, plain),))


PRICE = _price()
NO_LIMIT = Room(None, 0)
HOLD = GrowingHold(PRICE, INPUT, most=1_000, slack=SLACK, held=32)


def _offer(left: int | None, *, asked: int | None = 1_000, growth: GrowthTerms | None = TERMS) -> SizedOffer | None:
    offer = model_offer(
        PRICE, input_tokens=INPUT, asked=asked, maximum=4_000, minimum=4, choices=1, breaker="", growth=growth
    )
    sized = offer.shape(left)
    assert (sized is None) == (left is not None and offer.least > left)
    return sized


def test_only_the_first_part_of_a_stream_is_held() -> None:
    """The whole cap is sent, and the input, the first tokens and the slack are held; otherwise the whole worst case."""
    assert _offer(10**9) == SizedOffer(PRICE.worst_case(INPUT, 16 + SLACK), 1_000)
    assert _offer(10**9, growth=None) == SizedOffer(PRICE.worst_case(INPUT, 1_000), 1_000)


def test_the_first_part_is_lowered_to_what_is_left_and_not_below_the_minimum() -> None:
    """Twelve tokens pay for the minimum of four and the slack; with less the stream is not sent."""
    least = PRICE.worst_case(INPUT, 4 + SLACK)
    assert _offer(least) == SizedOffer(least, 1_000)
    assert _offer(least - 1) is None


def test_a_short_answer_is_held_whole() -> None:
    """No more is held than the cap can cost, slack included."""
    assert _offer(10**9, asked=10) == SizedOffer(PRICE.worst_case(INPUT, 10), 10)


def test_a_hold_doubles_if_money_is_plenty() -> None:
    """So a long stream has few steps; and no step goes beyond the cap."""
    assert HOLD.covers(24)
    assert not HOLD.covers(25)
    assert HOLD.grown(25, Room(10**9, HOLD.amount)) == replace(HOLD, held=64)
    assert HOLD.grown(25, NO_LIMIT) == replace(HOLD, held=64)
    assert replace(HOLD, held=600).grown(593, NO_LIMIT) == replace(HOLD, held=1_000)
    assert replace(HOLD, held=1_000).covers(1_000)


def test_a_step_takes_half_its_share_of_what_is_left_but_what_it_needs_in_any_case() -> None:
    """Alone it takes half, beside three like it an eighth; what it needs and half a slack anyway; that must fit."""
    assert HOLD.grown(25, Room(40 * 600, HOLD.amount)) == replace(HOLD, held=52)
    assert HOLD.grown(25, Room(80 * 600, 4 * HOLD.amount)) == replace(HOLD, held=42)
    assert HOLD.grown(25, Room(10 * 600, HOLD.amount)) == replace(HOLD, held=37)
    assert HOLD.grown(25, Room(1 * 600, HOLD.amount)) == replace(HOLD, held=33)
    assert HOLD.grown(25, Room(599, HOLD.amount)) is None


def test_free_output_is_covered_at_once() -> None:
    """A model whose output costs nothing needs no money to go on."""
    free = replace(HOLD, price=_price(output=0))
    assert free.grown(25, Room(0, 0)) == replace(free, held=64)


def test_a_stream_that_was_hung_up_is_charged_the_most_that_it_may_be_billed() -> None:
    """What arrived and the slack, as far as the hold goes; what arrived for certain in any case."""
    hold = PRICE.worst_case(INPUT, 64)
    assert bill_hung_up(PRICE, None, hold=hold, input_tokens=INPUT, least=20, most=58).nanos == PRICE.worst_case(
        INPUT, 58
    )
    assert bill_hung_up(PRICE, None, hold=hold, input_tokens=INPUT, least=20, most=90).nanos == hold
    assert bill_hung_up(PRICE, None, hold=hold, input_tokens=INPUT, least=70, most=90).nanos == PRICE.worst_case(
        INPUT, 70
    )
    told = bill_hung_up(PRICE, BilledUsage(50, 30), hold=hold, input_tokens=INPUT, least=20, most=38)
    assert told.nanos == 50 * 150 + 38 * 600
    assert (told.usage.input_tokens, told.usage.output_tokens) == (50, 30)


@dataclass
class Stream:
    """A stream of `length` tokens. Its provider is up to the slack ahead of what has arrived."""

    length: int
    hold: GrowingHold | None = None
    seen: int = 0
    has_ended: bool = False

    def may_be_billed(self) -> int:
        assert self.hold is not None
        return PRICE.worst_case(INPUT, min(self.seen + SLACK, self.length, self.hold.most))


@given(
    cap=st.integers(0, 400_000),
    lengths=st.lists(st.integers(1, 300), min_size=1, max_size=8),
    steps=st.lists(st.tuples(st.integers(0, 7), st.integers(1, 40)), max_size=150),
)
def test_no_interleaving_of_growths_goes_over_the_cap(
    cap: int, lengths: list[int], steps: list[tuple[int, int]]
) -> None:
    """Streams share an account: it never holds more than its cap, and each hold pays for what may be billed."""
    streams, spent = [Stream(length) for length in lengths], 0

    def held() -> int:
        return sum(one.hold.amount for one in streams if one.hold is not None and not one.has_ended)

    def left() -> int:
        rest = room(cap, spent, held())
        assert rest is not None
        assert rest >= 0
        return rest

    for number, arrived in steps:
        stream, now = streams[number % len(streams)], left()
        if stream.has_ended:
            continue
        if stream.hold is None:
            sized = _offer(now, asked=200)
            if sized is not None:
                assert fits(sized.amount, now)
                tokens = PRICE.output_within(INPUT, sized.amount)
                assert tokens is not None
                stream.hold = GrowingHold(PRICE, INPUT, most=sized.cap, slack=SLACK, held=min(tokens, sized.cap))
            continue
        whole = min(stream.length, stream.hold.most)
        # No more arrives at once than the slack: the provider was no further ahead.
        billed = stream.may_be_billed()
        assert billed <= stream.hold.amount
        stream.seen = min(stream.seen + min(arrived, SLACK), whole)
        if not stream.hold.covers(stream.seen):
            grown = stream.hold.grown(stream.seen, Room(now, held()))
            if grown is None:
                needed = min(stream.seen + SLACK, stream.hold.most)
                assert PRICE.worst_case(INPUT, needed) > stream.hold.amount + now, "a step that fits was refused"
                most = min(stream.seen + SLACK, stream.hold.most)
                charge = bill_hung_up(
                    PRICE, None, hold=stream.hold.amount, input_tokens=INPUT, least=stream.seen // 4, most=most
                ).charge(stream.hold.amount)
                assert charge <= stream.hold.amount
                assert charge >= billed
                spent, stream.has_ended = spent + charge, True
                left()
                continue
            assert fits(grown.amount - stream.hold.amount, now)
            assert grown.covers(stream.seen)
            stream.hold = grown
        assert stream.may_be_billed() <= stream.hold.amount
        if stream.seen == whole:
            spent, stream.has_ended = spent + PRICE.worst_case(INPUT, whole), True
        left()
