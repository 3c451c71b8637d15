"""The tables of what stops a call before it is made: breakers open by themselves, pauses are set by people."""

from sqlalchemy import Column, String, Table, Text

from bursar.checkpoints.schema.ledger_tables import metadata

breakers = Table(
    "bursar_breakers",
    metadata,
    Column("name", Text, primary_key=True),  # model:openai/gpt-4o-mini, agent:tax
    Column("until", String(32), nullable=False),  # from then on the row is as good as none
    Column("record", Text, nullable=False),  # JSON of `state.breaker.Breaker`
)

pauses = Table(
    "bursar_pauses",
    metadata,
    Column("scope", Text, primary_key=True),  # all, tenant:acme, agent:tax
    Column("at", String(32), nullable=False),
    Column("by", Text, nullable=False),
    Column("note", Text, nullable=False),
)
