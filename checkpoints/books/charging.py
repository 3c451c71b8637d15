"""A call and the accounts that it is charged to, changed together: on PostgreSQL in one round trip."""

import json

from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from bursar.checkpoints.books import accounts, calls
from bursar.checkpoints.books.calls import Ended, Hold, Usage
from bursar.checkpoints.prepared import Prepared
from bursar.state.errors import LedgerError


def hold(connection: Connection, wanted: Hold, at: str) -> None:
    """Put the call in the books as held, and hold its amount in each of its accounts.

    Raises `LedgerError` if its id is there already, else as `accounts.reserve`.
    """
    row = calls.new_row(wanted, at)
    try:
        if connection.dialect.name == "postgresql":
            accounts.reserve(connection, wanted.scopes, wanted.amount, beside=(calls.INSERT, row))
        else:
            calls.insert_held(connection, row)
            accounts.reserve(connection, wanted.scopes, wanted.amount)
    except IntegrityError as error:
        raise LedgerError(f"call {wanted.call_id} is already in the books; a new call needs a new id") from error


def settle(connection: Connection, call_id: str, *, cost: int, usage: Usage, response: bytes | None, at: str) -> Ended:
    """held or sent → settled, and each of its accounts is charged `cost` in place of the hold."""
    values = calls.settled_row(call_id, cost=cost, usage=usage, response=response, at=at)
    if connection.dialect.name == "postgresql" and (found := _settle(connection, **values)):
        [(call, session, amount, scopes, moved)] = found
        ended = Ended(call, session, amount, tuple(json.loads(scopes)))
        accounts.check_moved(ended.scopes, moved)
        return ended
    ended = calls.settle(connection, call_id, values)
    accounts.move(connection, ended.scopes, held=-ended.amount, spent=cost)
    return ended


# The accounts are locked in the order of their names, as `accounts.lock` does. Their names stand in an array, which is
# there before one is looked for: so they are found by the index.
_settle = Prepared(
    text(
        "WITH ended AS (UPDATE bursar_calls SET state = 'settled', ended_at = :ended, cost = :price, "
        "response = :answer, input_tokens = :sent, output_tokens = :received, cache_read_tokens = :cache_read, "
        "cache_write_tokens = :cache_write, reasoning_tokens = :thought "
        "WHERE call_id = :call AND state IN ('held', 'sent') RETURNING call_id, session_id, amount, scopes), "
        "locked AS (SELECT scope FROM bursar_accounts WHERE scope = ANY(ARRAY("
        "SELECT json_array_elements_text(CAST(scopes AS json)) FROM ended)) ORDER BY scope FOR UPDATE), "
        "moved AS (UPDATE bursar_accounts AS account SET held = account.held - ended.amount, "
        "spent = account.spent + CAST(:price AS BIGINT) FROM locked, ended "
        "WHERE account.scope = locked.scope RETURNING account.scope) "
        "SELECT call_id, session_id, amount, scopes, (SELECT count(*) FROM moved) FROM ended"
    )
)
