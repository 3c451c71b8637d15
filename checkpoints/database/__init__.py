"""Short transactions on a database, SQLite or PostgreSQL, through the class `Database`."""
