"""Actions: side effects that are recorded in the ledger before and after, done once, and undone if their run fails."""
