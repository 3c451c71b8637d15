"""Writes the database connector's answers: the records that a question asks for, as a table and as text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Final, Protocol, runtime_checkable

from bursar.genie.agents.database_connector.question import RecordsRequest, read_request
from bursar.genie.household.onboarding import NO_DATA, is_empty
from bursar.genie.household.records import BankAccount, BankTransaction, ImportedFile
from bursar.genie.household.source import QueryRows, Source
from bursar.genie.wording.fact_sheet import Sheet
from bursar.genie.wording.facts import Analysis

Table = tuple[Mapping[str, str | int | Decimal], ...]
MOST_LINES: Final = 40


@runtime_checkable
class KnowsImports(Protocol):
    """A source that can list the imported files that its data came from; `Source` does not require this."""

    def imports(self) -> QueryRows[ImportedFile]: ...


@dataclass(frozen=True, slots=True)
class _View:
    """The inputs of an answer: the data, the parsed question, and the sheet that records the answer's facts."""

    source: Source
    accounts: tuple[BankAccount, ...]
    rows: QueryRows[BankTransaction]
    request: RecordsRequest
    sheet: Sheet


def answer(source: Source, text: str, *, today: date) -> Analysis:
    """Return the listing that `text` asks for: accounts, transactions, holdings, files or the days that are covered.

    Periods such as "last month" count from the newest day in the data. Every number in the text is a fact. The
    analysis's `tables` have the whole listing; its text shows at most `MOST_LINES` rows. The analysis's `gaps` name the
    records that were cut or never imported. If no record fits the question, the text says so, not a gap.
    """
    if is_empty(source):
        return Analysis(text=NO_DATA, gaps=(NO_DATA,), confidence=0.0)
    rows, accounts = source.transactions(), source.accounts()
    newest = rows.as_of or accounts.as_of or today
    request = read_request(text, newest=newest, accounts=accounts.items, rows=rows.items)
    sheet = Sheet(as_of=newest, tool="database_connector", source=f"query {request.subject}")
    view = _View(source, accounts.items, rows, request, sheet)
    build = {
        "accounts": _accounts,
        "holdings": _holdings,
        "imports": _imports,
        "coverage": _coverage,
        "transactions": _transactions,
    }[request.subject]
    lines, table, gaps = build(view)
    if rows.truncated and request.subject in {"transactions", "coverage"}:
        gaps = [*gaps, "there are more transactions than the row limit lets through; only the newest were searched"]
    return Analysis(
        text="\n".join(lines),
        facts=sheet.facts(),
        gaps=tuple(gaps),
        tables={request.subject: table} if table else None,
    )


_Built = tuple[list[str], Table, list[str]]


def _transactions(view: _View) -> _Built:
    request, sheet = view.request, view.sheet
    if request.named is not None:
        name = sheet.word("named", request.named)
        return [f"There is no transaction with {name}."], (), []
    period = request.period
    found = [row for row in view.rows if (period is None or row.booked_on in period) and request.admits(row)]
    shown = found[-request.most :] if request.most is not None else found
    if not shown:
        return [f"There is no such transaction{_when(view)}."], (), []
    names = {account.id: account.name for account in view.accounts}
    head = f"{sheet.counted('transactions', len(shown), 'transaction')}{_when(view)}, newest first"
    if len(shown) < len(found):
        head += f", of {sheet.count('transactions.found', len(found))} found"
    lines = [head + ":"]
    newest_first = shown[::-1]
    for number, row in enumerate(newest_first[:MOST_LINES], start=1):
        day = sheet.day(f"row.{number}.day", row.booked_on)
        payee = sheet.word(f"row.{number}.payee", row.payee or "no payee")
        amount = sheet.money(f"row.{number}.amount", row.amount, row.currency)
        account = sheet.word(f"account.{row.account_id}", names.get(row.account_id, row.account_id))
        lines.append(f"- {day}: {payee}, {amount} ({account})")
    lines += _more(view, len(shown))
    lines += [f"Sum: {_sum(view, shown, currency)}." for currency in sorted({row.currency for row in shown})]
    return lines, tuple(_row(row, names) for row in newest_first), []


def _sum(view: _View, rows: Sequence[BankTransaction], currency: str) -> str:
    total = sum((row.amount for row in rows if row.currency == currency), Decimal(0))
    return view.sheet.money(f"sum.{currency}", total, currency)


def _row(row: BankTransaction, names: Mapping[str, str]) -> Mapping[str, str | Decimal]:
    return {
        "day": row.booked_on.isoformat(),
        "payee": row.payee,
        "memo": row.memo,
        "amount": row.amount,
        "currency": row.currency,
        "account": names.get(row.account_id, row.account_id),
    }


def _accounts(view: _View) -> _Built:
    sheet = view.sheet
    if not view.accounts:
        return ["There is no account yet."], (), ["There is no account yet."]
    lines = [f"{sheet.counted('accounts', len(view.accounts), 'account')}:"]
    table: list[Mapping[str, str | Decimal]] = []
    for account in view.accounts:
        name = sheet.word(f"account.{account.id}", account.name)
        line = f"- {name} ({account.kind}, {account.currency})"
        cells: dict[str, str | Decimal] = {"account": account.name, "kind": account.kind, "currency": account.currency}
        if account.balance is not None and account.balance_on is not None:
            balance = sheet.money(f"account.{account.id}.balance", account.balance, account.currency)
            line += f": {balance} on {sheet.day(f'account.{account.id}.balance_on', account.balance_on)}"
            cells |= {"balance": account.balance, "balance on": account.balance_on.isoformat()}
        else:
            line += ": the bank stated no balance"
        lines.append(line)
        table.append(cells)
    return lines, tuple(table), []


def _holdings(view: _View) -> _Built:
    sheet, lots = view.sheet, view.source.lots()
    if not lots:
        none = "There are no holdings yet; import them with: bursar import holdings.csv"
        return [none], (), [none]
    lines = [f"{sheet.counted('lots', len(lots), 'lot')}:"]
    for number, lot in enumerate(lots.items[:MOST_LINES], start=1):
        name = sheet.word(f"lot.{number}.name", f"{lot.symbol} {lot.name}")
        units = sheet.word(f"lot.{number}.units", f"{lot.quantity:f}")
        cost = sheet.money(f"lot.{number}.unit_cost", lot.unit_cost, lot.currency)
        lines.append(
            f"- {name}: {units} units at {cost} each, bought {sheet.day(f'lot.{number}.day', lot.acquired_on)}"
        )
    lines += _more(view, len(lots))
    table: Table = tuple(
        {
            "symbol": lot.symbol,
            "name": lot.name,
            "asset class": lot.asset_class,
            "units": lot.quantity,
            "unit cost": lot.unit_cost,
            "currency": lot.currency,
            "acquired": lot.acquired_on.isoformat(),
        }
        for lot in lots
    )
    return lines, table, []


def _coverage(view: _View) -> _Built:
    sheet = view.sheet
    if not view.rows:
        return ["There are no transactions yet."], (), ["There are no transactions yet."]
    lines = [f"{sheet.counted('transactions', len(view.rows), 'transaction')} on file:"]
    table: list[Mapping[str, str | int]] = []
    for account in view.accounts:
        days = [row.booked_on for row in view.rows if row.account_id == account.id]
        if not days:
            continue
        name = sheet.word(f"account.{account.id}", account.name)
        number = sheet.counted(f"account.{account.id}.transactions", len(days), "transaction")
        first = sheet.day(f"account.{account.id}.first", days[0])
        lines.append(f"- {name}: {number} from {first} to {sheet.day(f'account.{account.id}.last', days[-1])}")
        table.append(
            {
                "account": account.name,
                "transactions": len(days),
                "first day": days[0].isoformat(),
                "last day": days[-1].isoformat(),
            }
        )
    lots, prices = view.source.lots(), view.source.prices()
    if lots:
        lines.append(f"- {sheet.counted('lots', len(lots), 'lot')} of securities")
    if prices:
        lines.append(
            f"- {sheet.counted('prices', len(prices), 'price')} up to {sheet.day('prices.last', prices.items[-1].day)}"
        )
    return lines, tuple(table), []


def _imports(view: _View) -> _Built:
    lines, table, gaps = _coverage(view)
    if not isinstance(view.source, KnowsImports):
        return lines, table, [*gaps, "this source keeps no list of imported files"]
    sheet, found = view.sheet, view.source.imports()
    head = [f"{sheet.counted('files', len(found), 'file')} imported:"]
    for number, file in enumerate(found.items[:MOST_LINES], start=1):
        name = sheet.word(f"file.{number}.name", file.name)
        added = sheet.counted(f"file.{number}.added", file.added, "record")
        line = f"- {name} ({file.kind}) on {sheet.day(f'file.{number}.day', file.imported_on)}: {added} added"
        if file.rejected:
            line += f", {sheet.counted(f'file.{number}.rejected', file.rejected, 'row')} rejected"
        head.append(line)
    rows: Table = tuple(
        {"file": file.name, "kind": file.kind, "imported": file.imported_on.isoformat(), "added": file.added}
        for file in found
    )
    return [*head, *_more(view, len(found)), *lines], rows or table, gaps


def _when(view: _View) -> str:
    period = view.request.period
    if period is None:
        return ""
    if period.is_month:
        return f" in {view.sheet.month('period.start', period.start)}"
    start = view.sheet.day("period.start", period.start)
    if period.start == period.end:
        return f" on {start}"
    return f" from {start} to {view.sheet.day('period.end', period.end)}"


def _more(view: _View, number: int) -> list[str]:
    """Return one line that says how many of `number` rows the text leaves out, or no line if the text shows all."""
    left = number - MOST_LINES
    return [f"- and {view.sheet.count('left_out', left)} more in the table"] if left > 0 else []
