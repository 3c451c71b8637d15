"""The table of leases: which run of which process owns each session now."""

from sqlalchemy import BigInteger, Column, Table, Text

from bursar.checkpoints.schema.metadata import KEY, metadata

leases = Table(
    "bursar_leases",
    metadata,
    Column("session_id", KEY, primary_key=True),
    Column("owner", Text, nullable=False),  # one run of one process; empty: nobody
    Column("epoch", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),  # milliseconds since 1970 by the database's clock
    Column("host", Text, nullable=False),
    Column("process", Text, nullable=False),
    Column("previous", Text, nullable=False),  # the owner when the lease was last taken; empty: nobody
)
