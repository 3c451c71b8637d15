"""Chooses the losses to realise this year: holding periods, wash sales, and an allocation that uses each gain once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Literal

from bursar.genie.household.records import Lot

Term = Literal["short", "long"]
Bucket = Literal["short gain", "long gain", "ordinary income", "carried forward"]
TaxOf = Callable[[Decimal, Decimal], Decimal]
"""The year's tax as a function of its net short-term and net long-term gain."""

WASH_DAYS = 30
"""IRC 1091(a): a purchase within this many days before or after the sale disallows the loss."""
MAX_CANDIDATES = 40
"""The most lots that `harvest` weighs, largest losses first: it compares all pairs, so its cost is quadratic."""

_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class LossLot:
    """A lot worth less than it cost: `loss` dollars on the `quantity` that can be sold without a wash sale.

    A sale of the lot's other `washed` units is a wash sale, because as many replacement units were bought within
    `WASH_DAYS`. From the day `clean_on`, a sale of these units is no wash sale either, if nothing more is bought.
    """

    lot: Lot
    term: Term
    quantity: Decimal
    loss: Decimal
    washed: Decimal = _ZERO
    clean_on: date | None = None


@dataclass(frozen=True, slots=True)
class HarvestAction:
    """The sale of `loss_lot.quantity` units. After all sales ranked before, this sale lowers the tax by `saving`."""

    loss_lot: LossLot
    saving: Decimal


@dataclass(frozen=True, slots=True)
class Use:
    """A part of a lot's loss, `amount` dollars, that is set against a gain or income, or is carried to later years."""

    lot_id: str
    bucket: Bucket
    amount: Decimal


def long_term_from(acquired_on: date) -> date:
    """Return the first day on which a sale is long-term, because the holding period is more than one year.

    The year runs from the day after the purchase (IRC 1222(3); Rev. Rul. 66-7), so a purchase on 28 or 29 February 2024
    turns long-term on 1 March 2025.
    """
    begins = acquired_on + timedelta(days=1)
    if (begins.month, begins.day) == (2, 29):
        return date(begins.year + 1, 3, 1)
    return begins.replace(year=begins.year + 1)


def term_of(acquired_on: date, sold_on: date) -> Term:
    """Return "long" if a sale on `sold_on` is long-term, otherwise "short"."""
    return "long" if sold_on >= long_term_from(acquired_on) else "short"


def loss_lots(lots: Sequence[Lot], closes: Mapping[str, Decimal], *, sell_on: date) -> tuple[LossLot, ...]:
    """Return the lots that are worth less at `closes` than they cost, each with the units whose sale is a wash sale.

    Other lots of the same symbol bought within `WASH_DAYS` of `sell_on` are replacements. Each replacement unit matches
    one sold unit, oldest lot first (Treas. Reg. 1.1091-1(b) to (e)). A lot without a close is left out.
    """
    spare = {lot.id: lot.quantity for lot in lots if abs((lot.acquired_on - sell_on).days) <= WASH_DAYS}
    found: list[LossLot] = []
    for lot in sorted(lots, key=lambda lot: (lot.acquired_on, lot.id)):
        close = closes.get(lot.symbol)
        if close is None or close >= lot.unit_cost:
            continue
        washed, clean_on = _ZERO, None
        for other in lots:
            if other.symbol != lot.symbol or other.id == lot.id or not spare.get(other.id):
                continue
            taken = min(spare[other.id], lot.quantity - washed)
            if taken > 0:
                spare[other.id] -= taken
                washed += taken
                free = other.acquired_on + timedelta(days=WASH_DAYS + 1)
                clean_on = free if clean_on is None else max(clean_on, free)
        quantity = lot.quantity - washed
        loss = (lot.unit_cost - close) * quantity
        found.append(LossLot(lot, term_of(lot.acquired_on, sell_on), quantity, loss, washed, clean_on))
    return tuple(found)


def harvest(candidates: Sequence[LossLot], tax: TaxOf, *, short: Decimal, long: Decimal) -> tuple[HarvestAction, ...]:
    """Return the sales among `candidates` that together lower this year's tax the most, the largest saving first.

    `tax` returns this year's tax for a net short-term and a net long-term gain. Before these sales, the gains are
    `short` and `long`. The savings sum to exactly the tax without any sale minus the tax with all of the chosen sales,
    so no gain is used twice. No other choice saves more this year, because the tax never rises with a loss. If any one
    of the chosen sales is left out, the tax is higher. Only the `MAX_CANDIDATES` largest losses are weighed.
    """
    chosen = sorted((c for c in candidates if c.loss > 0), key=lambda c: (-c.loss, c.lot.id))[:MAX_CANDIDATES]

    def after(sold: Sequence[LossLot]) -> Decimal:
        lost_short = sum((c.loss for c in sold if c.term == "short"), _ZERO)
        lost_long = sum((c.loss for c in sold if c.term == "long"), _ZERO)
        return tax(short - lost_short, long - lost_long)

    best = after(chosen)
    for candidate in tuple(chosen):
        rest = [c for c in chosen if c is not candidate]
        if after(rest) == best:
            chosen = rest
    actions: list[HarvestAction] = []
    sold: list[LossLot] = []
    owed = after(sold)
    while chosen:
        following, candidate = min(((after([*sold, c]), c) for c in chosen), key=lambda pair: pair[0])
        actions.append(HarvestAction(candidate, owed - following))
        owed = following
        sold.append(candidate)
        chosen.remove(candidate)
    return tuple(actions)


def allocate(sold: Sequence[LossLot], *, short: Decimal, long: Decimal, limit: Decimal) -> tuple[Use, ...]:
    """Set each lot's loss against gains of its term, then gains of the other term, ordinary income and later years.

    Return each use of a loss. The order is that of IRC 1222 and 1211(b). `short` and `long` are net gains before these
    sales. At most `limit` dollars of loss are taken off ordinary income. Each dollar of loss and of gain is used once:
    a lot's uses sum to its loss, and the uses against a gain are no more than the gain.
    """
    crossed = min(abs(short), abs(long)) if (short < 0) != (long < 0) else _ZERO
    room: dict[Bucket, Decimal] = {
        "short gain": max(_ZERO, short) - (crossed if short > 0 else _ZERO),
        "long gain": max(_ZERO, long) - (crossed if long > 0 else _ZERO),
        "ordinary income": max(_ZERO, limit - max(_ZERO, -(short + long))),
    }
    own: Mapping[Term, Bucket] = {"short": "short gain", "long": "long gain"}
    other: Mapping[Term, Bucket] = {"short": "long gain", "long": "short gain"}
    left = {c.lot.id: c.loss for c in sold}
    uses: list[Use] = []
    for pick in (own, other, None):
        for candidate in sold:
            bucket: Bucket = "ordinary income" if pick is None else pick[candidate.term]
            amount = min(left[candidate.lot.id], room[bucket])
            if amount > 0:
                room[bucket] -= amount
                left[candidate.lot.id] -= amount
                uses.append(Use(candidate.lot.id, bucket, amount))
    uses.extend(Use(lot_id, "carried forward", amount) for lot_id, amount in left.items() if amount > 0)
    return tuple(uses)


def whole_cents(actions: Sequence[HarvestAction], cents: Callable[[Decimal], Decimal]) -> tuple[HarvestAction, ...]:
    """Return the actions with their savings in whole cents, so that the savings add up to the rounded total.

    `cents` rounds an amount to the cent. Each saving is the difference of two rounded running totals.
    """
    total = shown = _ZERO
    rounded: list[HarvestAction] = []
    for action in actions:
        total += action.saving
        rounded.append(replace(action, saving=cents(total) - shown))
        shown = cents(total)
    return tuple(rounded)
