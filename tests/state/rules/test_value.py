"""The rules of value for money, for any prices, gains, stakes and budgets."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from bursar.state.rules.value import Worth, is_worth, next_rung, shrunk

nanos = st.integers(0, 10**13)
gains = st.decimals(0, 1, places=6)
rungs = st.lists(st.tuples(nanos, gains), min_size=1, max_size=6)


@given(rungs, nanos, st.none() | nanos, st.data())
def test_no_rung_is_asked_that_stake_or_budget_do_not_bear(
    ladder: list[tuple[int, Decimal]], stake: int, left: int | None, data: st.DataObject
) -> None:
    """The rung that is asked is worth its price difference and fits; one that is passed over is not, or does not."""
    prices, gain = [price for price, _ in ladder], [gain for _, gain in ladder]
    at = data.draw(st.integers(0, len(ladder) - 1))
    found, verdicts = next_rung(prices, gain, at=at, stake=stake, left=left)
    asked = len(ladder) if found is None else found
    for place in range(at + 1, len(ladder)):
        borne = prices[place] == 0 or gain[place] * stake > prices[place] - prices[at]
        fits = left is None or prices[place] <= left
        if place < asked:
            assert not (borne and fits)
            assert verdicts[place - at - 1] is (Worth.NO_ROOM if borne else Worth.NOT_WORTH_IT)
        if place == asked:
            assert borne
            assert fits
            assert verdicts[-1] is Worth.ASK


@given(nanos, nanos, gains, nanos)
def test_a_rung_that_is_worth_it_is_asked(price: int, before: int, gain: Decimal, more: int) -> None:
    """With a stake just above the price difference, and a budget of the price, it is asked."""
    difference = max(price - before, 0)
    stake = int(difference / gain) + 1 + more if gain else 0
    if not gain and price > before:
        assert is_worth(gain, 10**18, price=price, before=before, left=None) is Worth.NOT_WORTH_IT
    elif gain:
        assert is_worth(gain, stake, price=price, before=before, left=price) is Worth.ASK
        assert price == 0 or is_worth(gain, stake, price=price, before=before, left=price - 1) is Worth.NO_ROOM


@given(st.integers(0, 1_000), st.integers(0, 1_000), gains)
def test_a_learned_gain_is_between_the_prior_and_what_was_seen(accepted: int, missed: int, prior: Decimal) -> None:
    """Without an answer it is the prior; each answer moves it towards the share that was accepted."""
    asked = accepted + missed
    gain = shrunk(accepted, asked, prior)
    assert shrunk(0, 0, prior) == prior
    share = Decimal(accepted) / asked if asked else prior
    step = Decimal("0.000001")
    assert min(prior, share) - step <= gain <= max(prior, share) + step
    assert shrunk(accepted + 1, asked + 1, prior) >= gain >= shrunk(accepted, asked + 1, prior)


def test_twenty_answers_weigh_as_much_as_the_prior() -> None:
    """Of twenty answers all accepted, at a prior of 0.3: 0.65."""
    assert shrunk(20, 20, Decimal("0.3")) == Decimal("0.65")
