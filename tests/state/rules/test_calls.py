"""A paid call: who may send it, by which offer, when again, and what each step does to its accounts."""

from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from bursar.state.rules import calls
from bursar.state.rules.calls import (
    IN_FLIGHT,
    MAX_ATTEMPTS,
    MAX_PAUSE_SECONDS,
    MAY_FOLLOW,
    SOON_SECONDS,
    Choice,
    Declined,
    Movement,
    Refusal,
    SizedOffer,
    balance,
    cap_of,
    choose,
    end_failed,
    fits,
    fixed_offer,
    has_turn,
    is_hung,
    is_overrun,
    model_offer,
    pause_before_retry,
    refuse_run,
    room,
)
from bursar.state.rules.pricing import PricedModel, Rates

ONE = ((-1, 1_000_000),)  # a nano-dollar a token
MODEL = PricedModel("m", "test", (Rates(ONE, ONE, ONE, ONE, ONE, ONE),))
DEAR, CHEAP = fixed_offer("dear", "v", 50, "model:dear"), fixed_offer("cheap", "v", 10, "model:cheap")


def _all(_: str) -> bool:
    return True


def test_a_run_that_has_ended_or_is_deterministic_sends_nothing() -> None:
    """The end counts first, because it says more; a run that goes on and may pay is not refused."""
    assert refuse_run(ended=True, pays=True) is Refusal.ENDED
    assert refuse_run(ended=True, pays=False) is Refusal.ENDED
    assert refuse_run(ended=False, pays=False) is Refusal.UNPAID
    assert refuse_run(ended=False, pays=True) is None


def test_the_last_turn_is_a_turn() -> None:
    """A limit of two allows a first and a second call; no limit allows any."""
    assert [has_turn(sent, 2) for sent in range(4)] == [True, True, False, False]
    assert has_turn(10**9, None)


def test_the_first_offer_that_fits_is_taken() -> None:
    """The offers stand in order of preference; a call that leaves nothing fits."""
    assert choose([DEAR, CHEAP], left=50, paused=False, admits=_all) == Choice(0, SizedOffer(50))
    assert choose([DEAR, CHEAP], left=49, paused=False, admits=_all) == Choice(1, SizedOffer(10))
    assert choose([DEAR, CHEAP], left=None, paused=False, admits=_all) == Choice(0, SizedOffer(50))
    assert choose([DEAR, CHEAP], left=9, paused=False, admits=_all) == Declined(Refusal.TOO_DEAR)


def test_a_breaker_sends_to_the_next_offer_and_is_named_if_there_is_none() -> None:
    """The first breaker in the way is named; an offer without a breaker asks none."""
    only = {"model:cheap"}.__contains__
    assert choose([DEAR, CHEAP], left=99, paused=False, admits=only) == Choice(1, SizedOffer(10))
    closed = partial(choose, left=99, paused=False, admits=lambda _: False)
    assert closed([DEAR, CHEAP]) == Declined(Refusal.BREAKER_OPEN, 0)
    assert closed([fixed_offer("f", "v", 100, "x"), DEAR, CHEAP]) == Declined(Refusal.BREAKER_OPEN, 1)
    assert closed([fixed_offer("f", "v", 1, "")]) == Choice(0, SizedOffer(1))


def test_a_pause_comes_before_every_offer() -> None:
    """Nothing is sized while a person has paused the agent."""
    assert choose([CHEAP], left=99, paused=True, admits=_all) == Declined(Refusal.PAUSED)


@given(
    left=st.none() | st.integers(0, 500),
    bound=st.integers(0, 50),
    asked=st.none() | st.integers(1, 100),
    minimum=st.integers(1, 60),
    choices=st.integers(1, 3),
)
def test_a_sized_model_fits_and_is_useful(
    left: int | None, bound: int, asked: int | None, minimum: int, choices: int
) -> None:
    """What is sized fits what is left, all its answers together; what is declined would not fit at its least."""
    offer = model_offer(
        MODEL, input_tokens=bound, asked=asked, maximum=80, minimum=minimum, choices=choices, breaker="b"
    )
    useful = min(minimum, 80 if asked is None else min(asked, 80))
    assert offer.least == bound + useful * choices
    sized = offer.shape(left)
    if sized is None:
        assert left is not None
        assert offer.least > left
    else:
        assert sized.amount == bound + sized.cap * choices
        assert left is None or sized.amount <= left
        assert sized.cap >= useful


def test_a_failed_call_ends_as_what_is_known_of_it() -> None:
    """A known cost is booked, whatever is owed; otherwise nothing owed frees the hold, and not knowing keeps it."""
    assert end_failed("unknown", is_cost_known=True) == end_failed("nothing", is_cost_known=True) == "settle"
    assert end_failed("nothing", is_cost_known=False) == "void"
    assert end_failed("unknown", is_cost_known=False) == "lose"


def test_a_call_is_sent_again_a_few_times_with_growing_pauses() -> None:
    """Half a second, then one; the server's own pause counts, up to a limit; nothing is sent at the deadline."""
    pause = partial(pause_before_retry, retry=True, pause_seconds=None, seconds_left=None)
    assert [pause(attempt) for attempt in range(4)] == [0.5, 1.0, None, None]
    assert MAX_ATTEMPTS == 3
    assert pause(0, retry=False) is None
    assert pause(0, pause_seconds=7.0) == 7.0
    assert pause(0, pause_seconds=MAX_PAUSE_SECONDS) == MAX_PAUSE_SECONDS
    assert pause(0, pause_seconds=MAX_PAUSE_SECONDS + 1) is None
    assert pause(0, seconds_left=0.5) is None
    assert pause(0, seconds_left=0.6) == 0.5


def test_a_call_hung_if_the_deadline_ended_it_after_a_fair_time() -> None:
    """Neither a call that was sent shortly before the deadline, nor one that ended before it, nor one without any."""
    assert is_hung(30.0, 0.0)
    assert is_hung(1.0, -0.2)
    assert is_hung(1.05, SOON_SECONDS)
    assert not is_hung(0.9, 0.0)
    assert not is_hung(30.0, 12.0)
    assert not is_hung(None, 0.0)
    assert not is_hung(30.0, None)


def test_a_call_moves_money_step_by_step() -> None:
    """A hold is reserved, then booked, freed or charged; a person's finding replaces what was charged."""
    assert calls.hold(30) == Movement(held=30, spent=0)
    assert calls.raise_hold(30, 70) == Movement(held=40, spent=0)
    assert calls.settle(30, 12) == Movement(held=-30, spent=12)
    assert calls.void(30) == Movement(held=-30, spent=0)
    assert calls.lose(30) == Movement(held=-30, spent=30)
    assert calls.reconcile(30, 12) == Movement(held=0, spent=-18)


def test_only_a_call_in_flight_ends_and_only_an_unknown_one_is_reconciled() -> None:
    """A call is sent once and ends once."""
    assert IN_FLIGHT == ("held", "sent")
    assert MAY_FOLLOW == {
        "send": ("held",),
        "raise": IN_FLIGHT,
        "settle": IN_FLIGHT,
        "void": IN_FLIGHT,
        "lose": IN_FLIGHT,
        "reconcile": ("unknown",),
    }


def test_a_balance_is_what_the_calls_of_an_account_count_for() -> None:
    """A hold counts until the call ends, then its cost does, or its hold if nobody knows the cost."""
    assert balance("held", 30, 0) == balance("sent", 30, 0) == Movement(held=30, spent=0)
    assert balance("settled", 30, 12) == Movement(held=0, spent=12)
    assert balance("unknown", 30, 0) == Movement(held=0, spent=30)
    assert balance("void", 30, 0) == Movement(held=0, spent=0)


def test_room_is_what_is_neither_spent_nor_held() -> None:
    """The last nano-dollar may be held, and not one more; without a cap there is no limit."""
    assert room(100, 60, 30) == 10
    assert room(None, 60, 30) is None
    assert fits(10, 10)
    assert not fits(11, 10)
    assert fits(11, None)
    assert not fits(0, -1)


def test_a_grant_adds_to_the_configured_cap() -> None:
    """A top-up stays when the configuration changes; no cap stays none."""
    assert cap_of(100, 25) == 125
    assert cap_of(None, 25) is None


def test_an_overrun_is_more_than_the_hold() -> None:
    """A call that costs its hold to the nano-dollar is none."""
    assert is_overrun(30, 31)
    assert not is_overrun(30, 30)
