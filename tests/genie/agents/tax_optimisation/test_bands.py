"""Federal income tax against the published tables, and the properties that any estimate must have."""

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from bursar.genie.agents.tax_optimisation import bands as tax_bands
from bursar.genie.agents.tax_optimisation.bands import (
    STATUSES,
    Estimate,
    FilingStatus,
    TaxYear,
    federal_tax,
    filing_status,
    slices,
)

D = Decimal
NIL = D(0)
YEAR = tax_bands.load(2025)
assert YEAR is not None

# The printed "plus" amounts of Rev. Proc. 2024-40, section 2.01: the tax on a taxable income at each band edge.
PRINTED: dict[FilingStatus, tuple[tuple[int, str], ...]] = {
    "single": (
        (11_925, "1192.50"),
        (48_475, "5578.50"),
        (103_350, "17651"),
        (197_300, "40199"),
        (250_525, "57231"),
        (626_350, "188769.75"),
    ),
    "married_filing_jointly": (
        (23_850, "2385"),
        (96_950, "11157"),
        (206_700, "35302"),
        (394_600, "80398"),
        (501_050, "114462"),
        (751_600, "202154.50"),
    ),
    "married_filing_separately": (
        (11_925, "1192.50"),
        (48_475, "5578.50"),
        (103_350, "17651"),
        (197_300, "40199"),
        (250_525, "57231"),
        (375_800, "101077.25"),
    ),
    "head_of_household": (
        (17_000, "1700"),
        (64_850, "7442"),
        (103_350, "15912"),
        (197_300, "38460"),
        (250_500, "55484"),
        (626_350, "187031.50"),
    ),
}
PRINTED["qualifying_surviving_spouse"] = PRINTED["married_filing_jointly"]
DEDUCTION: dict[FilingStatus, int] = {
    "single": 15_750,
    "married_filing_jointly": 31_500,
    "married_filing_separately": 15_750,
    "head_of_household": 23_625,
    "qualifying_surviving_spouse": 31_500,
}
GAIN_EDGES: dict[FilingStatus, tuple[int, int]] = {
    "single": (48_350, 533_400),
    "married_filing_jointly": (96_700, 600_050),
    "married_filing_separately": (48_350, 300_000),
    "head_of_household": (64_750, 566_700),
    "qualifying_surviving_spouse": (96_700, 600_050),
}

statuses = st.sampled_from(STATUSES)
incomes = st.decimals(0, 1_500_000, places=2)
gains = st.decimals(-200_000, 900_000, places=2)


def tax(status: FilingStatus, income: Decimal, short: Decimal = NIL, long: Decimal = NIL) -> Estimate:
    assert YEAR is not None
    return federal_tax(YEAR, status, income=income, short=short, long=long)


@pytest.mark.parametrize("status", STATUSES)
def test_the_tax_at_every_band_edge_is_the_one_printed_in_the_revenue_procedure(status: FilingStatus) -> None:
    """At an edge the tax is the printed amount; a dollar beyond it is taxed at the next rate."""
    rates = ("0.12", "0.22", "0.24", "0.32", "0.35", "0.37")
    assert YEAR is not None
    for (edge, printed), rate in zip(PRINTED[status], rates, strict=True):
        income = D(DEDUCTION[status] + edge)
        assert tax(status, income).tax == D(printed)
        assert tax(status, income + 1).tax - D(printed) == D(rate)
        assert tax_bands.marginal_rate(YEAR, status, income=income) == D(rate)
        assert tax_bands.marginal_rate(YEAR, status, income=income - 1) < D(rate)


@pytest.mark.parametrize("status", STATUSES)
def test_income_up_to_the_standard_deduction_is_not_taxed(status: FilingStatus) -> None:
    """The first taxed dollar is the one after the deduction, at ten per cent."""
    assert tax(status, D(DEDUCTION[status])).tax == 0
    assert tax(status, D(DEDUCTION[status] + 1)).tax == D("0.10")


@pytest.mark.parametrize("status", STATUSES)
def test_long_term_gains_are_stacked_on_ordinary_income_at_nought_fifteen_and_twenty(status: FilingStatus) -> None:
    """With no other income the gain alone fills the three bands, and their edges are the published ones."""
    zero, fifteen = GAIN_EDGES[status]
    deduction = DEDUCTION[status]
    assert tax(status, D(deduction), long=D(zero)).tax == 0
    assert tax(status, D(deduction), long=D(zero + 100)).tax == 15
    top = tax(status, D(deduction), long=D(fifteen + 100))
    assert top.tax == D(fifteen - zero) * D("0.15") + 20
    assert [part.rate for part in top.gains] == [D("0.00"), D("0.15"), D("0.20")]
    assert tax(status, D(0), long=D(deduction + zero)).tax == 0


def test_a_gain_between_the_two_edges_is_taxed_at_the_lower_ordinary_rate() -> None:
    """Between $48,350 and $48,475 the 12 % band is cheaper than the 15 % gains band, and the law takes the smaller."""
    ordinary = tax("single", D(15_750 + 48_350))
    stacked = tax("single", D(15_750 + 48_350), long=D(125))
    assert stacked.tax - ordinary.tax == D(125) * D("0.12")
    assert stacked.gains == ()


def test_a_worked_example_by_hand() -> None:
    """Single, 100,000 of wages, 10,000 of short-term gain, 20,000 long: 94,250 at ordinary rates, 20,000 at 15 %."""
    estimate = tax("single", D(100_000), D(10_000), D(20_000))
    assert estimate.taxable_income == 114_250
    assert estimate.tax == D("5578.50") + (D(94_250) - D(48_475)) * D("0.22") + 3_000
    assert [(part.rate, part.amount) for part in estimate.ordinary] == [
        (D("0.10"), D(11_925)),
        (D("0.12"), D(36_550)),
        (D("0.22"), D(45_775)),
    ]


@pytest.mark.parametrize(
    ("status", "short", "long", "deducted", "carried"),
    [
        ("single", -2_000, 0, 2_000, (0, 0)),
        ("single", -5_000, 0, 3_000, (2_000, 0)),
        ("single", 0, -5_000, 3_000, (0, 2_000)),
        ("single", -2_000, -4_000, 3_000, (0, 3_000)),
        ("single", -10_000, 4_000, 3_000, (3_000, 0)),
        ("single", 4_000, -10_000, 3_000, (0, 3_000)),
        ("married_filing_jointly", -5_000, 0, 3_000, (2_000, 0)),
        ("married_filing_separately", -5_000, 0, 1_500, (3_500, 0)),
    ],
)
def test_a_net_loss_takes_at_most_the_limit_off_ordinary_income_and_the_rest_carries_over(
    status: FilingStatus, short: int, long: int, deducted: int, carried: tuple[int, int]
) -> None:
    """$3,000, or $1,500 filing separately; what is deducted counts against the short-term loss first."""
    estimate = tax(status, D(90_000), D(short), D(long))
    assert estimate.loss_deducted == deducted
    assert (estimate.carried_short, estimate.carried_long) == carried
    assert estimate.tax == tax(status, D(90_000 - deducted)).tax


def test_a_loss_that_income_could_not_absorb_is_not_used_up() -> None:
    """With no taxable income the whole loss carries over."""
    assert tax("single", D(10_000), D(-5_000)).carried_short == 5_000


def test_a_net_short_term_loss_reduces_the_gain_that_has_the_lower_rates() -> None:
    """IRC 1222(11): only the long-term gain left over a short-term loss is taxed at the gains rates."""
    assert tax("single", D(100_000), D(-5_000), D(20_000)).tax == tax("single", D(100_000), D(0), D(15_000)).tax
    assert tax("single", D(100_000), D(20_000), D(-5_000)).tax == tax("single", D(115_000)).tax


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(statuses, incomes, gains, gains, st.decimals("0.01", 5_000, places=2))
def test_tax_never_falls_and_never_jumps_as_income_or_gains_rise(
    status: FilingStatus, income: Decimal, short: Decimal, long: Decimal, more: Decimal
) -> None:
    """Each extra dollar costs between nothing and 57 cents (37 % plus a gain pushed from one band into the next)."""
    base = tax(status, income, short, long).tax
    assert base >= 0
    for bigger in (
        tax(status, income + more, short, long),
        tax(status, income, short + more, long),
        tax(status, income, short, long + more),
    ):
        assert base <= bigger.tax <= base + more * D("0.57")


@settings(max_examples=300, deadline=None)
@given(statuses, incomes, gains, gains)
def test_the_bands_add_up_and_the_tax_is_never_more_than_at_ordinary_rates(
    status: FilingStatus, income: Decimal, short: Decimal, long: Decimal
) -> None:
    """The slices sum to the taxable income and to the tax; every dollar of a loss is netted, deducted or carried."""
    estimate = tax(status, income, short, long)
    parts = (*estimate.ordinary, *estimate.gains)
    assert sum((part.amount for part in parts), D(0)) == estimate.taxable_income
    assert sum((part.tax for part in parts), D(0)) == estimate.tax
    assert estimate.tax <= tax(status, income, short + long if short + long > 0 else min(short + long, D(0))).tax
    used = min(estimate.loss_deducted, max(D(0), income - DEDUCTION[status]))
    assert estimate.carried_short + estimate.carried_long == max(D(0), -(short + long)) - used


@settings(deadline=None)
@given(incomes, st.decimals(0, 100_000, places=2))
def test_slices_cover_an_income_from_any_start_without_gap_or_overlap(amount: Decimal, start: Decimal) -> None:
    """Cutting from a start equals cutting the whole and taking away the part below the start."""
    edges, rates = (D(10_000), D(50_000)), (D("0.1"), D("0.2"), D("0.3"))
    total = sum((part.tax for part in slices(amount, edges, rates, start=start)), D(0))
    whole = sum((part.tax for part in slices(start + amount, edges, rates)), D(0))
    below = sum((part.tax for part in slices(start, edges, rates)), D(0))
    assert total == whole - below


def test_other_years_are_not_extrapolated() -> None:
    """A year without published tables in the package has none."""
    assert tax_bands.load(2024) is None
    assert tax_bands.load(2026) is None


def test_every_figure_names_its_source() -> None:
    """The data file cites a publication for each kind of figure."""
    assert YEAR is not None
    assert set(YEAR.sources) == {"ordinary", "gains", "standard_deduction", "loss_limit"}


@pytest.mark.parametrize(
    "change",
    [
        {"status": {"single": {"standard_deduction": 1, "ordinary": [1], "gains": [1], "loss_limit": 1}}},
        {"rates": {"ordinary": [0.1], "gains": [0]}},
        {"more": 1},
    ],
)
def test_a_damaged_table_is_refused(change: dict[str, object]) -> None:
    """A missing status, a missing rate or an unknown key does not load."""
    assert YEAR is not None
    with pytest.raises(ValidationError):
        TaxYear.model_validate({**YEAR.model_dump(), **change})


def test_a_negative_income_is_refused() -> None:
    """An estimate on a negative income would be a guess."""
    with pytest.raises(ValueError, match="must not be negative"):
        tax("single", D(-1))


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ("Single", "single"),
        ("Married filing jointly", "married_filing_jointly"),
        ("married-filing-separately", "married_filing_separately"),
        ("HOH", "head_of_household"),
        ("Qualifying surviving spouse", "qualifying_surviving_spouse"),
        ("head_of_household", "head_of_household"),
        ("complicated", None),
        ("", None),
    ],
)
def test_a_filing_status_is_read_as_people_write_it(words: str, status: FilingStatus | None) -> None:
    """All five statuses are understood, and nothing else is taken for one."""
    assert filing_status(words) == status
