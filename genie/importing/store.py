"""Stores the content of a file in the tables, in one transaction. A second import of the file changes nothing."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from decimal import Decimal
from typing import Final, TypeVar

from sqlalchemy import Connection, Engine, Table, delete, func, insert, select, update

from bursar.genie.household import schema
from bursar.genie.household.folding import fold
from bursar.genie.household.queries import read_profile
from bursar.genie.household.records import BankAccount, BankTransaction, Profile
from bursar.genie.importing.import_options import Content
from bursar.genie.importing.parsing.sign_rules import closing_balance

T = TypeVar("T")
_PROFILE_ID: Final = 1
_CHUNK: Final = 500


@dataclass(slots=True)
class StoreCounts:
    """The numbers of records that a file added, updated, left unchanged and removed."""

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    removed: int = 0


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A file's row in the list of imports: the hash of its content, its name, and the day of the import."""

    file_hash: str
    name: str
    imported_on: date


def store(engine: Engine, content: Content, file: FileRecord) -> StoreCounts:
    """Store all of the content, and return the counts. If an error is raised, nothing is stored.

    Only one importer stores at a time: this function waits until no other importer is storing.
    """
    stored = StoreCounts()
    with engine.begin() as connection:
        # Race: two importers of the same rows would both find them missing. The second waits here for the first.
        _lock(connection)
        _store_accounts(connection, content.accounts)
        _store_transactions(connection, content, stored)
        _store_lots(connection, content, stored)
        _store_prices(connection, content, stored)
        if content.profile is not None:
            _store_profile(connection, content.profile, stored)
        for account in content.accounts:
            _store_balance(connection, account)
        known = connection.scalar(
            select(func.count()).select_from(schema.imports).where(schema.imports.c.file_hash == file.file_hash)
        )
        if not known:
            connection.execute(
                insert(schema.imports).values(
                    file_hash=file.file_hash,
                    file_name=file.name,
                    kind=content.kind,
                    imported_on=file.imported_on,
                    added=stored.added,
                    unchanged=stored.unchanged,
                    rejected=len(content.rejected),
                )
            )
    return stored


def household_currency(engine: Engine) -> str | None:
    """Return the currency of the stored profile, or None if no profile is stored."""
    with engine.connect() as connection:
        return connection.scalar(select(schema.profile.c.currency))


def _lock(connection: Connection) -> None:
    """Take the write lock, which the database frees at the end of the transaction.

    The caller takes the lock before its first read, so that no other importer changes the rows that the caller read.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(schema.WRITE_LOCK)))
    else:
        # SQLite locks at the first statement that may write, even if the statement changes no row.
        connection.execute(delete(schema.imports).where(schema.imports.c.file_hash == ""))


def _store_accounts(connection: Connection, accounts: Iterable[BankAccount]) -> None:
    known = set(connection.scalars(select(schema.accounts.c.id)))
    rows = [
        {"id": account.id, "name": account.name, "kind": account.kind, "currency": account.currency}
        for account in accounts
        if account.id not in known
    ]
    if rows:
        connection.execute(insert(schema.accounts), rows)


def _store_transactions(connection: Connection, content: Content, stored: StoreCounts) -> None:
    if not content.transactions:
        return
    days = [row.booked_on for row in content.transactions]
    table = schema.transactions
    known: dict[str, str] = {}
    others: dict[tuple[object, ...], list[set[str]]] = defaultdict(list)
    for row in connection.execute(select(table).where(table.c.booked_on.between(min(days), max(days)))).mappings():
        known[row["id"]] = row["origin"]
        if row["origin"] != content.origin:
            key = (row["account_id"], row["booked_on"], row["amount"], row["currency"])
            others[key].append(_words(row["payee"], row["memo"]))
    fresh: dict[str, BankTransaction] = {}
    for row in sorted(content.transactions, key=lambda row: row.id):
        key = (row.account_id, row.booked_on, row.amount, row.currency)
        if row.id in known or row.id in fresh or _take_twin(others[key], _words(row.payee, row.memo)):
            stored.unchanged += 1
        else:
            fresh[row.id] = row
    _insert(
        connection,
        table,
        [{**asdict(row), "payee_folded": fold(row.payee), "origin": content.origin} for row in fresh.values()],
    )
    stored.added += len(fresh)


def _words(payee: str, memo: str) -> set[str]:
    return set(re.findall(r"\w{3,}", fold(f"{payee} {memo}")))


def _take_twin(candidates: list[set[str]], words: set[str]) -> bool:
    """Remove from `candidates` the first posting that shares a word with `words`; return whether one was removed.

    A candidate is the set of words of a stored posting with the same account, day and amount. If `words` or the
    candidate is empty, the two match.
    """
    for index, candidate in enumerate(candidates):
        if not candidate or not words or candidate & words:
            del candidates[index]
            return True
    return False


def _store_lots(connection: Connection, content: Content, stored: StoreCounts) -> None:
    if not content.lots:
        return
    table = schema.lots
    wanted = {lot.id: lot for lot in content.lots}
    held = connection.execute(
        select(table.c.id, table.c.account_id).where(table.c.account_id.in_({lot.account_id for lot in content.lots}))
    ).all()
    known = {lot_id for lot_id, _ in held}
    gone = [lot_id for lot_id, account_id in held if lot_id not in wanted and account_id in content.whole_accounts]
    for chunk in _chunks(gone):
        connection.execute(delete(table).where(table.c.id.in_(chunk)))
    _insert(connection, table, [asdict(lot) for lot_id, lot in wanted.items() if lot_id not in known])
    stored.added += len(wanted.keys() - known)
    stored.unchanged += len(wanted.keys() & known)
    stored.removed += len(gone)


def _store_prices(connection: Connection, content: Content, stored: StoreCounts) -> None:
    if not content.prices:
        return
    table = schema.prices
    # If a file lists one day twice, the last row counts.
    wanted = {(price.symbol, price.day): price for price in content.prices}
    stored.unchanged += len(content.prices) - len(wanted)
    days = [day for _, day in wanted]
    known = {
        (row.symbol, row.day): (row.close, row.currency)
        for row in connection.execute(select(table).where(table.c.day.between(min(days), max(days))))
    }
    _insert(connection, table, [asdict(price) for key, price in wanted.items() if key not in known])
    for key, price in wanted.items():
        if key not in known:
            stored.added += 1
        elif known[key] == (price.close, price.currency):
            stored.unchanged += 1
        else:
            where = (table.c.symbol == price.symbol) & (table.c.day == price.day)
            connection.execute(update(table).where(where).values(close=price.close, currency=price.currency))
            stored.updated += 1


def _store_profile(connection: Connection, profile: Profile, stored: StoreCounts) -> None:
    before = read_profile(connection)
    if before == profile:
        stored.unchanged += 1
        return
    for table in (schema.profile, schema.suitability, schema.debts):
        connection.execute(delete(table))
    values = asdict(profile)
    debts, suitability = values.pop("debts"), values.pop("suitability")
    connection.execute(insert(schema.profile).values(id=_PROFILE_ID, **values))
    if suitability is not None:
        connection.execute(insert(schema.suitability).values(id=_PROFILE_ID, **suitability))
    _insert(connection, schema.debts, list(debts))
    if before is None:
        stored.added += 1
    else:
        stored.updated += 1


def _store_balance(connection: Connection, account: BankAccount) -> None:
    """Store the newest of three balances: the stored one, the file's, and the last that the transactions state.

    If days are equal, the transactions' balance is preferred to the file's, and the file's to the stored balance.
    """
    table = schema.accounts
    before = connection.execute(select(table.c.balance, table.c.balance_on).where(table.c.id == account.id)).one()
    candidates: list[tuple[date, int, Decimal]] = []
    if before.balance is not None:
        candidates.append((before.balance_on, 0, before.balance))
    if account.balance is not None and account.balance_on is not None:
        candidates.append((account.balance_on, 1, account.balance))
    if (ends := _end_of_rows(connection, account)) is not None:
        candidates.append((ends[0], 2, ends[1]))
    if candidates:
        day, _, balance = max(candidates)
        connection.execute(update(table).where(table.c.id == account.id).values(balance=balance, balance_on=day))


def _end_of_rows(connection: Connection, account: BankAccount) -> tuple[date, Decimal] | None:
    """Return the account's newest day and its closing balance, worked out from the balances that the rows state.

    If the rows of a day do not determine the balance, but each states one and the amounts add up to zero, the balance
    did not change on that day, and the rows of the day before are used. Return None if no day determines the balance.
    """
    table = schema.transactions
    where = (table.c.account_id == account.id) & (table.c.currency == account.currency)
    newest = connection.scalar(select(func.max(table.c.booked_on)).where(where))
    columns = select(table.c.booked_on, table.c.amount, table.c.balance_after).where(where)
    rows = connection.execute(columns.order_by(table.c.booked_on.desc()).limit(_CHUNK)).all()
    days: dict[date, list[tuple[Decimal, Decimal | None]]] = defaultdict(list)
    for row in rows:
        days[row.booked_on].append((row.amount, row.balance_after))
    # The limit may have cut off some rows of the oldest day, so that day is not used.
    whole = sorted(days, reverse=True)[: None if len(rows) < _CHUNK else -1]
    for day in whole:
        stated = [(amount, balance) for amount, balance in days[day] if balance is not None]
        if len(stated) < len(days[day]):
            return None
        if newest is not None and (end := closing_balance(stated)) is not None:
            return newest, end
        if sum((amount for amount, _ in stated), Decimal(0)) != 0:
            return None
    return None


def _insert(connection: Connection, table: Table, rows: Sequence[Mapping[str, object]]) -> None:
    for chunk in _chunks(rows):
        connection.execute(insert(table), list(chunk))


def _chunks(items: Sequence[T]) -> Iterable[Sequence[T]]:
    return (items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK))
