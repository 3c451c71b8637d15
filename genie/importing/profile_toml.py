"""Reads the profile, what the household states about itself, from a TOML file."""

import tomllib
from collections.abc import Mapping
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Final, cast, get_args

from bursar.genie.household.records import Debt, Profile, RiskBand, Suitability
from bursar.genie.importing.file_facts import is_currency
from bursar.genie.importing.import_options import Content, Options
from bursar.genie.importing.import_report import ImportFailed

_KEYS: Final = frozenset(
    ["country", "tax_year", "filing_status", "dependants", "gross_annual_income", "currency", "suitability", "debts"]
)
_SUITABILITY_KEYS: Final = frozenset(["risk_band", "horizon_years", "recorded_on", "valid_until"])
_DEBT_KEYS: Final = frozenset(["name", "balance", "annual_rate", "monthly_payment", "currency"])
_MAX_DEBTS: Final = 1_000
_MAX_COUNT: Final = 9_999
_MAX_AMOUNT: Final = Decimal(10) ** 15


def looks_like_profile(text: str) -> bool:
    """Whether the text is TOML with at least one of the profile's keys."""
    try:
        return bool(_KEYS & tomllib.loads(text).keys())
    except tomllib.TOMLDecodeError:
        return False


def read_profile(text: str, options: Options) -> Content:
    """Read the profile. Raises `ImportFailed`, which names the key, if a key is unknown, missing or of a wrong type."""
    try:
        data: Mapping[str, object] = tomllib.loads(text, parse_float=Decimal)
        profile = _profile(data, options)
    except tomllib.TOMLDecodeError as error:
        raise ImportFailed(f"is no TOML: {error}") from error
    except ValueError as error:
        raise ImportFailed(f"is no profile: {error}") from error
    return Content("profile", "toml", profile=profile, inferred={"keys": ", ".join(sorted(data))})


def _profile(data: Mapping[str, object], options: Options) -> Profile:
    _known(data, _KEYS, "the profile")
    currency = _text(data, "currency") or options.currency or "USD"
    if not is_currency(currency):
        raise ValueError(f"currency {currency!r} is no currency code")
    income = data.get("gross_annual_income")
    suitability = data.get("suitability")
    entries = data.get("debts", [])
    if not isinstance(entries, list) or len(cast("list[object]", entries)) > _MAX_DEBTS:
        raise ValueError("debts must be tables: write [[debts]] above each")
    read = (_debt(_table(entry, "debts"), currency) for entry in cast("list[object]", entries))
    debts = tuple(sorted(read, key=lambda debt: debt.name))
    if len({debt.name for debt in debts}) != len(debts):
        raise ValueError("two debts have the same name; name them apart")
    return Profile(
        country=_text(data, "country"),
        tax_year=_count(data, "tax_year"),
        filing_status=_text(data, "filing_status"),
        dependants=_count(data, "dependants"),
        gross_annual_income=None if income is None else _amount(data, "gross_annual_income"),
        currency=currency,
        suitability=None if suitability is None else _suitability(_table(suitability, "suitability")),
        debts=debts,
    )


def _suitability(data: Mapping[str, object]) -> Suitability:
    _known(data, _SUITABILITY_KEYS, "suitability")
    band = _text(data, "risk_band")
    if band not in get_args(RiskBand):
        raise ValueError(f"risk_band must be one of {', '.join(get_args(RiskBand))}")
    years = _count(data, "horizon_years")
    if years is None:
        raise ValueError("suitability needs horizon_years")
    return Suitability(cast("RiskBand", band), years, _day(data, "recorded_on"), _day(data, "valid_until"))


def _debt(data: Mapping[str, object], currency: str) -> Debt:
    _known(data, _DEBT_KEYS, "a debt")
    name = _text(data, "name")
    if not name:
        raise ValueError("a debt needs a name")
    debt = Debt(
        name=name,
        balance=_amount(data, "balance"),
        annual_rate=_amount(data, "annual_rate"),
        monthly_payment=_amount(data, "monthly_payment"),
        currency=_text(data, "currency") or currency,
    )
    if not is_currency(debt.currency):
        raise ValueError(f"the currency {debt.currency!r} of {name!r} is no currency code")
    if debt.annual_rate >= 1:
        raise ValueError(f"annual_rate {debt.annual_rate} of {name!r} is a fraction: write 0.065 for 6.5 %")
    return debt


def _known(data: Mapping[str, object], keys: frozenset[str], what: str) -> None:
    if unknown := sorted(data.keys() - keys):
        raise ValueError(f"{what} has no {unknown[0]!r}; it has {', '.join(sorted(keys))}")


def _table(value: object, key: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise ValueError(f"{key} must be a table")  # noqa: TRY004
    return cast("Mapping[str, object]", value)


def _text(data: Mapping[str, object], key: str) -> str | None:
    value = data.get(key)
    if value is None or (isinstance(value, str) and "\x00" not in value):
        return value
    raise ValueError(f"{key} must be text in quotes")


def _count(data: Mapping[str, object], key: str) -> int | None:
    value = data.get(key)
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_COUNT):
        return value
    raise ValueError(f"{key} must be a whole number, such as 2")


def _amount(data: Mapping[str, object], key: str) -> Decimal:
    value = data.get(key)
    if isinstance(value, int | str | Decimal) and not isinstance(value, bool):
        try:
            amount = Decimal(value)
        except InvalidOperation:
            amount = Decimal("NaN")
        if amount.is_finite() and 0 <= amount < _MAX_AMOUNT and -12 < int(amount.as_tuple().exponent) <= 15:
            return amount
    raise ValueError(f"{key} must be a number of zero or more, such as 1234.50")


def _day(data: Mapping[str, object], key: str) -> date:
    value = data.get(key)
    if type(value) is date:
        return value
    raise ValueError(f"{key} must be a date, such as 2025-01-31")
