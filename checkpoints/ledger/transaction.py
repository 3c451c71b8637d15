"""`Transaction`: the first argument of every function that reads or changes the ledger."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import Connection

if TYPE_CHECKING:
    from bursar.checkpoints.ledger.calls import InFlightCalls  # whose functions take a transaction


@dataclass(frozen=True, slots=True)
class Transaction:
    """A connection with an open database transaction. `key` signs the audit log; if it is None, the log is unkeyed.

    `in_flight` has the calls of this process that were sent and have not ended. `Ledger.run` makes a `Transaction` for
    each posting, and commits it.
    """

    connection: Connection
    key: bytes | None = field(repr=False)
    in_flight: "InFlightCalls" = field(repr=False)
