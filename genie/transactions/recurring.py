"""Finds regular payments (weekly, bi-weekly, monthly, quarterly or annual) by the gaps between their days.

A stream is a merchant's postings at regular gaps. Its cadence is found by the median gap and the median absolute
deviation (MAD) from it, so that one late payment does not hide the stream. Monthly dates are compared as month ends:
31 January, 28 February and 31 March are one stream.
"""

from calendar import monthrange
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from itertools import groupby, pairwise
from statistics import median
from typing import Final, Literal

from bursar.genie.household.records import BankTransaction
from bursar.genie.transactions.categories import merchant_of

Cadence = Literal["weekly", "bi-weekly", "monthly", "quarterly", "annual"]

MIN_OCCURRENCES: Final = 3
_CLUSTER_STEP: Final = Decimal("1.25")
_LEVEL_STEP: Final = Decimal("0.005")
_STEADY_SPREAD: Final = Decimal("1.5")


@dataclass(frozen=True, slots=True)
class _Rhythm:
    """A cadence, and the gaps between payments that fit it, in days.

    The median gap is `shortest` to `longest`, and the median absolute deviation from it is at most `mad`. A period has
    `months` months; if `months` is 0, periods are counted in days. `per_year` is the number of payments in a year.
    """

    cadence: Cadence
    shortest: int
    longest: int
    mad: float
    months: int
    per_year: int


RHYTHMS: Final = (
    _Rhythm("weekly", 6, 8, 1, 0, 52),
    _Rhythm("bi-weekly", 13, 15, 1.5, 0, 26),
    _Rhythm("monthly", 27, 34, 3, 1, 12),
    _Rhythm("quarterly", 86, 97, 5, 3, 4),
    _Rhythm("annual", 355, 375, 7, 12, 1),
)


@dataclass(frozen=True, slots=True)
class PriceRise:
    """The newest price change of a stream, a rise from `old` to `new` (both positive); `new` was first paid on `on`."""

    on: date
    old: Decimal
    new: Decimal

    @property
    def points(self) -> Decimal:
        """The rise in percent of the old price."""
        return (self.new - self.old) / self.old * 100


@dataclass(frozen=True, slots=True)
class Recurring:
    """A stream: postings of one merchant at regular gaps. `amount` is the newest posting's, with its sign.

    `steady` is True if the amounts stay on a few price levels, like the amounts of a subscription or a rent.
    """

    merchant: str
    payee: str
    currency: str
    cadence: Cadence
    amount: Decimal
    rows: tuple[BankTransaction, ...]
    next_due: date
    steady: bool
    rise: PriceRise | None

    @property
    def ids(self) -> frozenset[str]:
        """The ids of the stream's postings."""
        return frozenset(row.id for row in self.rows)

    @property
    def monthly(self) -> Decimal:
        """The newest amount, times the payments in a year, divided by 12; unrounded."""
        return self.amount * _rhythm(self.cadence).per_year / 12

    def active(self, on: date) -> bool:
        """Whether the stream still runs on the day `on`: its next payment is late by at most half a period."""
        return (on - self.next_due).days <= _rhythm(self.cadence).shortest // 2


def find_recurring(transactions: Iterable[BankTransaction]) -> tuple[Recurring, ...]:
    """Return the regular payments in `transactions` as streams, by merchant; a posting is in at most one stream.

    The order of `transactions` does not matter. If the gaps between all postings of a merchant are regular, these are
    one stream. Otherwise each cluster of similar amounts is a stream if its gaps are regular; in any other cluster, the
    postings of each exact amount are a stream if their gaps are regular. So a price rise stays in its stream, and two
    subscriptions at one merchant are two streams. A stream needs at least three payments in distinct periods. A weekly
    or bi-weekly stream also needs a steady amount, so that a habit is no stream.
    """
    groups: defaultdict[tuple[str, str, bool], list[BankTransaction]] = defaultdict(list)
    for row in sorted(transactions, key=lambda row: (row.booked_on, row.id)):
        if row.amount != 0:
            groups[merchant_of(row.payee), row.currency, row.amount > 0].append(row)
    return tuple(stream for key in sorted(groups) for stream in _streams(key[0], groups[key]))


def _streams(merchant: str, rows: Sequence[BankTransaction]) -> Iterator[Recurring]:
    if len(rows) < MIN_OCCURRENCES:
        return
    whole = _stream(merchant, rows)
    if whole is not None:
        yield whole
        return
    for cluster in _clusters(rows):
        similar = _stream(merchant, cluster)
        if similar is not None:
            yield similar
            continue
        by_amount = sorted(cluster, key=lambda row: (row.amount, row.booked_on, row.id))
        for _, same in groupby(by_amount, key=lambda row: row.amount):
            exact = _stream(merchant, list(same))
            if exact is not None:
                yield exact


def _clusters(rows: Sequence[BankTransaction]) -> list[list[BankTransaction]]:
    """Return the rows in clusters of similar amounts, each cluster in order of date.

    In order of size, a row begins a new cluster if it is more than a quarter larger than the row before.
    """
    clusters: list[list[BankTransaction]] = []
    for row in sorted(rows, key=lambda row: (abs(row.amount), row.booked_on, row.id)):
        if clusters and abs(row.amount) <= abs(clusters[-1][-1].amount) * _CLUSTER_STEP:
            clusters[-1].append(row)
        else:
            clusters.append([row])
    return [sorted(cluster, key=lambda row: (row.booked_on, row.id)) for cluster in clusters]


def _stream(merchant: str, rows: Sequence[BankTransaction]) -> Recurring | None:
    """Return `rows`, which are in order of date, as one stream.

    Return None if the rows have no cadence, or if the cadence is weekly or bi-weekly and the amounts are not steady.
    """
    days = [row.booked_on for row in rows]
    rhythm = _fits(days)
    if rhythm is None:
        return None
    amounts = [abs(row.amount) for row in rows]
    levels = _levels(rows)
    steady = len(levels) <= max(2, len(rows) // 3) and max(amounts) <= _STEADY_SPREAD * min(amounts) * len(levels)
    if rhythm.months == 0 and not steady:
        return None
    last = rows[-1]
    return Recurring(
        merchant=merchant,
        payee=last.payee,
        currency=last.currency,
        cadence=rhythm.cadence,
        amount=last.amount,
        rows=tuple(rows),
        next_due=_next_due(days, rhythm),
        steady=steady,
        rise=_rise(levels) if steady and last.amount < 0 else None,
    )


def _fits(days: Sequence[date]) -> _Rhythm | None:
    gaps = [(later - earlier).days for earlier, later in pairwise(days)]
    if len(days) < MIN_OCCURRENCES:
        return None
    middle = median(gaps)
    for rhythm in RHYTHMS:
        if not rhythm.shortest <= middle <= rhythm.longest:
            continue
        close = [gap for gap in gaps if abs(gap - middle) <= 2 * rhythm.mad]
        same_period = [gap for gap in gaps if gap < rhythm.shortest // 2]
        enough = len(days) - len(same_period) >= MIN_OCCURRENCES
        if enough and median(abs(gap - middle) for gap in gaps) <= rhythm.mad and len(close) >= 0.7 * len(gaps):
            return rhythm
    return None


def _levels(rows: Sequence[BankTransaction]) -> list[tuple[date, Decimal]]:
    """Return the first day and the size of each price level, in order of time.

    A price that differs from its level by at most half a percent makes no new level.
    """
    levels: list[tuple[date, Decimal]] = []
    for row in rows:
        size = abs(row.amount)
        if not levels or abs(size - levels[-1][1]) > levels[-1][1] * _LEVEL_STEP:
            levels.append((row.booked_on, size))
    return levels


def _rise(levels: Sequence[tuple[date, Decimal]]) -> PriceRise | None:
    if len(levels) < 2 or levels[-1][1] <= levels[-2][1]:
        return None
    return PriceRise(on=levels[-1][0], old=levels[-2][1], new=levels[-1][1])


def _next_due(days: Sequence[date], rhythm: _Rhythm) -> date:
    """Return the day on which the payment after the last of `days` is due.

    If the cadence is in months, the day is `rhythm.months` months later or the median gap later, whichever fits the
    past payments better. Otherwise the day is the median gap later.
    """
    step = round(median((later - earlier).days for earlier, later in pairwise(days)))
    nominal = max(day.day for day in days)
    if rhythm.months:
        by_month = [(add_months(one, rhythm.months, nominal), two) for one, two in pairwise(days)]
        by_days = [(one + timedelta(days=step), two) for one, two in pairwise(days)]
        if _error(by_month) <= _error(by_days):
            return add_months(days[-1], rhythm.months, nominal)
    return days[-1] + timedelta(days=step)


def _error(pairs: Iterable[tuple[date, date]]) -> int:
    return sum(abs((expected - actual).days) for expected, actual in pairs)


def add_months(day: date, months: int, nominal: int) -> date:
    """Return the day `nominal` of the month that is `months` after the month of `day`.

    If that month is too short, return its last day.
    """
    index = day.year * 12 + day.month - 1 + months
    year, month = divmod(index, 12)
    return date(year, month + 1, min(nominal, monthrange(year, month + 1)[1]))


def _rhythm(cadence: Cadence) -> _Rhythm:
    return next(rhythm for rhythm in RHYTHMS if rhythm.cadence == cadence)
