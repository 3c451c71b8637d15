"""Run the migrations on the connection, and in the transaction, that `migrate` hands over."""

from alembic import context

from bursar.checkpoints.schema.migrate import VERSION_TABLE

context.configure(connection=context.config.attributes["connection"], version_table=VERSION_TABLE)
with context.begin_transaction():
    context.run_migrations()
