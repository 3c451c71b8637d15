"""How a session lasts: database, schema and migrations, checkpointer, ledger, audit."""
