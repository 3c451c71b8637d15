"""Accounts: what a scope may spend, has spent and holds. Only this file and `postgresql_postings` change accounts."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache

from sqlalchemy import (
    BigInteger,
    BindParameter,
    ColumnElement,
    Select,
    TextClause,
    Update,
    bindparam,
    func,
    literal_column,
    select,
    text,
    update,
)

from bursar.checkpoints.database.statement import Statement, insert_new
from bursar.checkpoints.ledger.transaction import Transaction
from bursar.checkpoints.schema.ledger_tables import accounts
from bursar.state.errors import LedgerError
from bursar.state.money import USD
from bursar.state.refusals import BudgetExceeded
from bursar.state.rules.calls import Movement, room

OF_THE_CONFIGURATION = {"global", "tenant", "session"}  # kinds of accounts whose cap may change with a new request

NO_CAP = 2**62  # stands in SQL for the cap of an account that has none
MAX_ID_CHARACTERS = 200
MAX_AMOUNT = 10**15  # a million dollars in one call; keeps every sum far inside a BIGINT


@dataclass(frozen=True, slots=True)
class Account:
    """The scope (name) of an account, such as `request:r-1`, and its cap in nano-dollars; None is no cap.

    The kinds, outermost first: `global`, `tenant:acme:2026-11-23`, `session:s-1`, `request:r-1`, `agent:r-1:tax`.
    """

    scope: str
    cap: int | None


def describe_scope(scope: str) -> str:
    """Return the scope in words: `agent spending of request r-1` for `agent:r-1:spending`."""
    kind, _, rest = scope.partition(":")
    if kind == "agent" and ":" in rest:
        request, _, agent = rest.partition(":")
        return f"agent {agent} of request {request}"
    if kind == "tenant" and ":" in rest:
        tenant, _, day = rest.rpartition(":")
        return f"tenant {tenant} on {day}"
    return f"{kind} {rest}" if rest else kind


def check_id(what: str, value: str) -> None:
    """Raise `LedgerError` unless `value`, the id of a `what`, is 1 to `MAX_ID_CHARACTERS` printable characters."""
    if not 0 < len(value) <= MAX_ID_CHARACTERS or not value.isprintable():
        raise LedgerError(f"a {what} id is 1 to {MAX_ID_CHARACTERS} printable characters, not {value[:60]!r}")


def check_amount(what: str, amount: int) -> None:
    """Raise `LedgerError`, which names `what`, unless `amount` is an int from 0 to `MAX_AMOUNT` nano-dollars."""
    if type(amount) is not int or not 0 <= amount <= MAX_AMOUNT:
        raise LedgerError(f"{what} is a whole number of nano-dollars from 0 to {MAX_AMOUNT}, not {amount!r}")


def follows_configuration(scope: str) -> bool:
    """Whether each new request sets the account's cap to the configured cap.

    True for the account of the ledger, a tenant or a session; False for the account of a request or an agent.
    """
    return scope.partition(":")[0] in OF_THE_CONFIGURATION


def open_account(transaction: Transaction, account: Account) -> None:
    """Open the account if it does not exist. An account that exists keeps its cap and its spend."""
    _check_cap(account)
    _insert(transaction.connection, scope=account.scope, cap=account.cap, spent=0, held=0, granted=0)


def set_caps(transaction: Transaction, wanted: Collection[Account]) -> None:
    """Set each account's cap to the given cap plus the account's top-ups. Opens the accounts that do not exist."""
    if not wanted:
        return
    values: dict[str, object] = {}
    # Race: two transactions that lock accounts in different orders deadlock. So this is the order of `lock`.
    for place, account in enumerate(sorted(wanted, key=lambda one: one.scope)):
        _check_cap(account)
        values |= {f"scope_{place}": account.scope, f"cap_{place}": account.cap}
    _set_caps(len(wanted))(transaction.connection, **values)


def grant(transaction: Transaction, scope: str, amount: int) -> None:
    """Raise the cap of an account by `amount`. Raises `LedgerError` if the account does not exist or has no cap."""
    found = _read(1)(transaction.connection, scope_0=scope)
    if not found:
        raise LedgerError(f"no account for {describe_scope(scope)} in the books")
    if found[0][1] is None:
        raise LedgerError(f"{describe_scope(scope)} has no cap, so there is nothing to top up")
    check_amount(f"the cap of {describe_scope(scope)}", found[0][1] + amount)
    _grant(transaction.connection, account=scope, by=amount)


def reserve(transaction: Transaction, scopes: Sequence[str], amount: int) -> None:
    """Hold `amount` in every account of `scopes`, which are in order, outermost first.

    Raises `BudgetExceeded`, which names the outermost account without room. After an error the caller must roll back,
    because some accounts were changed.
    """
    if not scopes or len(set(scopes)) != len(scopes):
        raise LedgerError(f"a hold touches one or more accounts, each once, not {list(scopes)}")
    connection = transaction.connection
    if connection.dialect.name == "sqlite":
        # One statement for each account: one for all would let SQLite build tables of names and rows, which cost more.
        held = _reserve_one.changes_of_each(connection, [{"account": scope, "amount": amount} for scope in scopes])
        without = [scope for scope, changed in zip(scopes, held, strict=True) if not changed]
    else:
        held = {row[0] for row in _reserve(len(scopes))(connection, amount=amount, **scope_params(scopes))}
        without = [scope for scope in scopes if scope not in held]
        if without:
            # Race: PostgreSQL may have judged a row as the row was before a wait for its lock. The rows are locked now.
            held |= {row[0] for row in _reserve(len(without))(connection, amount=amount, **scope_params(without))}
            without = [scope for scope in without if scope not in held]
    if without:
        _refuse(transaction, without, amount)


def lock(transaction: Transaction, scopes: Collection[str]) -> None:
    """Lock these accounts until the transaction ends, in the order of their names.

    On PostgreSQL an UPDATE may lock its rows in any order, so two transactions could deadlock. SQLite has one writer
    and needs no lock. `reserve` and `move` lock their accounts themselves. So call `lock` only before several moves in
    one transaction.
    """
    if len(scopes) > 1 and transaction.connection.dialect.name == "postgresql":
        _lock_rows(len(scopes))(transaction.connection, **scope_params(scopes))


def move(transaction: Transaction, scopes: Sequence[str], by: Movement) -> None:
    """Add the movement to every account of `scopes`.

    Raises `LedgerError` if an account does not exist.
    """
    connection, values = transaction.connection, {"by_held": by.held, "by_spent": by.spent}
    if connection.dialect.name == "sqlite":
        moved = sum(_move_one.changes_of_each(connection, [{"account": scope, **values} for scope in scopes]))
    else:
        moved = len(_move(len(scopes))(connection, **values, **scope_params(scopes)))
    if moved != len(scopes):
        raise LedgerError(f"accounts are missing: {list(scopes)}; run verify")


def left(transaction: Transaction, scopes: Sequence[str]) -> int | None:
    """Return the least amount that is left in any of these accounts, in nano-dollars; None if no account has a cap."""
    if not scopes:
        return None
    rows = _left(len(scopes))(transaction.connection, **scope_params(scopes))
    return None if rows[0][0] is None else int(rows[0][0])


def tightest(transaction: Transaction, scopes: Sequence[str]) -> tuple[str, int | None, int]:
    """Return the scope of the account with the least left, what it has left (None without a cap), and what it holds.

    Amounts are nano-dollars. If several have the least, it is the outermost. If none has a cap, it is the first.
    """
    found = {row[0]: row for row in _read(len(scopes))(transaction.connection, **scope_params(scopes))}
    rooms = [(scope, room(*found[scope][1:]), found[scope][3]) for scope in scopes if scope in found]
    capped = [one for one in rooms if one[1] is not None]
    return min(capped, key=lambda one: one[1] or 0, default=rooms[0] if rooms else (scopes[0], None, 0))


def charged(transaction: Transaction, scope: str) -> int:
    """Return what the account has spent plus what it holds, in nano-dollars; 0 if there is no such account."""
    rows = _read(1)(transaction.connection, scope_0=scope)
    return 0 if not rows else rows[0][2] + rows[0][3]


def cap_and_charge(transaction: Transaction, scope: str) -> tuple[int | None, int]:
    """Return the account's cap, and what it has spent plus what it holds, in nano-dollars; None is no cap."""
    rows = _read(1)(transaction.connection, scope_0=scope)
    return (rows[0][1], rows[0][2] + rows[0][3]) if rows else (None, 0)


def cap_of(transaction: Transaction, scope: str) -> int | None:
    """Return the account's cap in nano-dollars; None if the account has no cap or does not exist."""
    rows = _read(1)(transaction.connection, scope_0=scope)
    return rows[0][1] if rows else None


def _check_cap(account: Account) -> None:
    if account.cap is not None:
        check_amount(f"the cap of {describe_scope(account.scope)}", account.cap)


def _refuse(transaction: Transaction, without_room: Sequence[str], amount: int) -> None:
    found = {row[0]: row for row in _read(len(without_room))(transaction.connection, **scope_params(without_room))}
    missing = [scope for scope in without_room if scope not in found]
    if missing:
        raise LedgerError(f"no account for {describe_scope(missing[0])}; open it before holding against it")
    scope, cap, spent, held = found[without_room[0]]
    if cap is None:
        raise LedgerError(
            f"{describe_scope(scope)} cannot hold {USD.from_nanos(amount)} more; its sum would be too large"
        )
    rest = USD.from_nanos(max(room(cap, spent, held) or 0, 0))
    raise BudgetExceeded(
        f"{describe_scope(scope)}: {USD.from_nanos(amount)} asked, {rest} of {USD.from_nanos(cap)} left", scope=scope
    )


def scope_params(scopes: Collection[str]) -> dict[str, str]:
    """Return the scopes as values for a statement's parameters `scope_0`, `scope_1` and so on."""
    return {f"scope_{place}": scope for place, scope in enumerate(scopes)}


def _among(count: int) -> ColumnElement[bool]:
    return accounts.c.scope.in_([bindparam(f"scope_{place}") for place in range(count)])


def _upsert(count: int, differs: str) -> TextClause:
    # As text: importing the dialects' own inserts takes longer than importing all of Bursar.
    rows = ", ".join(f"(:scope_{place}, CAST(:cap_{place} AS BIGINT), 0, 0, 0)" for place in range(count))
    return text(
        f"INSERT INTO bursar_accounts (scope, cap, spent, held, granted) VALUES {rows} "  # noqa: S608 - our own words
        "ON CONFLICT (scope) DO UPDATE SET cap = excluded.cap + bursar_accounts.granted "
        f"WHERE bursar_accounts.cap {differs} excluded.cap + bursar_accounts.granted"
    )


_insert = insert_new(accounts)
_grant = Statement(
    update(accounts)
    .values(cap=accounts.c.cap + bindparam("by"), granted=accounts.c.granted + bindparam("by"))
    .where(accounts.c.scope == bindparam("account"))
)


@cache
def _set_caps(count: int) -> Statement:
    return Statement(_upsert(count, "IS DISTINCT FROM"), sqlite=_upsert(count, "IS NOT"))


_amount: BindParameter[int] = bindparam("amount", type_=BigInteger)
# Written so that no sum can leave a BIGINT: cap - spent - amount, not spent + held + amount.
_room = func.coalesce(accounts.c.cap, literal_column(str(NO_CAP))) - accounts.c.spent - _amount
_RESERVE = update(accounts).values(held=accounts.c.held + _amount).where(accounts.c.held <= _room)
_MOVE = update(accounts).values(
    held=accounts.c.held + bindparam("by_held"), spent=accounts.c.spent + bindparam("by_spent")
)
_reserve_one = Statement(_RESERVE.where(accounts.c.scope == bindparam("account")))
_move_one = Statement(_MOVE.where(accounts.c.scope == bindparam("account")))


@cache
def _reserve(count: int) -> Statement:
    return _in_turn(_RESERVE, count)


@cache
def _move(count: int) -> Statement:
    return _in_turn(_MOVE, count)


def _in_turn(change: Update, count: int) -> Statement:
    """Return a PostgreSQL statement that applies `change` to `count` accounts, and locks them in order of their names.

    `lock` uses the same order, so the two cannot deadlock. For one account no order is needed, and a plain UPDATE is
    enough: if the UPDATE had to wait for the row, it reads the row again.
    """
    if count == 1:
        return Statement(change.where(_among(count)).returning(accounts.c.scope))
    locked = _in_order(count).cte("locked")
    return Statement(change.where(accounts.c.scope == locked.c.scope).returning(accounts.c.scope))


def _in_order(count: int) -> Select[tuple[str]]:
    return select(accounts.c.scope).where(_among(count)).order_by(accounts.c.scope).with_for_update()


@cache
def _lock_rows(count: int) -> Statement:
    return Statement(_in_order(count))


@cache
def _read(count: int) -> Statement:
    columns = accounts.c
    return Statement(select(columns.scope, columns.cap, columns.spent, columns.held).where(_among(count)))


@cache
def _left(count: int) -> Statement:
    columns = accounts.c
    return Statement(select(func.min(columns.cap - columns.spent - columns.held)).where(_among(count)))
