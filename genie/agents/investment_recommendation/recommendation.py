"""The investment specialist: recommends target weights for the household's holdings, and the trades that lead there."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from bursar.genie.agents.investment_recommendation import allocation, policy_portfolios
from bursar.genie.agents.investment_recommendation.policy_portfolios import Caps, Policy
from bursar.genie.agents.investment_recommendation.rebalancing import RebalancingPlan, Trade, TradingTerms, rebalance
from bursar.genie.household.holdings import Holding, Valuation, cut_gaps, history, value
from bursar.genie.household.records import AssetClass, ClosingPrice, RiskBand, Suitability
from bursar.genie.household.source import Source
from bursar.genie.wording import formatting
from bursar.genie.wording.fact_sheet import Sheet
from bursar.genie.wording.facts import Analysis, Finding

TOOL = "investment_recommendation.recommend"
MIN_RETURNS = 60
"""A covariance needs this many returns that all holdings share; with fewer, the weights are the policy's targets."""
SHOWN = 6
"""The most weights and the most trades that the text names; the tables have all of them."""
TERMS = TradingTerms()

_ZERO = Decimal(0)
_NEW_MONEY = re.compile(
    r"\b(?:invest|put|add|place)\w*\s+(?:(?:another|about|around|my|the|a|an extra|extra)\s+)?"
    r"(?:\$\s?(?P<sign>\d[\d,]*(?:\.\d{1,2})?)|(?P<word>\d[\d,]*(?:\.\d{1,2})?)\s?(?:dollars|usd|bucks)\b)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class _Target:
    """The weights of the holdings, in the holdings' order.

    `reason` says why the weights are the policy's targets; it is empty if the weights have least variance. `now` and
    `then` are the standard deviations of the yearly return before and after the trades, or None without a covariance.
    """

    weights: tuple[Decimal, ...]
    reason: str = ""
    now: float | None = None
    then: float | None = None


def recommend(source: Source, text: str, *, today: date, terms: TradingTerms = TERMS) -> Analysis:
    """Recommend weights for the holdings, and the trades that lead there, if the suitability record is valid.

    Without a valid record there is no advice at all. The weights have least variance within the ranges of the risk
    band, by a covariance shrunk by Ledoit and Wolf's method. If such weights cannot be computed, the weights are the
    band's own targets, and the text says why. Only securities that the household owns get a weight: no new security is
    named. Money that the question asks to invest ("invest $5,000") is placed too. Sells come before buys, and all
    trades keep the `terms`.
    """
    profile = source.profile()
    suitability = profile.suitability
    refusal = _refusal(suitability, today)
    if suitability is None or refusal:
        return Analysis(text=f"I cannot recommend investments yet. {refusal}", gaps=(refusal,))
    policies = policy_portfolios.load()
    band = policy_portfolios.suited_band(policies, suitability.risk_band, suitability.horizon_years)
    policy, caps = policies.bands[band], policy_portfolios.caps_of(policies, band)
    lots, prices = source.lots(), source.prices(end=today)
    valuation = value(lots, prices, currency=profile.currency, today=today)
    cash = _new_money(text) if profile.currency == "USD" else _ZERO
    gaps = [*cut_gaps(lots, prices), *valuation.gaps]
    if not valuation.holdings:
        gaps.append("No holding with a recent price is on record, so there are no trades; import holdings and prices.")
    target = _target(valuation, prices.items, policy, caps, currency=profile.currency, today=today)
    plan = rebalance(valuation.holdings, target.weights, terms=terms, cash=cash)
    sheet = Sheet(as_of=valuation.as_of or today, tool=TOOL, source="lots; prices; profile; policy_portfolios.toml")
    unplaced = _unplaced(valuation.holdings, target.weights, policy)
    sentences = [
        _mix(sheet, band, policy, suitability, _by_class(valuation.holdings, target.weights, unplaced)),
        _weights(sheet, valuation.holdings, target),
        _trades(sheet, plan, valuation.total + cash, terms=terms, currency=profile.currency)
        if valuation.holdings
        else "",
        _open_places(sheet, unplaced, valuation.total + cash, profile.currency),
    ]
    return Analysis(
        text="\n".join(sentence for sentence in sentences if sentence),
        facts=sheet.facts(),
        findings=(*_band_findings(suitability, band, today), *_sale_findings(plan, today)),
        gaps=tuple(gaps),
        confidence=1.0 if valuation.holdings and not target.reason else 0.7,
        tables={
            "weights": tuple(
                _weight_row(h, w, valuation) for h, w in zip(valuation.holdings, target.weights, strict=True)
            ),
            "trades": tuple(_trade_row(trade) for trade in plan.trades),
        },
    )


def _refusal(suitability: Suitability | None, today: date) -> str:
    """Return a sentence that says why there must be no advice, or "" if the suitability record is valid."""
    todo = "import a profile (TOML) with your risk band and horizon under [suitability] before any advice is given."
    if suitability is None:
        return f"There is no suitability record: {todo}"
    if suitability.valid_until < today:
        return f"The suitability record has expired: {todo}"
    if suitability.recorded_on > today or suitability.horizon_years < 0:
        return f"The suitability record is not valid: {todo}"
    return ""


def _new_money(text: str) -> Decimal:
    """Return the dollars that the question `text` asks to invest, or zero if `text` names no amount."""
    match = _NEW_MONEY.search(text)
    return Decimal((match["sign"] or match["word"]).replace(",", "")) if match else _ZERO


def _target(
    valuation: Valuation, prices: Sequence[ClosingPrice], policy: Policy, caps: Caps, *, currency: str, today: date
) -> _Target:
    """Return the weights of least variance within the caps.

    If these weights cannot be computed, return the policy's targets; the result's `reason` then says why.
    """
    holdings = valuation.holdings
    classes: list[AssetClass] = [holding.asset_class for holding in holdings]

    def policys_own(reason: str) -> _Target:
        return _Target(allocation.baseline(holdings, policy, caps), reason)

    if not holdings:
        return policys_own("nothing is held yet")
    if not allocation.feasible(classes, caps):
        return policys_own("what is held cannot meet every range")
    past = history(prices, [holding.symbol for holding in holdings], currency=currency, today=today)
    if isinstance(past, str) or len(past.returns) < max(MIN_RETURNS, len(holdings)):
        return policys_own("there is too little price history in common")
    covariances = allocation.covariance(past)
    weights = allocation.minimum_variance(covariances, classes, caps)
    if weights is None:
        return policys_own("no optimum was found within the ranges")
    held = [holding.value / valuation.total for holding in holdings]
    return _Target(weights, "", allocation.deviation(held, covariances), allocation.deviation(weights, covariances))


def _unplaced(holdings: Sequence[Holding], weights: Sequence[Decimal], policy: Policy) -> dict[AssetClass, Decimal]:
    """Return the share of each asset class that no holding has room for; empty if the weights sum to 1."""
    if sum(weights, _ZERO) == 1:
        return {}
    placed = _by_class(holdings, weights, {})
    shares: dict[AssetClass, Decimal] = {
        name: Decimal(held.target) / 100 - placed.get(name, _ZERO) for name, held in policy.classes.items()
    }
    return {name: shares[name] for name in policy_portfolios.CLASSES if shares[name] > 0}


def _by_class(
    holdings: Sequence[Holding], weights: Sequence[Decimal], unplaced: Mapping[AssetClass, Decimal]
) -> dict[AssetClass, Decimal]:
    sums: dict[AssetClass, Decimal] = dict(unplaced)
    for holding, weight in zip(holdings, weights, strict=True):
        sums[holding.asset_class] = sums.get(holding.asset_class, _ZERO) + weight
    return sums


def _mix(
    sheet: Sheet, band: RiskBand, policy: Policy, suitability: Suitability, sums: Mapping[AssetClass, Decimal]
) -> str:
    """Return the sentence that says how much of each asset class to aim for."""
    years = sheet.counted("horizon_years", suitability.horizon_years, "year")
    shares = [
        f"{sheet.percent(f'target_{name}', share * 100)} {name.replace('_', ' ')}"
        for name, share in sorted(sums.items(), key=lambda pair: (-pair[1], pair[0]))
        if share > 0
    ]
    return f"For a {band} risk band and a horizon of {years}, aim for {', '.join(shares)}: {policy.rationale}."


def _weights(sheet: Sheet, holdings: Sequence[Holding], target: _Target) -> str:
    """Return the sentences that say the weights of the holdings and where the weights come from."""
    ranked = sorted(zip(target.weights, holdings, strict=True), key=lambda pair: (-pair[0], pair[1].symbol))
    named = [
        f"{sheet.word(f'symbol_{rank}', holding.symbol)} {sheet.percent(f'weight_{rank}', weight * 100)}"
        for rank, (weight, holding) in enumerate(ranked[:SHOWN], start=1)
        if weight > 0
    ]
    listed = f" Of what you hold: {', '.join(named)}." if named else ""
    if target.reason:
        return f"These are the band's own targets, as {target.reason}.{listed}"
    if target.now is None or target.then is None:
        return listed.strip()
    now = sheet.percent("deviation_now", Decimal(repr(target.now)) * 100)
    then = sheet.percent("deviation_target", Decimal(repr(target.then)) * 100)
    return (
        f"Within the band's ranges this has the least variance in the price history, swings of about {then} a year"
        f" after {now} now.{listed}"
    )


def _trades(sheet: Sheet, plan: RebalancingPlan, total: Decimal, *, terms: TradingTerms, currency: str) -> str:
    """Return the sentences that say the trades in order, their cost and the turnover."""
    if not plan.trades:
        return f"No trade of at least {sheet.money('least_trade', terms.least, currency)} is needed."
    named: list[str] = []
    for rank, trade in enumerate(plan.trades[:SHOWN], start=1):
        amount = sheet.money(f"trade_{rank}_amount", trade.amount, currency)
        named.append(f"{trade.side} {amount} of {sheet.word(f'trade_{rank}_symbol', trade.symbol)}")
    if len(plan.trades) > SHOWN:
        named.append(f"and {sheet.count('trades_not_named', len(plan.trades) - SHOWN)} more")
    count = sheet.counted("trades", len(plan.trades), "trade")
    cost = sheet.money("trade_costs", plan.cost, currency)
    turnover = sheet.percent("turnover", plan.turnover / total * 100)
    return (
        f"To get there takes {count}, sells before buys:\n"
        + "\n".join(f"- {trade}" for trade in named)
        + f"\nThey cost about {cost} and turn over {turnover} of the portfolio."
    )


def _open_places(sheet: Sheet, unplaced: Mapping[AssetClass, Decimal], total: Decimal, currency: str) -> str:
    """Return the sentence that says how much of each class no holding has room for; "" if `unplaced` is empty."""
    if not unplaced or total <= 0:
        return ""
    parts = [
        f"{sheet.money(f'open_{name}', formatting.rounded_money(share * total, currency), currency)}"
        f" in {name.replace('_', ' ')}"
        for name, share in unplaced.items()
    ]
    return f"Not yet covered by what you hold: {', '.join(parts)}; choose diversified funds for it."


def _band_findings(suitability: Suitability, band: RiskBand, today: date) -> tuple[Finding, ...]:
    """Return a finding on how long the suitability record is valid.

    If `band` is not the record's own band, also return a finding that says that the horizon required a calmer band.
    """
    sheet = Sheet(as_of=today, tool=TOOL, source="profile")
    until = sheet.day("suitability_until", suitability.valid_until)
    found = [Finding("suitability", "info", f"The suitability record counts until {until}.", sheet.facts())]
    if band != suitability.risk_band:
        rule = Sheet(as_of=today, tool=TOOL, source="profile; policy_portfolios.toml")
        years = rule.counted("horizon_years", suitability.horizon_years, "year")
        reason = f"A horizon of {years} is too short for the {suitability.risk_band} band on record: {band} was used."
        found.append(Finding("horizon", "notice", reason, rule.facts()))
    return tuple(found)


def _sale_findings(plan: RebalancingPlan, today: date) -> tuple[Finding, ...]:
    """If the plan has sales, return a notice that gains on sales may be taxed; otherwise return an empty tuple."""
    sold = [trade for trade in plan.trades if trade.side == "sell"]
    if not sold:
        return ()
    sheet = Sheet(as_of=today, tool=TOOL, source="lots; prices")
    count = sheet.counted("sales", len(sold), "sale")
    reason = f"Tax on the gains of {count} is not part of the stated costs; ask for the tax before you sell."
    return (Finding("tax_on_sales", "notice", reason, sheet.facts()),)


def _weight_row(holding: Holding, weight: Decimal, valuation: Valuation) -> dict[str, str | int | Decimal]:
    return {
        "symbol": holding.symbol,
        "asset_class": holding.asset_class,
        "now_percent": (holding.value / valuation.total * 100).quantize(Decimal("0.01")),
        "target_percent": weight * 100,
    }


def _trade_row(trade: Trade) -> dict[str, str | int | Decimal]:
    return {
        "side": trade.side,
        "symbol": trade.symbol,
        "units": trade.units,
        "amount": trade.amount,
        "cost": trade.cost,
    }
