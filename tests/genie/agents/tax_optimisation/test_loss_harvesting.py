"""Holding periods, wash sales, and the allocation of losses: each gain is used once."""

from datetime import date, timedelta
from decimal import Decimal
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bursar.genie.agents.tax_optimisation import bands as tax_bands
from bursar.genie.agents.tax_optimisation.loss_harvesting import (
    HarvestAction,
    LossLot,
    TaxOf,
    Term,
    allocate,
    harvest,
    long_term_from,
    loss_lots,
    term_of,
    whole_cents,
)
from bursar.genie.household.records import Lot

D = Decimal
TODAY = date(2025, 6, 30)
YEAR = tax_bands.load(2025)


def lot(name: str, acquired_on: date, *, symbol: str = "VTI", quantity: int = 10, cost: int = 100) -> Lot:
    return Lot(name, "broker", symbol, symbol, "equity", D(quantity), D(cost), acquired_on, "USD")


def losing(name: str, amount: int | Decimal, term: Term) -> LossLot:
    return LossLot(lot(name, date(2024, 1, 1)), term, D(10), D(amount))


def tax_of(income: Decimal) -> TaxOf:
    def tax(short: Decimal, long: Decimal) -> Decimal:
        assert YEAR is not None
        return tax_bands.federal_tax(YEAR, "single", income=income, short=short, long=long).tax

    return tax


@pytest.mark.parametrize(
    ("acquired", "first_long"),
    [
        (date(2024, 1, 1), date(2025, 1, 2)),
        (date(2024, 6, 30), date(2025, 7, 1)),
        (date(2023, 12, 31), date(2025, 1, 1)),
        (date(2024, 2, 28), date(2025, 3, 1)),
        (date(2024, 2, 29), date(2025, 3, 1)),
        (date(2023, 2, 28), date(2024, 3, 1)),
        (date(2023, 3, 1), date(2024, 3, 2)),
    ],
)
def test_a_holding_is_long_term_only_after_more_than_one_year(acquired: date, first_long: date) -> None:
    """A sale on the anniversary is short-term, the day after it is long-term; a leap day waits for 1 March."""
    assert long_term_from(acquired) == first_long
    assert term_of(acquired, first_long - timedelta(days=1)) == "short"
    assert term_of(acquired, first_long) == "long"


@pytest.mark.parametrize(("days", "washed"), [(0, 10), (29, 10), (30, 10), (31, 0), (-30, 10), (-31, 0)])
def test_a_purchase_within_thirty_days_of_the_sale_makes_it_a_wash_sale(days: int, washed: int) -> None:
    """Day 30 on either side is inside the window, day 31 is outside."""
    held = (lot("old", date(2023, 1, 1)), lot("new", TODAY - timedelta(days=days), cost=10))
    (found,) = loss_lots(held, {"VTI": D(80)}, sell_on=TODAY)
    assert found.lot.id == "old"
    assert found.washed == washed
    assert found.quantity == 10 - washed
    assert found.loss == (10 - washed) * 20
    assert found.clean_on == (TODAY - timedelta(days=days) + timedelta(days=31) if washed else None)


def test_a_replacement_unit_washes_one_sold_unit_only() -> None:
    """Four new units against two old lots of three wash the older lot's three and one of the other."""
    held = (
        lot("a", date(2023, 1, 1), quantity=3),
        lot("b", date(2023, 2, 1), quantity=3),
        lot("new", TODAY - timedelta(days=5), quantity=4, cost=10),
    )
    found = {candidate.lot.id: candidate for candidate in loss_lots(held, {"VTI": D(80)}, sell_on=TODAY)}
    assert (found["a"].washed, found["b"].washed) == (3, 1)
    assert found["b"].loss == 2 * 20


def test_another_symbol_and_the_lot_itself_wash_nothing() -> None:
    """Selling a whole recent purchase, with nothing else bought, is not a wash sale."""
    held = (lot("new", TODAY - timedelta(days=5)), lot("other", TODAY - timedelta(days=5), symbol="BND", cost=10))
    (found,) = loss_lots(held, {"VTI": D(80), "BND": D(20)}, sell_on=TODAY)
    assert (found.washed, found.loss, found.term) == (0, 200, "short")


def test_a_lot_without_a_loss_or_without_a_price_is_no_candidate() -> None:
    """A close at or above the cost is no loss, and a missing close is not guessed."""
    held = (lot("even", date(2023, 1, 1)), lot("unknown", date(2023, 1, 1), symbol="XYZ"))
    assert loss_lots(held, {"VTI": D(100)}, sell_on=TODAY) == ()


def test_short_and_long_losses_do_not_both_spend_one_long_gain() -> None:
    """10,000 of long gain at 15 % saves 1,500 once, and the second loss saves only on 3,000 of ordinary income."""
    candidates = (losing("s", 10_000, "short"), losing("l", 10_000, "long"))
    actions = harvest(candidates, tax_of(D(100_000)), short=D(0), long=D(10_000))
    assert sum((action.saving for action in actions), D(0)) == 1_500 + 3_000 * D("0.22")
    uses = allocate([a.loss_lot for a in actions], short=D(0), long=D(10_000), limit=D(3_000))
    assert sum((use.amount for use in uses if use.bucket == "long gain"), D(0)) == 10_000


def test_a_loss_that_saves_nothing_is_not_sold() -> None:
    """Gains in the zero band cost nothing, so a long-term loss that only meets them is left alone."""
    assert harvest((losing("l", 2_000, "long"),), tax_of(D(30_000)), short=D(0), long=D(5_000)) == ()


def test_a_pair_of_losses_that_saves_only_together_is_found() -> None:
    """The first loss only meets a gain taxed at nothing; with the second, 1,000 comes off ordinary income."""
    candidates = (losing("a", 3_000, "long"), losing("b", 3_000, "long"))
    actions = harvest(candidates, tax_of(D(40_000)), short=D(0), long=D(5_000))
    assert len(actions) == 2
    assert sum((action.saving for action in actions), D(0)) == 120


def test_savings_shown_in_cents_add_up_to_the_total_shown() -> None:
    """Rounding the running total leaves no stray cent."""
    actions = [HarvestAction(losing(str(n), 1, "short"), D("0.333")) for n in range(3)]
    shown = whole_cents(actions, lambda amount: amount.quantize(D("0.01")))
    assert [action.saving for action in shown] == [D("0.33"), D("0.34"), D("0.33")]
    assert sum((action.saving for action in shown), D(0)) == D("1.00")


losses = st.lists(st.tuples(st.integers(1, 30_000), st.sampled_from(("short", "long"))), max_size=6)
amounts = st.decimals(-40_000, 60_000, places=2)


@settings(max_examples=120, deadline=None)
@given(losses, st.integers(0, 400_000), amounts, amounts)
def test_the_saving_is_the_best_of_all_choices_and_no_sale_is_for_nothing(
    held: list[tuple[int, Term]], income: int, short: Decimal, long: Decimal
) -> None:
    """Trying every subset saves no more; leaving any chosen lot out saves less; the ranked savings add up."""
    candidates = [losing(str(n), amount, term) for n, (amount, term) in enumerate(held)]
    tax = tax_of(D(income))

    def saving(sold: tuple[LossLot, ...]) -> Decimal:
        lost = {"short": D(0), "long": D(0)}
        for candidate in sold:
            lost[candidate.term] += candidate.loss
        return tax(short, long) - tax(short - lost["short"], long - lost["long"])

    best = max(saving(sold) for size in range(len(candidates) + 1) for sold in combinations(candidates, size))
    actions = harvest(candidates, tax, short=short, long=long)
    chosen = tuple(action.loss_lot for action in actions)
    assert sum((action.saving for action in actions), D(0)) == saving(chosen) == best
    assert all(action.saving >= 0 for action in actions)
    assert all(saving(tuple(c for c in chosen if c is not left_out)) < best for left_out in chosen)


@settings(max_examples=200, deadline=None)
@given(losses, amounts, amounts, st.sampled_from((0, 1_500, 3_000)))
def test_no_dollar_of_gain_or_loss_is_used_twice(
    held: list[tuple[int, Term]], short: Decimal, long: Decimal, limit: int
) -> None:
    """A lot's uses sum to its loss; gains and the ordinary limit take no more than they hold after earlier netting."""
    sold = [losing(str(n), amount, term) for n, (amount, term) in enumerate(held)]
    uses = allocate(sold, short=short, long=long, limit=D(limit))
    taken = {bucket: D(0) for bucket in ("short gain", "long gain", "ordinary income", "carried forward")}
    for use in uses:
        assert use.amount > 0
        taken[use.bucket] += use.amount
    for candidate in sold:
        assert sum((use.amount for use in uses if use.lot_id == candidate.lot.id), D(0)) == candidate.loss
    lost = sum((candidate.loss for candidate in sold), D(0))
    net = short + long
    assert taken["short gain"] <= max(D(0), short)
    assert taken["long gain"] <= max(D(0), long)
    assert taken["short gain"] + taken["long gain"] == min(lost, max(D(0), net))
    allowed_before = min(D(limit), max(D(0), -net))
    allowed_after = min(D(limit), max(D(0), lost - net))
    assert taken["ordinary income"] == allowed_after - allowed_before
