"""Finds transfers between the household's own accounts, which are neither income nor spending."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, cast

from bursar.genie.household.records import BankAccount, BankTransaction
from bursar.genie.transactions.categories import UNCATEGORISED, category_of, says_transfer, words

WINDOW_DAYS: Final = 4
_FORBIDDEN_COST: Final = 1_000_000.0


@dataclass(frozen=True, slots=True)
class Transfer:
    """Two postings of one transfer: `source` leaves one own account, `target` arrives in another."""

    source: BankTransaction
    target: BankTransaction


def match_transfers(
    transactions: Iterable[BankTransaction], accounts: Iterable[BankAccount] = (), *, window_days: int = WINDOW_DAYS
) -> tuple[Transfer, ...]:
    """Return the transfers among `transactions`, oldest first; each posting is in at most one transfer.

    The two postings have opposite amounts in one currency, two accounts, and at most `window_days` between them. If the
    bank's words neither say transfer nor name an own account, the pair counts only if neither posting has a category
    and the paying account is no card: a salary must not count as a transfer because a rent of the same amount left
    another account. Of all possible pairings, the pairing with the most pairs and then the fewest days between them is
    chosen. The order of `transactions` does not matter.
    """
    held = {account.id: account for account in accounts}
    groups: defaultdict[tuple[str, Decimal], list[BankTransaction]] = defaultdict(list)
    for row in sorted(transactions, key=lambda row: (row.booked_on, row.id)):
        if row.amount != 0:
            groups[row.currency, abs(row.amount)].append(row)
    found = [
        pair
        for group in groups.values()
        for near in _near(group, window_days)
        for pair in _assign(near, held, window_days)
    ]
    return tuple(sorted(found, key=lambda pair: (pair.source.booked_on, pair.source.id)))


def own_movements(
    transactions: Sequence[BankTransaction], accounts: Iterable[BankAccount] = (), *, window_days: int = WINDOW_DAYS
) -> frozenset[str]:
    """Return the ids of all postings that move money inside the household.

    These are the postings of matched transfers, and two kinds of postings without a match: a transfer, by the bank's
    words, that arrives on a card or loan account, and a purchase or sale inside a brokerage account. A brokerage
    account's dividends, interest, fees and taxes are not among the ids, because they are income or spending.
    """
    held = {account.id: account for account in accounts}
    ids = {
        row.id for pair in match_transfers(transactions, held.values(), window_days=window_days) for row in _sides(pair)
    }
    for row in transactions:
        account = held.get(row.account_id)
        if account is None:
            continue
        if account.kind in ("card", "loan") and row.amount > 0 and says_transfer(row):
            ids.add(row.id)
        if account.kind == "brokerage" and category_of(row).casefold() not in _BROKERAGE_FLOWS:
            ids.add(row.id)
    return frozenset(ids)


_BROKERAGE_FLOWS: Final = frozenset({"dividends", "dividend", "interest", "fees", "fee", "taxes"})


def _sides(pair: Transfer) -> tuple[BankTransaction, BankTransaction]:
    return pair.source, pair.target


def _near(group: Sequence[BankTransaction], window_days: int) -> Iterator[list[BankTransaction]]:
    """Cut `group`, which is in order of date, between neighbours more than `window_days` apart, and yield the parts.

    No pair can have its postings in two parts.
    """
    run: list[BankTransaction] = []
    for row in group:
        if run and (row.booked_on - run[-1].booked_on).days > window_days:
            yield run
            run = []
        run.append(row)
    if run:
        yield run


def _assign(near: Sequence[BankTransaction], held: Mapping[str, BankAccount], window_days: int) -> Iterator[Transfer]:
    outs = [row for row in near if row.amount < 0]
    ins = [row for row in near if row.amount > 0]
    if not outs or not ins:
        return
    costs = [[_cost(out, into, held, window_days) for into in ins] for out in outs]
    chosen = [(0, 0)] if len(outs) == 1 and len(ins) == 1 else _cheapest(costs)
    for row, column in chosen:
        if costs[row][column] < _FORBIDDEN_COST:
            yield Transfer(outs[row], ins[column])


def _cheapest(costs: Sequence[Sequence[float]]) -> list[tuple[int, int]]:
    """Assign rows to columns at the lowest total cost (linear assignment problem); return each pair (row, column)."""
    from scipy import optimize

    solve = cast("Callable[[object], tuple[Iterable[int], Iterable[int]]]", optimize.linear_sum_assignment)  # pyright: ignore[reportUnknownMemberType]
    rows, columns = solve(costs)
    return [(int(row), int(column)) for row, column in zip(rows, columns, strict=True)]


def _cost(out: BankTransaction, into: BankTransaction, held: Mapping[str, BankAccount], window_days: int) -> float:
    """Return the cost of the pair: the days between the two postings, plus one if only the amount suggests a transfer.

    If the two postings cannot be a pair, the cost is `_FORBIDDEN_COST`. `held` has the own accounts by id.
    """
    days = abs((into.booked_on - out.booked_on).days)
    if out.account_id == into.account_id or days > window_days:
        return _FORBIDDEN_COST
    if says_transfer(out) or says_transfer(into) or _names(out, into, held) or _names(into, out, held):
        return float(days)
    card_purchase = out.account_id in held and held[out.account_id].kind == "card"
    known = any(category_of(row) != UNCATEGORISED for row in (out, into))
    return _FORBIDDEN_COST if known or card_purchase else days + 1.0


def _names(row: BankTransaction, other: BankTransaction, held: Mapping[str, BankAccount]) -> bool:
    """Whether the payee or memo of `row` has the name of the account that `other` is booked on."""
    account = held.get(other.account_id)
    name = words(account.name) if account else ()
    text = words(row.payee) + words(row.memo)
    return bool(name) and any(text[start : start + len(name)] == name for start in range(len(text)))
