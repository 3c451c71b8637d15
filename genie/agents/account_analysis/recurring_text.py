"""Writes the lines on subscriptions, on essential regular payments, and on regular payments whose price rose."""

from collections.abc import Iterable, Sequence

from bursar.genie.agents.account_analysis.answers import View, sums_of
from bursar.genie.agents.account_analysis.change import change
from bursar.genie.questions.period import when
from bursar.genie.transactions.categories import category_of, is_essential, words
from bursar.genie.transactions.recurring import Recurring
from bursar.genie.wording import formatting

_ALL = frozenset({"regular", "recurring", "bill", "bills", "renewals", "due"})
_SUBSCRIPTIONS = frozenset({"subscription", "subscriptions", "membership", "memberships"})


def recurring(view: View) -> list[str]:
    """Return the lines on the subscriptions that still run, then on the essential regular payments.

    If there are subscriptions and the question does not ask for all regular payments, the essential payments
    share one line.
    """
    subscriptions, others = _running(view)
    lines: list[str] = []
    if subscriptions:
        number = view.sheet.counted("recurring.subscriptions", len(subscriptions), "subscription")
        lines.append(f"You have {number}, {_monthly(view, subscriptions, 'subscriptions')}:")
        lines += _lines(view, subscriptions)
    if others:
        number = view.sheet.counted("recurring.regular", len(others), "other regular payment")
        sums = _monthly(view, others, "regular")
        if subscriptions and not _ALL.intersection(words(view.text)):
            lines.append(f"Besides, {number} {'takes' if len(others) == 1 else 'take'} {sums}.")
        else:
            lines += [f"You have {number}, {sums}:", *_lines(view, others)]
    return lines or ["No payment comes back regularly: nothing was paid in three periods of a week, month or year."]


def rises(view: View) -> list[str]:
    """Return the lines on the regular payments that still run and whose price rose.

    If the question names a period, only rises in this period are listed. If the question asks for subscriptions, only
    subscriptions are listed. If the question names categories or merchants, only payments for these are listed; if none
    of these payments is regular, the lines that `change` writes are returned instead.
    """
    subscriptions, others = _running(view)
    only_subscriptions = bool(_SUBSCRIPTIONS.intersection(words(view.text)) and not _ALL.intersection(words(view.text)))
    noun = "subscription" if only_subscriptions else "regular payment"
    streams = subscriptions if only_subscriptions else [*subscriptions, *others]
    if view.focus:
        meant = {entry.row.id for entry in view.entries if entry in view.focus}
        streams = [stream for stream in streams if meant.intersection(stream.ids)]
        if not streams:  # Irregular payments have no price that could rise.
            return change(view)
    if not streams:
        return [f"You have no {noun}."]
    risen = [stream for stream in streams if stream.rise and (not view.asked or stream.rise.on in view.period)]
    about = f" for {view.sheet.word('focus', view.focus.label)}" if view.focus else ""
    since = f" {when(view.period)}" if view.asked else ""
    if len(streams) == 1:
        only = f"Your only {noun}{about}"
        return [f"{only} went up{since}:", *_lines(view, risen)] if risen else [f"{only} did not go up{since}."]
    number = view.sheet.counted("rises.of", len(streams), noun)
    if not risen:
        return [f"None of your {number}{about} went up{since}."]
    return [f"{view.sheet.count('rises', len(risen))} of your {number}{about} went up{since}:", *_lines(view, risen)]


def _running(view: View) -> tuple[list[Recurring], list[Recurring]]:
    """Return the subscriptions and the essential regular payments that still run on the newest day of the data.

    A subscription has a steady amount and is not essential. A regular payment that is neither is left out.
    """
    running = [stream for stream in view.streams if stream.amount < 0 and stream.active(view.covered.end)]
    essential = [stream for stream in running if is_essential(category_of(stream.rows[-1]))]
    return [stream for stream in running if stream.steady and stream not in essential], essential


def _monthly(view: View, streams: Iterable[Recurring], key: str) -> str:
    sums = sums_of((stream.currency, -stream.monthly) for stream in streams)
    parts = [
        view.sheet.money(f"recurring.{key}.{currency}", formatting.rounded_money(value, currency), currency)
        for currency, value in sums
    ]
    return f"{' and '.join(parts)} a month"


def _lines(view: View, streams: Sequence[Recurring]) -> list[str]:
    """Return a line for each stream, the dearest per month first."""
    numbers = {id(stream): number for number, stream in enumerate(view.streams)}
    ordered = sorted(streams, key=lambda stream: (stream.monthly, stream.merchant))
    return [f"- {_line(view, stream, numbers[id(stream)])}" for stream in ordered]


def _line(view: View, stream: Recurring, number: int) -> str:
    key = f"recurring.{stream.currency}.{stream.merchant}.{number}"
    about = "" if stream.steady else "about "
    text = (
        f"{view.sheet.word(f'{key}.payee', stream.payee)}: {about}"
        f"{view.sheet.money(key, -stream.amount, stream.currency)} {stream.cadence},"
        f" next due {view.sheet.day(f'{key}.due', stream.next_due)}"
    )
    if stream.rise:
        old = view.sheet.money(f"{key}.old", stream.rise.old, stream.currency)
        points = view.sheet.percent(f"{key}.rise", stream.rise.points)
        text += f"; it rose from {old} by {points} on {view.sheet.day(f'{key}.rise.on', stream.rise.on)}"
    return text
