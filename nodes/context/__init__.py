"""What every node works with: the coordinator, deadlines, and how an exception becomes an outcome."""
