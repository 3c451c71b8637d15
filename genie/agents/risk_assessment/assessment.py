"""The risk specialist: assesses the emergency fund, the debts, the concentration and the market risk of a household."""

import re
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Literal

from bursar.genie.agents.risk_assessment.market import concentration, market
from bursar.genie.household.holdings import Valuation, cut_gaps, value
from bursar.genie.household.records import ClosingPrice
from bursar.genie.household.source import Source
from bursar.genie.transactions.cash_flows import median_essential_spend
from bursar.genie.wording import formatting
from bursar.genie.wording.fact_sheet import Sheet
from bursar.genie.wording.facts import Analysis, Fact, Finding

Topic = Literal["cushion", "debt", "concentration", "market"]

TOOL = "risk_assessment.assess"
CUSHION_LOW_MONTHS = Decimal(3)
CUSHION_FULL_MONTHS = Decimal(6)
"""Three to six months of essential spending are the usual advice to households."""
DEBT_NOTICE_PERCENT = Decimal(36)
DEBT_WARNING_PERCENT = Decimal(43)
"""Debt payments above this share of gross income get a warning.

It is a common lending guideline, and the ceiling that 12 CFR 1026.43(e)(2)(vi) set until 2021.
"""

_ZERO = Decimal(0)
_LIQUID = ("current", "savings")


def _words(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


_TOPICS: dict[Topic, re.Pattern[str]] = {
    "cushion": _words(
        r"emergenc|cushion|rainy|reserve|\bjob\b|fired|unemploy|\bsick\b|\bill\b|cannot work|savings last|sudden"
        r"|(without|los(e|ing)) (my |a |an )?(income|salary)|months of expenses"
        r"|live (on|off|from) (my|our) (savings|money)|months (could|can) (i|we)"
    ),
    "debt": _words(r"\bdebts?\b|\bloans?\b|mortgage|\bdti\b|credit|overstretch|repay|borrow|interest rates"),
    "concentration": _words(r"concentrat|diversif|single|one (company|stock|industry)|sector|depend|\bhhi\b"),
    "market": _words(
        r"volatil|drawdown|\bvar\b|value at risk|shortfall|crash|swing|up and down|portfolio|investment|holding|shares"
        r"|stocks?\b|biggest loss|big loss|downturn|recession|could (i|we) lose|disappear|\d\s*(%|per ?cent)"
    ),
}


def assess(source: Source, text: str, *, today: date) -> Analysis:
    """Return an analysis of the parts of the household's risk that `text` names, or of all four if `text` names none.

    The emergency fund is the balances of current and savings accounts divided by the median essential spending of whole
    months. Debt is the monthly payments divided by gross monthly income. `market.py` assesses concentration and market
    risk. A missing input is a gap; nothing is guessed. Amounts are in the profile's currency, and nothing is converted.
    The confidence of the analysis is the share of the asked parts that could be answered.
    """
    currency = source.profile().currency
    asked: list[Topic] = [topic for topic, pattern in _TOPICS.items() if pattern.search(text)] or list(_TOPICS)
    valuation, prices, cut = Valuation((), ()), tuple[ClosingPrice, ...](), tuple[str, ...]()
    if "concentration" in asked or "market" in asked:
        lots, closes = source.lots(), source.prices(end=today)
        valuation, prices = value(lots, closes, currency=currency, today=today), closes.items
        cut = cut_gaps(lots, closes)
    answers: dict[Topic, Callable[[], Analysis]] = {
        "cushion": lambda: _cushion(source, currency, today),
        "debt": lambda: _debt(source, currency, today),
        "concentration": lambda: concentration(valuation, currency=currency, today=today),
        "market": lambda: market(valuation, prices, text, currency=currency, today=today),
    }
    parts = [answers[topic]() for topic in asked]
    gaps = tuple(dict.fromkeys((*cut, *valuation.gaps, *(gap for part in parts for gap in part.gaps))))
    sentences = [part.text for part in parts if part.text]
    return Analysis(
        text="\n".join(sentences) or "I cannot assess this yet. " + " ".join(gaps),
        facts=tuple(fact for part in parts for fact in part.facts),
        findings=tuple(finding for part in parts for finding in part.findings),
        gaps=gaps,
        confidence=round(len(sentences) / len(asked), 2),
        tables={name: rows for part in parts for name, rows in (part.tables or {}).items()},
    )


def _cushion(source: Source, currency: str, today: date) -> Analysis:
    """Return an analysis of how many months of essential spending the current and savings accounts can pay."""
    gaps: list[str] = []
    accounts = source.accounts().items
    liquid = [account for account in accounts if account.kind in _LIQUID and account.currency == currency]
    missing = [account.name for account in liquid if account.balance is None]
    balances = [account.balance for account in liquid if account.balance is not None]
    if missing:
        gaps.append(f"No balance is on record for {', '.join(missing)}: import a statement that states it.")
    elif not balances:
        gaps.append(f"No current or savings account in {currency} is on record; import its statement.")
    rows = source.transactions(end=today)
    if rows.truncated:
        gaps.append("The transactions were cut at the row limit: spending rests on the newest of them.")
    spend = median_essential_spend(rows.items, accounts, currency=currency)
    if spend is None or spend <= 0:
        gaps.append("There is no whole month with essential spending on record; import more statements.")
    if not balances or spend is None or spend <= 0:
        return Analysis(text="", gaps=tuple(gaps))
    as_of = min((account.balance_on for account in liquid if account.balance_on), default=today)
    sheet = Sheet(as_of=as_of, tool=TOOL, source="accounts; transactions")
    held = sum(balances, _ZERO)
    lasting = max(_ZERO, held / spend).quantize(Decimal("0.1"))
    covered = Fact("emergency_months", lasting, "months", as_of, TOOL, "accounts; transactions")
    text = (
        f"Your current and savings accounts hold {sheet.money('liquid', held, currency)}, which covers"
        f" {formatting.months(lasting)} of essential spending"
        f" ({sheet.money('essential_spend', formatting.rounded_money(spend, currency), currency)} a month, the median)."
    )
    findings: tuple[Finding, ...] = ()
    if lasting < CUSHION_FULL_MONTHS:
        low = lasting < CUSHION_LOW_MONTHS
        bound = CUSHION_LOW_MONTHS if low else CUSHION_FULL_MONTHS
        limit = Fact("cushion_limit", bound, "months", today, TOOL, "rule")
        reason = f"The emergency fund covers {formatting.months(lasting)}, below {formatting.months(bound)}."
        findings = (Finding("emergency_fund", "warning" if low else "notice", reason, (covered, limit)),)
    return Analysis(text, (covered, *sheet.facts()), findings, tuple(gaps))


def _debt(source: Source, currency: str, today: date) -> Analysis:
    """Return an analysis of which share of the gross monthly income the debt payments take."""
    profile = source.profile()
    gaps: list[str] = []
    debts = [debt for debt in profile.debts if debt.currency == currency]
    others = [debt.name for debt in profile.debts if debt.currency != currency]
    if others:
        gaps.append(f"No exchange rate to {currency}, so left out of the debts: {', '.join(others)}.")
    if not profile.debts:
        gaps.append("No debts are on record: add each with its monthly payment, or count them as none.")
    if profile.gross_annual_income is None or profile.gross_annual_income <= 0:
        gaps.append("The gross annual income is not on record; add it to the profile for debt to income.")
    if not debts or profile.gross_annual_income is None or profile.gross_annual_income <= 0:
        return Analysis(text="", gaps=tuple(gaps))
    sheet = Sheet(as_of=today, tool=TOOL, source="profile")
    paid = sum((debt.monthly_payment for debt in debts), _ZERO)
    earned = profile.gross_annual_income / 12
    share = paid / earned * 100
    part = sheet.percent("debt_to_income", share)
    payments = sheet.money("debt_payments", paid, currency)
    income = sheet.money("monthly_income", formatting.rounded_money(earned, currency), currency)
    owed = sheet.money("debt_balance", sum((debt.balance for debt in debts), _ZERO), currency)
    text = f"Debt payments of {payments} a month take {part} of your gross income of {income}; you owe {owed} in all."
    findings: tuple[Finding, ...] = ()
    if share > DEBT_NOTICE_PERCENT:
        high = share > DEBT_WARNING_PERCENT
        rule = Sheet(as_of=today, tool=TOOL, source="profile; rule")
        limit = rule.percent("debt_limit", DEBT_WARNING_PERCENT if high else DEBT_NOTICE_PERCENT)
        reason = f"Debt payments take {rule.percent('debt_to_income', share)} of gross income, more than {limit}."
        findings = (Finding("debt_to_income", "warning" if high else "notice", reason, rule.facts()),)
    return Analysis(text, sheet.facts(), findings, tuple(gaps))
