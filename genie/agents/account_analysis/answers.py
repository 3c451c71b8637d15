"""Writes the answers of account analysis, one function for each kind of question.

Each function returns the lines of its answer, and records their numbers on the view's fact sheet.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Final

from bursar.genie.household.records import BankAccount
from bursar.genie.questions.account_questions import Focus
from bursar.genie.questions.period import Period, when
from bursar.genie.transactions.cash_flows import (
    ZERO,
    Entry,
    Totals,
    totals,
    totals_by_category,
    totals_by_month,
    whole_months,
)
from bursar.genie.transactions.categories import words
from bursar.genie.transactions.recurring import Recurring
from bursar.genie.wording import formatting
from bursar.genie.wording.fact_sheet import Sheet

MOST_LINES: Final = 6
MOST_MONTHS: Final = 12
LARGEST: Final = 5
_CASH: Final = frozenset({"current", "savings"})
_ACCOUNT_WORDS: Final[Mapping[str, frozenset[str]]] = {
    "savings": frozenset({"savings"}),
    "current": frozenset({"checking", "current"}),
    "card": frozenset({"card", "cards"}),
    "brokerage": frozenset({"brokerage"}),
    "loan": frozenset({"loan", "loans", "mortgage"}),
}


@dataclass(frozen=True)
class View:
    """The inputs of an answer: the classified postings, what the question asks for, and the fact sheet `sheet`.

    `entries` are all postings. `focus` has the categories or merchants that the question names. `streams` are the
    regular payments. `covered` is the period of all the data, and `asked` has the periods that the question names.
    `period` is the first period of `asked`, or `covered` if `asked` is empty; `within` has the entries of `period`.
    """

    entries: tuple[Entry, ...]
    accounts: tuple[BankAccount, ...]
    streams: tuple[Recurring, ...]
    covered: Period
    asked: tuple[Period, ...]
    focus: Focus
    sheet: Sheet
    text: str = ""
    period: Period = field(init=False)
    within: tuple[Entry, ...] = field(init=False)

    def __post_init__(self) -> None:
        period = self.asked[0] if self.asked else self.covered
        object.__setattr__(self, "period", period)
        object.__setattr__(self, "within", tuple(entry for entry in self.entries if entry.row.booked_on in period))

    @property
    def transfers(self) -> int:
        """The number of transfers in the period: the number of paying or of receiving postings, whichever is larger.

        Neither number is enough by itself, because the data may have only one side of a transfer.
        """
        moved = [entry for entry in self.within if entry.flow == "transfer"]
        return max(sum(entry.row.amount < 0 for entry in moved), sum(entry.row.amount > 0 for entry in moved))

    def when(self) -> str:
        """Return the period in words: `in March 2025`, `from 1 January 2025 to 17 June 2025`."""
        return when(self.period)


def sentence(text: str) -> str:
    """Return `text` with a capital first letter. All other letters stay as they are: month names keep their capital."""
    return text[:1].upper() + text[1:]


def shown_name(category: str) -> str:
    """Return `category` with a capital first letter, so that Genie's "groceries" looks like a bank's category."""
    return sentence(category)


def spending(view: View) -> list[str]:
    """Return the lines on spending: the total and the largest categories.

    If the question names categories or merchants, the lines are on the spending on these only.
    """
    if view.focus:
        return _focused(view)
    lines: list[str] = []
    for currency, sums in by_code(totals(view.within)):
        if not sums.spending:
            continue
        paid = [entry for entry in view.within if entry.flow == "spending" and entry.row.currency == currency]
        shown = view.sheet.money(f"spending.{currency}", sums.spending, currency)
        number = view.sheet.counted(f"payments.{currency}", len(paid), "payment")
        lines.append(f"You spent {shown} {view.when()}, in {number}.{_average(view, currency, paid)}")
        lines += _largest(view, currency, sums)
        if sums.refunds:
            lines.append(f"You got {view.sheet.money(f'refunds.{currency}', sums.refunds, currency)} back in refunds.")
    return [*(lines or [f"There is no spending {view.when()}."]), *_transfers_left_out(view)]


def _focused(view: View) -> list[str]:
    label = view.sheet.word("focus", view.focus.label)
    lines: list[str] = []
    chosen = [entry for entry in view.within if entry in view.focus]
    everything = totals(view.within)
    for currency, sums in by_code(totals(chosen)):
        paid = [entry for entry in chosen if entry.flow == "spending" and entry.row.currency == currency]
        if not paid:
            continue
        shown = view.sheet.money(f"focus.{currency}", sums.spending, currency)
        number = view.sheet.counted(f"focus.{currency}.payments", len(paid), "payment")
        share = view.sheet.percent(f"focus.{currency}.share", sums.spending / everything[currency].spending * 100)
        lines.append(f"You spent {shown} on {label} {view.when()}, in {number}: {share} of your spending.")
        lines[-1] += _average(view, currency, paid, key="focus.average")
        payees = sums_of((entry.row.payee.strip(), entry.size) for entry in paid)
        if len(payees) > 1:
            for payee, size in payees[:MOST_LINES]:
                name = view.sheet.word(f"focus.{currency}.payee.{payee}.name", payee)
                lines.append(f"- {name}: {view.sheet.money(f'focus.{currency}.payee.{payee}', size, currency)}")
        if sums.refunds:
            lines.append(f"Refunds: {view.sheet.money(f'focus.{currency}.refunds', sums.refunds, currency)}.")
    return lines or [f"You spent nothing on {label} {view.when()}."]


def _largest(view: View, currency: str, sums: Totals) -> list[str]:
    lines: list[str] = []
    categories = [
        (category, value.spending)
        for (category, held), value in totals_by_category(view.within).items()
        if held == currency and value.spending
    ]
    for category, size in categories[:MOST_LINES]:
        name = view.sheet.word(f"category.{currency}.{category}.name", shown_name(category))
        shown = view.sheet.money(f"category.{currency}.{category}", size, currency)
        share = view.sheet.percent(f"share.{currency}.{category}", size / sums.spending * 100)
        lines.append(f"- {name}: {shown} ({share})")
    rest = categories[MOST_LINES:]
    if rest:
        shown = view.sheet.money(f"category.{currency}.rest", sum((size for _, size in rest), ZERO), currency)
        number = view.sheet.count(f"category.{currency}.rest.count", len(rest))
        lines.append(f"- {number} other {'category' if len(rest) == 1 else 'categories'}: {shown}")
    return lines


def _average(view: View, currency: str, paid: Sequence[Entry], *, key: str = "average") -> str:
    """Return a sentence on the monthly average of `paid` over the period's whole months, and record its numbers.

    If the period has fewer than two whole months, return "". The recorded facts have keys that start with `key`.
    """
    whole = [month for month in whole_months(view.entries) if month in view.period]
    if len(whole) < 2:
        return ""
    spent = sum((entry.size for entry in paid if entry.month in whole), ZERO)
    value = formatting.rounded_money(spent / len(whole), currency)
    number = view.sheet.counted(f"{key}.{currency}.months", len(whole), "whole month")
    return f" That is {view.sheet.money(f'{key}.{currency}', value, currency)} a month on average over {number}."


def monthly(view: View) -> list[str]:
    """Return the lines on monthly spending: the total, the monthly average, and each of the newest twelve months."""
    lines: list[str] = []
    chosen = [entry for entry in view.within if not view.focus or entry in view.focus]
    about = f" on {view.sheet.word('focus', view.focus.label)}" if view.focus else ""
    by_month = totals_by_month(chosen)
    for currency, sums in by_code(totals(chosen)):
        if not sums.spending:
            continue
        paid = [entry for entry in chosen if entry.flow == "spending" and entry.row.currency == currency]
        shown = view.sheet.money(f"spending.{currency}{'.focus' if view.focus else ''}", sums.spending, currency)
        lines.append(f"You spent {shown}{about} {view.when()}.{_average(view, currency, paid, key='monthly')}")
        months = [(month, value.spending) for (month, held), value in by_month.items() if held == currency]
        lines += [
            f"- {view.sheet.month(f'monthly.{currency}.{month:%Y-%m}.on', month)}:"
            f" {view.sheet.money(f'monthly.{currency}.{month:%Y-%m}', size, currency)}"
            for month, size in sorted(months)[-MOST_MONTHS:]
        ]
    return lines or [f"There is no spending{about} {view.when()}."]


def largest(view: View) -> list[str]:
    """Return the lines on the largest single payments, one for each payee.

    If the question names categories or merchants, only payments for these are listed.
    """
    lines: list[str] = []
    chosen = [entry for entry in view.within if entry.flow == "spending" and (not view.focus or entry in view.focus)]
    for currency in sorted({entry.row.currency for entry in chosen}):
        ranked = sorted(
            (entry for entry in chosen if entry.row.currency == currency),
            key=lambda entry: (-entry.size, -entry.row.booked_on.toordinal(), entry.row.id),
        )
        ranked = list({entry.merchant: entry for entry in ranked[::-1]}.values())[::-1]
        ranked = sorted(ranked, key=lambda entry: (-entry.size, entry.merchant))[:LARGEST]
        lines.append(f"Your largest single payments {view.when()}, one for each payee:")
        for rank, entry in enumerate(ranked, start=1):
            key = f"largest.{currency}.{rank}"
            lines.append(
                f"- {view.sheet.money(key, entry.size, currency)} to"
                f" {view.sheet.word(f'{key}.payee', entry.row.payee.strip())}"
                f" on {view.sheet.day(f'{key}.on', entry.row.booked_on)}"
            )
    return lines or [f"There is no payment {view.when()}."]


def saved(view: View) -> list[str]:
    """Return the lines on savings: what was left of the income, and which share of the income this is."""
    lines: list[str] = []
    for currency, sums in by_code(totals(view.within)):
        came = view.sheet.money(f"income.{currency}", sums.income, currency)
        went = view.sheet.money(f"spending.{currency}", sums.spending, currency)
        if sums.net < 0:
            over = view.sheet.money(f"overspent.{currency}", -sums.net, currency)
            lines.append(f"{sentence(view.when())} you spent {over} more than came in: {came} in, {went} out.")
        else:
            left = view.sheet.money(f"net.{currency}", sums.net, currency)
            share = ""
            if sums.income:
                share = f", {view.sheet.percent(f'saved.{currency}', sums.net / sums.income * 100)} of your income"
            lines.append(f"You saved {left} {view.when()}{share}: {came} came in, {went} was spent.")
        if sums.refunds:
            lines[-1] += f" It counts {view.sheet.money(f'refunds.{currency}', sums.refunds, currency)} of refunds."
    return [*(lines or [f"There are no transactions {view.when()}."]), *_transfers_left_out(view)]


def income(view: View) -> list[str]:
    """Return the lines on income: the total, its payers, and the median of the whole months' income."""
    lines: list[str] = []
    for currency, sums in by_code(totals(view.within)):
        earned = [entry for entry in view.within if entry.flow == "income" and entry.row.currency == currency]
        if not earned:
            continue
        shown = view.sheet.money(f"income.{currency}", sums.income, currency)
        lines.append(f"Your income {view.when()} was {shown}.{_usual_month(view, currency)}")
        for payee, size in sums_of((entry.row.payee.strip(), entry.size) for entry in earned)[:MOST_LINES]:
            name = view.sheet.word(f"income.{currency}.payee.{payee}.name", payee)
            lines.append(f"- {name}: {view.sheet.money(f'income.{currency}.payee.{payee}', size, currency)}")
    return [*(lines or [f"No income is on record {view.when()}."]), *_transfers_left_out(view)]


def _usual_month(view: View, currency: str) -> str:
    whole = whole_months(view.entries)
    by_month = totals_by_month(view.entries)
    values = sorted(by_month.get((month, currency), Totals()).income for month in whole)
    if len(values) < 2:
        return ""
    middle = (values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2
    shown = view.sheet.money(f"income.monthly.{currency}", formatting.rounded_money(middle, currency), currency)
    return f" A usual month brings {shown} (median of {view.sheet.count('income.months', len(whole))} whole months)."


def overview(view: View) -> list[str]:
    """Return the lines on income, spending, their difference and the largest categories of spending.

    This answers a question whose kind no rule recognises. If the question names categories or merchants, the lines are
    on the spending on these only.
    """
    if view.focus:
        return _focused(view)
    lines: list[str] = []
    for currency, sums in by_code(totals(view.within)):
        came = view.sheet.money(f"income.{currency}", sums.income, currency)
        went = view.sheet.money(f"spending.{currency}", sums.spending, currency)
        left = view.sheet.money(f"net.{currency}", sums.net, currency)
        lines.append(f"{sentence(view.when())} {came} came in, {went} was spent; the difference is {left}.")
        if sums.refunds:
            lines[-1] += f" It counts {view.sheet.money(f'refunds.{currency}', sums.refunds, currency)} of refunds."
        lines += _largest(view, currency, sums)
    return [*(lines or [f"There are no transactions {view.when()}."]), *_transfers_left_out(view)]


def balance(view: View) -> list[str]:
    """Return the lines on balances: the newest that the bank stated for each account, and sums of these balances.

    If the question names kinds of accounts, only accounts of these kinds are listed and summed. Otherwise all accounts
    are listed, and the sums are over current and savings accounts.
    """
    kinds = _kinds_asked(view.text) & {account.kind for account in view.accounts}
    accounts = [account for account in view.accounts if not kinds or account.kind in kinds]
    held = [found for found in balances(view) if found[0] in accounts]
    if not held:
        return ["The bank stated no balance in this data, so there is none to give."]
    counted = kinds or _CASH
    cash: defaultdict[str, Decimal] = defaultdict(Decimal)
    lines: list[str] = []
    for account, value, on in held:
        if account.kind in counted:
            cash[account.currency] += value
        name = view.sheet.word(f"balance.{account.id}.name", account.name)
        shown = view.sheet.money(f"balance.{account.id}", value, account.currency)
        lines.append(f"- {name}: {shown} on {view.sheet.day(f'balance.{account.id}.on', on)}")
    names = "current and savings" if counted == _CASH else " and ".join(sorted(counted))
    scope = "cash" if counted == _CASH else ".".join(sorted(counted))
    lead = [
        f"You have {view.sheet.money(f'balance.{scope}.{currency}', value, currency)} in {names} accounts."
        for currency, value in sorted(cash.items())
    ]
    known = {account.id for account, _, _ in held}
    silent = [
        view.sheet.word(f"balance.{account.id}.name", account.name) for account in accounts if account.id not in known
    ]
    tail = [f"The bank stated no balance for {' and '.join(silent)}."] if silent else []
    return [*lead, *lines, *tail]


def _kinds_asked(text: str) -> frozenset[str]:
    asked = words(text)
    return frozenset(kind for kind, signs in _ACCOUNT_WORDS.items() if signs.intersection(asked))


def balances(view: View) -> list[tuple[BankAccount, Decimal, date]]:
    """Return each account with the newest balance that the bank stated for the account, and the balance's day.

    An account without a stated balance is left out.
    """
    newest: dict[str, tuple[date, Decimal]] = {}
    for entry in view.entries:
        if entry.row.balance_after is not None:
            newest[entry.row.account_id] = (entry.row.booked_on, entry.row.balance_after)
    found: list[tuple[BankAccount, Decimal, date]] = []
    for account in view.accounts:
        on, value = newest.get(account.id, (date.min, None))
        if account.balance is not None and (account.balance_on or view.covered.end) >= on:
            found.append((account, account.balance, account.balance_on or view.covered.end))
        elif value is not None:
            found.append((account, value, on))
    return found


def _transfers_left_out(view: View) -> list[str]:
    if not view.transfers:
        return []
    number = view.sheet.counted("transfers", view.transfers, "transfer")
    verb = "is" if view.transfers == 1 else "are"
    return [f"{number} between your own accounts {verb} not counted."]


def by_code(sums: Mapping[str, Totals]) -> list[tuple[str, Totals]]:
    """Return each currency with its totals, sorted by currency code: amounts of two currencies cannot be compared."""
    return sorted(sums.items())


def sums_of(pairs: Iterable[tuple[str, Decimal]]) -> list[tuple[str, Decimal]]:
    """Return each name of `pairs` once, with the sum of its values; the largest sum comes first."""
    sums: defaultdict[str, Decimal] = defaultdict(Decimal)
    for name, value in pairs:
        sums[name] += value
    return sorted(sums.items(), key=lambda item: (-item[1], item[0]))
