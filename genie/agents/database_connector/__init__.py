"""The database connector: reads the household's records with named queries."""
