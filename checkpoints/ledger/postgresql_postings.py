"""Hold and settle: a call, its accounts and the event that tells of it, changed together.

PostgreSQL does it in one statement if the log ends where this process saw it end last and nothing stands in the way.
That statement changes everything or nothing. If it changes nothing, and always on SQLite, the tables are changed one
after the other, and the step that fails says why. Both ways lock the accounts in the order of their names, then the
session. A settlement locks its call before them; the call of a hold is new and needs no lock.
"""

from collections.abc import Mapping
from functools import cache

from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from bursar.checkpoints.database.statement import Statement
from bursar.checkpoints.ledger import accounts, calls
from bursar.checkpoints.ledger.calls import ClosedCall, Hold
from bursar.checkpoints.ledger.hash_chain import append, next_row, note_head
from bursar.checkpoints.ledger.transaction import Transaction
from bursar.state.errors import LedgerError
from bursar.state.events import CallHeld, CallSettled


def hold(transaction: Transaction, wanted: Hold, at: str, told: CallHeld) -> None:
    """Put the call in the books as held, hold its amount in each of its accounts, and tell of it.

    Raises `LedgerError` if its id is there already or an account is not, `BudgetExceeded` where one has no room, and
    `AccountClosed`.
    """
    row = calls.new_row(wanted, at)
    try:
        if transaction.connection.dialect.name == "postgresql":
            event = next_row(transaction, wanted.session_id, at, told)
            names = accounts.scope_params(wanted.scopes)
            if event and names and _hold(len(names)).changes(transaction.connection, **{**row, **event, **names}):
                note_head(transaction, event)
                return
        calls.insert_held(transaction, row)
        accounts.reserve(transaction, wanted.scopes, wanted.amount)
    except IntegrityError as error:
        raise LedgerError(f"call {wanted.call_id} is already in the books; a new call needs a new id") from error
    append(transaction, wanted.session_id, at, [told])


def settle(
    transaction: Transaction,
    session_id: str | None,
    *,
    at: str,
    row: Mapping[str, object],
    told: CallSettled,
) -> ClosedCall:
    """held or sent → settled: its accounts are charged what it cost in place of the hold, and the log tells of it."""
    if session_id is not None and transaction.connection.dialect.name == "postgresql":
        event = next_row(transaction, session_id, at, told)
        if event and (found := _settle(transaction.connection, **{**row, **event})):
            note_head(transaction, event)
            [(amount, scopes)] = found
            return ClosedCall(told.call_id, session_id, amount, calls.scopes_of(scopes))
    ended = calls.settle(transaction, told.call_id, row)
    accounts.move(transaction, ended.scopes, held=-ended.amount, spent=told.cost.nanos)
    append(transaction, ended.session_id, at, [told])
    return ended


_LOG = (
    "log AS (UPDATE bursar_sessions SET sequence = :sequence, head = :hash "
    "WHERE session_id = :session_id AND sequence = :before AND head = :previous"
)
_TOLD = (
    "INSERT INTO bursar_events (session_id, sequence, at, kind, payload, previous, hash) "
    "SELECT :session_id, CAST(:sequence AS BIGINT), :at, :kind, :payload, :previous, :hash FROM log"
)


@cache
def _hold(count: int) -> Statement:
    names = ", ".join(f":scope_{place}" for place in range(count))
    # Written so that no sum can leave a BIGINT.
    room = f"held <= coalesce(cap, {accounts.NO_CAP}) - spent - CAST(:amount AS BIGINT)"
    values = {"amount": "CAST(:amount AS BIGINT)", "occurrence": "CAST(:occurrence AS INTEGER)"}
    return Statement(
        text(
            f"WITH locked AS (SELECT scope, {room} AS room FROM bursar_accounts WHERE scope IN ({names}) "  # noqa: S608 - our own words
            "ORDER BY scope FOR UPDATE), "
            f"{_LOG} AND incident IS NULL AND (SELECT count(*) = {count} AND bool_and(room) FROM locked) "
            "RETURNING session_id), "
            "moved AS (UPDATE bursar_accounts AS account SET held = account.held + CAST(:amount AS BIGINT) "
            "FROM locked, log WHERE account.scope = locked.scope), "
            f"called AS (INSERT INTO bursar_calls (state, {', '.join(calls.NEW)}) "
            f"SELECT 'held', {', '.join(values.get(name, f':{name}') for name in calls.NEW)} FROM log) "
            f"{_TOLD}"
        )
    )


# The accounts' names stand in an array, which is there before one is looked for: so they are found by the index.
_settle = Statement(
    text(
        "WITH call AS (SELECT amount, scopes, CAST(scopes AS json) AS names FROM bursar_calls "  # noqa: S608 - our own words
        "WHERE call_id = :call AND session_id = :session_id AND state IN ('held', 'sent') FOR UPDATE), "
        "locked AS (SELECT scope FROM bursar_accounts WHERE scope = ANY(ARRAY("
        "SELECT json_array_elements_text(names) FROM call)) ORDER BY scope FOR UPDATE), "
        f"{_LOG} AND (SELECT json_array_length(names) FROM call) = (SELECT count(*) FROM locked) "
        "RETURNING session_id), "
        "moved AS (UPDATE bursar_accounts AS account SET held = account.held - call.amount, "
        "spent = account.spent + CAST(:price AS BIGINT) FROM locked, call, log WHERE account.scope = locked.scope), "
        "ended AS (UPDATE bursar_calls SET state = 'settled', ended_at = :ended, cost = CAST(:price AS BIGINT), "
        "response = :answer, input_tokens = :sent, output_tokens = :received, cache_read_tokens = :cache_read, "
        "cache_write_tokens = :cache_write, reasoning_tokens = :thought FROM log WHERE call_id = :call), "
        f"told AS ({_TOLD}) SELECT amount, scopes FROM call, log"
    )
)
