"""A transaction of the books: what every function that reads or changes them takes first."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import Connection

if TYPE_CHECKING:
    from bursar.checkpoints.ledger.calls import InFlightCalls  # whose functions take a transaction


@dataclass(frozen=True, slots=True)
class Transaction:
    """A connection inside its transaction. `key` signs the audit log, None leaves it unkeyed.

    `in_flight` are the calls that this process has sent and not seen the end of. `Ledger.run` makes one for each
    transaction and commits it.
    """

    connection: Connection
    key: bytes | None = field(repr=False)
    in_flight: "InFlightCalls" = field(repr=False)
