"""United States federal income tax by bands: ordinary income, and long-term gains stacked on top of it.

All arithmetic is exact `Decimal`, and nothing here rounds. Amounts are rounded half to even, to the cent, when shown.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from importlib import resources
from typing import Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, model_validator

FilingStatus = Literal[
    "single",
    "married_filing_jointly",
    "married_filing_separately",
    "head_of_household",
    "qualifying_surviving_spouse",
]
STATUSES: tuple[FilingStatus, ...] = get_args(FilingStatus)
COVERED_YEARS = (2025,)

_ZERO = Decimal(0)
_STEP = Decimal(1)
_OTHER_NAMES: Mapping[str, FilingStatus] = {
    "married_jointly": "married_filing_jointly",
    "mfj": "married_filing_jointly",
    "married_separately": "married_filing_separately",
    "mfs": "married_filing_separately",
    "hoh": "head_of_household",
    "qss": "qualifying_surviving_spouse",
    "surviving_spouse": "qualifying_surviving_spouse",
}


class _FrozenTaxData(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TaxRates(_FrozenTaxData):
    """The tax rates as fractions, lowest band first: `ordinary` for ordinary income, `gains` for long-term gains."""

    ordinary: tuple[Decimal, ...]
    gains: tuple[Decimal, ...]


class StatusTable(_FrozenTaxData):
    """The amounts of one filing status, in dollars.

    `ordinary` and `gains` have the upper edge of each band but the last. `loss_limit` is the most capital loss that may
    be taken off ordinary income in a year (IRC 1211(b)).
    """

    standard_deduction: Decimal
    ordinary: tuple[Decimal, ...]
    gains: tuple[Decimal, ...]
    loss_limit: Decimal


class TaxYear(_FrozenTaxData):
    """The tax tables of one year. `sources` names the publications that the figures come from."""

    country: Literal["US"]
    year: int
    sources: Mapping[str, str]
    rates: TaxRates
    status: Mapping[FilingStatus, StatusTable]

    @model_validator(mode="after")
    def _complete(self) -> Self:
        """Return the tables. Raises `ValueError` if a status is missing, edges do not rise, or a band has no rate."""
        if set(self.status) != set(STATUSES):
            raise ValueError(f"the table needs exactly these filing statuses: {', '.join(STATUSES)}")
        for table in self.status.values():
            for edges, rates in ((table.ordinary, self.rates.ordinary), (table.gains, self.rates.gains)):
                if list(edges) != sorted(set(edges)) or len(edges) + 1 != len(rates):
                    raise ValueError("band edges must rise, with one rate more than edges")
        return self


@dataclass(frozen=True, slots=True)
class Slice:
    """The part of an income that falls into one band: `amount` dollars taxed at `rate`, a fraction."""

    rate: Decimal
    amount: Decimal

    @property
    def tax(self) -> Decimal:
        """The tax on this part, exact."""
        return self.amount * self.rate


@dataclass(frozen=True, slots=True)
class Estimate:
    """Federal income tax of one year, exact; `ordinary` and `gains` break `tax` down by band.

    `loss_deducted` is the capital loss taken off ordinary income (IRC 1211(b)); `carried_short` and `carried_long`
    are the losses left for later years (IRC 1212(b)).
    """

    taxable_income: Decimal
    tax: Decimal
    ordinary: tuple[Slice, ...]
    gains: tuple[Slice, ...]
    loss_deducted: Decimal
    carried_short: Decimal
    carried_long: Decimal


def load(year: int) -> TaxYear | None:
    """Return the tables of `year`, or None if the year is not covered: no year is extrapolated."""
    if year not in COVERED_YEARS:
        return None
    text = (resources.files("bursar.genie.agents.tax_optimisation") / f"us_{year}.toml").read_text(encoding="utf-8")
    return TaxYear.model_validate(tomllib.loads(text, parse_float=Decimal))


def filing_status(words: str) -> FilingStatus | None:
    """Return the filing status that `words` name ("Married filing jointly", "MFJ"), or None if `words` name none."""
    key = "_".join(words.casefold().replace("-", " ").replace("_", " ").replace("(", " ").replace(")", " ").split())
    for status in STATUSES:
        if key == status:
            return status
    return _OTHER_NAMES.get(key)


def slices(
    amount: Decimal, edges: Sequence[Decimal], rates: Sequence[Decimal], *, start: Decimal = _ZERO
) -> tuple[Slice, ...]:
    """Cut the income from `start` to `start + amount` at the band edges, and return its part in each band.

    The parts' amounts sum to `amount` exactly.
    """
    parts: list[Slice] = []
    end = start + amount
    lower = _ZERO
    for upper, rate in zip((*edges, None), rates, strict=True):
        top = end if upper is None else min(end, upper)
        if (width := top - max(start, lower)) > 0:
            parts.append(Slice(rate, width))
        if upper is not None:
            lower = upper
    return tuple(parts)


def federal_tax(
    year: TaxYear, status: FilingStatus, *, income: Decimal, short: Decimal = _ZERO, long: Decimal = _ZERO
) -> Estimate:
    """Estimate the year's tax on ordinary `income` and the year's net `short` and `long` term gains (negative: losses).

    Gains and losses are netted by IRC 1222: short against long, then up to the limit of IRC 1211(b) against ordinary
    income. Only the part of the net long-term gain that exceeds a net short-term loss is taxed at the gains
    rates (IRC 1222(11), 1(h)), stacked on ordinary income; the tax is never more than at ordinary rates (IRC 1(h)(1)).
    The standard deduction is subtracted from income. Raises `ValueError` if `income` is negative.
    """
    if income < 0:
        raise ValueError("income must not be negative")
    table = year.status[status]
    net = short + long
    preferred = max(_ZERO, min(long, net))
    allowed = min(table.loss_limit, max(_ZERO, -net))
    ordinary = income - table.standard_deduction + max(_ZERO, net) - preferred - allowed
    taxable = max(_ZERO, ordinary + preferred)
    preferred = min(preferred, taxable)
    at_ordinary_rates = slices(taxable, table.ordinary, year.rates.ordinary)
    below = slices(taxable - preferred, table.ordinary, year.rates.ordinary)
    above = slices(preferred, table.gains, year.rates.gains, start=taxable - preferred)
    if _tax(at_ordinary_rates) < _tax(below) + _tax(above):
        below, above = at_ordinary_rates, ()
    used = min(allowed, max(_ZERO, income - table.standard_deduction))
    carried_short, carried_long = _carried(short, long, used)
    return Estimate(taxable, _tax(below) + _tax(above), below, above, allowed, carried_short, carried_long)


def marginal_rate(
    year: TaxYear, status: FilingStatus, *, income: Decimal, short: Decimal = _ZERO, long: Decimal = _ZERO
) -> Decimal:
    """Return the tax on the next dollar of ordinary income, as a fraction: a finite difference over one dollar."""
    here = federal_tax(year, status, income=income, short=short, long=long).tax
    return (federal_tax(year, status, income=income + _STEP, short=short, long=long).tax - here) / _STEP


def _tax(parts: Sequence[Slice]) -> Decimal:
    return sum((part.tax for part in parts), _ZERO)


def _carried(short: Decimal, long: Decimal, used: Decimal) -> tuple[Decimal, Decimal]:
    """Return the short-term and the long-term loss that are left for later years, both positive (IRC 1212(b)).

    `used` is the loss that was taken off ordinary income; it counts as a short-term gain.
    """
    short += used
    if short > 0 > long:
        long, short = long + short, _ZERO
    elif long > 0 > short:
        short, long = short + long, _ZERO
    return max(_ZERO, -short), max(_ZERO, -long)
