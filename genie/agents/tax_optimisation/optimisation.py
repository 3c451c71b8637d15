"""The tax specialist: estimates the year's federal tax, and says which losses are worth realising."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

from bursar.genie.agents.tax_optimisation import bands as tax_bands
from bursar.genie.agents.tax_optimisation.bands import (
    Estimate,
    FilingStatus,
    StatusTable,
    TaxYear,
    federal_tax,
    marginal_rate,
)
from bursar.genie.agents.tax_optimisation.loss_harvesting import (
    WASH_DAYS,
    HarvestAction,
    LossLot,
    Use,
    allocate,
    harvest,
    long_term_from,
    loss_lots,
    whole_cents,
)
from bursar.genie.household.holdings import MAX_PRICE_AGE_DAYS, cut_gaps, latest_closes
from bursar.genie.household.records import Lot, Profile
from bursar.genie.household.source import Source
from bursar.genie.wording import formatting
from bursar.genie.wording.fact_sheet import Sheet
from bursar.genie.wording.facts import Analysis, Finding

TOOL = "tax_optimisation.optimise"
CURRENCY = "USD"
SHOWN_ACTIONS = 3
"""The most sales that the text names; the table has all of them."""
SOON_DAYS = 60
"""A gain that turns long-term within this many days gets a finding."""
NOT_COVERED = (
    "state and local tax, the net investment income tax (NIIT), the alternative minimum tax (AMT), credits, payroll"
    " tax, itemised deductions, the additions for age or blindness, and accounts with tax rules of their own"
)

ASSUMED = (
    "Assumed: no sales so far this year, as the data hold none; name them in the question, such as"
    " “a long-term gain of …”."
)

_ZERO = Decimal(0)
_FIXABLE = "add it to the profile"
_COUNTRIES = frozenset({"us", "usa", "united states", "united states of america"})
_AMOUNT = r"\$?\s?(?P<amount>\d[\d,]*(?:\.\d{1,2})?)"
_KIND = r"(?:reali[sz]ed\s+)?(?P<term>short|long)[- ]term\s+(?:capital\s+)?(?P<kind>gain|loss)(?:s|es)?"
_SAVING = re.compile(
    r"\b(lower|reduce|save|saving|savings|cut|less|avoid|harvest\w*|offset|loss(es)?)\b", re.IGNORECASE
)
_STATED = (
    re.compile(rf"{_AMOUNT}\s+(?:of\s+|in\s+)?{_KIND}", re.IGNORECASE),
    re.compile(rf"{_KIND}\s+of\s+{_AMOUNT}", re.IGNORECASE),
)


@dataclass(frozen=True, slots=True)
class _Case:
    """The inputs of the tax estimate: tables, filing status, income, and the net short-term and long-term gains.

    Each is from the profile, the tables or the question; none is guessed.
    """

    year: TaxYear
    status: FilingStatus
    income: Decimal
    short: Decimal
    long: Decimal

    @property
    def table(self) -> StatusTable:
        return self.year.status[self.status]

    def estimate(self, short: Decimal, long: Decimal) -> Estimate:
        return federal_tax(self.year, self.status, income=self.income, short=short, long=long)


def optimise(source: Source, text: str, *, today: date) -> Analysis:
    """Estimate the federal income tax of the profile's year and rank the loss sales that lower it.

    Covers the United States in 2025 for all five filing statuses. Any other country or year, and any missing part of
    the profile, is a gap; nothing is guessed. Gains and losses already realised this year are read from the question
    (`$2,000 long-term gain`), because the data have no sales. Amounts are shown to the cent, rounded half to even.
    """
    profile = source.profile()
    year, reasons = _covered(profile)
    status = tax_bands.filing_status(profile.filing_status or "")
    income = profile.gross_annual_income
    if year is None or status is None or income is None or reasons:
        todo = (
            " Import a profile (TOML) that has it: bursar import profile.toml." if _FIXABLE in " ".join(reasons) else ""
        )
        return Analysis(text=f"I cannot estimate your tax yet. {' '.join(reasons)}{todo}", gaps=reasons)
    short, long = stated_gains(text)
    case = _Case(year, status, income, short, long)
    sheet = Sheet(as_of=today, tool=TOOL, source=f"profile; {year.sources['ordinary']}")
    estimate = case.estimate(short, long)
    answer = _answer(sheet, case, estimate)
    gaps: list[str] = []
    sales = _sales(source, case, today=today, gaps=gaps)
    priced = Sheet(as_of=sales.priced_on or today, tool=TOOL, source="lots; prices; IRC 1091, 1211(b), 1222")
    advice = _advice(priced, sales, today=today)
    paragraphs = [" ".join(advice), answer] if _SAVING.search(text) else [answer, " ".join(advice)]
    if not (short or long):
        paragraphs.append(ASSUMED)
    return Analysis(
        text="\n".join((*filter(None, paragraphs), f"Not covered: {NOT_COVERED}.")),
        facts=(*sheet.facts(), *priced.facts()),
        findings=(*_wash_findings(sales, today), *_waiting_findings(sales.lots, sales.closes, today)),
        gaps=tuple(gaps),
        confidence=0.9 if gaps else 1.0,
        tables={"bands": _band_rows(estimate), "sales": _sale_rows(sales), "uses": _use_rows(sales.uses)},
    )


def stated_gains(text: str) -> tuple[Decimal, Decimal]:
    """Return the net short-term and the net long-term gain that the question states; losses are negative.

    Reads "a $2,000 long-term gain" and "a short-term loss of 500.25", and adds up several of the same term.
    """
    totals = {"short": _ZERO, "long": _ZERO}
    for pattern in _STATED:
        for match in pattern.finditer(text):
            amount = Decimal(match["amount"].replace(",", ""))
            totals[match["term"].lower()] += amount if match["kind"].lower() == "gain" else -amount
        text = pattern.sub(" ", text)
    return totals["short"], totals["long"]


@dataclass(frozen=True, slots=True)
class _Sales:
    """The lots and closes that were weighed, the loss lots among the lots, and the ranked sales at a loss.

    `uses` says against what each sale's loss is set. `priced_on` is the day of the oldest close.
    """

    lots: tuple[Lot, ...] = ()
    closes: Mapping[str, Decimal] | None = None
    candidates: tuple[LossLot, ...] = ()
    actions: tuple[HarvestAction, ...] = ()
    uses: tuple[Use, ...] = ()
    priced_on: date | None = None


def _covered(profile: Profile) -> tuple[TaxYear | None, tuple[str, ...]]:
    """Return the tables of the profile's year, and a sentence for each reason why there can be no estimate.

    The tables are None if the year is not covered.
    """
    reasons: list[str] = []
    year = tax_bands.load(profile.tax_year) if profile.tax_year is not None else None
    if profile.country is None:
        reasons.append("The country is not on record; add it to the profile.")
    elif profile.country.strip().casefold() not in _COUNTRIES:
        reasons.append(f"Tax in {profile.country} is not covered; only United States federal income tax is.")
    if profile.tax_year is None:
        reasons.append("The tax year is not on record; add it to the profile.")
    elif year is None:
        reasons.append("The tax year on record is not covered, and no year is extrapolated from another.")
    if profile.filing_status is None:
        reasons.append("The filing status is not on record; add it to the profile.")
    elif tax_bands.filing_status(profile.filing_status) is None:
        reasons.append(f"The filing status on record is not one of: {', '.join(tax_bands.STATUSES)}.")
    if profile.gross_annual_income is None:
        reasons.append("The gross annual income is not on record; add it to the profile.")
    elif profile.gross_annual_income < 0:
        reasons.append("The gross annual income on record is negative; correct it in the profile.")
    if profile.currency != CURRENCY:
        reasons.append(f"The profile is in {profile.currency}: no exchange rate to {CURRENCY}.")
    return year, tuple(reasons)


def _answer(sheet: Sheet, case: _Case, estimate: Estimate) -> str:
    """Return the sentences that say the tax, the taxed income and the rates; record on `sheet` the numbers in them."""
    tax = sheet.money("tax", formatting.rounded_money(estimate.tax, CURRENCY), CURRENCY)
    year = sheet.word("tax_year", str(case.year.year))
    income = sheet.money("income", case.income, CURRENCY)
    parts = [f"Your {year} federal income tax comes to about {tax} on {income} of income"]
    for name, gain in (("short", case.short), ("long", case.long)):
        if gain:
            kind = "gain" if gain > 0 else "loss"
            amount = sheet.money(f"realised_{name}_{kind}", abs(gain), CURRENCY)
            parts.append(f" and a {name}-term {kind} of {amount}")
    parts.append(f", filing as {case.status.replace('_', ' ')}.")
    deduction = sheet.money("standard_deduction", case.table.standard_deduction, CURRENCY)
    taxable = sheet.money("taxable_income", estimate.taxable_income, CURRENCY)
    parts.append(f" {taxable} is taxable after the standard deduction of {deduction}.")
    marginal = marginal_rate(case.year, case.status, income=case.income, short=case.short, long=case.long)
    next_dollar = sheet.percent("marginal_rate", marginal * 100)
    earned = case.income + max(_ZERO, case.short + case.long)
    if earned > 0:
        parts.append(f" That is {sheet.percent('effective_rate', estimate.tax / earned * 100)} of what came in;")
        parts.append(f" the next dollar of income is taxed at {next_dollar}.")
    carried = estimate.carried_short + estimate.carried_long
    if carried:
        parts.append(f" {sheet.money('loss_carried', carried, CURRENCY)} of loss carries over to later years.")
    return "".join(parts)


def _sales(source: Source, case: _Case, *, today: date, gaps: list[str]) -> _Sales:
    """Rank the sales at a loss that lower the tax of the case's year, and return them.

    Append a sentence to `gaps` for everything that could not be weighed.
    """
    if today.year != case.year.year:
        gaps.append("Loss sales were not weighed: a sale made today does not count in the tax year on record.")
        return _Sales()
    lots: list[Lot] = []
    held, prices = source.lots(), source.prices(end=today)
    gaps.extend(cut_gaps(held, prices))
    newest = latest_closes(prices, currency=CURRENCY, today=today)
    fresh = {s: p.close for s, p in newest.items() if (today - p.day).days <= MAX_PRICE_AGE_DAYS and p.close > 0}
    missing: set[str] = set()
    for lot in held:
        if lot.currency == CURRENCY and lot.acquired_on <= today and lot.quantity > 0:
            lots.append(lot)
        if lot.currency != CURRENCY or lot.symbol not in fresh:
            missing.add(lot.symbol)
    if missing:
        gaps.append(f"No recent price in {CURRENCY}, so not weighed for a loss sale: {', '.join(sorted(missing))}.")
    priced_on = min((newest[lot.symbol].day for lot in lots if lot.symbol in fresh), default=None)
    candidates = loss_lots(lots, fresh, sell_on=today)
    found = harvest(candidates, lambda s, g: case.estimate(s, g).tax, short=case.short, long=case.long)
    actions = whole_cents(found, lambda amount: formatting.rounded_money(amount, CURRENCY))
    limit = min(case.table.loss_limit, max(_ZERO, case.income - case.table.standard_deduction))
    uses = allocate([action.loss_lot for action in actions], short=case.short, long=case.long, limit=limit)
    return _Sales(tuple(lots), fresh, candidates, actions, uses, priced_on)


def _advice(sheet: Sheet, sales: _Sales, *, today: date) -> list[str]:
    """Return the sentences that say what the loss sales save, and when the sold symbols may be bought again."""
    if not sales.lots:
        return []
    if not sales.actions:
        return ["No sale at a loss would lower this year's tax."]
    total = sum((action.saving for action in sales.actions), _ZERO)
    lots = sheet.counted("loss_sales", len(sales.actions), "lot")
    saved = sheet.money("harvest_saving", total, CURRENCY)
    named: list[str] = []
    for rank, action in enumerate(sales.actions[:SHOWN_ACTIONS], start=1):
        symbol = sheet.word(f"sale_{rank}_symbol", action.loss_lot.lot.symbol)
        loss = sheet.money(f"sale_{rank}_loss", formatting.rounded_money(action.loss_lot.loss, CURRENCY), CURRENCY)
        saving = sheet.money(f"sale_{rank}_saving", action.saving, CURRENCY)
        named.append(f"{symbol} ({action.loss_lot.term}-term loss of {loss}) saves {saving}")
    sentences = [f"Selling {lots} at a loss would save {saved} this year: {'; '.join(named)}."]
    later = sum((use.amount for use in sales.uses if use.bucket == "carried forward"), _ZERO)
    if later:
        amount = sheet.money("harvest_carried", formatting.rounded_money(later, CURRENCY), CURRENCY)
        sentences.append(f"{amount} of these losses would carry over to later years.")
    free = sheet.day("rebuy_from", today + timedelta(days=WASH_DAYS + 1))
    sentences.append(f"If you sell today, buy nothing substantially identical before {free}: the loss would not count.")
    return sentences


def _wash_findings(sales: _Sales, today: date) -> tuple[Finding, ...]:
    """Return a warning for each lot whose loss is disallowed, in part or whole, by recent purchases of its symbol."""
    findings: list[Finding] = []
    for candidate in sales.candidates:
        if candidate.clean_on is None:
            continue
        sheet = Sheet(as_of=today, tool=TOOL, source="lots; IRC 1091(a)")
        bought = sheet.day("acquired_on", candidate.lot.acquired_on)
        symbol = sheet.word("symbol", candidate.lot.symbol)
        units = sheet.ratio("washed_units", candidate.washed)
        days = sheet.counted("wash_days", WASH_DAYS, "day")
        clean = sheet.day("clean_on", candidate.clean_on)
        reason = (
            f"{units} units of {symbol} bought on {bought} would be a wash sale: as many were bought within {days}"
            f" before. The loss counts from {clean} if nothing more is bought."
        )
        findings.append(Finding("wash_sale", "warning", reason, sheet.facts()))
    return tuple(findings)


def _waiting_findings(lots: Sequence[Lot], closes: Mapping[str, Decimal] | None, today: date) -> tuple[Finding, ...]:
    """Return a finding for each lot whose gain turns long-term within `SOON_DAYS`."""
    findings: list[Finding] = []
    for lot in lots:
        close = (closes or {}).get(lot.symbol)
        turns = long_term_from(lot.acquired_on)
        if close is None or close <= lot.unit_cost or not today < turns <= today + timedelta(days=SOON_DAYS):
            continue
        sheet = Sheet(as_of=today, tool=TOOL, source="lots; prices; IRC 1222(3)")
        symbol = sheet.word("symbol", lot.symbol)
        gain = formatting.rounded_money((close - lot.unit_cost) * lot.quantity, CURRENCY)
        amount = sheet.money("gain", gain, CURRENCY)
        day = sheet.day("long_term_from", turns)
        bought = sheet.day("acquired_on", lot.acquired_on)
        reason = f"The gain of {amount} on the {symbol} bought on {bought} is long-term from {day}."
        findings.append(Finding("holding_period", "info", reason, sheet.facts()))
    return tuple(findings)


def _band_rows(estimate: Estimate) -> tuple[Mapping[str, str | int | Decimal], ...]:
    kinds = (("ordinary income", estimate.ordinary), ("long-term gain", estimate.gains))
    return tuple(
        {"income": kind, "rate_percent": part.rate * 100, "amount": part.amount, "tax": part.tax}
        for kind, parts in kinds
        for part in parts
    )


def _sale_rows(sales: _Sales) -> tuple[Mapping[str, str | int | Decimal], ...]:
    return tuple(
        {
            "rank": rank,
            "symbol": action.loss_lot.lot.symbol,
            "lot": action.loss_lot.lot.id,
            "units": action.loss_lot.quantity,
            "term": action.loss_lot.term,
            "loss": action.loss_lot.loss,
            "saving": action.saving,
        }
        for rank, action in enumerate(sales.actions, start=1)
    )


def _use_rows(uses: Sequence[Use]) -> tuple[Mapping[str, str | int | Decimal], ...]:
    return tuple({"lot": use.lot_id, "against": use.bucket, "amount": use.amount} for use in uses)
