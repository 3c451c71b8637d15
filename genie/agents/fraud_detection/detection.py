"""Fraud detection: flags payments that stand out, each once, with every reason; it blocks none.

Keys of its facts: `coverage.start|end`, `period.start|end` (days), `checked`, `timed`, `flags` (counts); in each
finding `flag.ID.amount|on|payee` and `flag.ID.RULE.…`: `duplicate-charge.days|other.on`, `velocity.payments|minutes`,
`new-payee-large.high|median|quantile`, `amount-outlier.median|compared|score`.
"""

from collections import defaultdict
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import Final

from bursar.genie.agents.fraud_detection import rules
from bursar.genie.agents.fraud_detection.rules import Hit
from bursar.genie.household.source import Source
from bursar.genie.questions.account_questions import payees_of
from bursar.genie.questions.period import Period, parse_period, when
from bursar.genie.transactions.cash_flows import Entry, classify
from bursar.genie.transactions.categories import words
from bursar.genie.transactions.recurring import find_recurring
from bursar.genie.wording.fact_sheet import Sheet
from bursar.genie.wording.facts import Analysis, Finding

TOOL: Final = "fraud_detection.detect"
MOST_LINES: Final = 10
_ORDER: Final = {"alert": 0, "warning": 1, "notice": 2, "info": 3}
_TWICE: Final = frozenset({"twice", "duplicate", "duplicates", "duplicated", "double"})


def detect(source: Source, text: str, *, today: date) -> Analysis:
    """Return an analysis with a finding for each payment that stands out, the most severe first.

    If `text` names a period, only payments of this period are flagged; if it names a payee, only payments to the payee;
    if it asks about double charges, only double charges. Every payment has at most one finding, with all its reasons.
    Regular payments (rent, subscriptions) and transfers are never flagged as new, large or unusual. The text also names
    what bank data cannot show. `today` only decides whether the data are old.
    """
    rows, accounts = source.transactions(), source.accounts()
    if not rows.items:
        return Analysis(
            text="There are no transactions to check yet. Import a bank statement first.",
            gaps=("There are no transactions to check yet.",),
            confidence=0.0,
        )
    covered = Period(min(row.booked_on for row in rows), max(row.booked_on for row in rows))
    asked = parse_period(text, newest=covered.end)
    period = asked or covered
    entries = classify(rows, accounts)
    sheet = Sheet(as_of=covered.end, tool=TOOL, source=rows.query)
    hits = [hit for hit in find_hits(entries) if hit.entry.row.booked_on in period]
    if _TWICE.intersection(words(text)):
        hits = [hit for hit in hits if hit.rule == "duplicate-charge"]
    by_payment: defaultdict[str, list[Hit]] = defaultdict(list)
    for hit in hits:
        by_payment[hit.entry.row.id].append(hit)
    groups = sorted(by_payment.values(), key=_rank)
    checked = [entry for entry in entries if entry.flow == "spending" and entry.row.booked_on in period]
    focus = payees_of(text, entries)
    if focus:
        groups = [group for group in groups if group[0].entry in focus]
        checked = [entry for entry in checked if entry in focus]
    ordered = tuple(_finding(group, as_of=covered.end, source=rows.query) for group in groups)
    for name, bounds in (("coverage", covered), ("period", period)):
        sheet.day(f"{name}.start", bounds.start)
        sheet.day(f"{name}.end", bounds.end)
    whom = sheet.word("focus", focus.label) if focus else ""
    gaps = _gaps(stale=(today - covered.end).days > 45, truncated=rows.truncated)
    return Analysis(
        text="\n".join((*_lines(ordered, checked, when(period), sheet, whom=whom), _not_checked(checked, sheet))),
        facts=sheet.facts(),
        findings=ordered,
        gaps=gaps,
        confidence=0.7 if rows.truncated else 1.0,
    )


def find_hits(entries: Sequence[Entry]) -> tuple[Hit, ...]:
    """Return every hit of every rule over the whole history of entries, in the order of the rules.

    Pass the entries that `classify` returned for all postings: a rule compares each payment with all the others.
    """
    streams = find_recurring(entry.row for entry in entries if entry.flow in ("spending", "income"))
    regular = rules.regular_ids(streams)
    return (
        *rules.duplicates(entries),
        *rules.new_payees(entries, regular),
        *rules.velocity(entries),
        *rules.outliers(entries, regular),
    )


def _rank(hits: Sequence[Hit]) -> tuple[int, int, str]:
    """Return the sort key of a payment with these hits: it puts the most severe payment first, then the newest."""
    row = hits[0].entry.row
    return min(_ORDER[hit.severity] for hit in hits), -row.booked_on.toordinal(), row.id


def _finding(hits: Sequence[Hit], *, as_of: date, source: str) -> Finding:
    """Return one finding for one payment. It has the reasons of all `hits`, and the severity of the most severe hit."""
    ordered = sorted(hits, key=lambda hit: (_ORDER[hit.severity], hit.rule))
    entry = ordered[0].entry
    sheet = Sheet(as_of=as_of, tool=TOOL, source=source)
    key = f"flag.{entry.row.id}"
    lead = (
        f"{sheet.day(key + '.on', entry.row.booked_on)}, {sheet.word(key + '.payee', entry.row.payee.strip())},"
        f" {sheet.money(key + '.amount', entry.size, entry.row.currency)}"
    )
    reasons = "; ".join(_reason(hit, sheet, f"{key}.{hit.rule}") for hit in ordered)
    return Finding(ordered[0].rule, ordered[0].severity, f"{lead}: {reasons}", sheet.facts())


def _reason(hit: Hit, sheet: Sheet, key: str) -> str:
    currency = hit.entry.row.currency
    amounts = {name: sheet.money(f"{key}.{name}", value, currency) for name, value in hit.amounts}
    counts = {name: sheet.count(f"{key}.{name}", value) for name, value in hit.counts}
    ratios = {name: sheet.ratio(f"{key}.{name}", value) for name, value in hit.ratios}
    match hit.rule:
        case "duplicate-charge":
            other = sheet.day(f"{key}.other.on", hit.other.row.booked_on) if hit.other else "before"
            returned = ", and was given back since" if hit.severity == "info" else ""
            return f"the same payee charged the same amount on {other}{returned}"
        case "new-payee-large":
            share = sheet.percent(f"{key}.quantile", Decimal(rules.NEW_PAYEE_QUANTILE))
            return f"first payment to this payee, and {share} of your other payments are at most {amounts['high']}"
        case "velocity":
            return f"one of {counts['payments']} payments within {counts['minutes']} minutes"
        case "amount-outlier":
            whom = "this payee" if hit.scope == "merchant" else "this category"
            return (
                f"unusually large for {whom}: the median of {counts['compared']} others is {amounts['median']}"
                f" (robust score {ratios['score']})"
            )


def _lines(findings: Sequence[Finding], checked: Sequence[Entry], period: str, sheet: Sheet, *, whom: str) -> list[str]:
    to = f" to {whom}" if whom else ""
    number = sheet.counted("checked", len(checked), "payment")
    if not findings:
        return [
            f"Nothing stands out among {number}{to} {period}. Checked: charges made twice, large payments to new"
            " payees, and amounts unusual for a payee or category."
        ]
    flags = sheet.count("flags", len(findings))
    lines = [
        f"{flags} of {number}{to} {period} {'stands' if len(findings) == 1 else 'stand'} out; nothing was blocked:"
    ]
    lines += [f"- {finding.reason}" for finding in findings[:MOST_LINES]]
    if len(findings) > MOST_LINES:
        lines.append(f"- and {sheet.count('flags.more', len(findings) - MOST_LINES)} more, less severe")
    return lines


def _not_checked(checked: Sequence[Entry], sheet: Sheet) -> str:
    """Return a sentence on what bank data cannot show, with its numbers recorded on `sheet`.

    The caller does not count this as a gap of the answer, because no import could add such data.
    """
    timed = sum(entry.row.at is not None for entry in checked)
    sheet.count("timed", timed)
    if timed == len(checked):
        return "Not checked: places and devices, which bank data do not have."
    bursts = "many payments in an hour"
    if timed:
        bursts += f" among the {sheet.counted('untimed', len(checked) - timed, 'payment')} without a time"
    return f"Not checked: {bursts}, places and devices, as the bank's data do not have them."


def _gaps(*, stale: bool, truncated: bool) -> tuple[str, ...]:
    gaps: list[str] = []
    if stale:
        gaps.append("the newest transaction is over a month old")
    if truncated:
        gaps.append("only the newest transactions were read; older ones are missing")
    return tuple(gaps)
