"""Computes, from the trades in an investment statement, the lots that the household still owns."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from bursar.genie.household.records import Lot
from bursar.genie.importing.holdings_csv import number_lots
from bursar.genie.importing.import_options import cost_of_one


@dataclass(frozen=True, slots=True)
class StatementTrade:
    """A purchase (`units` above zero) or a sale (`units` below zero) of a security.

    `total` is in the account's currency and includes fees.
    """

    symbol: str
    name: str
    day: date
    units: Decimal
    total: Decimal


def fifo_lots(trades: Iterable[StatementTrade], account_id: str, currency: str) -> tuple[Lot, ...]:
    """Return, as lots, the units of one symbol that remain if each sale takes the oldest purchased units first.

    Units that were sold beyond all purchases are ignored: the caller compares the lots with the stated position.
    """
    open_buys: deque[tuple[StatementTrade, Decimal]] = deque()
    for trade in sorted(trades, key=lambda one: (one.day, one.units < 0)):
        if trade.units > 0:
            open_buys.append((trade, trade.units))
            continue
        sold = -trade.units
        while sold > 0 and open_buys:
            buy, left = open_buys.popleft()
            if left > sold:
                open_buys.appendleft((buy, left - sold))
            sold -= min(left, sold)
    return number_lots(
        [
            Lot(
                id="",
                account_id=account_id,
                symbol=buy.symbol,
                name=buy.name or buy.symbol,
                asset_class="other",
                quantity=left,
                unit_cost=cost_of_one(buy.total, buy.units),
                acquired_on=buy.day,
                currency=currency,
            )
            for buy, left in open_buys
        ]
    )
