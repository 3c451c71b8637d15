"""A transaction of the books: the first argument of every function that reads or changes them."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import Connection

if TYPE_CHECKING:
    from bursar.checkpoints.ledger.calls import InFlightCalls  # whose functions take a transaction


@dataclass(frozen=True, slots=True)
class Transaction:
    """A connection inside its transaction. `key` signs the audit log, None leaves it unkeyed.

    `in_flight` are the calls of this process that were sent and have not ended. `Ledger.run` makes a `Transaction` for
    each posting, and commits it.
    """

    connection: Connection
    key: bytes | None = field(repr=False)
    in_flight: "InFlightCalls" = field(repr=False)
