"""Account analysis: income, spending, what is left, regular payments, and what changed.

`analyse` answers a question from the postings alone. These are the keys of its facts, with a key for each currency:
`coverage.start|end`, `period.start|end` (days), `postings`, `transfers` (counts), `income|spending|refunds|net.CUR`,
`category.CUR.NAME`, `share.CUR.NAME`, `month.CUR.YYYY-MM.income|spending|net`, `income.monthly.CUR`,
`balance.ACCOUNT`, `balance.ACCOUNT.on`, `balance.cash.CUR`, `recurring.CUR.MERCHANT.N…`, `rise.CUR.MERCHANT.N…`,
`change.CUR…`, `focus.CUR…`. `tables` holds `months`, `categories`, `recurring`, `balances`, always over all the data.
"""

from collections.abc import Callable, Mapping
from datetime import date
from decimal import Decimal
from typing import Final

from bursar.genie.agents.account_analysis import answers, change
from bursar.genie.agents.account_analysis import recurring_text as regular
from bursar.genie.agents.account_analysis.answers import View
from bursar.genie.household.source import Source
from bursar.genie.questions.account_questions import Kind, unknown_name
from bursar.genie.questions.period import Period
from bursar.genie.questions.subquestions import read_clauses
from bursar.genie.transactions.cash_flows import (
    ZERO,
    Totals,
    classify,
    totals,
    totals_by_category,
    totals_by_month,
    totals_by_month_and_category,
)
from bursar.genie.transactions.recurring import Recurring, find_recurring
from bursar.genie.wording import formatting
from bursar.genie.wording.fact_sheet import Sheet
from bursar.genie.wording.facts import Analysis, Finding

TOOL: Final = "account_analysis.analyse"
ANSWERS: Final[Mapping[Kind, Callable[[View], list[str]]]] = {
    "balance": answers.balance,
    "recurring": regular.recurring,
    "rises": regular.rises,
    "largest": answers.largest,
    "saved": answers.saved,
    "monthly": answers.monthly,
    "change": change.change,
    "income": answers.income,
    "spending": answers.spending,
    "overview": answers.overview,
}
_SUMS: Final[frozenset[Kind]] = frozenset({"spending", "income", "saved", "monthly", "change", "overview"})
_STALE_DAYS: Final = 45
_MUCH_UNCATEGORISED: Final = Decimal("0.1")

Table = tuple[Mapping[str, str | int | Decimal], ...]


def analyse(source: Source, text: str, *, today: date) -> Analysis:
    """Answer each question in `text` from the household's postings. Every number of the answer is a fact.

    Transfers between own accounts are neither income nor spending. Amounts of different currencies are never added up.
    Periods such as "last month" count from the newest day in the data; `today` only decides whether that day is long
    ago. The confidence is 1; it is lower if no rule understood a question or the data were cut short, and 0 without
    data. A question that no rule understands gets an overview. From the second question on, the keys of a question's
    facts start with the question's number, such as "2.".
    """
    rows, accounts = source.transactions(), source.accounts()
    if not rows.items:
        return Analysis(
            text="There are no transactions to look at yet. Import a bank statement first.",
            gaps=("There are no transactions to look at yet.",),
            confidence=0.0,
        )
    entries = classify(rows, accounts)
    covered = Period(min(row.booked_on for row in rows), max(row.booked_on for row in rows))
    streams = find_recurring(entry.row for entry in entries if entry.flow in ("income", "spending"))
    clauses = read_clauses(text, entries, newest=covered.end)
    views = [
        View(
            entries=entries,
            accounts=accounts.items,
            streams=streams,
            covered=covered,
            asked=clause.asked,
            focus=clause.focus,
            sheet=Sheet(as_of=covered.end, tool=TOOL, source=rows.query, prefix=f"{number}." if number > 1 else ""),
            text=clause.text,
        )
        for number, clause in enumerate(clauses, start=1)
    ]
    gaps = _age_gaps(covered, today=today, truncated=rows.truncated)
    paragraphs: list[str] = []
    for clause, view in zip(clauses, views, strict=True):
        _record(view)
        lead, *more = _gaps(view, clause.kind)
        gaps += [gap for gap in (lead, *more) if gap]
        paragraphs.append("\n".join((*([lead] if lead else []), *ANSWERS[clause.kind](view))))
    understood = all(clause.understood or clause.asked for clause in clauses)
    return Analysis(
        text="\n\n".join(dict.fromkeys(paragraphs)),
        facts=tuple(fact for view in views for fact in view.sheet.facts()),
        findings=_price_rises(views[0], rows.query),
        gaps=tuple(dict.fromkeys(gaps)),
        confidence=min(1.0 if understood else 0.5, 0.7 if rows.truncated else 1.0),
        tables=_tables(views[0]),
    )


def _record(view: View) -> None:
    """Record the totals of the view's period on the view's fact sheet, also totals that the text does not mention."""
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


def _age_gaps(covered: Period, *, today: date, truncated: bool) -> list[str]:
    gaps: list[str] = []
    if (today - covered.end).days > _STALE_DAYS:
        gaps.append(f"the newest transaction is of {formatting.day(covered.end)}")
    if truncated:
        gaps.append("only the newest transactions were read; older ones are missing")
    return gaps


def _gaps(view: View, kind: Kind) -> tuple[str, ...]:
    """Return texts that say what is missing from the answer to one question.

    If the question names something that the data do not have, the first text says that the answer is on all spending;
    otherwise the first text is empty. The caller puts this text above the answer.
    """
    unknown = unknown_name(view.text) if kind in ("spending", "monthly") and not view.focus else None
    lead = ""
    if unknown is not None:
        # The name is a fact, so that digits in it do not count as a number without a fact.
        lead = f"Nothing in your data is called {view.sheet.word('unknown', unknown)}, so this is all your spending."
    gaps: list[str] = []
    start, end = formatting.day(view.covered.start), formatting.day(view.covered.end)
    if view.asked and (view.period.start < view.covered.start or view.period.start > view.covered.end):
        gaps.append(f"the data cover {start} to {end} only")
    by_category = kind in ("spending", "overview", "change") and not view.focus
    for currency, sums in totals(view.within).items() if by_category else ():
        unsorted = totals(entry for entry in view.within if entry.category == "uncategorised")
        value = unsorted.get(currency, Totals()).spending
        if value > sums.spending * _MUCH_UNCATEGORISED:
            shown = view.sheet.money(f"uncategorised.{currency}", value, currency)
            gaps.append(f"{shown} of spending has no category that the bank or the rules know")
    one_sided = [entry for entry in view.within if entry.flow != "transfer" and entry.category == "transfers"]
    if one_sided and kind in _SUMS:
        shown = view.sheet.counted("transfers.one_sided", len(one_sided), "posting")
        gaps.append(f"{shown} called a transfer without its other side in the data, so counted as money in or out")
    return (lead, *gaps)


def _price_rises(view: View, source: str) -> tuple[Finding, ...]:
    """Return a finding for each regular payment that still runs and whose newest price is above the price before."""
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
