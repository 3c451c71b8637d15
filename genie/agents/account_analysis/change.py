"""Writes what changed between two periods: steps, one for each category, that add up to the difference in spending."""

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from bursar.genie.agents.account_analysis.answers import MOST_LINES, View, sentence, shown_name
from bursar.genie.questions.period import Period, month_of, when
from bursar.genie.transactions.cash_flows import ZERO, Entry, Totals, totals, totals_by_category


@dataclass(frozen=True, slots=True)
class ChangeStep:
    """One category's part in a change of spending: the spending `before` and `after`, in one currency."""

    category: str
    before: Decimal
    after: Decimal

    @property
    def change(self) -> Decimal:
        return self.after - self.before


def bridge(before: tuple[Entry, ...], after: tuple[Entry, ...], *, currency: str) -> tuple[ChangeStep, ...]:
    """Return a step for each category whose spending in the entries `after` differs from that in the entries `before`.

    Only entries in `currency` count. The largest change comes first. The changes add up to the difference of the two
    totals, to the cent.
    """
    old, new = totals_by_category(before), totals_by_category(after)
    names = {category for category, held in (*old, *new) if held == currency}
    steps = [
        ChangeStep(name, old.get((name, currency), Totals()).spending, new.get((name, currency), Totals()).spending)
        for name in names
    ]
    return tuple(sorted((step for step in steps if step.change), key=lambda step: (-abs(step.change), step.category)))


def compared(view: View) -> tuple[Period, Period]:
    """Return the earlier and the later period to compare.

    If the question names two periods, these are returned. Otherwise the later period is the one that the question names
    or, if it names none, the newest month; the earlier period has the same length and ends the day before. If the data
    end inside this later period, both periods are cut to the days so far: 1 to 17 June is compared with 1 to 17 May.
    """
    if len(view.asked) > 1:
        first, second = sorted(view.asked, key=lambda period: (period.start, period.end))
        return first, second
    newest = view.covered.end
    later = view.asked[0] if view.asked else month_of(newest)
    earlier = later.before()
    if later.start <= newest < later.end:
        length = newest - later.start
        later = Period(later.start, newest)
        earlier = Period(earlier.start, min(earlier.start + length, later.start - timedelta(days=1)))
    return earlier, later


def change(view: View) -> list[str]:
    """Return the lines that compare two periods: their spending, the change of each category, and their income."""
    earlier, later = compared(view)
    sheet = view.sheet
    for name, period in (("before", earlier), ("after", later)):
        sheet.day(f"change.{name}.start", period.start)
        sheet.day(f"change.{name}.end", period.end)
    scope = [entry for entry in view.entries if not view.focus or entry in view.focus]
    before = tuple(entry for entry in scope if entry.row.booked_on in earlier)
    after = tuple(entry for entry in scope if entry.row.booked_on in later)
    if earlier.end < view.covered.start:
        return [
            f"The data begin on {sheet.day('coverage.start', view.covered.start)}: nothing earlier to compare with."
        ]
    old, new = totals(before), totals(after)
    about = f" on {sheet.word('focus', view.focus.label)}" if view.focus else ""
    lines: list[str] = []
    for currency in sorted(old.keys() | new.keys()):
        first, second = old.get(currency, Totals()), new.get(currency, Totals())
        if not (first.spending or second.spending or first.income or second.income):
            continue
        spent = sheet.money(f"change.{currency}.after", second.spending, currency)
        was = sheet.money(f"change.{currency}.before", first.spending, currency)
        lines.append(
            f"{sentence(when(later))} you spent {spent}{about},"
            f" {_difference(view, currency, first.spending, second.spending)} {when(earlier)} ({was})."
        )
        lines += [_step(view, currency, step) for step in bridge(before, after, currency=currency)[:MOST_LINES]]
        if first.income != second.income and not view.focus:
            lines.append(
                f"Income was {sheet.money(f'change.{currency}.income.after', second.income, currency)}"
                f" after {sheet.money(f'change.{currency}.income.before', first.income, currency)}."
            )
    return lines or [f"There is nothing to compare {when(later)} with."]


def _difference(view: View, currency: str, before: Decimal, after: Decimal) -> str:
    if before == after:
        return "as much as"
    shown = view.sheet.money(f"change.{currency}", abs(after - before), currency)
    share = ""
    if before != ZERO:
        share = f" ({view.sheet.percent(f'change.{currency}.points', abs(after - before) / before * 100)})"
    return f"{shown}{share} {'more' if after > before else 'less'} than"


def _step(view: View, currency: str, step: ChangeStep) -> str:
    key = f"change.{currency}.category.{step.category}"
    name = view.sheet.word(f"{key}.name", shown_name(step.category))
    size = view.sheet.money(key, abs(step.change), currency)
    before = view.sheet.money(f"{key}.before", step.before, currency)
    after = view.sheet.money(f"{key}.after", step.after, currency)
    return f"- {name}: {'up' if step.change > 0 else 'down'} {size}, from {before} to {after}"
