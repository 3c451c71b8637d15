"""What all nodes use: the coordinator, deadlines, and the mapping of exceptions to outcomes."""
