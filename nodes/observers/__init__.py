"""Extension point: observers of runs."""
