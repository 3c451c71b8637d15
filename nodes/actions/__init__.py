"""Actions: side effects that are intended in the books, done once, and undone if their run fails."""
