"""Account analysis: what came in, what went out, what is left, what comes back, and what changed.

`analyse` answers a question from the postings alone. Keys of its facts, each currency apart:
`coverage.start|end`, `period.start|end` (days), `postings`, `transfers` (counts), `income|spending|refunds|net.CUR`,
`category.CUR.NAME`, `share.CUR.NAME`, `month.CUR.YYYY-MM.income|spending|net`, `income.monthly.CUR`,
`balance.ACCOUNT`, `balance.ACCOUNT.on`, `balance.cash.CUR`, `recurring.CUR.MERCHANT.N…`, `rise.CUR.MERCHANT.N…`,
`change.CUR…`, `focus.CUR…`. `tables` holds `months`, `categories`, `recurring`, `balances`, always over all the data.
"""

from collections.abc import Callable, Mapping
from datetime import date
from decimal import Decimal
from typing import Final

from bursar.nodes.genie.account_analysis import answers, change
from bursar.nodes.genie.account_analysis.answers import View
from bursar.nodes.genie.account_analysis.flows import (
    ZERO,
    Entry,
    Totals,
    category_totals,
    classify,
    median_essential_spend,
    monthly_income,
    monthly_totals,
    totals,
    totals_by_category,
    totals_by_month,
    totals_by_month_and_category,
)
from bursar.nodes.genie.account_analysis.period import Period, parse_periods
from bursar.nodes.genie.account_analysis.questions import Kind, focus_of, kind_of
from bursar.nodes.genie.account_analysis.recurring import Recurring, find_recurring
from bursar.nodes.genie.data.source import Source
from bursar.nodes.genie.wording import formatting
from bursar.nodes.genie.wording.facts import Analysis, Finding
from bursar.nodes.genie.wording.sheet import Sheet

__all__ = [
    "Entry",
    "Totals",
    "analyse",
    "category_totals",
    "classify",
    "median_essential_spend",
    "monthly_income",
    "monthly_totals",
]

TOOL: Final = "account_analysis.analyse"
ANSWERS: Final[Mapping[Kind, Callable[[View], list[str]]]] = {
    "balance": answers.balance,
    "recurring": answers.recurring,
    "change": change.change,
    "income": answers.income,
    "spending": answers.spending,
    "overview": answers.overview,
}
_STALE_DAYS: Final = 45
_MUCH_UNCATEGORISED: Final = Decimal("0.1")

Table = tuple[Mapping[str, str | int | Decimal], ...]


def analyse(source: Source, text: str, *, today: date) -> Analysis:
    """The answer to `text` over the household's postings, with every number in it as a fact.

    Transfers between own accounts are neither income nor spending; currencies are never added up. Periods are seen
    from the newest day in the data; `today` only tells whether that day is long ago. Confidence is 1, lower where the
    question was not understood or the data were cut short, 0 without data. Text that no rule understands gets an
    overview.
    """
    rows, accounts = source.transactions(), source.accounts()
    if not rows.items:
        return Analysis(
            text="There are no transactions to look at yet. Import a bank statement first.",
            gaps=("no transactions",),
            confidence=0.0,
        )
    entries = classify(rows, accounts)
    covered = Period(min(row.booked_on for row in rows), max(row.booked_on for row in rows))
    asked = parse_periods(text, newest=covered.end)
    sheet = Sheet(as_of=covered.end, tool=TOOL, source=rows.query)
    kind = kind_of(text)
    view = View(
        entries=entries,
        accounts=accounts.items,
        streams=find_recurring(entry.row for entry in entries if entry.flow in ("income", "spending")),
        covered=covered,
        asked=asked,
        focus=focus_of(text, entries),
        sheet=sheet,
    )
    _record(view)
    gaps = _gaps(view, kind, today=today, truncated=rows.truncated)
    lines = ANSWERS[kind](view)
    understood = kind != "overview" or view.focus or asked
    return Analysis(
        text="\n".join(lines),
        facts=sheet.facts(),
        findings=_price_rises(view, rows.query),
        gaps=gaps,
        confidence=min(1.0 if understood else 0.5, 0.7 if rows.truncated else 1.0),
        tables=_tables(view),
    )


def _record(view: View) -> None:
    """Puts the totals of the period on the sheet, also those that the text does not mention."""
    sheet = view.sheet
    sheet.day("coverage.start", view.covered.start)
    sheet.day("coverage.end", view.covered.end)
    sheet.day("period.start", view.period.start)
    sheet.day("period.end", view.period.end)
    sheet.count("postings", len(view.within))
    sheet.count("transfers", view.transfers)
    for currency, sums in totals(view.within).items():
        sheet.money(f"income.{currency}", sums.income, currency)
        sheet.money(f"spending.{currency}", sums.spending, currency)
        sheet.money(f"refunds.{currency}", sums.refunds, currency)
        sheet.money(f"net.{currency}", sums.net, currency)
    for (category, currency), sums in totals_by_category(view.within).items():
        if sums.spending:
            sheet.money(f"category.{currency}.{category}", sums.spending, currency)
    for (month, currency), sums in totals_by_month(view.within).items():
        for name, value in (("income", sums.income), ("spending", sums.spending), ("net", sums.net)):
            sheet.money(f"month.{currency}.{month:%Y-%m}.{name}", value, currency)


def _gaps(view: View, kind: Kind, *, today: date, truncated: bool) -> tuple[str, ...]:
    gaps: list[str] = []
    start, end = formatting.day(view.covered.start), formatting.day(view.covered.end)
    if view.asked and (view.period.start < view.covered.start or view.period.end > view.covered.end):
        gaps.append(f"the data cover {start} to {end} only")
    if (today - view.covered.end).days > _STALE_DAYS:
        gaps.append(f"the newest transaction is of {end}")
    if truncated:
        gaps.append("only the newest transactions were read; older ones are missing")
    by_category = kind in ("spending", "overview", "change") and not view.focus
    for currency, sums in totals(view.within).items() if by_category else ():
        unknown = totals(entry for entry in view.within if entry.category == "uncategorised")
        value = unknown.get(currency, Totals()).spending
        if value > sums.spending * _MUCH_UNCATEGORISED:
            shown = view.sheet.money(f"uncategorised.{currency}", value, currency)
            gaps.append(f"{shown} of spending has no category that the bank or the rules know")
    one_sided = [entry for entry in view.within if entry.flow != "transfer" and entry.category == "transfers"]
    if one_sided:
        shown = view.sheet.counted("transfers.one_sided", len(one_sided), "posting")
        gaps.append(f"{shown} called a transfer without its other side in the data, so counted as money in or out")
    return tuple(gaps)


def _price_rises(view: View, source: str) -> tuple[Finding, ...]:
    """One finding for every running payment whose newest price is above the one before."""
    findings: list[Finding] = []
    for number, stream in enumerate(view.streams):
        rise = stream.rise
        if rise is None or not stream.active(view.covered.end):
            continue
        sheet = Sheet(as_of=view.covered.end, tool=TOOL, source=source)
        key = f"rise.{stream.currency}.{stream.merchant}.{number}"
        old = sheet.money(key + ".old", rise.old, stream.currency)
        reason = (
            f"{sheet.word(key + '.payee', stream.payee)} went up from {old}"
            f" to {sheet.money(key + '.new', rise.new, stream.currency)}"
            f" ({sheet.percent(key + '.points', rise.points)}) on {sheet.day(key + '.on', rise.on)}"
        )
        findings.append(Finding("price-rise", "notice", reason, sheet.facts()))
    return tuple(findings)


def _tables(view: View) -> Mapping[str, Table]:
    return {
        "months": tuple(
            {
                "month": f"{month:%Y-%m}",
                "currency": currency,
                "income": sums.income,
                "refunds": sums.refunds,
                "spending": sums.spending,
                "net": sums.net,
            }
            for (month, currency), sums in totals_by_month(view.entries).items()
        ),
        "categories": tuple(
            {
                "month": f"{month:%Y-%m}",
                "category": category,
                "currency": currency,
                "income": sums.income,
                "refunds": sums.refunds,
                "spending": sums.spending,
            }
            for (month, category, currency), sums in totals_by_month_and_category(view.entries).items()
        ),
        "recurring": tuple(_stream_row(stream) for stream in view.streams),
        "balances": tuple(
            {"account": account.name, "currency": account.currency, "balance": value, "on": on.isoformat()}
            for account, value, on in answers.balances(view)
        ),
    }


def _stream_row(stream: Recurring) -> Mapping[str, str | int | Decimal]:
    return {
        "payee": stream.payee,
        "currency": stream.currency,
        "cadence": stream.cadence,
        "amount": stream.amount,
        "payments": len(stream.rows),
        "last": stream.rows[-1].booked_on.isoformat(),
        "next_due": stream.next_due.isoformat(),
        "rise": stream.rise.new - stream.rise.old if stream.rise else ZERO,
    }
