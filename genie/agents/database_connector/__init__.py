"""The database connector: the household's records, read by named queries."""
