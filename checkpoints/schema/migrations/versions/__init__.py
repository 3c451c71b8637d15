"""One file per version of the database. Its name begins with its revision, which sorts after the one before it."""
