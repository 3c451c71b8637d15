"""Hold, raise and settle on PostgreSQL, each by one statement for the call, its accounts and the event in the log.

The statement changes everything if the session's log still ends where this process saw it end last, and every other
check passes. Otherwise the statement changes nothing. Then `postings` changes the tables one after the other, and the
step that fails says why. Both ways lock the accounts in the order of their names, then the session. A settlement and a
raise lock their call before the accounts; the call of a hold is new and needs no lock.
"""

from collections.abc import Mapping
from functools import cache

from sqlalchemy import text

from bursar.checkpoints.database.statement import Statement
from bursar.checkpoints.ledger import accounts, calls
from bursar.checkpoints.ledger.calls import ClosedCall, Hold
from bursar.checkpoints.ledger.hash_chain import next_row, note_head
from bursar.checkpoints.ledger.transaction import Transaction
from bursar.state.events import CallHeld, CallHoldRaised, CallSettled


def hold_in_one(transaction: Transaction, wanted: Hold, row: Mapping[str, object], *, at: str, told: CallHeld) -> bool:
    """Write the hold `wanted`, its call's `row` and its event `told` in one SQL statement, and return True.

    If a check fails, return False and change nothing. The caller then writes step by step, and the failing step raises.
    """
    event = next_row(transaction, wanted.session_id, at, told)
    names = accounts.scope_params(wanted.scopes)
    if not (event and names and _hold(len(names)).changes(transaction.connection, **{**row, **event, **names})):
        return False
    note_head(transaction, event)
    return True


def raise_in_one(transaction: Transaction, hold: Hold, raised: int, *, at: str, told: CallHoldRaised) -> bool:
    """Raise the hold of a call in flight to `raised` and write its event `told` in one SQL statement; return True.

    If a check fails, return False and change nothing. The caller then writes step by step, and the failing step raises.
    """
    event = next_row(transaction, hold.session_id, at, told)
    names = accounts.scope_params(hold.scopes)
    values = {"call": hold.call_id, "now": hold.amount, "raised": raised}
    if not (event and names and _raise(len(names)).changes(transaction.connection, **{**values, **event, **names})):
        return False
    note_head(transaction, event)
    return True


def settle_in_one(
    transaction: Transaction, session_id: str, row: Mapping[str, object], *, at: str, told: CallSettled
) -> ClosedCall | None:
    """Write the settlement `row` of a call and its event `told` in one SQL statement, and return the call.

    If a check fails, return None and change nothing. The caller then writes step by step, and the failing step raises.
    """
    event = next_row(transaction, session_id, at, told)
    if not (event and (found := _settle(transaction.connection, **{**row, **event}))):
        return None
    note_head(transaction, event)
    [(amount, scopes)] = found
    return ClosedCall(told.call_id, session_id, amount, calls.scopes_of(scopes))


_LOG = (
    "log AS (UPDATE bursar_sessions SET sequence = :sequence, head = :hash "
    "WHERE session_id = :session_id AND sequence = :before AND head = :previous"
)
_TOLD = (
    "INSERT INTO bursar_events (session_id, sequence, at, kind, payload, previous, hash) "
    "SELECT :session_id, CAST(:sequence AS BIGINT), :at, :kind, :payload, :previous, :hash FROM log"
)


def _log_if_all_have_room(count: int) -> str:
    """Return the part that moves the log's end if all accounts have room, and no incident closed the session."""
    return (
        f"{_LOG} AND incident IS NULL AND (SELECT count(*) = {count} AND bool_and(room) FROM locked) "  # noqa: S608 - our own words
        "RETURNING session_id), "
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
            f"{_log_if_all_have_room(count)}"
            "moved AS (UPDATE bursar_accounts AS account SET held = account.held + CAST(:amount AS BIGINT) "
            "FROM locked, log WHERE account.scope = locked.scope), "
            f"called AS (INSERT INTO bursar_calls (state, {', '.join(calls.NEW)}) "
            f"SELECT 'held', {', '.join(values.get(name, f':{name}') for name in calls.NEW)} FROM log) "
            f"{_TOLD}"
        )
    )


@cache
def _raise(count: int) -> Statement:
    names = ", ".join(f":scope_{place}" for place in range(count))
    by = "(CAST(:raised AS BIGINT) - CAST(:now AS BIGINT))"
    # Written so that no sum can leave a BIGINT.
    room = f"held <= coalesce(cap, {accounts.NO_CAP}) - spent - {by}"
    return Statement(
        text(
            "WITH call AS (SELECT call_id FROM bursar_calls WHERE call_id = :call AND session_id = :session_id "  # noqa: S608 - our own words
            "AND state IN ('held', 'sent') AND amount = CAST(:now AS BIGINT) FOR UPDATE), "
            # The call is locked first: the accounts are read only if there is one.
            f"locked AS (SELECT scope, {room} AS room FROM bursar_accounts WHERE scope IN ({names}) "
            "AND EXISTS (SELECT 1 FROM call) ORDER BY scope FOR UPDATE), "
            f"{_log_if_all_have_room(count)}"
            f"moved AS (UPDATE bursar_accounts AS account SET held = account.held + {by} "
            "FROM locked, log WHERE account.scope = locked.scope), "
            "raised AS (UPDATE bursar_calls SET amount = CAST(:raised AS BIGINT) FROM log WHERE call_id = :call) "
            f"{_TOLD}"
        )
    )


# PostgreSQL builds the array of the accounts' names before it looks for a row: so it finds each row by the index.
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
        "cache_write_tokens = :cache_write, reasoning_tokens = :thought, cache_saved = CAST(:saved AS BIGINT), "
        "whole = CAST(:whole AS BOOLEAN) FROM log WHERE call_id = :call), "
        f"told AS ({_TOLD}) SELECT amount, scopes FROM call, log"
    )
)
