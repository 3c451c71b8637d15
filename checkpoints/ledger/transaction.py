"""A transaction of the books: what every function that reads or changes them takes first."""

from dataclasses import dataclass, field

from sqlalchemy import Connection

from bursar.checkpoints.ledger.in_flight_calls import InFlightCalls


@dataclass(frozen=True, slots=True)
class Transaction:
    """A connection inside its transaction. `key` signs the audit log, None leaves it unkeyed.

    `in_flight` are the calls that this process has sent and not seen the end of. `Ledger.run` makes one for each
    transaction and commits it.
    """

    connection: Connection
    key: bytes | None = field(repr=False)
    in_flight: InFlightCalls = field(repr=False)
