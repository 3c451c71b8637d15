"""The rules of fraud detection, each a pure function from payments to hits; no rule blocks a payment."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from statistics import median
from typing import Final, Literal

from bursar.genie.transactions.cash_flows import ZERO, Entry
from bursar.genie.transactions.recurring import Recurring

Severity = Literal["info", "notice", "warning", "alert"]
Rule = Literal["duplicate-charge", "new-payee-large", "velocity", "amount-outlier"]

DUPLICATE_DAYS: Final = 3
REVERSAL_DAYS: Final = 10
HABIT_DAYS: Final = 3
NEW_PAYEE_HISTORY_DAYS: Final = 30
NEW_PAYEE_MIN_PAYMENTS: Final = 20
NEW_PAYEE_QUANTILE: Final = 95
NEW_PAYEE_MULTIPLE: Final = 3
NEW_PAYEE_ALERT_MULTIPLE: Final = 5
VELOCITY_COUNT: Final = 5
VELOCITY_WINDOW: Final = timedelta(minutes=60)
OUTLIER_Z: Final = Decimal("3.5")
OUTLIER_MULTIPLE: Final = 2
STREAM_SLACK: Final = Decimal("1.5")
_NORMAL_MAD: Final = Decimal("0.6745")
_NORMAL_MEAN_AD: Final = Decimal("1.253314")
_SPREAD_FLOOR: Final = Decimal("0.05")


@dataclass(frozen=True, slots=True)
class Hit:
    """A rule that fired for the payment `entry`.

    `amounts`, `counts` and `ratios` are the figures by which the rule fired, with their names. `other` is the payment
    that `entry` repeats. `scope` says whether an outlier was compared within its merchant or its category.
    """

    entry: Entry
    rule: Rule
    severity: Severity
    amounts: tuple[tuple[str, Decimal], ...] = ()
    counts: tuple[tuple[str, int], ...] = ()
    ratios: tuple[tuple[str, Decimal], ...] = ()
    other: Entry | None = None
    scope: str = ""


def duplicates(entries: Sequence[Entry]) -> Iterator[Hit]:
    """Yield a hit for each charge that has the merchant, amount and currency of a charge at most three days before.

    Habits are left out: the same fare on several days of a week, or the same charge twice in one day at least three
    times. If the charge was refunded within ten days, the hit has only the severity `info`.
    """
    groups: defaultdict[tuple[str, str, Decimal], list[Entry]] = defaultdict(list)
    refunds: defaultdict[tuple[str, str, Decimal], list[Entry]] = defaultdict(list)
    for entry in entries:
        key = entry.merchant, entry.row.currency, entry.size
        if entry.flow in ("spending", "refund"):
            (groups if entry.flow == "spending" else refunds)[key].append(entry)
    for key, group in groups.items():
        gaps = [(later.row.booked_on - earlier.row.booked_on).days for earlier, later in pairwise(group)]
        same_day = sum(gap == 0 for gap in gaps) >= HABIT_DAYS
        apart = [gap for gap in gaps if gap > 0]
        habit = len(apart) >= HABIT_DAYS - 1 and median(apart) <= 2 * DUPLICATE_DAYS
        for (earlier, later), gap in zip(pairwise(group), gaps, strict=True):
            if gap > DUPLICATE_DAYS or (same_day if gap == 0 else habit):
                continue
            reversed_later = any(
                0 <= (refund.row.booked_on - later.row.booked_on).days <= REVERSAL_DAYS for refund in refunds[key]
            )
            severity: Severity = "info" if reversed_later else "warning" if gap == 0 else "notice"
            yield Hit(later, "duplicate-charge", severity, counts=(("days", gap),), other=earlier)


def new_payees(entries: Sequence[Entry], regular: frozenset[str]) -> Iterator[Hit]:
    """Yield a hit for each large first payment to a payee.

    A payment is large if it exceeds 95 % of the other payments and is at least three times their median. Payments whose
    ids are in `regular` get no hit, and are not among the other payments. No payee counts as new in the first 30 days
    of the data. The rule needs more than 20 irregular payments in the currency.
    """
    for currency in sorted({entry.row.currency for entry in entries}):
        paid = [entry for entry in entries if entry.flow == "spending" and entry.row.currency == currency]
        irregular = [entry for entry in paid if entry.row.id not in regular]
        if len(irregular) <= NEW_PAYEE_MIN_PAYMENTS:
            continue
        begin = min(entry.row.booked_on for entry in entries) + timedelta(days=NEW_PAYEE_HISTORY_DAYS)
        sizes = sorted(entry.size for entry in irregular)
        seen: set[str] = set()
        for entry in paid:
            first = entry.merchant not in seen
            seen.add(entry.merchant)
            if not first or entry.row.id in regular or entry.row.booked_on < begin:
                continue
            others = list(sizes)
            others.remove(entry.size)
            high = others[-(-len(others) * NEW_PAYEE_QUANTILE // 100) - 1]
            middle = median(others)
            if entry.size > high and entry.size >= NEW_PAYEE_MULTIPLE * middle:
                severity: Severity = "alert" if entry.size >= NEW_PAYEE_ALERT_MULTIPLE * high else "warning"
                yield Hit(entry, "new-payee-large", severity, amounts=(("high", high), ("median", middle)))


def velocity(entries: Sequence[Entry]) -> Iterator[Hit]:
    """Yield one hit for each burst of payments: at least five payments within one hour.

    For each payment, the payments in the hour that ends with this payment are counted. The hit is for the payment of
    the burst with the highest count.

    Payments without a time are left out: a date alone does not mean midnight. Times with a zone and times without one
    are never compared.
    """
    aware: list[tuple[datetime, Entry]] = []
    plain: list[tuple[datetime, Entry]] = []
    for entry in entries:
        at = entry.row.at
        if entry.flow != "spending" or at is None:
            continue
        if at.tzinfo is None:
            plain.append((at, entry))
        else:
            aware.append((at.astimezone(UTC), entry))
    for timed in (aware, plain):
        timed.sort(key=lambda item: (item[0], item[1].row.id))
        first = 0
        best: tuple[int, Entry] | None = None
        for last, (at, entry) in enumerate(timed):
            while at - timed[first][0] > VELOCITY_WINDOW:
                first += 1
            size = last - first + 1
            if size >= VELOCITY_COUNT:
                best = (size, entry) if best is None or size > best[0] else best
            elif best is not None:
                yield _burst(best)
                best = None
        if best is not None:
            yield _burst(best)


def _burst(best: tuple[int, Entry]) -> Hit:
    minutes = int(VELOCITY_WINDOW.total_seconds() // 60)
    return Hit(best[1], "velocity", "warning", counts=(("payments", best[0]), ("minutes", minutes)))


def outliers(entries: Sequence[Entry], regular: frozenset[str]) -> Iterator[Hit]:
    """Yield a hit for each payment far above the usual amounts of its merchant.

    If the merchant has little history, the payment is compared with its category. The measure is the robust z,
    0.6745 (amount - median) / MAD (Iglewicz and Hoaglin 1993). MAD is the median absolute deviation. Median and MAD are
    those of all *other* payments of the group, so that no payment hides itself. With n other payments, z must exceed
    3.5 (1 + 10/n) within a merchant (n at least 3) and 3.5 (1 + 20/n) within a category (n at least 4), so the rule is
    stricter if n is small. If MAD is 0, the mean absolute deviation replaces MAD. The spread counts as at least 5 % of
    the median. The payment must also be at least twice the median. Payments whose ids are in `regular` get no hit.
    """
    merchants: defaultdict[tuple[str, str], list[Decimal]] = defaultdict(list)
    categories: defaultdict[tuple[str, str], list[Decimal]] = defaultdict(list)
    paid = [entry for entry in entries if entry.flow == "spending"]
    for entry in paid:
        merchants[entry.merchant, entry.row.currency].append(entry.size)
        if entry.row.id not in regular:
            categories[entry.category, entry.row.currency].append(entry.size)
    for group in (*merchants.values(), *categories.values()):
        group.sort()
    for entry in paid:
        if entry.row.id in regular:
            continue
        for scope, held, least, strictness in (
            ("merchant", merchants[entry.merchant, entry.row.currency], 3, 10),
            ("category", categories[entry.category, entry.row.currency], 4, 20),
        ):
            if len(held) <= least:
                continue
            if entry.size < OUTLIER_MULTIPLE * held[(len(held) - 3) // 2]:  # at most the median of the others
                break
            others = list(held)
            others.remove(entry.size)
            score, middle = robust_z(entry.size, others)
            if score > OUTLIER_Z * (1 + Decimal(strictness) / len(others)) and entry.size >= OUTLIER_MULTIPLE * middle:
                yield Hit(
                    entry,
                    "amount-outlier",
                    "warning" if entry.size >= 5 * middle else "notice",
                    amounts=(("median", middle),),
                    counts=(("compared", len(others)),),
                    ratios=(("score", score),),
                    scope=scope,
                )
            break


def robust_z(value: Decimal, others: Sequence[Decimal]) -> tuple[Decimal, Decimal]:
    """Return the robust z of `value` against `others` (see `outliers`), to two decimals, and the median of `others`.

    `others` has at least one value, and all its values are positive.
    """
    middle = median(others)
    distances = [abs(other - middle) for other in others]
    spread = median(distances) / _NORMAL_MAD
    if spread == 0:
        spread = sum(distances, ZERO) / len(distances) * _NORMAL_MEAN_AD
    spread = max(spread, middle * _SPREAD_FLOOR)
    return ((value - middle) / spread).quantize(Decimal("0.01")), middle


def regular_ids(streams: Iterable[Recurring]) -> frozenset[str]:
    """Return the ids of the payments in `streams`, except payments above 1.5 times the median of their stream."""
    ids: set[str] = set()
    for stream in streams:
        usual = median(abs(row.amount) for row in stream.rows)
        ids.update(row.id for row in stream.rows if abs(row.amount) <= STREAM_SLACK * usual)
    return frozenset(ids)
