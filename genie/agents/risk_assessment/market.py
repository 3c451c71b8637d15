"""Assesses the concentration and the market risk of the holdings, in sentences and facts."""

import re
from collections.abc import Sequence
from datetime import date
from decimal import Decimal

from bursar.genie.agents.risk_assessment import measures
from bursar.genie.household.holdings import PERIODS_PER_YEAR, History, Period, Valuation, history
from bursar.genie.household.records import ClosingPrice
from bursar.genie.wording import formatting
from bursar.genie.wording.fact_sheet import Sheet
from bursar.genie.wording.facts import Analysis, Finding

TOOL = "risk_market.market"
CONFIDENCE_PERCENT = Decimal(95)
"""Confidence of value at risk and expected shortfall, unless the question names a confidence of at least 80 %."""
HORIZON: Period = "month"
"""Horizon of the scaled figures, unless the question names a horizon."""
MIN_TAIL = 3
"""The fewest returns beyond the value at risk; at 95 % confidence this needs 60 returns in all."""
MIN_RETURNS = 12
"""The fewest returns from which a volatility is stated."""
LARGEST_SHARE_PERCENT = Decimal(25)
"""A holding above this share of all holdings gets a notice."""

_PERCENT = r"(\d{1,2}(?:\.\d{1,2})?)\s*(?:%|per ?cent)"
_TAIL = re.compile(r"\bvar\b|value at risk|shortfall|confiden", re.IGNORECASE)
_CONFIDENCE = re.compile(_PERCENT, re.IGNORECASE)
_SHOCK = re.compile(rf"{_PERCENT}\s+(?:market\s+)?(?:fall|drop|crash|decline|loss|slump)", re.IGNORECASE)
_HORIZON = re.compile(r"\b(?:(days?|daily)|(weeks?|weekly)|(months?|monthly))\b", re.IGNORECASE)
_PERIODS: dict[int, Period] = {1: "day", 2: "week", 3: "month"}
_ADVERB: dict[Period, str] = {"day": "daily", "week": "weekly", "month": "monthly"}


def concentration(valuation: Valuation, *, currency: str, today: date) -> Analysis:
    """Return an analysis of concentration: the Herfindahl index by holding and asset class, and the largest share."""
    if not valuation.holdings or valuation.as_of is None:
        return Analysis(text="", gaps=(_no_holdings(currency),))
    total = valuation.total
    sheet = Sheet(as_of=valuation.as_of, tool="risk_market.concentration", source="lots; prices")
    largest = max(valuation.holdings, key=lambda holding: (holding.value, holding.symbol))
    share = largest.value / total * 100
    by_class: dict[str, Decimal] = {}
    for holding in valuation.holdings:
        by_class[holding.asset_class] = by_class.get(holding.asset_class, Decimal(0)) + holding.value
    index = measures.herfindahl([holding.value for holding in valuation.holdings])
    class_index = measures.herfindahl(list(by_class.values()))
    held = sheet.money("holdings_value", formatting.rounded_money(total, currency), currency)
    name = sheet.word("largest_holding", largest.symbol)
    text = (
        f"Your largest holding, {name}, is {sheet.percent('largest_share', share)} of {held}. The concentration index"
        f" (HHI) is {sheet.ratio('hhi_holdings', index)} by holding and {sheet.ratio('hhi_classes', class_index)} by"
        f" asset class: as spread out as {sheet.ratio('equal_holdings', 1 / index)} holdings of equal size."
    )
    findings: tuple[Finding, ...] = ()
    if share > LARGEST_SHARE_PERCENT:
        rule = Sheet(as_of=valuation.as_of, tool="risk_market.concentration", source="lots; prices; rule")
        limit = rule.percent("share_limit", LARGEST_SHARE_PERCENT)
        symbol, part = rule.word("largest_holding", largest.symbol), rule.percent("largest_share", share)
        reason = f"{symbol} is {part} of the holdings, more than {limit}; a broad fund counts as spread out in itself."
        findings = (Finding("concentration", "notice", reason, rule.facts()),)
    rows = tuple(
        {
            "symbol": holding.symbol,
            "asset_class": holding.asset_class,
            "value": formatting.rounded_money(holding.value, currency),
            "share_percent": (holding.value / total * 100).quantize(Decimal("0.1")),
        }
        for holding in valuation.holdings
    )
    return Analysis(text, sheet.facts(), findings, tables={"holdings": rows})


def market(valuation: Valuation, prices: Sequence[ClosingPrice], text: str, *, currency: str, today: date) -> Analysis:
    """Return an analysis of the volatility, drawdown, value at risk and expected shortfall of the holdings.

    Historical figures have the horizon of the prices themselves (a day, week or month), so no periods overlap. Figures
    for another horizon are scaled as for normal returns: the deviation grows with the root of time, the mean with time.
    `text` may name a confidence ("99 percent"), a horizon, or a fall ("a 30 percent fall"), which is then applied to
    the equities.
    """
    if not valuation.holdings or valuation.as_of is None:
        return Analysis(text="", gaps=(_no_holdings(currency),))
    sheet = Sheet(as_of=valuation.as_of, tool=TOOL, source="lots; prices")
    sentences: list[str] = []
    gaps: list[str] = []
    if (shock := _SHOCK.search(text)) is not None:
        sentences.append(_shocked(sheet, valuation, Decimal(shock[1]), currency))
    symbols = [holding.symbol for holding in valuation.holdings]
    past = history(prices, symbols, currency=currency, today=today)
    if isinstance(past, str):
        gaps.append(f"{past} Volatility, drawdown and value at risk need a history; import prices.")
    elif len(past.returns) < MIN_RETURNS:
        gaps.append("There are too few returns for volatility, drawdown and value at risk; import older prices.")
    else:
        sentences.append(_swings(sheet, valuation, past))
        confidence, horizon = _tail_asked(text)
        if len(past.returns) * (100 - confidence) < MIN_TAIL * 100:
            gaps.append("There are too few returns for value at risk at that confidence; import older prices.")
        else:
            tail = _tail(sheet, valuation, past, (confidence, horizon), currency=currency)
            sentences.insert(0 if _TAIL.search(text) else len(sentences), tail)
    return Analysis("\n".join(sentences), sheet.facts(), gaps=tuple(gaps))


def _no_holdings(currency: str) -> str:
    return f"No holding with a recent price in {currency} is on record; import holdings and prices."


def _tail_asked(text: str) -> tuple[Decimal, Period]:
    """Return the confidence in percent and the horizon that `text` names for the tail figures, or their defaults."""
    confidence, horizon = CONFIDENCE_PERCENT, HORIZON
    if _TAIL.search(text):
        named = (Decimal(match[1]) for match in _CONFIDENCE.finditer(_SHOCK.sub(" ", text)))
        confidence = next((percent for percent in named if 80 <= percent < 100), confidence)
        if (match := _HORIZON.search(text)) is not None:
            horizon = _PERIODS[match.lastindex or 3]
    return confidence, horizon


def _shocked(sheet: Sheet, valuation: Valuation, percent: Decimal, currency: str) -> str:
    """Return the sentence that says what the household loses if all its equities fall by `percent`."""
    equities = sum((h.value for h in valuation.holdings if h.asset_class == "equity"), Decimal(0))
    lost = formatting.rounded_money(equities * percent / 100, currency)
    fall = sheet.percent("shock", percent)
    held = sheet.money("equities", formatting.rounded_money(equities, currency), currency)
    loss = sheet.money("shock_loss", lost, currency)
    share = sheet.percent("shock_share", lost / valuation.total * 100)
    return f"A {fall} fall of all shares would take {loss} off your {held} of equities, {share} of all holdings."


def _swings(sheet: Sheet, valuation: Valuation, past: History) -> str:
    """Return the sentence that says the volatility and the deepest fall of the holdings."""
    returns = past.returns @ _weights(valuation)
    yearly = sheet.count("periods_per_year", past.periods_per_year)
    volatility = measures.annualised_volatility(returns, past.periods_per_year)
    drawdown = measures.maximum_drawdown(returns)
    return (
        f"With today's weights the holdings swing by {sheet.percent('volatility', _exact(volatility) * 100)} a year"
        f" (volatility of {_ADVERB[past.period]} returns, {yearly} to the year); their deepest fall from a peak since"
        f" {sheet.day('history_from', past.days[0])} was {sheet.percent('maximum_drawdown', _exact(drawdown) * 100)}."
    )


def _tail(sheet: Sheet, valuation: Valuation, past: History, asked: tuple[Decimal, Period], *, currency: str) -> str:
    """Return sentences on value at risk and expected shortfall: historical, and scaled to the asked horizon.

    `asked` is the confidence in percent and the horizon.
    """
    percent, horizon = asked
    confidence = float(percent) / 100
    returns = past.returns @ _weights(valuation)

    def loss(key: str, fraction: float) -> str:
        amount = max(Decimal(0), _exact(fraction) * valuation.total)
        return sheet.money(key, formatting.rounded_money(amount, currency), currency)

    level = sheet.percent("confidence", percent)
    var = loss("historical_var", measures.historical_var(returns, confidence))
    shortfall = loss("historical_shortfall", measures.expected_shortfall(returns, confidence))
    seen = sheet.count("observations", len(returns))
    sentence = (
        f"At {level} confidence the loss over a {past.period} stays within {var} (historical value at risk, {seen}"
        f" {_ADVERB[past.period]} returns); beyond that it averaged {shortfall} (expected shortfall)."
    )
    if horizon == past.period:
        return sentence
    periods = past.periods_per_year / PERIODS_PER_YEAR[horizon]
    mean, deviation = float(returns.mean()), float(returns.std(ddof=1))
    far = loss(f"{horizon}_var", measures.gaussian_var(mean, deviation, confidence, periods=periods))
    far_tail = loss(
        f"{horizon}_shortfall", measures.gaussian_expected_shortfall(mean, deviation, confidence, periods=periods)
    )
    return (
        f"{sentence} Scaled to a {horizon} as for normal returns (deviation with the root of time, mean with time):"
        f" {far} and {far_tail}."
    )


def _weights(valuation: Valuation) -> list[float]:
    total = valuation.total
    return [float(holding.value / total) for holding in valuation.holdings]


def _exact(value: float) -> Decimal:
    """Return the shortest decimal that stands for this float, so that an amount can be computed from it exactly."""
    return Decimal(repr(value))
