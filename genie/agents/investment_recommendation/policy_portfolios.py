"""Policy portfolios, read from their data file: what each risk band may hold, and why."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from importlib import resources
from typing import Self, get_args

from pydantic import BaseModel, ConfigDict, model_validator

from bursar.genie.household.records import AssetClass, RiskBand

CLASSES: tuple[AssetClass, ...] = get_args(AssetClass)
BANDS: tuple[RiskBand, ...] = get_args(RiskBand)
"""The risk bands, from the calmest to the boldest."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Range(_Frozen):
    """The least, the target and the most weight of an asset class, in whole percent of the portfolio."""

    least: int
    target: int
    most: int

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not 0 <= self.least <= self.target <= self.most <= 100:
            raise ValueError("a range needs 0 <= least <= target <= most <= 100")
        return self


class Policy(_Frozen):
    """One risk band's portfolio: a range for every asset class, the shortest horizon that it suits, and the reason."""

    min_horizon_years: int
    rationale: str
    classes: Mapping[AssetClass, Range]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if set(self.classes) != set(CLASSES) or sum(each.target for each in self.classes.values()) != 100:
            raise ValueError(f"a policy needs a range for each of {', '.join(CLASSES)}, with targets that sum to 100")
        return self


class Policies(_Frozen):
    """The policy of every risk band, and the largest share in percent that one holding may have."""

    largest_holding_percent: int
    bands: Mapping[RiskBand, Policy]

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if set(self.bands) != set(BANDS):
            raise ValueError(f"there must be a policy for each of {', '.join(BANDS)}")
        return self


@dataclass(frozen=True, slots=True)
class Caps:
    """The limits of weights, as fractions: the most of any one holding, and the least and most of each asset class."""

    holding: Decimal
    classes: Mapping[AssetClass, tuple[Decimal, Decimal]]


@cache
def load() -> Policies:
    """Return the policies that ship with Genie."""
    text = (resources.files("bursar.genie.agents.investment_recommendation") / "policy_portfolios.toml").read_text(
        encoding="utf-8"
    )
    return Policies.model_validate(tomllib.loads(text))


def suited_band(policies: Policies, band: RiskBand, horizon_years: int) -> RiskBand:
    """Return `band` if its policy suits `horizon_years`, otherwise the next calmer band whose policy suits them.

    A policy suits a horizon of at least its `min_horizon_years`. If no policy suits, return the calmest band.
    """
    calmer = BANDS[: BANDS.index(band) + 1]
    fitting: list[RiskBand] = [each for each in calmer if horizon_years >= policies.bands[each].min_horizon_years]
    return fitting[-1] if fitting else BANDS[0]


def caps_of(policies: Policies, band: RiskBand) -> Caps:
    """Return the limits that the policy of `band` sets to weights, as fractions."""
    hundredth = Decimal("0.01")
    ranges = policies.bands[band].classes
    classes: dict[AssetClass, tuple[Decimal, Decimal]] = {
        name: (ranges[name].least * hundredth, ranges[name].most * hundredth) for name in CLASSES
    }
    return Caps(policies.largest_holding_percent * hundredth, classes)
