"""What makes a session last: the database, its schema and migrations, the checkpointer, the ledger and the leases."""
