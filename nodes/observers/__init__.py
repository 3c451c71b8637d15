"""Extension point: an observer is told of each run as it goes."""
